"""What a run says: metrics.jsonl, TensorBoard, a progress bar, log lines."""

from collections.abc import Mapping
import datetime
import json
import os
import pathlib
import re
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
from musiclm_jax import errors
from musiclm_jax.audio import dsp
from musiclm_jax.training import costs
from musiclm_jax.training import health
import numpy as np
import tqdm

METRICS = 'metrics.jsonl'
SAMPLE_RATE = 24000  # Of summaries.


def read_metrics(model_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Returns the records of a run: 'step', 'split' and a float per metric."""
  path = pathlib.Path(model_dir) / METRICS
  if not path.exists():
    return []
  # A killed run may leave half a line at the end.
  lines = path.read_text().splitlines(keepends=True)
  return [json.loads(line) for line in lines if line.endswith('}\n')]


def final_metrics(model_dir: str | os.PathLike[str]) -> dict[str, float]:
  """Returns the last value of each metric, e.g. {'eval/loss': 3.1}."""
  return {
      f"{record['split']}/{name}": value
      for record in read_metrics(model_dir)
      for name, value in record.items()
      if name not in ('step', 'split')
  }


def spectrogram_image(audio: np.ndarray, sample_rate: int) -> np.ndarray:
  """Returns [1, mels, frames, 1] uint8: log-mel energy, low notes below."""
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


def _tensorboard_writer(model_dir: str | os.PathLike[str]) -> Any:
  try:
    # Takes seconds: it imports TensorFlow.
    from clu import metric_writers  # pylint: disable=g-import-not-at-top
  except ModuleNotFoundError as e:
    raise errors.UserError(
        f'TensorBoard files need {e.name}, which is not installed. Run pip'
        " install 'musiclm_jax[train]', or set TENSORBOARD = False."
    ) from e
  return metric_writers.AsyncMultiWriter(
      [metric_writers.SummaryWriter(os.fspath(model_dir))]
  )


class Reporter:
  """Tells how a run goes; only the first process says anything.

  What `health` finds is told when it appears, not as long as it lasts.
  """

  def __init__(
      self,
      model_dir: str | os.PathLike[str],
      name: str,
      first_step: int,
      train_steps: int,
      tensorboard: bool,
      config: str = '',
      rates: costs.Rates | None = None,
  ):
    """Forgets what a killed run said of steps that will be run again.

    Args:
      model_dir: Of the run.
      name: Of the part, for the progress bar.
      first_step: Steps already taken.
      train_steps: Steps in all.
      tensorboard: Whether to write TensorBoard files.
      config: Text to keep in config.gin.
      rates: What steps per second amount to; None to tell those alone.
    """
    self._rates = rates
    self._path = pathlib.Path(model_dir) / METRICS
    self._speaks = jax.process_index() == 0
    self._train_steps = train_steps
    self._step, self._time = first_step, time.monotonic()
    self._writer: Any = None
    if not self._speaks:
      return
    kept = [r for r in read_metrics(model_dir) if r['step'] <= first_step]
    temporary = self._path.with_suffix('.tmp')
    temporary.write_text(''.join(json.dumps(r) + '\n' for r in kept))
    temporary.replace(self._path)
    self._records = kept
    self._warned: set[str] = set()
    if config:
      (pathlib.Path(model_dir) / 'config.gin').write_text(config)
    if tensorboard:
      self._writer = _tensorboard_writer(model_dir)
      self._writer.write_texts(first_step, {'config': f'```\n{config}\n```'})
    self._bar = tqdm.tqdm(
        desc=name, total=train_steps, initial=first_step, disable=None
    )

  def restart_clock(self, step: int) -> None:
    """Leaves out what came before `step`, e.g. compilation, from the speed."""
    self._step, self._time = step, time.monotonic()

  def advance(self) -> None:
    """Counts a step on the progress bar."""
    if self._speaks:
      self._bar.update()

  def train(self, step: int, metrics: Mapping[str, float]) -> None:
    """Tells the metrics of the steps up to `step`, the speed and the ETA."""
    speed = (step - self._step) / max(time.monotonic() - self._time, 1e-9)
    metrics = dict(metrics)
    if speed:
      metrics['steps_per_second'] = speed
      if self._rates is not None:
        metrics |= self._rates.at(speed)
      left = datetime.timedelta(
          seconds=round((self._train_steps - step) / speed)
      )
      self._tell(step, 'train', metrics, f' eta {left}')
    else:
      self._tell(step, 'train', metrics)
    if self._speaks and 'loss' in metrics:
      self._bar.set_postfix(loss=f"{metrics['loss']:.4g}")

  def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
    """Tells the metrics of the validation split."""
    self._tell(step, 'eval', metrics)

  def say(self, line: str) -> None:
    """Writes a line above the progress bar."""
    if self._speaks:
      self._bar.write(line, file=sys.stderr)

  @property
  def shows_audio(self) -> bool:
    return self._writer is not None

  def audio(self, step: int, clips: Mapping[str, np.ndarray]) -> None:
    """Writes [samples] clips at 24 kHz, and their spectrograms."""
    for tag, clip in clips.items():
      clip = np.asarray(clip, np.float32)
      self._writer.write_audios(
          step, {tag: clip[np.newaxis, :, np.newaxis]}, sample_rate=SAMPLE_RATE
      )
      self._writer.write_images(
          step, {f'{tag}/log_mel': spectrogram_image(clip, SAMPLE_RATE)}
      )

  def close(self) -> None:
    """Writes what is left."""
    if self._speaks:
      self._bar.close()
    if self._writer is not None:
      self._writer.close()

  def _tell(self, step, split, metrics, suffix=''):
    if not self._speaks:
      return
    record = {'step': step, 'split': split, **metrics}
    with open(self._path, 'a') as f:
      f.write(json.dumps(record) + '\n')
    self._records.append(record)
    values = ' '.join(
        f'{name} {value:.4g}'
        for name, value in metrics.items()
        if not re.search(r'_q\d+$', name)  # One per quantizer: too many.
    )
    self.say(f'step {step}/{self._train_steps} {split}: {values}{suffix}')
    if self._writer is not None:
      self._writer.write_scalars(
          step, {f'{split}/{name}': value for name, value in metrics.items()}
      )
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
