"""Makes training examples of records: random crops, as numpy arrays.

Each task is a callable that knows the dataset it reads and the features it
makes. `tasks/` registers them all in seqio; `batches` runs them without it.
"""

import abc
from collections.abc import Mapping
import os
from typing import Any, cast

from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.audio import io
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data import renditions
from musiclm_jax.models import wordpiece
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base as tokenizers
import numpy as np

Record = Mapping[str, Any]
Example = dict[str, np.ndarray]

MULAN_STRIDE = 1.0  # Seconds between the starts of MuLan windows (4.1).


class Examples(abc.ABC):
  """Makes an example of a record.

  Attributes:
    dataset: Name of the dataset that holds the records.
    reads: What it reads of a record.
    output_features: The rank and dtype of each feature of an example.
  """

  dataset: str
  reads: tuple[str, ...]
  output_features: Mapping[str, tuple[int, type]]

  def context(self, data_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads what all examples need: keyword arguments of each call.

    Args:
      data_dir: Folder of the datasets.
    """
    del data_dir
    return {}

  @abc.abstractmethod
  def __call__(
      self,
      record: Record,
      feature_lengths: Mapping[str, int],
      rng: np.random.Generator,
      **context: Any,
  ) -> Example:
    """Makes an example, a pure function of its arguments.

    Args:
      record: An example of `dataset`.
      feature_lengths: The length of each feature.
      rng: Chooses the crop and what else is random.
      **context: What `context` returned.

    Returns:
      Arrays of the given lengths, zero-padded where the record is shorter.
    """


class AudioExamples(Examples):
  """Crops of audio: 'audio', [samples] float32 in [-1, 1].

  Attributes:
    sample_rate: Of the examples, in Hz.
  """

  dataset = 'music'
  reads = ('audio',)
  output_features = {'audio': (1, np.float32)}

  def __init__(self, sample_rate: int):
    self.sample_rate = sample_rate

  def __call__(self, record, feature_lengths, rng, **context):
    del context
    length = feature_lengths['audio']
    return {'audio': crop_audio(record['audio'], length, self.sample_rate, rng)}


class CaptionedAudioExamples(Examples):
  """Crops of audio as `AudioExamples`, each with a caption's word pieces.

  Of several captions one is drawn by their weights, as MuLan mixes texts of
  different quality.

  Attributes:
    sample_rate: Of the examples, in Hz.
  """

  dataset = 'music'
  reads = ('audio', 'captions', 'caption_weights')
  output_features = {'audio': (1, np.float32), 'text_ids': (1, np.int32)}

  def __init__(self, sample_rate: int):
    self.sample_rate = sample_rate

  def context(self, data_dir, vocab: str | os.PathLike[str] | None = None):
    """Reads the word pieces, one a line, of the file `vocab`."""
    del data_dir
    if vocab is None:
      raise errors.UserError(
          "task 'music_mulan' must have a vocabulary. Set --gin.VOCAB to its"
          ' file.'
      )
    return {'vocab': wordpiece.WordPiece.from_file(vocab)}

  def __call__(self, record, feature_lengths, rng, vocab):
    length = feature_lengths['audio']
    audio = crop_audio(record['audio'], length, self.sample_rate, rng)
    caption = record['captions'][draw_caption(record, rng)]
    ids = vocab.encode([caption], feature_lengths['text_ids'], truncate=True)
    return {'audio': audio, 'text_ids': ids[0].astype(np.int32)}


class MelodyExamples(Examples):
  """Pieces of two renditions of a phrase, about the same melody time.

  'anchor' and 'positive' are [samples] float32 in [-1, 1] at 16 kHz; 'work_id',
  [1] int32, names the work.
  """

  dataset = renditions.NAME
  reads = ('audio', 'lengths', 'tempo_factors', 'work_id')
  output_features = {
      'anchor': (1, np.float32),
      'positive': (1, np.float32),
      'work_id': (1, np.int32),
  }

  def __call__(self, record, feature_lengths, rng, **context):
    del context
    length = feature_lengths['anchor']
    anchor, positive = renditions.draw_pair(record, length, rng)
    work_id = record['work_id']
    return {'anchor': anchor, 'positive': positive, 'work_id': work_id}


class StageExamples(Examples):
  """Crops of tokens: 'inputs' and 'targets', [length] int32 ids of a stage.

  Streams follow each other; within one, the tokens of a frame do.

  Attributes:
    stage: What is laid out.
  """

  dataset = 'music_tokens'
  output_features = {'inputs': (1, np.int32), 'targets': (1, np.int32)}

  def __init__(self, stage: streams.Stage):
    self.stage = stage
    self.reads = tuple(s.name for s in self.stage.streams)
    if tokenizers.MULAN in self.stage.inputs:
      self.reads += ('mulan_text', 'caption_weights')
    if tokenizers.MELODY in self.stage.inputs:
      self.reads += ('melody_hum',)

  def context(
      self,
      data_dir,
      text_probability: float = 0.0,
      melody_probability: float = 1.0,
      hum_probability: float = 0.0,
  ):
    """Reads how MuLan was quantized.

    Args:
      data_dir: Folder of the datasets.
      text_probability: How often the conditioning is a caption instead of the
        audio; 0 in the paper.
      melody_probability: How often a stage that reads melodies is given one;
        always in the paper.
      hum_probability: How often that is the one of a voice that hums it, where
        it is known, and not of the audio; 0 in the paper.

    Returns:
      Keyword arguments of each call.
    """
    metadata = datasets.read_metadata(self.dataset, data_dir)
    return {
        'codebooks': datasets.read_array(
            self.dataset, data_dir, 'mulan_codebooks'
        ),
        'window_seconds': metadata['mulan_window_seconds'],
        'text_probability': text_probability,
        'melody_probability': melody_probability,
        'hum_probability': hum_probability,
    }

  def __call__(
      self,
      record,
      feature_lengths,
      rng,
      codebooks,
      window_seconds,
      text_probability=0.0,
      melody_probability=1.0,
      hum_probability=0.0,
  ):
    seconds = self._crop_seconds(feature_lengths)
    rate, targets = self.stage.grid, self.stage.targets
    excess = len(record[targets.name]) / targets.frame_rate - seconds
    start = rng.integers(max(0, int(excess * rate + 1e-6)) + 1) / rate

    tokens = {
        s.name: s.crop(record[s.name], start, seconds)
        for s in self.stage.streams
        if s.frame_rate
    }
    if tokenizers.MELODY in self.stage.inputs:
      if hum_probability and rng.random() < hum_probability:
        hummed = _hum_tokens(record)
        if len(hummed):
          tokens['melody'] = tokenizers.MELODY.crop(hummed, start, seconds)
      if rng.random() >= melody_probability:
        tokens['melody'] = np.full_like(tokens['melody'], streams.ABSENT)
    if tokenizers.MULAN in self.stage.inputs:
      if text_probability and rng.random() < text_probability:
        embedding = record['mulan_text'][draw_caption(record, rng)]
      else:
        embedding = crop_embedding(
            record['mulan'], start, seconds, window_seconds
        )
      tokens['mulan'] = quantize(embedding, codebooks)[np.newaxis]
    return self._layout(tokens, seconds)

  def _crop_seconds(self, feature_lengths: Mapping[str, int]) -> float:
    targets = self.stage.targets
    frames = feature_lengths['targets'] / targets.num_quantizers
    seconds = frames / cast(float, targets.frame_rate)
    inputs = sum(
        s.num_frames(seconds) * s.num_quantizers for s in self.stage.inputs
    )
    if feature_lengths['inputs'] != inputs:
      raise errors.UserError(
          f"feature lengths of stage '{self.stage.name}' must be of one crop:"
          f' targets of {feature_lengths["targets"]} need inputs of {inputs},'
          f' but inputs are {feature_lengths["inputs"]}. Take'
          ' streams.feature_lengths.'
      )
    return seconds

  def _layout(self, tokens: streams.Tokens, seconds: float) -> Example:
    """Joins the ids of the streams, each padded to the whole crop."""

    def ids(stream):
      frames = self.stage.to_ids(tokens[stream.name], stream)
      missing = stream.num_frames(seconds) - len(frames)
      return np.pad(frames, ((0, missing), (0, 0))).reshape(-1)

    inputs = np.concatenate([ids(stream) for stream in self.stage.inputs])
    return {
        'inputs': inputs.astype(np.int32),
        'targets': ids(self.stage.targets).astype(np.int32),
    }


def _hum_tokens(record: Record) -> np.ndarray:
  if 'melody_hum' not in record:
    raise errors.UserError(
        "records of tokens must have 'melody_hum' where HUM_PROBABILITY is not"
        f' 0, but have {sorted(record)}: they were made by an older version.'
        ' Remove the dataset and tokenize again.'
    )
  return record['melody_hum']


def draw_caption(record: Record, rng: np.random.Generator) -> int:
  """Returns the index of a caption, drawn by the weights of all."""
  weights = clips.caption_weights(record).astype(np.float64)
  return int(rng.choice(len(weights), p=weights / weights.sum()))


def crop_audio(
    audio: np.ndarray,
    length: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
  """Cuts a random piece of a clip.

  Args:
    audio: [samples] int16 at 24 kHz.
    length: Samples of the piece.
    sample_rate: Of the piece, in Hz.
    rng: Chooses where it starts.

  Returns:
    [length] float32 in [-1, 1], zero-padded if the clip is shorter.
  """
  source = -(-length * clips.SAMPLE_RATE // sample_rate)
  start = rng.integers(max(0, len(audio) - source) + 1)
  crop = clips.to_float(audio[start : start + source])
  crop = io.resample(crop, clips.SAMPLE_RATE, sample_rate)[:length]
  return np.pad(crop, (0, length - len(crop)))


def crop_embedding(
    windows: np.ndarray, start: float, seconds: float, window_seconds: float
) -> np.ndarray:
  """Averages the MuLan windows inside a crop.

  Args:
    windows: [windows, embed] embeddings of a clip, a window per second.
    start: Of the crop, in seconds.
    seconds: Length of the crop.
    window_seconds: Length of a window.

  Returns:
    [embed] a unit vector. If no window fits the crop, of the one whose centre
    is nearest.
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


# By the name that MIXTURE_OR_TASK_NAME has in gin files.
TASKS: dict[str, Examples] = {
    'music_soundstream': AudioExamples(24000),
    'music_w2v_bert': AudioExamples(16000),
    'music_mulan': CaptionedAudioExamples(16000),
    'music_melody': MelodyExamples(),
    **{
        f'music_{name}': StageExamples(stages.get_stage(name))
        for name in stages.PAPER
    },
}
