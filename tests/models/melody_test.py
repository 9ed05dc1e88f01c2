"""Tests for melody."""

import json

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import melody
import numpy as np

CONFIG = melody.MelodyConfig(
    num_mels=32,
    frames_per_patch=5,
    num_layers=1,
    num_heads=2,
    head_dim=3,
    embed_dim=8,
    mlp_dim=8,
    melody_dim=6,
)


def make_params(config, seed=0):
  """Returns random params, without compiling an initializer."""
  shapes = jax.eval_shape(
      melody.MelodyNet(config).init,
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, config.window_samples), jnp.float32),
  )
  rng = np.random.default_rng(seed)
  draw = lambda x: np.asarray(rng.standard_normal(x.shape) / 3, np.float32)
  return jax.tree.map(draw, shapes['params'])


def noise(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return rng.uniform(-0.3, 0.3, shape).astype(np.float32)


class MelodyConfigTest(absltest.TestCase):

  def test_json_round_trip(self):
    values = json.loads(json.dumps(CONFIG.to_json()))
    self.assertEqual(melody.MelodyConfig.from_json(values), CONFIG)

  def test_paper_sizes(self):
    config = melody.MelodyConfig()
    # 4 s at 16 kHz; 200 frames of 20 ms, four to a position.
    self.assertEqual(config.window_samples, 64000)
    self.assertEqual(config.num_patches, 50)
    shapes = jax.eval_shape(
        melody.MelodyNet(config).init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 64000), jnp.float32),
    )
    d, mlp, heads = 512, 1024, 6 * 64
    block = 3 * (d * heads + heads) + (heads * d + d)
    block += (d * mlp + mlp) + (mlp * d + d) + 4 * d
    ends = (4 * 128 * d + d) + 50 * d + 2 * d + (10 * d * 192 + 192)
    self.assertEqual(
        sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes['params'])),
        12 * block + ends,
    )

  def test_segments_must_fit(self):
    with self.assertRaisesRegex(ValueError, 'divide.*40, but is 9'):
      melody.MelodyConfig(frames_per_patch=5, num_segments=9)


class SpectrogramTest(parameterized.TestCase):

  def test_loudness_does_not_show(self):
    audio = noise(2, 16000)
    loud, soft = (
        melody.spectrogram(jnp.asarray(g * audio), 32) for g in (1, 0.1)
    )
    self.assertEqual(loud.shape, (2, 51, 32))
    np.testing.assert_allclose(loud, soft, atol=1e-3)
    square = jnp.mean(jnp.square(loud), axis=(1, 2))
    np.testing.assert_allclose(square, 1, atol=0.01)

  def test_silence_is_0(self):
    silence = melody.spectrogram(jnp.zeros((1, 16000)), 32)
    np.testing.assert_allclose(silence, 0, atol=1e-4)

  def test_a_tone_control_does_not_show(self):
    # Bands are 12 dB apart over the whole range, but hardly from their
    # neighbours.
    audio = noise(1, 16000)
    hertz = np.fft.rfftfreq(16000, 1 / 16000)
    tilted = np.fft.irfft(np.fft.rfft(audio) / (1 + hertz / 1000))
    flat, tilted = (
        melody.spectrogram(jnp.asarray(x, jnp.float32), 32)
        for x in (audio, tilted)
    )
    self.assertGreater(np.corrcoef(flat.ravel(), tilted.ravel())[0, 1], 0.95)

  @parameterized.parameters(57, 69, 76)
  def test_a_semitone_shows(self, pitch):
    # In the first eight partials of a tone, at least one moves by a band.
    time = np.arange(16000, dtype=np.float32) / 16000

    def middle_frame(pitch):
      hertz = 440 * 2 ** ((pitch - 69) / 12)
      partials = [np.sin(2 * np.pi * h * hertz * time) for h in range(1, 9)]
      tone = 0.1 * jnp.sum(jnp.asarray(partials), axis=0, keepdims=True)
      return np.asarray(melody.spectrogram(tone, 128))[0, 25]

    tone, higher = middle_frame(pitch), middle_frame(pitch + 1)
    self.assertLess(np.corrcoef(tone, higher)[0, 1], 0.8)


class MelodyNetTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    net = melody.MelodyNet(CONFIG)
    cls.variables = {'params': make_params(CONFIG)}
    cls.apply = staticmethod(jax.jit(net.apply))
    cls.audio = noise(2, CONFIG.window_samples)

  def test_embeddings_have_length_1(self):
    embeddings = self.apply(self.variables, self.audio)
    self.assertEqual(embeddings.shape, (2, 6))
    norms = np.linalg.norm(embeddings, axis=-1)
    np.testing.assert_allclose(norms, 1, atol=1e-5)

  def test_order_in_time_matters(self):
    halves = np.split(self.audio, 2, axis=1)
    swapped = np.concatenate(halves[::-1], axis=1)
    difference = self.apply(self.variables, self.audio) - self.apply(
        self.variables, swapped
    )
    self.assertGreater(np.abs(difference).max(), 1e-3)

  def test_every_param_has_axes(self):
    variables = jax.eval_shape(
        melody.MelodyNet(CONFIG).init, jax.random.key(0), self.audio
    )
    for path, param in jax.tree.leaves_with_path(variables['params']):
      node = variables['params_axes']
      for key in path[:-1]:
        node = node[key.key]
      self.assertLen(node[f'{path[-1].key}_axes'].names, param.ndim)


class WindowsTest(parameterized.TestCase):

  @parameterized.parameters(
      (64000, 1),
      (64000 + 15983, 1),
      (64000 + 15984, 2),  # A millisecond is lacking.
      (64000 + 16000, 2),
      (480000, 27),
  )
  def test_a_window_each_second(self, samples, expected):
    audio = np.arange(2 * samples, dtype=np.float32).reshape(2, samples)
    windows = melody.cut_windows(audio, 64000)
    self.assertEqual(windows.shape, (2, expected, 64000))
    for i in range(expected):
      cut = audio[1, 16000 * i :][:64000]
      np.testing.assert_array_equal(windows[1, i, : len(cut)], cut)
      np.testing.assert_array_equal(windows[1, i, len(cut) :], 0)

  def test_short_clips_are_padded(self):
    windows = melody.cut_windows(np.ones((1, 10), np.float32), 300)
    self.assertEqual(windows.shape, (1, 1, 300))
    self.assertEqual(windows.sum(), 10)


class EmbedderTest(absltest.TestCase):

  def test_audio_does_not_depend_on_its_batch(self):
    embed = melody.Embedder(CONFIG, make_params(CONFIG))
    audio = noise(5, 7 * 16000)
    together = embed(audio)
    self.assertEqual(together.shape, (5, 4, 6))  # 20 windows: three calls.
    np.testing.assert_allclose(together[4:], embed(audio[4:]), atol=1e-6)
    window = embed(audio[4:, 48000:])
    np.testing.assert_allclose(together[4:, 3:], window, atol=1e-6)

  def test_rejects_params_of_another_config(self):
    params = make_params(CONFIG)
    del params['norm']
    with self.assertRaisesRegex(ValueError, 'norm/.*holds nothing'):
      melody.Embedder(CONFIG, params)


if __name__ == '__main__':
  absltest.main()
