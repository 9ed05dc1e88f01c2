"""Tests for mulan."""

import functools
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.models import bert
from musiclm_jax.models import hf_bert
from musiclm_jax.models import mulan as mulan_model
from musiclm_jax.models import parts
from musiclm_jax.models import resnet
from musiclm_jax.models import wordpiece
from musiclm_jax.training import embeddings
from musiclm_jax.training import mulan
import numpy as np
import optax
import pytest

CAPTIONS = ['slow piano', 'fast drums', 'sad violin', 'choir']
CONFIG = mulan_model.MuLanConfig(
    audio=resnet.ResNetConfig(
        num_mels=16, stage_sizes=(1,), width=8, num_groups=2
    ),
    text=bert.BertConfig(
        num_layers=1,
        num_heads=1,
        embed_dim=32,
        mlp_dim=32,
        max_length=12,
        pooling='mean',
    ),
    embed_dim=8,
    window_seconds=0.5,
    max_time_mask=2,
    max_mel_mask=1,
)

RATE = mulan_model.SAMPLE_RATE


def sounds(seconds):
  """Returns [4, samples]: a tone and noise, each steady and pulsing."""
  time = np.arange(round(seconds * RATE)) / RATE
  tone = np.sin(2 * np.pi * 440 * time)
  noise = np.random.default_rng(0).uniform(-1, 1, time.shape)
  pulse = np.sin(2 * np.pi * 6 * time) > 0
  return np.stack([tone, noise, tone * pulse, noise * pulse], dtype=np.float32)


class ContrastiveLossTest(absltest.TestCase):

  def test_by_hand(self):
    audio = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    text = jnp.array([[0.6, 0.8], [0.0, 1.0]])
    nothing = jnp.zeros((2, 2), bool)
    logits = mulan.contrastive_logits(audio, text, 0.5, nothing)
    np.testing.assert_allclose(logits, [[1.2, 0.0], [1.6, 2.0]], atol=1e-6)
    # -log softmax at the diagonal, along rows and along columns.
    rows = np.log(1 + np.exp(-1.2)) + np.log(1 + np.exp(-0.4))
    columns = np.log(1 + np.exp(0.4)) + np.log(1 + np.exp(-2.0))
    self.assertAlmostEqual(
        float(mulan.contrastive_loss(logits)), (rows + columns) / 4, places=5
    )

  def test_chance_is_ln_batch(self):
    loss = mulan.contrastive_loss(jnp.ones((5, 5)))
    self.assertAlmostEqual(float(loss), np.log(5), places=5)

  def test_order_of_examples_does_not_matter(self):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((6, 6)).astype(np.float32)
    order = rng.permutation(6)
    self.assertAlmostEqual(
        float(mulan.contrastive_loss(jnp.asarray(logits))),
        float(mulan.contrastive_loss(jnp.asarray(logits[order][:, order]))),
        places=5,
    )

  def test_the_same_text_is_no_negative(self):
    ids = jnp.array([[2, 5, 3], [2, 6, 3], [2, 5, 3]])
    excluded = mulan.same_text(ids)
    expected = np.zeros((3, 3), bool)
    expected[0, 2] = expected[2, 0] = True
    np.testing.assert_array_equal(excluded, expected)
    same = jnp.ones((3, 2)) / np.sqrt(2)
    loss = mulan.contrastive_loss(
        mulan.contrastive_logits(same, same, 1.0, excluded)
    )
    # Two rows choose between two texts, one between three.
    self.assertAlmostEqual(
        float(loss), (2 * np.log(2) + np.log(3)) / 3, places=5
    )


