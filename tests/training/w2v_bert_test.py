"""Tests for w2v_bert."""

import tempfile

from absl.testing import absltest
import jax
import jax.numpy as jnp
from musiclm_jax.models import parts
from musiclm_jax.models import w2v_bert as w2v_bert_model
from musiclm_jax.training import w2v_bert
import numpy as np
import optax

TINY = {
    'conv_channels': (4, 4),
    'embed_dim': 32,
    'num_heads': 2,
    'mlp_dim': 64,
    'contrastive_layers': 1,
    'masked_prediction_layers': 2,
    'semantic_layer': 1,
    'codebook_size': 64,
    'codebook_dim': 8,
    'dropout_rate': 0.0,
}


def make_model(optimizer=None, **overrides):
  config = w2v_bert_model.W2vBertConfig(**{**TINY, **overrides})
  return w2v_bert.W2vBertModel(
      config, optimizer or optax.identity(), num_distractors=20
  )


RATE = w2v_bert_model.SAMPLE_RATE


def melodies(seed, batch, seconds=2):
  """Returns [batch, samples] of notes that last half a second."""
  rng = np.random.default_rng(seed)
  notes = rng.integers(48, 84, (batch, 2 * seconds)).repeat(RATE // 2, axis=1)
  frequency = 440 * 2 ** ((notes - 69) / 12)
  phase = np.cumsum(2 * np.pi * frequency / RATE, axis=1)
  audio = 0.3 * np.sin(phase) + 0.2 * np.sin(3 * phase)
  return jnp.asarray(audio, jnp.float32)


class W2vBertModelTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    schedule = optax.linear_schedule(6e-4, 6e-3, 10)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(schedule)
    )
    cls.model = make_model(optimizer, masked_prediction_layers=1)
    cls.variables = jax.jit(
        lambda rng: cls.model.get_initial_variables(rng, {'audio': (8, 32000)})
    )(jax.random.key(0))
    gradient = jax.value_and_grad(cls.model.loss_fn, has_aux=True)

    @jax.jit
    def step(params, state, audio, rng):
      (_, metrics), grads = gradient(params, {'audio': audio}, rng)
      updates, state = optimizer.update(grads, state)
      return optax.apply_updates(params, updates), state, metrics

    cls.step = staticmethod(step)
    cls.eval_fn = staticmethod(jax.jit(cls.model.eval_fn))
    cls.optimizer_state = optimizer.init(cls.variables['params'])

  def evaluate(self, params, audio):
    loss, metrics = self.eval_fn(params, {'audio': audio})
    return float(loss), {k: float(m.compute()) for k, m in metrics.items()}

  def test_learns_to_tell_masked_frames_apart(self):
    params, state = self.variables['params'], self.optimizer_state
    held_out = melodies(999, 8)
    first_loss, _ = self.evaluate(params, held_out)
    for i in range(70):
      audio, rng = melodies(i, 8), jax.random.key(i)
      params, state, _ = self.step(params, state, audio, rng)
    loss, metrics = self.evaluate(params, held_out)
    self.assertLess(loss, first_loss - 1)
    self.assertAlmostEqual(metrics['contrastive_chance'], np.log(21), places=5)
    self.assertLess(metrics['contrastive_loss'], np.log(21) - 0.05)
    self.assertGreater(metrics['contrastive_accuracy'], 1.5 / 21)
    self.assertGreater(metrics['codebook_perplexity'], 64 / 4)
    self.assertGreater(metrics['context_effective_rank'], 2)

  def test_loss_is_the_weighted_sum(self):
    loss, metrics = self.evaluate(self.variables['params'], melodies(0, 8))
    parts_of_loss = (
        metrics['contrastive_loss']
        + 0.1 * metrics['diversity_loss']
        + metrics['prediction_loss']
    )
    self.assertAlmostEqual(loss, parts_of_loss, places=4)
    self.assertEqual(loss, metrics['loss'])

  def test_silence_is_at_chance_and_shows_collapse(self):
    _, metrics = self.evaluate(self.variables['params'], jnp.zeros((8, 32000)))
    chance = metrics['contrastive_chance']
    self.assertAlmostEqual(metrics['contrastive_loss'], chance, places=2)
    self.assertAlmostEqual(metrics['contrastive_accuracy'], 1 / 21, places=2)
    self.assertLess(metrics['codebook_perplexity'], 4)

  def test_evaluation_is_repeatable_and_training_is_not(self):
    params, audio = self.variables['params'], melodies(0, 8)
    self.assertEqual(self.evaluate(params, audio), self.evaluate(params, audio))
    losses = {
        float(
            self.step(params, self.optimizer_state, audio, jax.random.key(i))[
                2
            ]['loss'].compute()
        )
        for i in range(3)
    }
    self.assertLen(losses, 3)


class ExportTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model = make_model(dtype='bfloat16')
    shapes = jax.eval_shape(
        lambda rng: cls.model.get_initial_variables(rng, {'audio': (1, 640)}),
        jax.random.key(0),
    )
    rng = np.random.default_rng(0)
    cls.variables = jax.tree.map(
        lambda x: rng.normal(scale=0.2, size=x.shape).astype(np.float32),
        {'params': shapes['params']},
    )
    cls.clips = list(np.asarray(melodies(1, 4, seconds=12)))

  def test_part_holds_what_tokens_need(self):
    directory = self.enterContext(tempfile.TemporaryDirectory())
    sha256 = self.model.export(
        self.variables, directory, self.clips, dtype='int8'
    )
    part = parts.load(directory, 'w2v_bert')
    self.assertEqual(part.sha256, sha256)
    config = w2v_bert_model.W2vBertConfig(**part.config)
    self.assertEqual(config.masked_prediction_layers, 1)
    self.assertEqual(config.dtype, 'float32')
    blocks = {n for n in part.variables['params'] if n.startswith('blocks')}
    self.assertEqual(blocks, {'blocks_0', 'blocks_1'})
    self.assertNotIn('quantizer', part.variables['params'])
    # k-means was fitted to the embeddings of the weights as stored.
    embeddings = np.concatenate(
        list(w2v_bert.embed_clips(config, part.variables['params'], self.clips))
    )
    self.assertEqual(embeddings.shape, (4 * 12 * 25, 32))
    fitted = part.variables['kmeans']
    np.testing.assert_allclose(fitted['mean'], embeddings.mean(0), atol=1e-4)
    np.testing.assert_allclose(fitted['std'], embeddings.std(0), atol=1e-4)
    self.assertEqual(fitted['centroids'].shape, (1024, 32))

  def test_too_little_audio_is_named(self):
    directory = self.enterContext(tempfile.TemporaryDirectory())
    with self.assertRaisesRegex(
        ValueError, 'at least 1024 frames .* but hold 50. Give more audio'
    ):
      clips = [self.clips[0][:32000]]
      self.model.export(self.variables, directory, clips)

  def test_kmeans_finds_clusters(self):
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0], [100, 0], [0, 1]], np.float32)
    points = corners.repeat(500, axis=0)
    points = points + rng.normal(scale=1e-3, size=points.shape)
    fitted = w2v_bert.fit_kmeans(points.astype(np.float32), 1024)
    np.testing.assert_allclose(fitted['mean'], [100 / 3, 1 / 3], rtol=1e-3)
    centroids = fitted['centroids'] * fitted['std'] + fitted['mean']
    distances = np.abs(centroids[:, None] - corners).max(-1)
    self.assertLess(distances.min(axis=1).max(), 0.01)
    self.assertLess(distances.min(axis=0).max(), 0.01)


if __name__ == '__main__':
  absltest.main()
