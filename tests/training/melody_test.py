"""Tests for melody."""

import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import melody as melody_model
from musiclm_jax.models import parts
from musiclm_jax.training import melody
import numpy as np
import optax

CONFIG = melody_model.MelodyConfig(
    num_mels=64,
    frames_per_patch=5,
    num_layers=1,
    num_heads=2,
    head_dim=8,
    embed_dim=32,
    mlp_dim=32,
    melody_dim=16,
    window_seconds=1.0,
)
RATE = melody_model.SAMPLE_RATE
SCALES = (
    (60, 64, 67, 72),
    (60, 72, 67, 64),
    (67, 64, 60, 55),
    (55, 62, 59, 67),
)


def tunes(partials, notes=4):
  """Returns [4, samples]: four tunes, a quarter second to a note."""
  time = np.arange(RATE // 4) / RATE
  phase = 2 * np.pi * 440 * time

  def note(pitch):
    speed = 2 ** ((pitch - 69) / 12)
    return sum(0.3 / h * np.sin(h * speed * phase) for h in partials)

  return np.array(
      [
          np.concatenate([note(p) for p in tune * notes][:notes])
          for tune in SCALES
      ]
  ).astype(np.float32)


def unit(rows, seed=0):
  x = np.random.default_rng(seed).standard_normal((rows, 3))
  x = x / np.linalg.norm(x, axis=1, keepdims=True)
  return jnp.asarray(x, jnp.float32)


def mine_one_by_one(distances, positives, is_negative):
  """Returns what `mine_semi_hard` should, by loops."""
  found = []
  for anchor, row in enumerate(distances):
    to_positive = row[positives[anchor]]
    farther, nearer = [], []
    for item, distance in enumerate(row):
      if is_negative[anchor, item]:
        (farther if distance > to_positive else nearer).append((distance, item))
    found.append(min(farther)[1] if farther else max(nearer)[1])
  return found


class TripletTest(parameterized.TestCase):

  def test_distances_by_hand(self):
    embeddings = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(
        melody.squared_distances(embeddings),
        [[0, 2, 4], [2, 0, 2], [4, 2, 0]],
        atol=1e-6,
    )

  @parameterized.parameters(range(5))
  def test_mining_is_that_of_loops(self, seed):
    distances = melody.squared_distances(unit(16, seed))
    works = np.random.default_rng(seed).integers(5, size=16)
    positives = np.roll(np.arange(16), 8)
    is_negative = works[:, np.newaxis] != works
    found = jax.jit(melody.mine_semi_hard)(
        distances, jnp.asarray(positives), jnp.asarray(is_negative)
    )
    np.testing.assert_array_equal(
        found,
        mine_one_by_one(np.asarray(distances), positives, is_negative),
    )

  def test_mining_by_hand(self):
    # Of the first, the positive is item 1, and items 2 to 4 are negatives.
    def find(*distances):
      row = jnp.array([[0.0, *distances]])
      is_negative = jnp.array([[False, False, True, True, True]])
      return int(melody.mine_semi_hard(row, jnp.array([1]), is_negative)[0])

    self.assertEqual(find(0.5, 0.1, 0.9, 0.6), 4)  # The nearest beyond .5.
    self.assertEqual(find(0.5, 0.1, 0.3, 0.2), 3)  # None: the farthest.
    self.assertEqual(find(0.5, 0.5, 0.5, 0.5), 2)  # As far is not farther.

  def test_losses_by_hand(self):
    distances = jnp.array([[0.0, 0.5, 0.6], [0.5, 0.0, 0.2], [0.6, 0.2, 0.0]])
    losses = melody.triplet_losses(
        distances, jnp.array([1, 0, 1]), jnp.array([2, 2, 0]), margin=0.2
    )
    # .5 - .6 + .2; .5 - .2 + .2; .2 - .6 + .2 < 0
    np.testing.assert_allclose(losses, [0.1, 0.5, 0.0], atol=1e-6)


class LossTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model = melody.MelodyModel(CONFIG, optax.sgd(1.0), margin=0.2)

  def metrics(self, embeddings, works):
    loss, metrics = self.model.loss_of_embeddings(
        jnp.asarray(embeddings), jnp.asarray(works)
    )
    return float(loss), {k: float(m.compute()) for k, m in metrics.items()}

  def test_collapse_shows(self):
    same = np.ones((8, 4), np.float32) / 2
    loss, metrics = self.metrics(same, np.arange(8) % 4)
    self.assertAlmostEqual(loss, 0.2, places=5)
    self.assertAlmostEqual(metrics['loss_over_margin'], 1, places=5)
    self.assertEqual(metrics['active_triplets'], 1)
    self.assertEqual(metrics['retrieval_accuracy'], 0)
    self.assertEqual(metrics['effective_rank'], 0)
    # The positive, among six of other works.
    self.assertAlmostEqual(metrics['retrieval_chance'], 1 / 7, places=5)

  def test_perfect_embeddings(self):
    pairs = np.tile(np.eye(4, dtype=np.float32), (2, 1))
    loss, metrics = self.metrics(pairs, np.arange(8) % 4)
    self.assertEqual(loss, 0)
    self.assertEqual(metrics['active_triplets'], 0)
    self.assertEqual(metrics['retrieval_accuracy'], 1)
    self.assertAlmostEqual(metrics['effective_rank'], 3, places=4)

  def test_loss_by_hand(self):
    # Unit vectors at these angles; rows 0 and 2, and 1 and 3, are pairs.
    angles = np.radians([0, 40, 30, 90])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    far = lambda degrees: 2 - 2 * np.cos(np.radians(degrees))
    expected = [
        max(0, far(30) - far(40) + 0.2),  # Row 1 is just beyond row 2.
        max(0, far(50) - far(40) + 0.2),  # All are nearer: row 0.
        max(0, far(30) - far(60) + 0.2),  # Row 1 is nearer, row 3 is not.
        max(0, far(50) - far(60) + 0.2),
    ]
    loss, metrics = self.metrics(embeddings.astype(np.float32), [0, 1, 0, 1])
    self.assertAlmostEqual(loss, np.mean(expected), places=5)
    self.assertEqual(
        metrics['active_triplets'], np.mean(np.array(expected) > 0)
    )
    # Rows 0 and 3 have their positive nearest.
    self.assertEqual(metrics['retrieval_accuracy'], 0.5)
    self.assertAlmostEqual(metrics['retrieval_chance'], 1 / 3, places=5)

  def test_a_work_has_no_negatives_in_itself(self):
    loss, metrics = self.metrics(unit(8), np.zeros(8, int))
    self.assertEqual(loss, 0)
    self.assertEqual(metrics['retrieval_chance'], 0)
    embeddings = unit(8)
    both = self.metrics(embeddings, [0, 0, 1, 1, 0, 0, 1, 1])[0]
    apart = self.metrics(embeddings, [0, 1, 2, 3, 0, 1, 2, 3])[0]
    self.assertNotAlmostEqual(both, apart, places=3)


class MelodyModelTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = tempfile.TemporaryDirectory()
    cls.addClassCleanup(folder.cleanup)
    cls.folder = pathlib.Path(folder.name)
    cls.model = melody.MelodyModel(CONFIG, optax.adam(3e-3))
    shapes = melody_model.feature_lengths(CONFIG)
    shapes = {name: (2, length) for name, length in shapes.items()}
    cls.variables = jax.jit(
        lambda rng: cls.model.get_initial_variables(rng, shapes)
    )(jax.random.key(0))
    cls.batch = {
        'anchor': jnp.asarray(tunes((1,))),
        'positive': jnp.asarray(tunes((1, 2, 3))),
        'work_id': jnp.arange(4)[:, jnp.newaxis],
    }

  def test_learns_tunes(self):
    grad = jax.value_and_grad(self.model.loss_fn, has_aux=True)

    @jax.jit
    def step(params, state, rng):
      (_, metrics), grads = grad(params, self.batch, rng)
      updates, state = self.model.optimizer_def.update(grads, state)
      return optax.apply_updates(params, updates), state, metrics

    params = self.variables['params']
    state = self.model.optimizer_def.init(params)
    losses = []
    for i in range(60):
      params, state, metrics = step(params, state, jax.random.key(i))
      losses.append(float(metrics['loss'].compute()))
    self.assertGreater(losses[0], 0.05)
    self.assertLess(np.mean(losses[-5:]), 0.02)
    _, metrics = jax.jit(self.model.eval_fn)(params, self.batch)
    metrics = {name: float(m.compute()) for name, m in metrics.items()}
    self.assertEqual(metrics['retrieval_accuracy'], 1)
    self.assertGreater(metrics['effective_rank'], 1.5)

  def test_mutables_are_handed_back(self):
    loss_fn = lambda: self.model.loss_fn(
        self.variables['params'], self.batch, None, {}
    )
    _, (metrics, mutables) = jax.eval_shape(loss_fn)
    self.assertIn('loss_over_margin', metrics)
    self.assertEqual(mutables, {})

  def test_one_example_has_no_negatives(self):
    batch = {name: value[:1] for name, value in self.batch.items()}
    with self.assertRaisesRegex(ValueError, 'at least 2.*BATCH_SIZE'):
      self.model.eval_fn(self.variables['params'], batch)

  def test_rejects_no_margin(self):
    with self.assertRaisesRegex(ValueError, 'greater than 0, but is 0'):
      melody.MelodyModel(CONFIG, optax.sgd(1.0), margin=0.0)

  def test_export(self):
    model_dir = self.folder / 'model'
    clips = tunes((1, 2), notes=12)  # 3 s, for three windows.
    sha256 = self.model.export(self.variables, model_dir, clips, dtype='int8')
    part = parts.load(model_dir, 'melody')
    self.assertEqual(part.sha256, sha256)
    config = melody_model.MelodyConfig.from_json(part.config)
    self.assertEqual(config, CONFIG)
    codes = part.variables['codebooks']['codes']
    self.assertEqual(codes.shape, (24, 512, 16))
    self.assertTrue(np.isfinite(codes).all())
    # Every one of the few windows is a code.
    embedder = melody_model.Embedder(config, part.variables['params'])
    windows = embedder(tunes((1, 2), notes=12)).reshape(-1, 16)
    self.assertLen(windows, 12)
    distances = np.linalg.norm(windows[:, None] - codes[0], axis=-1)
    self.assertLess(distances.min(axis=1).max(), 0.05)

  def test_export_needs_clips(self):
    with self.assertRaisesRegex(ValueError, 'there are none.*training split'):
      self.model.export(self.variables, self.folder / 'none', [])
    self.assertFalse((self.folder / 'none').exists())


if __name__ == '__main__':
  absltest.main()
