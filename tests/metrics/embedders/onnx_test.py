"""Tests for onnx."""

import hashlib
import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics.embedders import front_ends
from musiclm_jax.metrics.embedders import onnx
import numpy as np
from tests import tiny_graphs

AUDIO = np.random.default_rng(1).uniform(-0.5, 0.5, 16000 * 4).astype('float32')


class OnnxTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = (
        pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        / 'tiny.onnx'
    )

  def describe(self, **values):
    self.path.with_suffix('.json').write_text(json.dumps(values))

  @parameterized.parameters(
      ((96, 64), 'batch'),
      ((1, 96, 64), 'batch'),
      ((96, 64), 3),
      ((96, 64), 1),
  )
  def test_embeds_features(self, shape, batch):
    layer, _ = tiny_graphs.write(self.path, shape, 8, batch=batch)
    self.describe(front_end='vggish')
    embedder = onnx.load('onnx', str(self.path))
    patches = front_ends.vggish_log_mel(AUDIO)
    np.testing.assert_allclose(
        embedder.embed_audio(AUDIO),
        np.tanh(patches.mean(axis=1) @ layer),
        atol=1e-4,
    )
    sha256 = hashlib.sha256(self.path.read_bytes()).hexdigest()
    self.assertEqual(embedder.identity.sha256, sha256)
    self.assertEqual(embedder.identity.width, 8)
    self.assertEqual(embedder.identity.window_seconds, 0.96)
    self.assertEqual(embedder.identity.variant, 'embedding of vggish')

  def test_embeds_audio(self):
    layer, _ = tiny_graphs.write(self.path, (800,), 5)
    self.describe(sample_rate=8000, window_seconds=0.1)
    found = onnx.load('onnx', str(self.path)).embed_audio(AUDIO[:1600])
    expected = np.tanh(AUDIO[:1600].reshape(2, 800) @ layer)
    np.testing.assert_allclose(found, expected, atol=1e-4)

  @parameterized.parameters('tags', 'tags:0')  # TensorFlow's names end so.
  def test_tags(self, name):
    layer, tags = tiny_graphs.write(
        self.path, (187, 96), 8, num_tags=3, tags_name=name
    )
    self.describe(front_end='musicnn', output='tags', classes=['a', 'b', 'c'])
    tagger = onnx.load_tagger('onnx', str(self.path))
    hidden = front_ends.musicnn_log_mel(AUDIO).mean(axis=1) @ layer
    expected = 1 / (1 + np.exp(-np.tanh(hidden) @ tags))
    np.testing.assert_allclose(tagger.tag(AUDIO), expected[0], atol=1e-4)
    self.assertEqual(tagger.classes, ('a', 'b', 'c'))

  def test_logits_go_through_a_softmax(self):
    layer, _ = tiny_graphs.write(self.path, (96, 64), 4)
    self.describe(front_end='vggish', logits=True)
    found = onnx.load_tagger('onnx', str(self.path)).tag(AUDIO)
    logits = np.tanh(front_ends.vggish_log_mel(AUDIO).mean(axis=1) @ layer)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, shares.mean(axis=0), atol=1e-4)

  def test_logits_are_no_probabilities(self):
    tiny_graphs.write(self.path, (96, 64), 4)
    self.describe(front_end='vggish')
    with self.assertRaisesRegex(ValueError, 'probabilities.*"logits": true'):
      onnx.load_tagger('onnx', str(self.path)).tag(AUDIO)

  @parameterized.parameters(
      ({}, 'must say what .tiny.onnx. hears'),
      ({'sample_rate': 8000}, 'must say what'),
      ({'sample_rate': 'high'}, "'sample_rate' as .*int.*'high'"),
      ({'front_end': 'other'}, "one of \\['vggish', 'musicnn'\\]"),
      ({'front_end': 'vggish'}, "output ''.*\\['embedding', 'tags'\\]"),
      ({'front_end': 'vggish', 'output': 'no'}, "output 'no'"),
      ({'front_end': 'musicnn', 'output': 'tags'}, 'shape .187, 96..*96, 64'),
  )
  def test_rejects_descriptions(self, values, message):
    tiny_graphs.write(self.path, (96, 64), 4, num_tags=2)
    self.describe(**values)
    with self.assertRaisesRegex(ValueError, message):
      onnx.load('onnx', str(self.path))

  def test_rejects_wrong_numbers_of_classes(self):
    tiny_graphs.write(self.path, (96, 64), 4)
    self.describe(front_end='vggish', classes=['one', 'two'])
    with self.assertRaisesRegex(ValueError, '2 classes.*has 4'):
      onnx.load_tagger('onnx', str(self.path))

  def test_rejects_files(self):
    with self.assertRaisesRegex(FileNotFoundError, 'is not there'):
      onnx.load('onnx', str(self.path))
    with self.assertRaisesRegex(ValueError, "ends in .onnx.*'onnx:PATH'"):
      onnx.load('onnx', 'weights.bin')
    self.path.write_bytes(b'no graph')
    self.describe(front_end='vggish')
    with self.assertRaisesRegex(ValueError, 'must be an ONNX file'):
      onnx.load('onnx', str(self.path))


if __name__ == '__main__':
  absltest.main()
