"""Tests for judging."""

from unittest import mock

from absl.testing import absltest
from musiclm_jax.sampling import judging
from musiclm_jax.sampling import timeline
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table
import numpy as np

RATE = 8000


class Loudness(base.TextEmbedder):
  """Embeds each second of audio: loud is up, and silent is to the right."""

  streams, sample_rate, window_seconds = (base.MULAN,), RATE, 1.0
  streams_of = from_dir = quantize = tokenize = check_text = None

  def embed_audio(self, audio):
    seconds = audio[:, : audio.shape[1] // RATE * RATE]
    peaks = np.abs(seconds.reshape(len(audio), -1, RATE)).max(axis=-1)
    return np.stack([1.0 - (peaks > 0.5), 1.0 * (peaks > 0.5)], axis=-1)

  def embed_text(self, texts, truncate=True):
    return np.array([[0.0, 1.0] if t == 'loud' else [1.0, 0.0] for t in texts])


class Tune(Loudness):
  streams = (base.MELODY,)


class Loaded(table.Tokenizers):
  codec = mock.Mock(sample_rate=RATE)

  def __init__(self, embedders):
    super().__init__('nowhere')
    self.of_kind = embedders.get


class JudgingTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    text = Loudness()
    text.check_text = lambda text: None
    embedders = {base.TextEmbedder: {'text': text}}
    embedders[base.Embedder] = {'text': text, 'tune': Tune()}
    self.tokenizers = Loaded(embedders)
    # Three seconds soft, one loud.
    self.audio = np.repeat(np.array([0.1, 0.1, 0.1, 0.9], 'f4'), RATE)

  def test_each_section_is_heard_for_itself(self):
    story = timeline.Timeline([(0, 'soft'), (3, 'loud')])
    score = judging.score(self.audio, story, self.tokenizers)
    self.assertAlmostEqual(score, 1.0)
    story = timeline.Timeline([(0, 'loud'), (3, 'loud')])
    score = judging.score(self.audio, story, self.tokenizers)
    self.assertAlmostEqual(score, 0.25)

  def test_a_melody_counts_as_long_as_it_lasts(self):
    piece = timeline.Timeline([(0, 'soft'), (3, 'loud')])
    alone = judging.worth(self.audio, piece, self.tokenizers)
    self.assertAlmostEqual(alone, 1.0)
    melody = np.repeat(np.array([0.9, 0.1], 'f4'), RATE)
    for fields in {'melody': melody}, {'conditions': {'melody': melody}}:
      piece = timeline.Timeline([(0, 'soft'), (3, 'loud')], **fields)
      worth = judging.worth(self.audio, piece, self.tokenizers)
      self.assertAlmostEqual(worth, 1.5)  # One of two seconds is alike.


if __name__ == '__main__':
  absltest.main()
