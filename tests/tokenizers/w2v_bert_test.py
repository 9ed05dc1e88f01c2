"""Tests for w2v_bert."""

import inspect
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
from musiclm_jax.models import parts
from musiclm_jax.models import w2v_bert as w2v_bert_model
from musiclm_jax.tokenizers import w2v_bert
import numpy as np

CONFIG = {
    'conv_channels': [2, 2],
    'embed_dim': 8,
    'num_heads': 2,
    'mlp_dim': 12,
    'contrastive_layers': 1,
    'masked_prediction_layers': 1,
    'semantic_layer': 1,
}
RATE = 16000


def music(samples, batch=1):
  """Returns a random tone for each 80 ms."""
  rng = np.random.default_rng(samples)
  shape = (batch, -(-samples // 1280))
  hertz = rng.uniform(100, 4000, shape).repeat(1280, axis=1)
  loudness = rng.uniform(0.01, 1, shape).repeat(1280, axis=1)
  audio = loudness * np.sin(np.cumsum(2 * np.pi * hertz / RATE, axis=1))
  return audio[:, :samples].astype(np.float32)


def make_variables():
  """Returns random weights, and centroids that are embeddings of music."""
  encoder = w2v_bert_model.W2vBertEncoder(
      w2v_bert_model.W2vBertConfig(**CONFIG)
  )
  audio, valid = music(750 * 640, batch=2), np.ones((2, 750), bool)
  shapes = jax.eval_shape(encoder.init, jax.random.key(0), audio, valid)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda x: rng.normal(scale=0.5, size=x.shape).astype(np.float32),
      shapes['params'],
  )
  embeddings = jax.jit(encoder.apply)({'params': params}, audio, valid)
  points = np.reshape(embeddings, (-1, 8))[:1024]
  mean, std = points.mean(axis=0), points.std(axis=0)
  kmeans = {'mean': mean, 'std': std, 'centroids': (points - mean) / std}
  return {'params': params, 'kmeans': kmeans}


class W2vBertTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.variables = make_variables()
    cls.directory = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.sha256 = parts.save(cls.directory, 'w2v_bert', CONFIG, cls.variables)
    cls.tokenizer = w2v_bert.W2vBert.from_dir(cls.directory)

  def tokenize(self, audio):
    return self.tokenizer.tokenize(audio)['semantic']

  def test_tokens_are_repeatable(self):
    audio = music(2 * RATE, batch=2)
    tokens = self.tokenize(audio)
    self.assertEqual(tokens.dtype, np.int32)
    self.assertBetween(tokens.min(), 0, 1023)
    self.assertBetween(tokens.max(), 0, 1023)
    self.assertGreater(len(np.unique(tokens)), 10)
    again = w2v_bert.W2vBert.from_dir(self.directory)
    np.testing.assert_array_equal(again.tokenize(audio)['semantic'], tokens)
    self.assertEqual(again.sha256, self.sha256)

  def test_tokens_are_the_nearest_centroids_of_the_encoder(self):
    audio = music(125 * 640)
    encoder = w2v_bert_model.W2vBertEncoder(self.tokenizer.config)
    embeddings = jax.jit(encoder.apply)(
        {'params': self.variables['params']}, audio, np.ones((1, 125), bool)
    )
    kmeans = self.variables['kmeans']
    points = (np.asarray(embeddings[0]) - kmeans['mean']) / kmeans['std']
    distances = np.linalg.norm(points[:, None] - kmeans['centroids'], axis=-1)
    tokens = self.tokenize(audio)[0, :, 0]
    # Rounding may decide between centroids that are equally far.
    chosen = distances[np.arange(125), tokens]
    np.testing.assert_allclose(chosen, distances.min(axis=-1), rtol=1e-5)

  @parameterized.parameters(
      (321, 1), (640, 1), (959, 1), (961, 2), (RATE, 25), (RATE + 319, 25),
      (RATE + 321, 26), (5 * RATE + 1, 125), (80500, 126),
  )  # fmt: skip
  def test_length_is_exact(self, samples, num_frames):
    self.assertEqual(self.tokenize(music(samples)).shape, (1, num_frames, 1))

  def test_padding_to_a_bucket_changes_nothing(self):
    audio = music(2 * RATE)
    alone = jax.jit(self.tokenizer._tokens_of_window)(
        self.variables, audio, np.ones((1, 50), bool)
    )
    np.testing.assert_array_equal(self.tokenize(audio)[:, :, 0], alone)

  def test_long_audio_is_tokenized_by_windows(self):
    audio = music(32 * RATE)
    tokens = self.tokenize(audio)
    self.assertEqual(tokens.shape, (1, 800, 1))
    first, second = audio[:, : 30 * RATE], audio[:, 30 * RATE :]
    np.testing.assert_array_equal(tokens[:, :750], self.tokenize(first))
    np.testing.assert_array_equal(tokens[:, 750:], self.tokenize(second))

  @parameterized.parameters(
      (np.zeros(640, np.float32), r'must be \[batch, samples\]'),
      (np.zeros((1, 640), np.int16), 'must be floats'),
      (np.full((1, 640), 2, np.float32), 'peaks at 2'),
      (np.full((1, 640), np.nan, np.float32), 'peaks at nan'),
      (np.zeros((1, 0), np.float32), 'more than 20 ms.* but has 0 samples'),
      (np.zeros((1, 320), np.float32), 'but has 320 samples at 16000 Hz'),
  )
  def test_bad_audio_is_named(self, audio, message):
    with self.assertRaisesRegex(ValueError, message):
      # The shape checker of tests would stop it first.
      inspect.unwrap(w2v_bert.W2vBert.tokenize)(self.tokenizer, audio)

  def test_weights_of_another_config_are_named(self):
    directory = self.enterContext(tempfile.TemporaryDirectory())
    config = {**CONFIG, 'embed_dim': 16}
    parts.save(directory, 'w2v_bert', config, self.variables)
    with self.assertRaisesRegex(ValueError, r"'w2v_bert' must hold .*shape"):
      w2v_bert.W2vBert.from_dir(directory)

  def test_missing_part_is_named(self):
    directory = self.enterContext(tempfile.TemporaryDirectory())
    with self.assertRaisesRegex(FileNotFoundError, 'must hold w2v_bert.json'):
      w2v_bert.W2vBert.from_dir(directory)


if __name__ == '__main__':
  absltest.main()
