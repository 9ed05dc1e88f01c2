"""Oracle swaps: whether a stage listens to what it is given.

A stage gets the true tokens of a clip, then those of another. If it listens, it
finds the clip's own targets likelier with the first, and what it writes is
nearer to the clip, once decoded.
"""

from collections.abc import Mapping
import dataclasses
import os

from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.data import datasets
from musiclm_jax.data import token_dataset
from musiclm_jax.data import stage_examples
from musiclm_jax.metrics import codec as codec_metrics
from musiclm_jax.metrics import report
from musiclm_jax.models import parts
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import decode
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import soundstream
import numpy as np

MAX_CLIPS = 64
MAX_WRITTEN = 8  # Clips that a stage writes, which takes longer.


@dataclasses.dataclass(frozen=True)
class Swap:
  """What a stage makes of a clip's own conditioning, and of another's.

  Attributes:
    nats: [2, clips] per token of the targets: with its own, with another's.
    decibels: [2, clips] log-mel distance of what it writes to the original, the
      codec's errors aside; None where the stage writes no audio.
  """

  nats: np.ndarray
  decibels: np.ndarray | None

  @property
  def gain(self) -> float:
    """Nats per token that knowing the clip's own conditioning is worth."""
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
    model_dir: Of the model.
    name: Of the stage's part: 'semantic', 'coarse' or 'fine'.
    split: Of the dataset. By default what the stage has learned from, where it
      shows most clearly whether it listens at all.

  Raises:
    NotFoundError: If there are no tokens, or no such stage.
    UserError: If the tokens are not those of the model, or of but one clip.
  """
  description = parts.read_description(model_dir, name)
  token_dataset.check_lineage(data_dir, description['lineage'])
  dataset = datasets.open_dataset(token_dataset.NAME, data_dir, split)
  if len(dataset) < 2:
    raise errors.UserError(
        f"split '{split}' must hold 2 clips or more to swap, but holds"
        f' {len(dataset)}. Take another.'
    )
  indices = report.spread(len(dataset), MAX_CLIPS)
  tokenized = [dataset[int(i)] for i in indices]
  # Half of all clips on is most likely another work.
  half = len(tokenized) // 2
  others = tokenized[half:] + tokenized[:half]
  stage = stages.of_part(description['config'])
  context = stage_examples.StageExamples().context(data_dir, stage=stage)
  crops = [
      report.stage_crops(model_dir, name, tokenized, context, conditioning)
      for conditioning in (tokenized, others)
  ]
  scored = [report.stage_nats(model_dir, name, crop) for crop in crops]
  nats = np.stack([total / np.maximum(tokens, 1) for total, tokens in scored])
  if name == base.SEMANTIC.name:
    return Swap(nats, None)
  few = report.spread(len(indices), MAX_WRITTEN)
  crops = [{k: ids[few] for k, ids in crop.items()} for crop in crops]
  return Swap(nats, _distances(model_dir, name, crops))


def _distances(model_dir, name, crops):
  """Returns [2, clips] decibels between what is written and the original."""
  codec = soundstream.SoundStream.from_dir(model_dir)
  decoder = decode.StageDecoder.from_dir(model_dir, name)
  stage, targets = decoder.stage, decoder.stage.targets
  count = len(crops[0]['targets'])
  own = _streams(stage, crops[0])
  # Fine tokens of another clip are heard with the coarse ones of its own.
  known = {k: own[k] for k in (base.COARSE.name,) if k in own}
  original = codec.detokenize({**known, targets.name: own[targets.name]})
  distances = []
  for crop in crops:
    written = decoder.sample(
        _streams(stage, crop),
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


def _streams(
    stage: streams.Stage, crops: Mapping[str, np.ndarray]
) -> streams.Tokens:
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
