"""Training examples of stages: crops of tokens, laid out as ids."""

from collections.abc import Mapping
import dataclasses
import os
import types
from typing import cast

from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.data import datasets
from musiclm_jax.data import example_base
from musiclm_jax.data import token_dataset
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import plan_streams
import numpy as np

MULAN_STRIDE = 1.0  # Seconds between the starts of MuLan windows (4.1).


@dataclasses.dataclass(frozen=True)
class Quantizer:
  """Makes tokens of the embeddings that records keep for a stream.

  Attributes:
    codebooks: [quantizers, codes, embed].
    window_seconds: Length of the audio that one embedding describes.
  """

  codebooks: np.ndarray
  window_seconds: float


class StageExamples(example_base.Examples):
  """Crops of tokens: 'inputs' and 'targets', [length] int32 ids of a stage.

  Streams follow each other, as do the frames of each, quantizers innermost.
  """

  dataset = 'music_tokens'
  output_features = {'inputs': (1, np.int32), 'targets': (1, np.int32)}

  def __init__(self, name: str | None = None):
    """Makes the task.

    Args:
      name: Name of the paper's stage to use by default.
    """
    self._name = name

  @property
  def vocab_size(self) -> int | None:
    """Number of ids, if it has a stage of the paper by default."""
    return None if self._name is None else stages.PAPER[self._name].vocab_size

  def reads(self, stage, quantizers, hummed, **context):
    texts = [token_dataset.text_of(name) for name in quantizers]
    weights = ['caption_weights'] if quantizers else []
    hums = [token_dataset.hum_of(name) for name in hummed]
    return (*(s.name for s in stage.streams), *texts, *weights, *hums)

  def context(
      self,
      data_dir,
      stage: streams.Stage | None = None,
      text_probability: float = 0.0,
      hum_probability: float = 0.0,
      **probabilities: float,
  ):
    """Reads the streams of a stage and their quantizers.

    Args:
      data_dir: Folder of the datasets.
      stage: The stage; by default that of the task.
      text_probability: Probability that a caption stands in for the audio, if
        both are there; 0 in the paper.
      hum_probability: Probability that a melody is that of a humming voice, if
        there is one, instead of the audio; 0 in the paper.
      **probabilities: `<stream>_probability`: probability that a stage that
        reads a condition is given it; 1 by default and in the paper.

    Returns:
      Keyword arguments of each call.

    Raises:
      UserError: If the stage or a stream is unknown.
    """
    known = token_dataset.known_streams(data_dir) or {}
    if stage is None:
      stage = self._default(known)
    given = {}
    for option, probability in probabilities.items():
      name = option.removesuffix('_probability')
      names = {*known, *stages.PAPER_STREAMS, *plan_streams.NAMES}
      if name == option or name not in names:
        raise errors.UserError(
            'TASK_OPTIONS must be text_probability, hum_probability, or'
            f' <stream>_probability of one of {sorted(known)}, but hold'
            f" '{option}'."
        )
      given[name] = probability
    return {
        'stage': stage,
        'quantizers': _quantizers(data_dir, stage),
        'hummed': [
            s.name
            for s in stage.conditioning
            if hum_probability and s.name in token_dataset.hummed(data_dir)
        ],
        'text_probability': text_probability,
        'hum_probability': hum_probability,
        'probabilities': given,
    }

  def whole(self, record, stage, **context):
    frames = len(record[stage.targets.name])
    seconds = frames / cast(float, stage.targets.frame_rate)
    whole = dataclasses.replace(stage, crop_seconds=seconds)
    return whole.feature_lengths

  def _default(self, known: Mapping[str, streams.Stream]) -> streams.Stage:
    if self._name is None:
      raise errors.UserError(
          "task 'music_stage' must be told its stage. Bind 'stage' in"
          ' TASK_OPTIONS, as gin/stages/stage.gin does.'
      )
    return stages.get_stage(self._name, known=known)

  def __call__(
      self,
      record,
      feature_lengths,
      rng,
      stage,
      quantizers,
      hummed=(),
      text_probability=0.0,
      hum_probability=0.0,
      probabilities=types.MappingProxyType({}),
  ):
    seconds = _crop_seconds(stage, feature_lengths)
    targets = stage.targets
    excess = len(record[targets.name]) / targets.frame_rate - seconds
    start = rng.integers(max(0, int(excess * stage.grid + 1e-6)) + 1)
    start /= stage.grid
    tokens = {
        s.name: s.crop(record[s.name], start, seconds)
        for s in stage.streams
        if s.name not in quantizers
    }
    for stream in stage.conditioning:
      if stream.name in quantizers:
        continue
      if stream.name in hummed and rng.random() < hum_probability:
        voice = _hum_tokens(record, stream)
        if len(voice):
          tokens[stream.name] = stream.crop(voice, start, seconds)
      if rng.random() >= probabilities.get(stream.name, 1.0):
        tokens[stream.name] = np.full_like(tokens[stream.name], streams.ABSENT)
    for name, quantizer in quantizers.items():
      if text_probability and rng.random() < text_probability:
        caption = example_base.draw_caption(record, rng)
        embedding = record[token_dataset.text_of(name)][caption]
      else:
        embedding = crop_embedding(
            record[name], start, seconds, quantizer.window_seconds
        )
      tokens[name] = quantize(embedding, quantizer.codebooks)[np.newaxis]
    return _layout(stage, tokens, seconds)


