"""Tests for vggish."""

import pathlib
import tempfile

from absl.testing import absltest
from musiclm_jax.metrics.embedders import front_ends
from musiclm_jax.metrics.embedders import vggish
import numpy as np
from safetensors import torch as safetensors_torch
from tests import tiny_graphs
import torch
from torch import nn

AUDIO = np.random.default_rng(1).uniform(-0.5, 0.5, 16000 * 3).astype('float32')


def make_vggish(channels=(4, 6, 8, 8, 10, 10), dense=(12, 12, 5)):
  """Returns the layers of VGGish, narrower."""
  torch.manual_seed(0)
  layers, before = [], 1
  for i, width in enumerate(channels):
    layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
    if i in (0, 1, 3, 5):
      layers.append(nn.MaxPool2d(2))
    before = width
  tops, before = [], 24 * before
  for width in dense:
    tops += [nn.Linear(before, width), nn.ReLU()]
    before = width
  return nn.Sequential(*layers), nn.Sequential(*tops[:-1])


class VGGishTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.path = self.folder / 'vggish.safetensors'
    self.features, self.embeddings = make_vggish()
    self.weights = {
        f'{part}.{name}': tensor
        for part in ('features', 'embeddings')
        for name, tensor in getattr(self, part).state_dict().items()
    }

  def test_equals_torch(self):
    safetensors_torch.save_file(self.weights, self.path)
    embedder = vggish.load('vggish', str(self.path))
    with torch.no_grad():
      patches = torch.from_numpy(front_ends.vggish_log_mel(AUDIO))
      maps = self.features(patches[:, None])
      self.assertEqual(maps.shape[2:], (6, 4))
      flat = maps.permute(0, 2, 3, 1).reshape(len(maps), -1)
      expected = self.embeddings(flat).numpy()
    found = embedder.embed_audio(AUDIO)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    self.assertEqual(found.shape, (3, 5))
    self.assertEqual(embedder.identity.width, 5)

  def test_rejects_missing_and_misshapen_layers(self):
    del self.weights['features.6.bias']
    safetensors_torch.save_file(self.weights, self.path)
    with self.assertRaisesRegex(ValueError, 'layers of VGGish.*features.6'):
      vggish.load('vggish', str(self.path))
    weights = {**self.weights, 'embeddings.0.weight': torch.zeros(12, 240 - 1)}
    weights['features.6.bias'] = torch.zeros(8)
    safetensors_torch.save_file(weights, self.path)
    with self.assertRaisesRegex(ValueError, 'embeddings.0.*240 channels'):
      vggish.load('vggish', str(self.path))

  def test_tells_the_release_by_what_its_smoke_test_expects(self):
    for scale, is_release in ((0.343, True), (0.5, False)):
      # The last layer gives any mean and deviation over 128 dimensions.
      bias = torch.tensor([-1.0, 1.0]).repeat(64) * scale
      last = {
          'embeddings.4.weight': torch.zeros(128, 12),
          'embeddings.4.bias': bias,
      }
      safetensors_torch.save_file({**self.weights, **last}, self.path)
      variant = vggish.load('vggish', str(self.path)).identity.variant
      self.assertEqual(variant == vggish.RELEASE, is_release)

  def test_of_an_onnx_file(self):
    path = self.folder / 'vggish.onnx'
    layer, _ = tiny_graphs.write(path, (1, 96, 64), 8)
    embedder = vggish.load('vggish', str(path))
    expected = np.tanh(front_ends.vggish_log_mel(AUDIO).mean(axis=1) @ layer)
    np.testing.assert_allclose(embedder.embed_audio(AUDIO), expected, atol=1e-4)


if __name__ == '__main__':
  absltest.main()
