"""Fingerprints of recordings: pairs of spectral peaks, after Wang (2003).

A peak is the loudest point of its neighbourhood in the spectrogram. Each is
paired with the next few; the two frequencies and the time between them are a
hash, which survives noise, codecs and cuts, but not another performance. Of two
recordings that share a passage, many hashes meet at one offset in time.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float, Int
from musiclm_jax.audio import dsp
import numpy as np

SAMPLE_RATE = 8000
HOP = 256
FRAME_RATE = SAMPLE_RATE / HOP
_WINDOW = 1024
# Half the neighbourhood of a peak, in bins and in frames.
_BINS, _FRAMES = 12, 5
_PEAKS_PER_SECOND = 30
_FLOOR = 1e-2  # Share of the loudest point that a peak must have: -40 dB.
# Each peak is paired with so many others, of the next so many frames.
_FAN, _REACH = 10, 63


class Fingerprint(NamedTuple):
  """The hashes of a recording.

  Attributes:
    hashes: [n] pairs of peaks.
    frames: [n] frame of the first peak of each.
  """

  hashes: Int[np.ndarray, ' n']
  frames: Int[np.ndarray, ' n']


def _peaks(
    loudness: Float[np.ndarray, 'frames bins'],
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the frames and bins of the peaks, in order of time."""
  padding = ((_FRAMES, _FRAMES), (_BINS, _BINS))
  highest = np.pad(loudness, padding)
  for axis, size in ((0, 2 * _FRAMES + 1), (1, 2 * _BINS + 1)):
    view = np.lib.stride_tricks.sliding_window_view(highest, size, axis=axis)
    highest = view.max(axis=-1)
  is_peak = (loudness == highest) & (loudness > _FLOOR * loudness.max())
  frames, bins = np.nonzero(is_peak)
  most = int(_PEAKS_PER_SECOND * len(loudness) / FRAME_RATE) + 1
  loudest = np.argsort(-loudness[frames, bins], kind='stable')[:most]
  kept = np.sort(loudest)  # As they were: in order of time.
  return frames[kept], bins[kept]


def fingerprint(audio: Float[np.ndarray, ' samples']) -> Fingerprint:
  """Returns the hashes of audio.

  Args:
    audio: [samples] mono audio at SAMPLE_RATE.
  """
  spectrum = np.asarray(dsp.stft(jnp.asarray(audio[np.newaxis]), _WINDOW, HOP))[
      0
  ]
  frames, bins = _peaks(np.abs(spectrum))
  hashes, starts = [], []
  for step in range(1, _FAN + 1):
    apart = frames[step:] - frames[:-step]
    near = (apart > 0) & (apart <= _REACH)
    first, second = bins[:-step][near], bins[step:][near]
    hashes.append((first << 16) | (second << 6) | apart[near])
    starts.append(frames[:-step][near])
  return Fingerprint(
      np.concatenate(hashes).astype(np.int32),
      np.concatenate(starts).astype(np.int32),
  )


def meetings(
    query: Fingerprint,
    hashes: Int[np.ndarray, ' n'],
    frames: Int[np.ndarray, ' n'],
    owners: Int[np.ndarray, ' n'],
    num_owners: int,
) -> Int[np.ndarray, ' owners']:
  """Counts the hashes that each recording shares with another at one offset.

  Args:
    query: Fingerprint of the other recording.
    hashes: [n] hashes of all recordings, in order of their value.
    frames: [n] frame of each.
    owners: [n] number of the recording of each, in [0, num_owners).
    num_owners: Number of recordings.

  Returns:
    [owners] the most hashes of the query that meet at one offset.
  """
  first = np.searchsorted(hashes, query.hashes, 'left')
  counts = np.searchsorted(hashes, query.hashes, 'right') - first
  of_query = np.repeat(np.arange(len(counts)), counts)
  within = np.arange(counts.sum()) - np.repeat(
      np.cumsum(counts) - counts, counts
  )
  found = first[of_query] + within
  offsets = frames[found].astype(np.int64) - query.frames[of_query]
  best = np.zeros(num_owners, np.int64)
  for shift in (0, 1):  # A cut seldom falls on a frame: two offsets are one.
    place = (owners[found].astype(np.int64) << 32) + ((offsets + shift) >> 1)
    places, meeting = np.unique(place, return_counts=True)
    # Halves of offsets are less than half of 1 << 32.
    np.maximum.at(best, (places + (1 << 31)) >> 32, meeting)
  return best
