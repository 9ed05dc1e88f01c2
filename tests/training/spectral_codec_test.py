"""Tests for spectral_codec."""

import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
import jax.numpy as jnp
from musiclm_jax.models import discriminators
from musiclm_jax.models import layers
from musiclm_jax.models import parts
from musiclm_jax.training import fine_tuning
from musiclm_jax.training import losses
from musiclm_jax.training import optimizers
from musiclm_jax.training import programs
from musiclm_jax.training import sharding
from musiclm_jax.training import spectral_codec
from musiclm_jax.training import steps
import numpy as np
import optax
from tests.models import spectral_codec_test

CONFIG = spectral_codec_test.CONFIG
JUDGES = discriminators.DiscriminatorConfig(
    stft_channels=2, stft_window=128, stft_hop=64, other_stft_windows=(256,),
    wave_scales=0,
)  # fmt: skip
START = 2


class FakeDiscriminators(nn.Module):
  """Judges slices of 16 samples by a product: it compiles in no time."""

  def setup(self):
    self.judge = layers.Dense(16, 1, ('embed', 'mlp'))

  def __call__(self, audio):
    x = audio.reshape(audio.shape[0], -1, 16)
    return [(self.judge(x)[..., 0], [x])]


def make_batch():
  time = np.arange(4096)
  tones = [np.sin(time * 0.1 * (i + 1)) for i in range(4)]
  return {'audio': jnp.asarray(0.3 * np.stack(tones), jnp.float32)}


def make_model(judges=None, start=0, **weights):
  return spectral_codec.SpectralCodecModel(
      CONFIG,
      judges,
      optax.adam(3e-3),
      spectral_codec.LossWeights(**weights),
      start,
  )


def initial(model):
  shapes = {'audio': (4, 4096)}
  variables = model.get_initial_variables(jax.random.key(0), shapes)
  return variables['params'], {'codebooks': variables['codebooks']}


class SpectralCodecModelTest(parameterized.TestCase):

  def test_learns_the_waveform(self):
    model, batch = make_model(), make_batch()
    params, mutables = initial(model)
    state = model.optimizer_def.init(params)

    @jax.jit
    def step(params, state, mutables, key):
      grad = jax.value_and_grad(model.loss_fn, has_aux=True)
      (_, (metrics, mutables)), gradient = grad(params, batch, key, mutables)
      updates, state = model.optimizer_def.update(gradient, state)
      return optax.apply_updates(params, updates), state, mutables, metrics

    found = []
    for i in range(120):
      params, state, mutables, metrics = step(
          params, state, mutables, jax.random.key(i)
      )
      found.append(float(metrics['si_sdr'].compute()))
    self.assertGreater(np.mean(found[-10:]), np.mean(found[:10]) + 3)
    self.assertGreater(np.mean(found[-10:]), 0)

  def test_scores_of_each_example(self):
    model, batch = make_model(), make_batch()
    params, mutables = initial(model)
    scores, aux = jax.jit(model.score_batch_with_aux)(params, batch, mutables)
    metrics = jax.jit(model.eval_fn)(params, batch, mutables)[1]
    self.assertEqual(scores.shape, (4,))
    for score, metric in (('si_sdr', 'si_sdr'), ('log_mel', 'log_mel_loss')):
      self.assertAlmostEqual(
          float(aux[score].mean()), float(metrics[metric].compute()), places=3
      )
    tokens, predicted = jax.jit(model.predict_batch_with_aux)(
        params, batch, mutables
    )
    np.testing.assert_allclose(predicted['scores'], scores, rtol=1e-5)
    self.assertEqual(tokens.ndim, 3)

  def test_loss_is_the_weighted_sum(self):
    model, batch = make_model(si_sdr=0.2), make_batch()
    params, mutables = initial(model)
    loss, (metrics, _) = jax.jit(model.loss_fn)(params, batch, None, mutables)
    m = {name: float(metric.compute()) for name, metric in metrics.items()}
    expected = (
        0.5 * m['log_mel_loss'] + m['spectrum_loss'] + 0.2 * m['si_sdr_loss']
        + 0.25 * m['commitment_loss']
    )  # fmt: skip
    self.assertAlmostEqual(float(loss), expected, places=4)

  def test_discriminators_are_optional(self):
    params, _ = jax.eval_shape(lambda: initial(make_model()))
    self.assertNotIn('discriminator', params)
    model = make_model(JUDGES, adversarial=1.0, feature=10.0)
    params, mutables = jax.eval_shape(lambda: initial(model))
    self.assertIn('discriminator', params)
    _, (metrics, _) = jax.eval_shape(
        model.loss_fn, params, make_batch(), None, mutables
    )
    self.assertContainsSubset(
        ('adversarial_loss', 'feature_loss', 'discriminator_loss'), metrics
    )


