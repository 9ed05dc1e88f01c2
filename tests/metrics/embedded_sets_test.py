"""Tests for embedded_sets."""

import dataclasses
import json
import pathlib
import tempfile

from absl.testing import absltest
from musiclm_jax.metrics import embedded_sets
from musiclm_jax.metrics.embedders import base
import numpy as np
from safetensors import numpy as safetensors_numpy

IDENTITY = base.Identity('means', 'a' * 64, 100, 1.0, 2)


class Means(base.Embedder):
  """Embeds each second as its mean and its deviation."""

  identity = IDENTITY

  def embed_audio(self, audio):
    windows = audio.reshape(-1, 100)
    return np.stack([windows.mean(axis=1), windows.std(axis=1)], axis=1)


def make(clips=6, seed=0):
  rng = np.random.default_rng(seed)
  return embedded_sets.make(
      [rng.normal(size=(1 + i % 3, 2)) for i in range(clips)], IDENTITY, 'test'
  )


class EmbeddedSetTest(absltest.TestCase):

  def test_embeds_clips_of_any_rate(self):
    clips = [(np.full(200, 0.5), 100), (np.zeros(300, np.float32), 300)]
    found = embedded_sets.embed(Means(), clips, 'two')
    self.assertLen(found, 2)
    np.testing.assert_array_equal(found.counts, [2, 1])
    np.testing.assert_allclose(
        found.embeddings, [[0.5, 0], [0.5, 0], [0, 0]], atol=1e-6
    )
    self.assertEqual(found.source, 'two')

  def test_per_clip_is_the_direction_of_the_mean(self):
    windows = [np.array([[3.0, 0.0], [0.0, 4.0]]), np.array([[0.0, 2.0]])]
    found = embedded_sets.make(windows, IDENTITY, 'two').per_clip
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 1]])

  def test_take_keeps_windows_together(self):
    whole = make()
    some = whole.take(np.array([4, 0]))
    np.testing.assert_array_equal(some.counts, [2, 1])
    np.testing.assert_array_equal(some.embeddings, whole.embeddings[[7, 8, 0]])

  def test_halves_share_no_clip(self):
    one, other = make(7).halves()
    self.assertLen(one, 3)
    self.assertLen(other, 3)
    rows = np.concatenate([one.embeddings, other.embeddings])
    self.assertLen(np.unique(rows, axis=0), len(rows))

  def test_rejects_no_clips_and_nan(self):
    with self.assertRaisesRegex(ValueError, "'empty' must hold clips"):
      embedded_sets.make([], IDENTITY, 'empty')
    bad = [np.zeros((1, 2)), np.full((1, 2), np.nan)]
    with self.assertRaisesRegex(ValueError, "'bad' .* clip 1 .*'means'"):
      embedded_sets.make(bad, IDENTITY, 'bad')
    with self.assertRaisesRegex(ValueError, 'two clips to be halved'):
      make(1).halves()


class FileTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder) / 'set.safetensors'

  def test_round_trip(self):
    whole = make()
    whole.save(self.path)
    found = embedded_sets.read(self.path)
    np.testing.assert_array_equal(found.embeddings, whole.embeddings)
    np.testing.assert_array_equal(found.counts, whole.counts)
    self.assertEqual(found.identity, IDENTITY)
    self.assertEqual(found.source, 'test')
    self.assertEqual(found.sha256, whole.sha256)

  def test_rejects_damage(self):
    make().save(self.path)
    data = bytearray(self.path.read_bytes())
    data[-1] ^= 1
    self.path.write_bytes(data)
    with self.assertRaisesRegex(ValueError, 'not those that it describes'):
      embedded_sets.read(self.path)
    self.path.write_bytes(data[:50])
    with self.assertRaisesRegex(ValueError, 'a set of embedded clips'):
      embedded_sets.read(self.path)

  def test_rejects_an_edited_description(self):
    whole = make()
    whole.save(self.path)
    text = self.path.read_bytes()
    self.path.write_bytes(text.replace(b'means', b'other'))
    with self.assertRaisesRegex(ValueError, 'description was edited'):
      embedded_sets.read(self.path)
    description = json.dumps(dataclasses.asdict(IDENTITY))
    safetensors_numpy.save_file(
        {'x': np.zeros(1)}, self.path, {'other': description}
    )
    with self.assertRaisesRegex(ValueError, 'a set of embedded clips'):
      embedded_sets.read(self.path)

  def test_rejects_what_is_not_there(self):
    with self.assertRaisesRegex(FileNotFoundError, 'is not there'):
      embedded_sets.read(self.path)


if __name__ == '__main__':
  absltest.main()
