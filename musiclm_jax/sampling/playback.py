"""Turns the tokens of a take into audio."""

from collections.abc import Iterator

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.sampling import sampler
from musiclm_jax.sampling import take as take_lib
from musiclm_jax.tokenizers import base
import numpy as np

_FADE_SECONDS = 0.02  # Crossfade between kept and new audio.
_ALIKE_SECONDS = 0.5  # Length of audio that is compared to close a loop.
_WINDOW, _HOP_SECONDS = 1024, 0.01  # Window (samples) and hop of its spectra.


def render(
    codec: base.Codec, take: take_lib.Take
) -> Float[np.ndarray, ' samples']:
  """Returns the [samples] audio of a take whose tokens are all sampled."""
  audio = codec.detokenize({n: take.tokens[n] for n in take.acoustic})[0]
  if take.loop:
    return _close_loop(take, audio)
  return _join(take, audio[: take.num_samples], 0)


def stream(
    codec: base.Codec, take: take_lib.Take, run: sampler.Run
) -> Iterator[Float[np.ndarray, ' some']]:
  """Yields the audio of a take while `run` samples it.

  Raises:
    UserError: If the take is a loop, whose start depends on its end.
  """
  if take.loop:
    raise errors.UserError(
        'a loop cannot be streamed: its start is mixed with its end. Generate'
        ' it whole.'
    )
  decoder = codec.stream()
  second = codec.streams[0].num_frames(1.0)
  frames = take.tokens[codec.streams[0].name].shape[1]
  first = 0  # First sample of the chunk.
  for start in range(0, frames, second):
    end = min(frames, start + second)
    for name in reversed(take.acoustic):
      run.advance(name, end)
    tokens = {n: run.tokens[n][:, start:end] for n in take.acoustic}
    audio = decoder.detokenize(tokens)[0, : take.num_samples - first]
    yield _join(take, audio, first)
    first += len(audio)
    if first >= take.num_samples:
      return


def _close_loop(take: take_lib.Take, audio: np.ndarray) -> np.ndarray:
  """Cuts a loop out of slightly longer audio, where it fits best.

  The audio after the loop, which is like its start, fades into the start.
  """
  rate, length = take.sample_rate, take.num_samples
  hop = round(_HOP_SECONDS * rate)
  fade = min(round(_FADE_SECONDS * rate), length // 2)
  spectra = np.lib.stride_tricks.sliding_window_view(audio, _WINDOW)[::hop]
  spectra = np.abs(np.fft.rfft(spectra * np.hanning(_WINDOW)))
  around = round(_ALIKE_SECONDS * rate / hop)
  period = round(length / hop)
  last = min(
      len(spectra) - period - around, (len(audio) - length - fade) // hop
  )
  apart = [
      np.sum(np.abs(a - b)) / max(np.sum(a + b), 1e-9)
      for i in range(max(1, last))
      for a, b in [
          (spectra[i : i + around], spectra[i + period : i + period + around])
      ]
  ]
  start = int(np.argmin(apart)) * hop
  loop, after = audio[start : start + length], audio[start + length :][:fade]
  angle = np.linspace(0, np.pi / 2, fade, endpoint=False)
  seam = np.sin(angle) * loop[:fade] + np.cos(angle) * after
  return np.clip(np.r_[seam, loop[fade:]], -1, 1).astype(np.float32)


def _join(take: take_lib.Take, made: np.ndarray, first: int) -> np.ndarray:
  """Returns new audio, crossfaded with the audio that is kept.

  Args:
    take: Take with the audio to keep, if any.
    made: [samples] of new audio, from sample `first` of the piece on.
    first: Index of its first sample.
  """
  if take.audio is None or take.change is None:
    return made
  fade = round(_FADE_SECONDS * take.sample_rate)
  there = len(take.audio)
  # Fades are within the changed part, where there is audio to fade from.
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
