"""Tests for provenance."""

import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import musiclm_jax
from musiclm_jax.audio import io
from musiclm_jax.models import ledgers
from musiclm_jax.models import parts
from musiclm_jax.sampling import prompt_list
from musiclm_jax.sampling import provenance
import numpy as np

from tests.sampling import take_test

LEDGER = [
    {'source': 'A', 'license': 'CC-BY-4.0', 'hours': 2.0},
    *({'source': f'B{i}', 'license': 'MIT', 'hours': 1.0} for i in range(7)),
]


def comment(prompt='a waltz', **options):
  request = prompt_list.Request(prompt, tuple(sorted(options.items())))
  return provenance.comment(request, {'model': 'm'})


class ProvenanceTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def write(self, text, suffix='.wav', num_samples=2400):
    path = self.dir / f'a{suffix}'
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, num_samples)
    io.write_audio(path, audio, 24000, text, provenance.seal)
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

  def test_other_versions_make_the_same_file(self):
    request = prompt_list.Request('a waltz', ())
    texts = [
        provenance.comment(request, {'model': 'm'}, manifest)
        for manifest in (None, {'software': 'old'}, {'software': 'new'})
    ]
    for text in texts:
      path = self.write(text)
      for expected in texts:
        self.assertIsNone(provenance.difference(path, expected))

  @parameterized.parameters('.wav', '.flac', '.ogg', '.mp3')
  def test_a_manifest_is_read_back(self, suffix):
    manifest = self.manifest({'fine': LEDGER, 'coarse': LEDGER})
    path = self.write(
        provenance.take_comment(take_test.make_take(), manifest), suffix, 48000
    )
    found, is_whole = provenance.read(path)
    self.assertTrue(is_whole)
    self.assertEqual(found['manifest'], manifest)
    self.assertEqual(found['prompts'], [[0.0, 'piano']])
    self.assertEqual(found['seeds'], [3, 0, 0])
    self.assertEqual(found['config']['semantic']['top_k'], 7)
    self.assertEqual(found['model'], {'soundstream': 'a' * 64})
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    self.assertFalse(provenance.read(path)[1])

  def test_a_manifest_says_what_the_model_is_of(self):
    manifest = self.manifest({'fine': LEDGER, 'coarse': LEDGER, 'old': None})
    self.assertEqual(
        manifest['software'], f'musiclm_jax {musiclm_jax.__version__}'
    )
    self.assertCountEqual(manifest['parts'], ['fine', 'coarse', 'old'])
    self.assertEqual(
        manifest['music'],
        {
            'licenses': {
                'CC-BY-4.0': {'hours': 2.0, 'sources': ['A']},
                'MIT': {
                    'hours': 7.0,
                    'sources': [*(f'B{i}' for i in range(5)), '2 more'],
                },
            },
            'unknown': ['old'],
        },
    )

  def test_the_longest_manifest_fits(self):
    rows = [
        {'source': '"' * 90 + str(i), 'license': f'"{i}', 'hours': 1.0}
        for i in range(999)
    ]
    take = take_test.make_take()
    take.description.update({f'{i}': '"' * 9999 for i in range(9)})
    manifest = self.manifest({'fine': rows})
    self.write(provenance.take_comment(take, manifest))

  def test_read_needs_a_manifest(self):
    for text in ('', 'by me', '{}'):
      with self.assertRaisesRegex(
          ValueError, "a.wav' must be a file that `musiclm generate` or"
      ):
        provenance.read(self.write(text))

  def test_the_manifest_of_files_of_before_is_unknown(self):
    found, is_whole = provenance.read(self.write(comment()))
    self.assertTrue(is_whole)
    self.assertEqual(found['manifest']['music'], 'unknown')

  def manifest(self, ledger_of):
    """Returns the manifest of a model of parts with these ledgers."""
    for name, ledger in ledger_of.items():
      parts.save(self.dir / 'model', name, {}, {'params': {'x': np.ones(1)}})
      if ledger is not None:
        ledgers.add(self.dir / 'model', name, ledger)
    return provenance.manifest(self.dir / 'model')

  def test_model(self):
    variables = {'params': {'kernel': np.ones(3, np.float32)}}
    hashes = set()
    for value, size in ((1, 1), (2, 1), (1, 2)):
      variables['params']['kernel'][0] = value
      parts.save(self.dir / 'model', 'mulan', {'size': size}, variables)
      hashes.add(provenance.model_sha256(self.dir / 'model'))
    parts.save(self.dir / 'model', 'fine', {}, variables)
    hashes.add(provenance.model_sha256(self.dir / 'model'))
    ledgers.add(self.dir / 'model', 'fine', LEDGER)
    hashes.add(provenance.model_sha256(self.dir / 'model'))
    self.assertLen(hashes, 4)
    self.assertIn(provenance.model_sha256(self.dir / 'model'), hashes)


if __name__ == '__main__':
  absltest.main()