class EffectiveRankTest(absltest.TestCase):

  def test_a_line_has_rank_1(self):
    line = jnp.linspace(0, 1, 20)[:, None] * jnp.array([1.0, 2.0, 3.0])
    self.assertAlmostEqual(float(embeddings.effective_rank(line)), 1, places=4)

  def test_axes_of_equal_variance_all_count(self):
    corners = jnp.concatenate([jnp.eye(4), -jnp.eye(4)])
    self.assertAlmostEqual(
        float(embeddings.effective_rank(corners)), 4, places=4
    )

  def test_a_point_has_none(self):
    self.assertEqual(float(embeddings.effective_rank(jnp.ones((4, 3)))), 0)


class MuLanModelTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = tempfile.TemporaryDirectory()
    cls.addClassCleanup(folder.cleanup)
    cls.folder = pathlib.Path(folder.name)
    cls.vocab = cls.folder / 'vocab.txt'
    mulan.build_vocab(CAPTIONS, cls.vocab, size=200)
    cls.model = cls.make_model()
    shapes = {'audio': (2, CONFIG.window_samples), 'text_ids': (2, 12)}
    cls.variables = jax.jit(
        lambda rng: cls.model.get_initial_variables(rng, shapes)
    )(jax.random.key(0))
    encode = wordpiece.WordPiece(cls.model.vocab).encode
    cls.batch = {
        'audio': jnp.asarray(sounds(0.5)),
        'text_ids': jnp.asarray(encode(CAPTIONS, 12)),
    }

  @classmethod
  def make_model(cls, **options):
    return mulan.MuLanModel(CONFIG, optax.adam(3e-3), cls.vocab, **options)

  def test_vocab_size_is_that_of_the_file(self):
    vocab = wordpiece.WordPiece.from_file(self.vocab).vocab
    self.assertEqual(self.model.config.text.vocab_size, len(vocab))

  def test_every_param_has_axes(self):
    axes = self.variables['params_axes']
    for path, param in jax.tree.leaves_with_path(self.variables['params']):
      node = axes
      for key in path[:-1]:
        node = node[key.key]
      self.assertLen(node[f'{path[-1].key}_axes'].names, param.ndim)

  def test_learns_pairs(self):
    grad = jax.value_and_grad(self.model.loss_fn, has_aux=True)

    @jax.jit
    def step(params, state, rng):
      (_, metrics), grads = grad(params, self.batch, rng)
      updates, state = self.model.optimizer_def.update(grads, state)
      return optax.apply_updates(params, updates), state, metrics, grads

    params = self.variables['params']
    state = self.model.optimizer_def.init(params)
    for i in range(40):
      params, state, metrics, grads = step(params, state, jax.random.key(i))
      if i == 0:
        ratio = float(metrics['chance_ratio'].compute())
        self.assertBetween(ratio, 0.7, 2)
        for tower in ('audio', 'text', 'audio_projection', 'text_projection'):
          self.assertGreater(optax.global_norm(grads[tower]), 1e-4)
        self.assertNotEqual(grads['log_temperature'], 0)
    self.assertLess(float(metrics['loss'].compute()), 0.5 * np.log(4))

    loss, metrics = jax.jit(self.model.eval_fn)(params, self.batch)
    self.assertLess(float(loss), 0.5 * np.log(4))
    metrics = {name: float(m.compute()) for name, m in metrics.items()}
    self.assertEqual(metrics['audio_to_text_accuracy'], 1)
    self.assertEqual(metrics['text_to_audio_accuracy'], 1)
    self.assertBetween(metrics['audio_effective_rank'], 1, 3)

  @pytest.mark.slow
  def test_towers_may_read_a_batch_in_parts(self):
    def loss(params, model):
      return model.loss_fn(params, self.batch, None)[0]

    gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    params = self.variables['params']
    whole, expected = gradient(params, self.model)
    split, found = gradient(params, self.make_model(tower_microbatches=2))
    self.assertAlmostEqual(float(split), float(whole), delta=1e-5)
    scale = float(optax.global_norm(expected))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * scale),
        found,
        expected,
    )

  def test_parts_have_dropout_of_their_own(self):
    model = self.make_model(tower_microbatches=2)
    # Rows 0 and 1 are the first ones of either part.
    same = jnp.repeat(self.batch['text_ids'][:1], 4, axis=0)
    embed = functools.partial(
        model._embed, 'text', self.variables['params'], same
    )
    first, second, *_ = jax.jit(embed)(jax.random.key(0))
    self.assertGreater(np.abs(first - second).max(), 1e-3)
    first, second, *_ = jax.jit(lambda: embed(None))()
    np.testing.assert_array_equal(first, second)

  def test_mutables_are_handed_back(self):
    loss_fn = lambda: self.model.loss_fn(
        self.variables['params'], self.batch, None, {}
    )
    _, (metrics, mutables) = jax.eval_shape(loss_fn)
    self.assertIn('temperature', metrics)
    self.assertEqual(mutables, {})

  def test_one_example_has_no_negatives(self):
    batch = {name: value[:1] for name, value in self.batch.items()}
    with self.assertRaisesRegex(ValueError, 'at least 2.*BATCH_SIZE'):
      self.model.eval_fn(self.variables['params'], batch)

  def save_text_tower(self, vocab):
    params = jax.tree.map(lambda x: x + 1, self.variables['params']['text'])
    path = self.folder / f'bert_{len(vocab)}'
    hf_bert.save_hf_bert(path, self.model.config.text, params, vocab, 'float32')
    return path

  def test_text_init(self):
    model = self.make_model(text_init=self.save_text_tower(self.model.vocab))
    shapes = {'audio': (2, CONFIG.window_samples), 'text_ids': (2, 12)}
    init = lambda rng: model.get_initial_variables(rng, shapes)['params']
    text = jax.jit(lambda rng: init(rng)['text'])(jax.random.key(0))
    expected = self.variables['params']['text']
    np.testing.assert_allclose(
        text['layers_0']['mlp_in']['kernel'],
        expected['layers_0']['mlp_in']['kernel'] + 1,
    )

  def test_text_init_must_have_the_vocabulary(self):
    path = self.save_text_tower([*self.model.vocab[:-1], 'another'])
    with self.assertRaisesRegex(ValueError, 'VOCAB to the vocab.txt'):
      self.model._load_text(path, self.variables['params']['text'])

  def test_text_init_must_have_the_sizes(self):
    path = self.save_text_tower(self.model.vocab)
    with self.assertRaisesRegex(
        ValueError, 'must have the sizes.*embed_dim=32'
    ):
      self.model._load_text(path, {'tokens': {'embedding': np.zeros((3, 2))}})

  def test_export(self):
    model_dir = self.folder / 'model'
    sha256 = self.model.export(
        self.variables, model_dir, sounds(2.5), dtype='int8'
    )
    part = parts.load(model_dir, 'mulan')
    self.assertEqual(part.sha256, sha256)
    self.assertEqual(part.config['vocab'], list(self.model.vocab))
    description = json.loads((model_dir / 'mulan.json').read_text())
    config = mulan_model.MuLanConfig.from_json(description['config']['config'])
    self.assertEqual(config, self.model.config)
    # 4 clips of 3 windows, and 4 averages: every one of the few is a code.
    codes = part.variables['codebooks']['codes']
    self.assertEqual(codes.shape, (12, 1024, 8))
    self.assertTrue(np.isfinite(codes).all())
    embedder = mulan_model.Embedder(
        config, part.variables['params'], self.model.vocab
    )
    windows = embedder.audio(sounds(2.5)[:1])[0]
    distances = np.linalg.norm(windows[:, None] - codes[0], axis=-1)
    self.assertLess(distances.min(axis=1).max(), 0.05)

  def test_export_needs_clips(self):
    with self.assertRaisesRegex(ValueError, 'there are none.*training split'):
      self.model.export(self.variables, self.folder / 'none', [])
    self.assertFalse((self.folder / 'none').exists())


if __name__ == '__main__':
  absltest.main()
