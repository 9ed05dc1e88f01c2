"""Tests for mulan."""

import functools
import json

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import ast
from musiclm_jax.models import bert
from musiclm_jax.models import mulan
from musiclm_jax.models import resnet
from musiclm_jax.models import wordpiece
import numpy as np

VOCAB = wordpiece.train_wordpiece(['slow piano', 'fast drums'], 200)
TOWERS = {
    'resnet': resnet.ResNetConfig(
        num_mels=16, stage_sizes=(1,), width=8, num_groups=2
    ),
    'ast': ast.AstConfig(
        num_mels=16,
        patch_size=8,
        stride=4,
        num_layers=1,
        num_heads=1,
        embed_dim=8,
        mlp_dim=8,
    ),
}


def make_config(tower='resnet'):
  return mulan.MuLanConfig(
      audio=TOWERS[tower],
      text=bert.BertConfig(
          vocab_size=len(VOCAB),
          num_layers=1,
          num_heads=1,
          embed_dim=8,
          mlp_dim=8,
          max_length=24,
          pooling='mean',
      ),
      embed_dim=6,
      window_seconds=0.5,
      max_time_mask=10,
      max_mel_mask=4,
  )


def make_params(config, seed=0):
  """Returns random params, without compiling an initializer."""
  shapes = jax.eval_shape(
      mulan.MuLan(config).init,
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, config.window_samples), jnp.float32),
      jax.ShapeDtypeStruct((1, config.text.max_length), jnp.int32),
  )
  rng = np.random.default_rng(seed)
  draw = lambda x: np.asarray(rng.standard_normal(x.shape) / 3, np.float32)
  return jax.tree.map(draw, shapes['params'])


class MuLanConfigTest(parameterized.TestCase):

  @parameterized.parameters('resnet', 'ast')
  def test_json_round_trip(self, tower):
    config = make_config(tower)
    values = json.loads(json.dumps(config.to_json()))
    self.assertEqual(values['audio_tower'], tower)
    self.assertEqual(mulan.MuLanConfig.from_json(values), config)

  def test_paper_sizes(self):
    config = mulan.MuLanConfig()
    # 10 s at 16 kHz; a frame each 10 ms, at both ends too.
    self.assertEqual(config.window_samples, 160000)
    self.assertEqual(config.num_frames, 1001)
    self.assertEqual(
        mulan.feature_lengths(config), {'audio': 160000, 'text_ids': 512}
    )


class SpecAugmentTest(absltest.TestCase):

  def test_hides_whole_frames_and_bands(self):
    config = make_config()
    log_mel = jnp.ones((64, 51, 16))
    augment = jax.jit(lambda rng: mulan.spec_augment(rng, log_mel, config))
    hidden = np.asarray(augment(jax.random.key(0))) == 0
    frames, bands = hidden.all(axis=2), hidden.all(axis=1)
    np.testing.assert_array_equal(
        hidden, frames[:, :, None] | bands[:, None, :]
    )
    # Two spans of 0 to 10 frames, and two of 0 to 4 bands.
    self.assertBetween(frames.sum(axis=1).mean(), 7, 11)
    self.assertBetween(bands.sum(axis=1).mean(), 2.5, 4.5)
    self.assertLessEqual(frames.sum(axis=1).max(), 20)
    self.assertGreater(len(np.unique(frames, axis=0)), 32)

  def test_masks_in_training_alone(self):
    config = make_config()  # Its ResNet has no dropout.
    params = make_params(config)
    rng = np.random.default_rng(0)
    audio = rng.uniform(-1, 1, (2, config.window_samples))
    audio = jnp.asarray(audio, jnp.float32)
    model = mulan.MuLan(config)

    @jax.jit
    def train(key):
      return model.apply(
          {'params': params},
          audio,
          deterministic=False,
          rngs={'dropout': key},
          method='embed_audio',
      )

    first, second = train(jax.random.key(0)), train(jax.random.key(1))
    self.assertGreater(np.abs(first - second).max(), 1e-3)
    # Without a key, anything random is an error.
    apply = jax.jit(functools.partial(model.apply, method='embed_audio'))
    self.assertEqual(apply({'params': params}, audio).shape, first.shape)


