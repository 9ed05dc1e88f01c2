"""From the tokens of a take to what is heard."""

from collections.abc import Iterator

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.sampling import sampler
from musiclm_jax.sampling import take as take_lib
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import soundstream
import numpy as np

_FADE_SECONDS = 0.02  # Between audio that stays and what is made.
_ALIKE_SECONDS = 0.5  # That are compared where a loop is to be closed.
_WINDOW, _HOP = 1024, 240  # Samples.


def render(
    codec: base.Codec, take: take_lib.Take
) -> Float[np.ndarray, ' samples']:
  """Returns the [samples] audio of a take whose tokens are all sampled."""
  streams = {s.name: take.tokens[s.name] for s in codec.streams}
  audio = codec.detokenize(streams)[0]
  if take.loop:
    return _close_loop(take, audio)
  return _join(take, audio[: take.num_samples], 0)


def stream(
    codec: soundstream.SoundStream, take: take_lib.Take, run: sampler.Run
) -> Iterator[Float[np.ndarray, ' some']]:
  """Yields the audio of a take while `run` samples it.

  Raises:
    UserError: If the take is a loop, whose start needs its end.
  """
  if take.loop:
    raise errors.UserError(
        'a loop can not be streamed: its start is mixed with its end. Generate'
        ' it whole.'
    )
  decoder = codec.stream()
  frames = take.tokens[base.FINE.name].shape[1]
  first = 0  # Sample.
  for start in range(0, frames, base.FINE.num_frames(1.0)):
    end = min(frames, start + base.FINE.num_frames(1.0))
    run.advance(base.FINE.name, end)
    streams = {s.name: run.tokens[s.name][:, start:end] for s in codec.streams}
    audio = decoder.detokenize(streams)[0, : take.num_samples - first]
    yield _join(take, audio, first)
    first += len(audio)
    if first >= take.num_samples:
      return


def _close_loop(take: take_lib.Take, audio: np.ndarray) -> np.ndarray:
  """Cuts a loop out of audio that is a little longer, where it fits best.

  The end fades into the start, which is like what would have come after it.
  """
  rate, length = take.sample_rate, take.num_samples
  fade = min(round(_FADE_SECONDS * rate), length // 2)
  spectra = np.lib.stride_tricks.sliding_window_view(audio, _WINDOW)[::_HOP]
  spectra = np.abs(np.fft.rfft(spectra * np.hanning(_WINDOW)))
  around = round(_ALIKE_SECONDS * rate / _HOP)
  period = round(length / _HOP)
  last = min(
      len(spectra) - period - around, (len(audio) - length - fade) // _HOP
  )
  apart = [
      np.sum(np.abs(a - b)) / max(np.sum(a + b), 1e-9)
      for i in range(max(1, last))
      for a, b in [
          (spectra[i : i + around], spectra[i + period : i + period + around])
      ]
  ]
  start = int(np.argmin(apart)) * _HOP
  loop, after = audio[start : start + length], audio[start + length :][:fade]
  angle = np.linspace(0, np.pi / 2, fade, endpoint=False)
  seam = np.sin(angle) * loop[:fade] + np.cos(angle) * after
  return np.clip(np.r_[seam, loop[fade:]], -1, 1).astype(np.float32)


def _join(take: take_lib.Take, made: np.ndarray, first: int) -> np.ndarray:
  """Returns made audio with that which stays in its place.

  Args:
    take: Says what stays.
    made: [samples] of the piece from sample `first` on.
    first: See there.
  """
  if take.audio is None or take.change is None:
    return made
  fade = round(_FADE_SECONDS * take.sample_rate)
  there = len(take.audio)
  # Within what is changed, where there is audio to fade from.
  start, end = min(take.change[0] + fade, there), take.change[1]
  samples = first + np.arange(len(made))
  stays = np.clip((start - samples) / fade, 0, 1)
  if end < there:
    stays = np.maximum(stays, np.clip((samples - end) / fade + 1, 0, 1))
  kept = np.zeros_like(made)
  found = take.audio[first : first + len(made)]
  kept[: len(found)] = found
  return np.where(stays == 1, kept, stays * kept + (1 - stays) * made).astype(
      np.float32
  )
