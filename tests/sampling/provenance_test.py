"""Tests for provenance."""

import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.audio import io
from musiclm_jax.models import parts
from musiclm_jax.sampling import prompt_list
from musiclm_jax.sampling import provenance
import numpy as np


def comment(prompt='a waltz', **options):
  request = prompt_list.Request(prompt, tuple(sorted(options.items())))
  return provenance.comment(request, {'model': 'm'})


class ProvenanceTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def write(self, text, suffix='.wav'):
    path = self.dir / f'a{suffix}'
    io.write_audio(path, np.zeros(2400), 24000, text, provenance.seal)
    return path

  def test_comment(self):
    values = json.loads(comment('café', seed=3))
    self.assertLen(values.pop('sha256'), 64)
    self.assertEqual(values.pop('file_sha256'), '0' * 64)
    self.assertEqual(values, {'prompt': 'café', 'seed': 3, 'model': 'm'})

  @parameterized.parameters('.wav', '.flac', '.mp3')
  def test_the_same(self, suffix):
    text = comment('😀' * 5000, seed=3, negative_prompt='"é\n' * 999)
    self.assertIsNone(provenance.difference(self.write(text, suffix), text))

  @parameterized.parameters('.wav', '.flac', '.mp3')
  def test_every_bit_counts(self, suffix):
    path = self.write(comment(), suffix)
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(len(whole), size=40):
      data = bytearray(whole)
      data[place] ^= 1
      path.write_bytes(data)
      self.assertIsNotNone(provenance.difference(path, comment()), place)
    path.write_bytes(whole[:-100])
    self.assertIsNotNone(provenance.difference(path, comment()))
    path.write_bytes(whole)
    self.assertIsNone(provenance.difference(path, comment()))

  @parameterized.parameters('.wav', '.flac', '.mp3')
  def test_files_of_older_versions_have_no_hash_of_their_own(self, suffix):
    values = json.loads(comment())
    del values['file_sha256']
    path = self.write(json.dumps(values), suffix)
    self.assertIsNone(provenance.difference(path, comment()))

  @parameterized.parameters(
      ({'prompt': 'b'}, 'was made with prompt b, not a waltz'),
      ({'seed': 4}, 'was made with seed 4, not None'),
      ({'prompt': 'a waltz '}, 'was made with prompt a waltz , not a waltz'),
  )
  def test_different(self, arguments, message):
    path = self.write(comment(**arguments))
    self.assertEqual(provenance.difference(path, comment()), message)

  def test_different_where_excerpts_end(self):
    path = self.write(comment('a' * 200))
    message = provenance.difference(path, comment('a' * 201))
    self.assertStartsWith(message, 'was made with sha256 ')

  @parameterized.parameters('', 'by me', '7', '{}')
  def test_not_from_a_list(self, text):
    self.assertRegex(
        provenance.difference(self.write(text), comment()), 'not made from'
    )

  def test_model(self):
    variables = {'params': {'kernel': np.ones(3, np.float32)}}
    hashes = set()
    for value, size in ((1, 1), (2, 1), (1, 2)):
      variables['params']['kernel'][0] = value
      parts.save(self.dir / 'model', 'mulan', {'size': size}, variables)
      hashes.add(provenance.model_sha256(self.dir / 'model'))
    parts.save(self.dir / 'model', 'fine', {}, variables)
    hashes.add(provenance.model_sha256(self.dir / 'model'))
    self.assertLen(hashes, 4)
    self.assertIn(provenance.model_sha256(self.dir / 'model'), hashes)


if __name__ == '__main__':
  absltest.main()