class MuLanTest(parameterized.TestCase):

  @parameterized.parameters('resnet', 'ast')
  def test_both_towers_end_in_the_same_space(self, tower):
    config = make_config(tower)
    params = make_params(config)
    rng = np.random.default_rng(0)
    audio = rng.uniform(-1, 1, (2, config.window_samples)).astype(np.float32)
    ids = wordpiece.WordPiece(VOCAB).encode(['slow piano', 'drums'], 24)
    audio, text, temperature = jax.jit(mulan.MuLan(config).apply)(
        {'params': params}, audio, ids
    )
    for embeddings in (audio, text):
      self.assertEqual(embeddings.shape, (2, 6))
      norms = np.linalg.norm(embeddings, axis=-1)
      np.testing.assert_allclose(norms, 1, atol=1e-5)
      self.assertGreater(np.abs(embeddings[0] - embeddings[1]).max(), 1e-4)
    expected = max(np.exp(params['log_temperature']), 0.01)
    self.assertAlmostEqual(float(temperature), float(expected), places=5)

  def test_initial_temperature(self):
    model = mulan.MuLan(make_config())
    init = jax.jit(lambda: model.init(jax.random.key(0), method='temperature'))
    params = init()['params']
    self.assertAlmostEqual(float(np.exp(params['log_temperature'])), 0.1, 6)


class WindowsTest(parameterized.TestCase):

  @parameterized.parameters(
      (4 * 16000, 1), (5 * 16000 - 1, 1), (5 * 16000, 2), (10 * 16000, 7)
  )
  def test_one_window_per_second(self, samples, expected):
    audio = np.arange(2 * samples, dtype=np.float32).reshape(2, samples)
    windows = mulan.cut_windows(audio, 4 * 16000)
    self.assertEqual(windows.shape, (2, expected, 64000))
    np.testing.assert_array_equal(windows[1, :, 0] % 16000, samples % 16000)
    last = (expected - 1) * 16000
    np.testing.assert_array_equal(windows[1, -1], audio[1, last:][:64000])

  def test_short_clips_are_padded(self):
    windows = mulan.cut_windows(np.ones((1, 10), np.float32), 30)
    self.assertEqual(windows.shape, (1, 1, 30))
    self.assertEqual(windows.sum(), 10)

  def test_pooled_windows_have_length_1(self):
    pooled = mulan.pool_windows(np.array([[[1.0, 0.0], [0.0, 1.0]]]))
    np.testing.assert_allclose(pooled, [[0.5**0.5, 0.5**0.5]], atol=1e-6)


class EmbedderTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    config = make_config()
    cls.embedder = mulan.Embedder(config, make_params(config), VOCAB)

  def test_audio_does_not_depend_on_its_batch(self):
    rng = np.random.default_rng(0)
    audio = rng.uniform(-1, 1, (3, 4 * 16000)).astype(np.float32)
    together = self.embedder.audio(audio)
    self.assertEqual(together.shape, (3, 4, 6))  # 12 windows: two calls.
    alone = self.embedder.audio(audio[2:])
    np.testing.assert_allclose(together[2:], alone, atol=1e-6)
    window = self.embedder.audio(audio[2:, 16000:24000])
    np.testing.assert_allclose(together[2:, 1:2], window, atol=1e-6)

  def test_text_does_not_depend_on_its_batch(self):
    texts = ['slow piano', 'fast drums fast drums']
    together = self.embedder.text(texts, truncate=False)
    self.assertEqual(together.shape, (2, 6))
    np.testing.assert_array_equal(
        together[1:], self.embedder.text(texts[1:], truncate=False)
    )

  def test_texts_must_fit(self):
    text = 'piano ' * 30
    with self.assertRaisesRegex(ValueError, 'at most 22 word pieces.*has 30'):
      self.embedder.text([text], truncate=False)
    np.testing.assert_array_equal(
        self.embedder.text([text], truncate=True),
        self.embedder.text(['piano ' * 22], truncate=False),
    )

  def test_rejects_empty_texts(self):
    for texts in ([], ['piano', ' ']):
      with self.assertRaisesRegex(ValueError, 'none empty.*Describe'):
        self.embedder.text(texts, truncate=True)

  def test_rejects_params_of_another_config(self):
    config = make_config()
    params = make_params(config)
    del params['text']['norm']
    embedder = mulan.Embedder(config, params, VOCAB)
    with self.assertRaisesRegex(ValueError, 'text/norm.*holds nothing'):
      embedder.text(['piano'], truncate=True)


if __name__ == '__main__':
  absltest.main()