class DiscriminatorStartTest(parameterized.TestCase):
  """Steps before and after the one at which discriminators start."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model = make_model(JUDGES, START, adversarial=1.0, feature=10.0)
    cls.model.discriminators = FakeDiscriminators()
    batch = {'audio': np.asarray(make_batch()['audio'])}
    # With microbatches, a loss is computed more often than a step is taken.
    program = programs.Program(cls.model, sharding.make_mesh(), batch, 2, 0)
    cls.state, cls.told = program.initial_state(), []
    for _ in range(START + 1):
      before = jax.device_get(cls.state.params)
      cls.state, metrics, _ = program.train_step(cls.state, batch)
      moved = jax.tree.map(
          lambda a, b: bool(np.any(a != b)), before, cls.state.params
      )
      cls.told.append((steps.compute(metrics), moved))

  def test_nothing_is_judged_before(self):
    for metrics, moved in self.told[:START]:
      self.assertEqual(metrics['discriminator_loss'], 0)
      self.assertEqual(metrics['adversarial_loss'], 0)
      self.assertEqual(metrics['loss'], metrics['reconstruction_loss'])
      self.assertFalse(any(jax.tree.leaves(moved['discriminator'])))
      self.assertTrue(any(jax.tree.leaves(moved['generator'])))

  def test_both_learn_after(self):
    metrics, moved = self.told[START]
    self.assertGreater(metrics['discriminator_loss'], 0)
    expected = (
        metrics['reconstruction_loss']
        + metrics['adversarial_loss']
        + 10 * metrics['feature_loss']
    )
    self.assertAlmostEqual(metrics['generator_loss'], expected, places=4)
    expected += metrics['discriminator_loss']
    self.assertAlmostEqual(metrics['loss'], expected, places=4)
    # The pull of real and decoded audio on the bias may cancel.
    self.assertTrue(moved['discriminator']['judge']['kernel'])

  def test_the_state_holds_the_last_step(self):
    # Evaluation goes by it.
    self.assertEqual(int(self.state.mutables['step']['step']), START)


class DecoderOnlyTest(absltest.TestCase):

  def test_tokens_stay_what_they_are(self):
    model = spectral_codec.SpectralCodecModel(
        CONFIG,
        None,
        optimizers.adamw(1e-2, 0, 9, weight_decay=0.1, clip_each=True),
        spectral_codec.LossWeights(log_spectrum=1.0),
        decoder_only=True,
    )
    batch = {'audio': np.asarray(make_batch()['audio'])}
    program = programs.Program(model, sharding.make_mesh(), batch, 1, 0)
    state = program.initial_state()
    before = jax.device_get((state.params, state.mutables))
    predict = jax.jit(model.predict_batch)
    tokens = np.asarray(predict(*before[:1], batch, before[1]))
    for _ in range(2):
      state, metrics, _ = program.train_step(state, batch)
    moved = jax.tree.map(
        lambda a, b: bool(np.any(a != b)), before[0], state.params
    )['generator']
    self.assertFalse(any(jax.tree.leaves([
        moved[name] for name in moved if not name.startswith(
            ('from_embedding', 'decoder_', 'part', 'last')
        )
    ])))  # fmt: skip
    self.assertTrue(moved['last']['kernel'])
    self.assertTrue(moved['from_embedding']['kernel'])
    np.testing.assert_array_equal(
        predict(state.params, batch, state.mutables), tokens
    )
    jax.tree.map(
        np.testing.assert_array_equal,
        before[1]['codebooks'],
        jax.device_get(state.mutables['codebooks']),
    )
    m = steps.compute(metrics)
    self.assertGreater(m['log_spectrum_loss'], 0)
    self.assertAlmostEqual(m['learning_rate'], 1e-2, places=2)

  def test_begins_from_a_part(self):
    model = make_model()
    params, mutables = initial(model)
    with tempfile.TemporaryDirectory() as folder:
      made = {'params': params, **mutables}
      model.export(made, folder)
      part = parts.load(folder, 'spectral_codec')
    with self.assertRaisesRegex(ValueError, 'unless only its decoder'):
      model.adopt(part)
    further = spectral_codec.SpectralCodecModel(
        CONFIG, None, optax.adam(1e-3), decoder_only=True
    )
    adopted = further.adopt(part)
    jax.tree.map(
        np.testing.assert_array_equal,
        adopted['params']['generator'],
        jax.device_get(params['generator']),
    )
    # A moving average rounds; what is written has the same tokens all the same.
    rounded = jax.tree.map(lambda x: x * np.float32(1 + 1e-6), made)
    kept = fine_tuning.keep(further, rounded, part)
    jax.tree.map(
        np.testing.assert_array_equal, kept['codebooks'], made['codebooks']
    )
    was, now = params['generator'], kept['params']['generator']
    self.assertEqual(now.keys(), was.keys())
    for name in ('to_embedding', 'last'):
      same = np.array_equal(now[name]['kernel'], was[name]['kernel'])
      self.assertEqual(same, name != 'last')
    other = jax.tree.map(lambda x: x + np.float32(0.1), made)
    with self.assertRaisesRegex(
        ValueError, 'must begin from the .* of INITIAL'
    ):
      fine_tuning.keep(further, other, part)


class SpectralLossesTest(absltest.TestCase):

  def test_a_gain_is_its_logarithm_in_all_bins(self):
    audio = np.random.default_rng(0).normal(0, 50, (2, 8192)).astype('f4')
    audio = jnp.asarray(audio)
    loss = losses.log_spectrum_loss(audio, 2 * audio)
    self.assertAlmostEqual(float(loss), np.log(2), places=3)

  def test_harmonics_differ_from_noise_of_their_bands(self):
    time = np.arange(24000) / 24000
    rng = np.random.default_rng(0)
    tones, others = (
        sum(
            np.sin(2 * np.pi * f * k * time + rng.uniform(0, 6))
            for k in range(1, 20)
        )
        for f in (440, 440.0001)
    )
    noise = rng.normal(size=24000) * tones.std()
    loss = lambda x: float(
        losses.log_spectrum_loss(
            jnp.asarray(0.1 * tones[None]), jnp.asarray(0.1 * x[None])
        )
    )
    # Whatever their phases, harmonics are like harmonics.
    self.assertGreater(loss(noise), 5 * loss(others))

  def test_equal_audio_has_none(self):
    audio = make_batch()['audio']
    log_mel, spectrum = losses.spectral_losses(audio, audio, 24000)
    self.assertEqual(float(log_mel), 0)
    self.assertLess(float(spectrum), 1e-3)

  def test_phase_counts_for_the_spectrum_alone(self):
    audio = make_batch()['audio']
    log_mel, spectrum = losses.spectral_losses(audio, -audio, 24000)
    self.assertLess(float(log_mel), 1e-4)
    # Twice the magnitude, for each of four windows.
    self.assertAlmostEqual(float(spectrum), 8, places=2)

  def test_gradient_of_silence_is_finite(self):
    silence = jnp.zeros((1, 4096))
    total = lambda x: sum(
        losses.spectral_losses(silence, x, 24000)
    ) + losses.log_spectrum_loss(silence, x)
    grad = jax.jit(jax.grad(total))
    self.assertTrue(bool(jnp.isfinite(grad(silence)).all()))


if __name__ == '__main__':
  absltest.main()