def _quantizers(
    data_dir: str | os.PathLike[str], stage: streams.Stage
) -> dict[str, Quantizer]:
  """Returns the quantizers of the inputs that are kept as embeddings."""
  metadata = datasets.read_metadata(token_dataset.NAME, data_dir)
  read = lambda name: Quantizer(
      datasets.read_array(token_dataset.NAME, data_dir, f'{name}_codebooks'),
      metadata[f'{name}_window_seconds'],
  )
  return {
      s.name: read(s.name)
      for s in stage.inputs
      if f'{s.name}_window_seconds' in metadata
  }


def _crop_seconds(
    stage: streams.Stage, feature_lengths: Mapping[str, int]
) -> float:
  targets = stage.targets
  frames = feature_lengths['targets'] / targets.num_quantizers
  seconds = frames / cast(float, targets.frame_rate)
  inputs = sum(s.num_frames(seconds) * s.num_quantizers for s in stage.inputs)
  if feature_lengths['inputs'] != inputs:
    raise errors.UserError(
        f"feature lengths of stage '{stage.name}' must be of one crop:"
        f' targets of {feature_lengths["targets"]} need inputs of {inputs},'
        f' but inputs are {feature_lengths["inputs"]}. Take'
        ' streams.feature_lengths.'
    )
  return seconds


def _layout(
    stage: streams.Stage, tokens: streams.Tokens, seconds: float
) -> example_base.Example:
  """Concatenates the ids of the streams, each padded to the whole crop."""

  def ids(stream):
    frames = stage.to_ids(tokens[stream.name], stream)
    missing = stream.num_frames(seconds) - len(frames)
    return np.pad(frames, ((0, missing), (0, 0))).reshape(-1)

  inputs = np.concatenate([ids(stream) for stream in stage.inputs])
  return {
      'inputs': inputs.astype(np.int32),
      'targets': ids(stage.targets).astype(np.int32),
  }


def _hum_tokens(
    record: example_base.Record, stream: streams.Stream
) -> np.ndarray:
  name = token_dataset.hum_of(stream.name)
  if name not in record:
    raise errors.UserError(
        f"records of tokens must have '{name}' where HUM_PROBABILITY is not 0,"
        f' but have {sorted(record)}: they were made by an older version.'
        ' Remove the dataset and tokenize again.'
    )
  return record[name]


def crop_embedding(
    windows: np.ndarray, start: float, seconds: float, window_seconds: float
) -> np.ndarray:
  """Averages the MuLan windows inside a crop.

  Args:
    windows: [windows, embed] embeddings of a clip, one window per second.
    start: Start of the crop, in seconds.
    seconds: Length of the crop.
    window_seconds: Length of a window.

  Returns:
    [embed] unit vector. If no window fits in the crop, that of the one whose
    centre is nearest.
  """
  starts = np.arange(len(windows)) * MULAN_STRIDE
  ends = starts + window_seconds
  inside = (starts >= start - 1e-6) & (ends <= start + seconds + 1e-6)
  if not inside.any():
    distance = np.abs((starts + ends) / 2 - (start + seconds / 2))
    inside = np.arange(len(windows)) == distance.argmin()
  embedding = windows[inside].mean(axis=0)
  return embedding / max(np.linalg.norm(embedding), 1e-6)


def quantize(embedding: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
  """Quantizes an embedding, in numpy, as `models.quantizer` does.

  Args:
    embedding: [embed].
    codebooks: [quantizers, codes, embed].

  Returns:
    [quantizers] int32 tokens.
  """
  tokens, residual = [], embedding
  for codebook in codebooks:
    token = np.sum((codebook - residual) ** 2, axis=-1).argmin()
    residual = residual - codebook[token]
    tokens.append(token)
  return np.array(tokens, np.int32)
