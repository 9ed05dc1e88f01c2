"""Compares audio with the piece that was asked for, by embeddings."""

from jaxtyping import Float
from musiclm_jax.sampling import blank
from musiclm_jax.sampling import timeline as timeline_lib
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table
import numpy as np

Audio = Float[np.ndarray, ' samples']


def score(
    audio: Audio,
    timeline: timeline_lib.Timeline,
    tokenizers: table.Tokenizers,
) -> float:
  """Returns the mean similarity of audio to a piece's prompts: -1 to 1.

  Args:
    audio: [samples] of the piece.
    timeline: The piece that was asked for.
    tokenizers: Tokenizers of the model.
  """
  rate, sections = tokenizers.codec.sample_rate, timeline.sections
  ends = [*(start for start, _ in sections[1:]), len(audio) / rate]
  scores, lengths = [], []
  for (start, prompt), end in zip(sections, ends, strict=True):
    part = audio[round(start * rate) : round(end * rate)]
    heard = blank.embed(part, tokenizers)
    scores.append(float(heard @ blank.embed(prompt, tokenizers)))
    lengths.append(len(part))
  return float(np.average(scores, weights=lengths))


def worth(
    audio: Audio,
    timeline: timeline_lib.Timeline,
    tokenizers: table.Tokenizers,
) -> float:
  """Returns `score` plus the similarity to each condition that is embedded."""
  total = score(audio, timeline, tokenizers)
  rate = tokenizers.codec.sample_rate
  conditions = timeline.all_conditions
  for embedder in tokenizers.of_kind(base.Embedder).values():
    given = conditions.get(embedder.streams[0].name)
    if given is not None and given.ndim == 1:
      made, wanted = (
          embedder.embed_audio(blank.resample(x, rate, embedder.sample_rate))[0]
          for x in (audio, given)
      )
      total += _likeness(made, wanted)
  return total


def _likeness(made: np.ndarray, wanted: np.ndarray) -> float:
  """Returns the mean similarity of embeddings at the same times: -1 to 1."""
  windows = min(len(made), len(wanted))
  return float(np.mean(np.sum(made[:windows] * wanted[:windows], axis=-1)))
