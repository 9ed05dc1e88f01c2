"""Reports of a run: metrics.jsonl, TensorBoard, progress bar, log lines."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import datetime
import os
import re
import sys
import time
from typing import Any, cast

import jax
import jax.numpy as jnp
from musiclm_jax import errors
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax.audio import dsp
from musiclm_jax.training import costs
from musiclm_jax.training import health
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import run_files
from musiclm_jax.training import tensorboard as tensorboard_lib
import numpy as np
import tqdm

METRICS = run_files.METRICS
SILENCE = 30.0  # Seconds without a report until the step is printed.

read_metrics = run_files.read_metrics
final_metrics = run_files.final_metrics


@contextlib.contextmanager
def diagnosing(
    what: str, say: Callable[[str], Any] = progress.say
) -> Iterator[None]:
  """Turns a failure of the body into a line: no diagnosis may end a run.

  Args:
    what: Name of the diagnosis.
    say: Prints the line.
  """
  try:
    yield
  except Exception as e:
    kind = '' if isinstance(e, errors.UserError) else f'{type(e).__name__}: '
    say(f'{what} failed, training goes on: {kind}{errors.one_line(e):.300}')


def spectrogram_image(audio: np.ndarray, sample_rate: int) -> np.ndarray:
  """Returns [1, mels, frames, 1] uint8: log-mel energy, low notes last."""
  num_mels, window = 80, 1024
  log_mel = np.asarray(
      dsp.log_mel(
          jnp.asarray(audio[np.newaxis]),
          sample_rate=sample_rate,
          window_length=window,
          hop_length=window // 4,
          num_mels=num_mels,
      )
  )[0]
  low, high = np.max(log_mel) - 10, np.max(log_mel)
  scaled = np.clip((log_mel - low) / (high - low), 0, 1) * 255
  return scaled.T[np.newaxis, ::-1, :, np.newaxis].astype(np.uint8)


class Reporter:
  """Reports the progress of a run; only the first process prints anything.

  A failure that `health` finds is reported once, when it appears. An error in a
  report does not end the run.

  Attributes:
    shows_audio: Whether evaluations write audio.
  """

  def __init__(
      self,
      model_dir: str | os.PathLike[str],
      model: model_lib.TrainableModel,
      first_step: int,
      train_steps: int,
      tensorboard: bool,
      config: str = '',
      rates: costs.Rates | None = None,
  ):
    """Drops the records of steps that will be run again.

    Args:
      model_dir: Folder of the run.
      model: The model that is trained.
      first_step: Steps already taken.
      train_steps: Steps in all.
      tensorboard: Whether to write TensorBoard files.
      config: Text to keep in config.gin.
      rates: Converts steps per second; None to report only those.

    Raises:
      WriteError: If the folder can't be written.
    """
    self._rates = rates
    self._sample_rate = model.sample_rate
    self._model_dir = model_dir
    self._speaks = jax.process_index() == 0
    # Equal in all processes, which must take part.
    self.shows_audio = tensorboard and model.writes_audio
    self._train_steps = train_steps
    self._step, self._time = first_step, time.monotonic()
    self._waited = 0.0
    self._said = self._time
    self._writer: Any = None
    if not self._speaks:
      return
    records = run_files.read_metrics(model_dir)
    self._records = [r for r in records if r['step'] <= first_step]
    run_files.write_metrics(model_dir, self._records)
    self._warned: set[str] = set()
    if config:
      run_files.write_config(model_dir, config)
    if tensorboard:
      with progress.telling('importing TensorFlow for TensorBoard files'):
        self._writer = tensorboard_lib.Writer(model_dir)
      self._writer.write_texts(first_step, {'config': f'```\n{config}\n```'})
    self._bar = tqdm.tqdm(
        desc=model.name, total=train_steps, initial=first_step, disable=None
    )

  def restart_clock(self, step: int) -> None:
    """Excludes the time before `step`, e.g. compilation, from the speed."""
    self._step, self._time = step, time.monotonic()
    self._waited = 0.0
    self._said = self._time

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Counts the body as time in which the run waits for data."""
    start = time.monotonic()
    try:
      yield
    finally:
      self._waited += time.monotonic() - start

  def advance(self, step: int) -> None:
    """Advances the progress bar, or prints the step if there is none."""
    if not self._speaks:
      return
    with self._diagnosing('the progress bar'):
      self._bar.update()
    if self._bar.disable and time.monotonic() - self._said > SILENCE:
      self.say(f'step {step}/{self._train_steps}')

  def train(self, step: int, metrics: Mapping[str, float]) -> None:
    """Reports the metrics of the steps up to `step`, the speed and the ETA.

    'waiting_for_data' is the share of the time that the host waited.
    """
    elapsed = max(time.monotonic() - self._time, 1e-9)
    speed = (step - self._step) / elapsed
    metrics = dict(metrics)
    if speed:
      metrics['steps_per_second'] = speed
      metrics['waiting_for_data'] = self._waited / elapsed
      if self._rates is not None:
        metrics |= self._rates.at(speed)
      left = _duration((self._train_steps - step) / speed)
      self._tell(step, 'train', metrics, f' eta {left}')
    else:
      self._tell(step, 'train', metrics)
    if self._speaks and 'loss' in metrics:
      with self._diagnosing('the progress bar'):
        self._bar.set_postfix(loss=f"{metrics['loss']:.4g}")

  def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
    """Reports the metrics of the validation split."""
    self._tell(step, 'eval', metrics)

  def say(self, line: str) -> None:
    """Prints a line above the progress bar."""
    if self._speaks:
      self._said = time.monotonic()
      # A closed terminal is no reason to stop.
      with contextlib.suppress(OSError):
        self._bar.write(line, file=sys.stderr)

  def audio(self, step: int, clips: Mapping[str, np.ndarray]) -> None:
    """Writes [samples] clips at the model's rate, and their spectrograms."""
    rate = cast(int, self._sample_rate)
    for tag, clip in clips.items():
      clip = np.asarray(clip, np.float32)
      self._writer.write_audios(
          step, {tag: clip[np.newaxis, :, np.newaxis]}, sample_rate=rate
      )
      self._writer.write_images(
          step, {f'{tag}/log_mel': spectrogram_image(clip, rate)}
      )

  def close(self) -> None:
    """Closes the progress bar, and flushes TensorBoard files."""
    if self._speaks:
      self._bar.close()
    if self._writer is not None:
      with self._diagnosing('writing TensorBoard files'):
        self._writer.close()

  def _diagnosing(self, what):
    return diagnosing(what, self.say)

  def _tell(self, step, split, metrics, suffix=''):
    if not self._speaks:
      return
    record = {'step': step, 'split': split, **metrics}
    self._records.append(record)
    with self._diagnosing(f'writing {METRICS}'):
      if paths.is_remote(self._model_dir):  # Where nothing can be appended.
        run_files.write_metrics(self._model_dir, self._records)
      else:
        run_files.append_metrics(self._model_dir, record)
    values = ' '.join(
        f'{name} {value:.4g}'
        for name, value in metrics.items()
        if not re.search(r'_q\d+$', name)  # One per quantizer: too many.
    )
    self.say(f'step {step}/{self._train_steps} {split}: {values}{suffix}')
    if self._writer is not None:
      with self._diagnosing('writing TensorBoard files'):
        self._writer.write_scalars(
            step, {f'{split}/{name}': value for name, value in metrics.items()}
        )
        self._writer.copy_if_due()
    with self._diagnosing('looking for what is wrong'):
      self._warn(step)

  def _warn(self, step):
    found = health.examine(self._records)
    for finding in found:
      if finding.name not in self._warned:
        line = f'warning: {finding}'
        self.say(line)
        if self._writer is not None:
          self._writer.write_texts(step, {'warning': line})
    self._warned = {finding.name for finding in found}


def _duration(seconds: float) -> str:
  try:
    return str(datetime.timedelta(seconds=round(seconds)))
  except OverflowError:
    return 'unknown'
