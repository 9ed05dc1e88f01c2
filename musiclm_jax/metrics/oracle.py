"""Oracle swaps: whether a stage listens to its conditioning.

A stage gets the true tokens of a clip, then those of another. If it listens, it
finds the clip's own targets likelier with the first, and writes tokens that are
nearer to the clip, once decoded.
"""

from collections.abc import Sequence
import dataclasses
import os

from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.data import stage_examples
from musiclm_jax.data import token_dataset
from musiclm_jax.metrics import codec as codec_metrics
from musiclm_jax.metrics import held_out
from musiclm_jax.metrics import stage_loss
from musiclm_jax.models import parts
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import decode
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import table
import numpy as np

MAX_CLIPS = 64
MAX_WRITTEN = 8  # Clips that a stage samples, which takes longer.


@dataclasses.dataclass(frozen=True)
class Swap:
  """How well a stage does with a clip's own conditioning, and with another's.

  Attributes:
    nats: [2, clips] nats per token of the targets: with a clip's own, with
      another's.
    decibels: [2, clips] log-mel distance of the written audio to the original,
      the codec's errors aside; None where the stage writes no audio.
  """

  nats: np.ndarray
  decibels: np.ndarray | None

  @property
  def gain(self) -> float:
    """Nats per token that a clip's own conditioning is better by."""
    return float(np.mean(self.nats[1] - self.nats[0]))

  @property
  def uncertainty(self) -> float:
    """The standard error of `gain`."""
    difference = self.nats[1] - self.nats[0]
    return float(np.std(difference, ddof=1) / np.sqrt(len(difference)))


def swap(
    data_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str],
    name: str,
    split: str = 'train',
) -> Swap:
  """Swaps the conditioning of a stage between clips.

  Args:
    data_dir: Folder of the dataset `music_tokens`.
    model_dir: Directory of the model.
    name: Name of the stage's part: that of the stream it writes.
    split: Split of the dataset. By default the one that the stage has learned
      from, where it shows most clearly whether it listens at all.

  Raises:
    NotFoundError: If there are no tokens, or no such stage.
    UserError: If the tokens are not those of the model, or of but one clip.
  """
  description = parts.read_description(model_dir, name)
  token_dataset.check_lineage(data_dir, description['lineage'])
  tokenized = list(
      held_out.read(data_dir, split, MAX_CLIPS, name=token_dataset.NAME)
  )
  if len(tokenized) < 2:
    raise errors.UserError(
        f"split '{split}' must hold 2 clips or more to swap, but holds"
        f' {len(tokenized)}. Take another.'
    )
  # Half of all clips on is most likely another work.
  half = len(tokenized) // 2
  others = tokenized[half:] + tokenized[:half]
  stage = stages.of_part(description['config'])
  context = stage_examples.StageExamples().context(data_dir, stage=stage)
  crops = [
      stage_loss.crop(stage, tokenized, context['quantizers'], conditioning)
      for conditioning in (tokenized, others)
  ]
  scored = [stage_loss.nats(model_dir, name, crop) for crop in crops]
  nats = np.stack([total / np.maximum(tokens, 1) for total, tokens in scored])
  few = held_out.spread(len(tokenized), MAX_WRITTEN)
  crops = [{k: ids[few] for k, ids in crop.items()} for crop in crops]
  return Swap(nats, _distances(model_dir, stage, crops))


def _coarser(codec: Sequence[str], stage: streams.Stage) -> list[str] | None:
  """Returns the streams to decode the targets of a stage with, if it can be.

  Args:
    codec: Names of the codec's streams, the coarsest first.
    stage: The stage.
  """
  if stage.targets.name not in codec:
    return None
  coarser = list(codec[: codec.index(stage.targets.name)])
  return coarser if {*coarser} <= {s.name for s in stage.inputs} else None


def _distances(
    model_dir: str | os.PathLike[str],
    stage: streams.Stage,
    crops: Sequence[stage_loss.Crops],
) -> np.ndarray | None:
  """Returns [2, clips] decibels between written and original audio, if any."""
  tokenizers, targets = table.Tokenizers(model_dir), stage.targets
  codec = tokenizers.codec
  coarser = _coarser([s.name for s in codec.streams], stage)
  if coarser is None:
    return None
  decoder = decode.StageDecoder.from_dir(model_dir, targets.name)
  count = len(crops[0]['targets'])
  own = _tokens(stage, crops[0])
  # Fine tokens of another clip are heard with the coarse ones of its own.
  known = {name: own[name] for name in coarser}
  original = codec.detokenize({**known, targets.name: own[targets.name]})
  distances = []
  for crop in crops:
    written = decoder.sample(
        _tokens(stage, crop),
        np.zeros((count, 0, targets.num_quantizers), np.int32),
        targets.num_frames(stage.crop_seconds),
        np.arange(count)[:, np.newaxis],
        np.zeros(count, np.int32),
        choosing.GenerationConfig().of(stage),
    )
    audio = codec.detokenize({**known, targets.name: written})
    distances.append(
        codec_metrics.mel_distance(original, audio, codec.sample_rate)
    )
  return np.stack(distances)


def _tokens(stage: streams.Stage, crops: stage_loss.Crops) -> streams.Tokens:
  """Returns the tokens that ids of inputs and targets stand for."""
  ids = np.concatenate([crops['inputs'], crops['targets']], axis=1)
  tokens, start = {}, 0
  for stream in stage.streams:
    frames = stream.num_frames(stage.crop_seconds)
    end = start + frames * stream.num_quantizers
    found = ids[:, start:end].reshape(len(ids), frames, -1)
    known = found >= streams.NUM_RESERVED_IDS
    tokens[stream.name] = np.where(
        known, found - stage.offsets(stream), streams.ABSENT
    ).astype(np.int32)
    start = end
  return tokens
