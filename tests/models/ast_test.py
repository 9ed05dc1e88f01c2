"""Tests for ast."""

import dataclasses

from absl.testing import absltest
from flax import traverse_util
import jax
import jax.numpy as jnp
from musiclm_jax.models import ast
import numpy as np
import torch
import transformers

TINY = ast.AstConfig(
    num_mels=16,
    patch_size=8,
    stride=4,
    num_layers=1,
    num_heads=2,
    embed_dim=8,
    mlp_dim=16,
    dropout_rate=0.5,
)


def to_transformers(params, config, num_frames):
  """Returns transformers' ASTModel, without its distillation token.

  That token is how DeiT is taught by another network; MuLan's tower has none.
  """
  theirs = transformers.ASTModel(
      transformers.ASTConfig(
          hidden_size=config.embed_dim,
          num_hidden_layers=config.num_layers,
          num_attention_heads=config.num_heads,
          intermediate_size=config.mlp_dim,
          layer_norm_eps=1e-6,
          patch_size=config.patch_size,
          frequency_stride=config.stride,
          time_stride=config.stride,
          max_length=num_frames,
          num_mel_bins=config.num_mels,
      )
  ).eval()
  theirs.embeddings.register_forward_hook(
      lambda module, inputs, x: torch.cat([x[:, :1], x[:, 2:]], dim=1)
  )
  start, patches = params['positions'][:1], params['positions'][1:]
  bands = (config.num_mels - config.patch_size) // config.stride + 1
  # Patches of theirs follow each other along time, of ours along frequency.
  patches = patches.reshape(-1, bands, config.embed_dim).transpose(1, 0, 2)
  positions = [start, np.zeros_like(start), patches.reshape(-1, start.shape[1])]
  tensors = {
      'embeddings.cls_token': params['start'][None, None],
      'embeddings.position_embeddings': np.concatenate(positions)[None],
      'embeddings.patch_embeddings.projection.weight': params['patches'][
          'kernel'
      ].transpose(3, 2, 1, 0),
      'embeddings.patch_embeddings.projection.bias': params['patches']['bias'],
      'layernorm.weight': params['norm']['scale'],
      'layernorm.bias': params['norm']['bias'],
  }
  names = {
      'attention/query': 'attention.q_proj',
      'attention/key': 'attention.k_proj',
      'attention/value': 'attention.v_proj',
      'attention/out': 'attention.o_proj',
      'attention_norm': 'layernorm_before',
      'mlp_norm': 'layernorm_after',
      'mlp_in': 'mlp.fc1',
      'mlp_out': 'mlp.fc2',
  }
  for i in range(config.num_layers):
    layer = traverse_util.flatten_dict(params[f'layers_{i}'], sep='/')
    for ours, name in names.items():
      weight = layer.get(f'{ours}/kernel', layer.get(f'{ours}/scale'))
      tensors[f'layers.{i}.{name}.weight'] = weight.T
      tensors[f'layers.{i}.{name}.bias'] = layer[f'{ours}/bias']
  tensors = {k: torch.tensor(v.copy()) for k, v in tensors.items()}
  missing, unexpected = theirs.load_state_dict(tensors, strict=False)
  assert missing == ['embeddings.distillation_token'] and not unexpected
  return theirs


class AstTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    model = ast.Ast(TINY, num_frames=25)
    rng = np.random.default_rng(0)
    cls.log_mel = rng.standard_normal((2, 25, 16), np.float32)
    cls.variables = jax.jit(model.init)(jax.random.key(1), cls.log_mel)
    cls.apply = staticmethod(
        jax.jit(model.apply, static_argnames='deterministic')
    )

  def test_parameters_of_vit_b(self):
    model = ast.Ast(ast.AstConfig(), num_frames=1001)
    log_mel = jax.ShapeDtypeStruct((1, 1001, 128), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), log_mel)
    d, mlp = 768, 3072
    block = 4 * (d * d + d) + (d * mlp + mlp) + (mlp * d + d) + 4 * d
    patches = 99 * 12  # 16 x 16 at stride 10, over 1001 frames and 128 bands.
    embeddings = (16 * 16 * d + d) + d + (1 + patches) * d
    self.assertEqual(
        sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes['params'])),
        12 * block + embeddings + 2 * d,
    )

  def test_equals_transformers(self):
    config = dataclasses.replace(TINY, num_layers=2)
    model = ast.Ast(config, num_frames=25)
    shapes = jax.eval_shape(model.init, jax.random.key(0), self.log_mel)
    rng = np.random.default_rng(1)
    # Fresh weights are too small to tell one activation from another.
    draw = lambda x: rng.standard_normal(x.shape, np.float32) / 2
    params = jax.tree.map(draw, shapes['params'])
    theirs = to_transformers(params, config, num_frames=25)
    with torch.no_grad():
      expected = theirs(torch.tensor(self.log_mel)).last_hidden_state[:, 0]
    found = jax.jit(model.apply)({'params': params}, self.log_mel)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)

  def test_num_patches(self):
    # Frames 0-7, 4-11, … 16-23; bands 0-7, 4-11, 8-15.
    self.assertEqual(TINY.num_patches(25), 5 * 3)

  def test_order_of_patches_matters(self):
    forward = self.apply(self.variables, self.log_mel)
    backward = self.apply(self.variables, self.log_mel[:, ::-1])
    self.assertEqual(forward.shape, (2, 8))
    self.assertGreater(np.abs(forward - backward).max(), 1e-3)

  def test_every_patch_is_read(self):
    def first(log_mel):
      return self.apply(self.variables, log_mel)[0, 0]

    gradient = jax.grad(first)(self.log_mel)
    # The last of 25 frames is beyond the last patch.
    self.assertTrue(np.all(gradient[0, :24] != 0))
    np.testing.assert_array_equal(gradient[1], 0)

  def test_dropout_only_when_asked(self):
    rngs = {'dropout': jax.random.key(2)}
    dropped = self.apply(
        self.variables, self.log_mel, deterministic=False, rngs=rngs
    )
    kept = self.apply(self.variables, self.log_mel)
    self.assertGreater(np.abs(dropped - kept).max(), 0.01)


if __name__ == '__main__':
  absltest.main()
