"""Tests for mert."""

import json
import pathlib
import tempfile

from absl.testing import absltest
from musiclm_jax.metrics.embedders import mert
import numpy as np
import torch
import transformers

RATE = 1000


def write_mert(folder, **changes):
  """Writes MERT with random weights: its real architecture, narrower."""
  torch.manual_seed(0)
  config = transformers.HubertConfig(
      hidden_size=16,
      num_hidden_layers=2,
      num_attention_heads=2,
      intermediate_size=16,
      conv_dim=(8, 8),
      conv_kernel=(10, 4),
      conv_stride=(5, 4),
      num_conv_pos_embeddings=8,
      num_conv_pos_embedding_groups=2,
  )
  model = transformers.HubertModel(config).eval()
  model.save_pretrained(folder)
  path = folder / 'config.json'
  values = json.loads(path.read_text()) | {'model_type': 'mert_model'}
  path.write_text(json.dumps(values | changes))
  transformers.Wav2Vec2FeatureExtractor(
      sampling_rate=RATE, do_normalize=True
  ).save_pretrained(folder)
  return model


class MertTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def test_equals_transformers(self):
    model = write_mert(self.folder)
    rng = np.random.default_rng(1)
    audio = rng.uniform(-0.2, 0.6, 10 * RATE).astype(np.float32)
    embedder = mert.load('mert', str(self.folder))
    found = embedder.embed_audio(audio)
    windows = audio.reshape(2, -1)
    windows = windows - windows.mean(axis=1, keepdims=True)
    windows /= np.sqrt(windows.var(axis=1, keepdims=True) + 1e-7)
    with torch.inference_mode():
      expected = model(torch.from_numpy(windows)).last_hidden_state
    expected = expected.mean(dim=1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    self.assertEqual(embedder.identity.width, 16)
    self.assertEqual(embedder.sample_rate, RATE)

  def test_rejects_constant_q_features(self):
    write_mert(self.folder, feature_extractor_cqt=True)
    with self.assertRaisesRegex(ValueError, 'constant-Q.*onnx:PATH'):
      mert.load('mert', str(self.folder))


if __name__ == '__main__':
  absltest.main()
