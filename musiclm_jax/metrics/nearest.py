"""The training clips that an output is nearest to, in three ways.

By embedding: how alike they sound to the network that compares music with
texts. By pitch classes: the same harmony and melody, at any transposition and
at any offset. By fingerprint: the very same recording.
"""

from collections.abc import Iterator, Mapping, Sequence
import os
from typing import Any

from jaxtyping import Float
from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax.audio import fingerprints
from musiclm_jax.audio import io
from musiclm_jax.metrics import nearest_index
from musiclm_jax.models import parts
from musiclm_jax.tokenizers import table
import numpy as np

Row = dict[str, Any]

SHORTEST_SECONDS = 1.0  # Of audio whose nearest clips are found.
_LEAST_OVERLAP = 5 * nearest_index.CHROMA_RATE  # Frames.


def contour_similarity(
    a: Float[np.ndarray, 'frames 12'], b: Float[np.ndarray, 'other_frames 12']
) -> float:
  """Returns how like pitch classes follow each other: -1 to 1.

  Args:
    a: [frames, 12] of a recording, see `nearest_index.chroma_of`.
    b: [other_frames, 12] of another.

  Returns:
    The mean similarity of their frames, at the best transposition and offset at
    which the shorter one is inside the longer.
  """
  short, long = sorted((a, b), key=len)
  places = np.lib.stride_tricks.sliding_window_view(long, len(short), axis=0)
  places = np.swapaxes(places, 1, 2).reshape(len(places), -1)
  turned = [np.roll(short, k, axis=1).reshape(-1) for k in range(12)]
  return float((places @ np.stack(turned, axis=1)).max() / len(short))


def scores(
    audio: Float[np.ndarray, ' samples'],
    sample_rate: int,
    index: nearest_index.Index,
    embedder: Any,
) -> dict[str, np.ndarray]:
  """Returns the likeness of audio to each clip, by the name of the measure.

  Args:
    audio: [samples].
    sample_rate: Sample rate, in Hz.
    index: Index of the clips.
    embedder: The part that the index was made with.

  Raises:
    UserError: If the audio is shorter than SHORTEST_SECONDS.
  """
  least = SHORTEST_SECONDS * sample_rate
  if len(audio) < least:
    raise errors.UserError(
        f'audio must be at least {SHORTEST_SECONDS:g} s long to be told from'
        f' others, but is {len(audio) / sample_rate:.2f} s long.'
    )
  low = io.resample(audio, sample_rate, fingerprints.SAMPLE_RATE)
  chroma, ends = nearest_index.chroma_of(low), index.chroma_ends
  found = fingerprints.fingerprint(low)
  met = fingerprints.meetings(
      found, index.hashes, index.frames, index.owners, len(index.clips)
  )
  own = nearest_index.embed(audio, sample_rate, embedder)
  return {
      'embedding': index.embeddings @ own,
      'pitch classes': np.array(
          [
              # A few notes are somewhere in any tune.
              contour_similarity(chroma, x)
              if len(x) >= min(len(chroma), _LEAST_OVERLAP)
              else -1.0
              for x in np.split(index.chroma, ends[:-1])
          ]
      ),
      'fingerprint': met / max(1, len(found.hashes)),
  }


def attribution(clip: Mapping[str, Any]) -> str:
  """Returns the words that name a clip's work, source and licence."""
  source, licence = (clip[k] or 'unknown' for k in ('source', 'license'))
  return f'"{clip["title"] or clip["work"]}", {source}, {licence}'


def find(
    files: Sequence[str | os.PathLike[str]],
    data_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str] | None = None,
    count: int = 5,
) -> Iterator[list[Row]]:
  """Yields the nearest training clips of each of some files.

  Args:
    files: Paths of audio files.
    data_dir: Folder of the dataset `music`; its index is made if need be.
    model_dir: Model whose network embeds audio; None for the one in the
      package.
    count: Clips of each measure.

  Yields:
    Rows of each measure, the nearest clip first.

  Raises:
    NotFoundError: If there is no such file, dataset or model.
    UserError: If one of them is damaged, or a file too short.
  """
  directory = caching.local(model_dir or parts.embedded_model())
  embedder = table.Tokenizers(directory).text_embedder
  first = io.read_audio(files[0], embedder.sample_rate)  # Before a long wait.
  index = nearest_index.ensure(data_dir, embedder)
  for i, path in enumerate(files):
    audio = io.read_audio(path, embedder.sample_rate) if i else first
    found = scores(audio, embedder.sample_rate, index, embedder)
    yield [
        _row(measure, float(values[k]), index.clips[int(k)])
        for measure, values in found.items()
        for k in np.argsort(-values, kind='stable')[:count]
    ]


def _row(measure: str, score: float, clip: Mapping[str, Any]) -> Row:
  return {
      'measure': measure,
      'score': score,
      'clip': clip['id'],
      'work': clip['work'],
      'from second': round(clip['start'], 1),
      'attribution': attribution(clip),
  }
