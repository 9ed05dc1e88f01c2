"""Makes training examples from records: random crops, as numpy arrays.

Each task is a callable that knows which dataset it reads and which features it
makes. `tasks/` registers them with seqio; `batches` runs them without it.
"""

import os

from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.data import audio_files
from musiclm_jax.data import clips
from musiclm_jax.data import renditions
from musiclm_jax.data import stage_examples
from musiclm_jax.data import example_base
from musiclm_jax.models import wordpiece
from musiclm_jax.stages import base as stages
import numpy as np


class AudioExamples(example_base.Examples):
  """Crops of audio: 'audio', [samples] float32 in [-1, 1]."""

  dataset = 'music'
  output_features = {'audio': (1, np.float32)}

  def __init__(self, sample_rate: int | None = None):
    """Makes the task.

    Args:
      sample_rate: Sample rate of the examples, in Hz; by default an option of
        the task.
    """
    self._sample_rate = sample_rate

  def reads(self, **context):
    return ('audio',)

  def context(self, data_dir, sample_rate: int | None = None):
    """Reads the sample rate of the clips."""
    wanted = sample_rate or self._sample_rate or clips.SAMPLE_RATE
    return {**super().context(data_dir), 'sample_rate': wanted}

  def whole(self, record, source_rate, sample_rate):
    return {'audio': len(record['audio']) * sample_rate // source_rate}

  def __call__(self, record, feature_lengths, rng, source_rate, sample_rate):
    length = feature_lengths['audio']
    rates = source_rate, sample_rate
    return {'audio': crop_audio(record['audio'], length, rates, rng)}


class CaptionedAudioExamples(example_base.Examples):
  """Crops of audio as `AudioExamples`, each with a caption's word pieces.

  If there are several captions, one is drawn by their weights, as MuLan mixes
  texts of different quality.

  Attributes:
    sample_rate: Sample rate of the examples, in Hz.
  """

  dataset = 'music'
  output_features = {'audio': (1, np.float32), 'text_ids': (1, np.int32)}

  def __init__(self, sample_rate: int):
    self.sample_rate = sample_rate

  def reads(self, **context):
    return ('audio', 'captions', 'caption_weights')

  def context(self, data_dir, vocab: str | os.PathLike[str] | None = None):
    """Reads word pieces from the file `vocab`, one per line."""
    if vocab is None:
      raise errors.UserError(
          "task 'music_mulan' must have a vocabulary. Set --gin.VOCAB to its"
          ' file.'
      )
    pieces = wordpiece.WordPiece.from_file(vocab)
    return {**super().context(data_dir), 'vocab': pieces}

  def whole(self, record, source_rate, vocab):
    longest = max(len(vocab.pieces(text)) for text in record['captions'])
    return {
        'audio': len(record['audio']) * self.sample_rate // source_rate,
        'text_ids': longest + 2,  # A start and an end.
    }

  def __call__(self, record, feature_lengths, rng, source_rate, vocab):
    length = feature_lengths['audio']
    rates = source_rate, self.sample_rate
    audio = crop_audio(record['audio'], length, rates, rng)
    caption = record['captions'][example_base.draw_caption(record, rng)]
    ids = vocab.encode([caption], feature_lengths['text_ids'], truncate=True)
    return {'audio': audio, 'text_ids': ids[0].astype(np.int32)}


class MelodyExamples(example_base.Examples):
  """Excerpts of two renditions of a phrase, at about the same melody time.

  'anchor' and 'positive' are [samples] float32 in [-1, 1] at 16 kHz; 'work_id',
  [1] int32, names the work.
  """

  dataset = renditions.NAME
  output_features = {
      'anchor': (1, np.float32),
      'positive': (1, np.float32),
      'work_id': (1, np.int32),
  }

  def reads(self, **context):
    return ('audio', 'lengths', 'tempo_factors', 'work_id')

  def context(self, data_dir):
    return {}

  def whole(self, record):
    """See the base class; excerpts are as long as the shortest rendition."""
    shortest = int(np.min(record['lengths']))
    return {'anchor': shortest, 'positive': shortest, 'work_id': 1}

  def __call__(self, record, feature_lengths, rng):
    length = feature_lengths['anchor']
    anchor, positive = renditions.draw_pair(record, length, rng)
    work_id = record['work_id']
    return {'anchor': anchor, 'positive': positive, 'work_id': work_id}


def crop_audio(
    audio: np.ndarray | audio_files.Audio,
    length: int,
    rates: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
  """Cuts a random excerpt from a clip.

  Args:
    audio: [samples] int16.
    length: Samples of the excerpt.
    rates: Sample rates of the clip and of the excerpt, in Hz.
    rng: Decides where it starts.

  Returns:
    [length] float32 in [-1, 1], zero-padded if the clip is shorter.
  """
  source = -(-length * rates[0] // rates[1])
  start = rng.integers(max(0, len(audio) - source) + 1)
  crop = clips.to_float(audio[start : start + source])
  crop = io.resample(crop, *rates)[:length]
  return np.pad(crop, (0, length - len(crop)))


# By the name used for MIXTURE_OR_TASK_NAME in gin files.
TASKS: dict[str, example_base.Examples] = {
    'music_codec': AudioExamples(),
    'music_soundstream': AudioExamples(),
    'music_w2v_bert': AudioExamples(16000),
    'music_mulan': CaptionedAudioExamples(16000),
    'music_melody': MelodyExamples(),
    'music_stage': stage_examples.StageExamples(),
    **{
        f'music_{name}': stage_examples.StageExamples(name)
        for name in stages.PAPER
    },
}
