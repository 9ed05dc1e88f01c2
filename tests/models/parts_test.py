"""Tests for parts."""

import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import files
from musiclm_jax.models import parts
import numpy as np


class PartsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    rng = np.random.default_rng(0)
    self.params = {
        'dense': {
            'kernel': rng.normal(size=(6, 4)).astype(np.float32),
            'bias': rng.normal(size=4).astype(np.float32),
        }
    }
    self.codes = rng.normal(size=(2, 8, 4)).astype(np.float32)
    self.variables = {'params': self.params, 'codebooks': {'codes': self.codes}}

  def save(self, dtype='float32'):
    return parts.save(
        self.folder, 'net', {'width': 4}, self.variables, {'mulan': 'ab'}, dtype
    )

  @parameterized.parameters(*parts.DTYPES)
  def test_what_is_saved_is_loaded(self, dtype):
    sha256 = self.save(dtype)
    part = parts.load(self.folder, 'net')
    self.assertEqual(
        (part.config, part.lineage, part.sha256),
        ({'width': 4}, {'mulan': 'ab'}, sha256),
    )
    loaded = part.variables['params']
    stored = parts.as_stored(self.params, dtype)
    for name in ('kernel', 'bias'):
      np.testing.assert_array_equal(
          loaded['dense'][name], stored['dense'][name]
      )
    # Vectors and other collections are exact in any storage.
    np.testing.assert_array_equal(
        loaded['dense']['bias'], self.params['dense']['bias']
    )
    np.testing.assert_array_equal(
        part.variables['codebooks']['codes'], self.codes
    )

  def test_int8_is_within_half_a_step_of_each_channel(self):
    kernel = self.params['dense']['kernel']
    stored = parts.as_stored(self.params, 'int8')['dense']['kernel']
    step = np.abs(kernel).max(axis=0) / 127
    self.assertTrue((np.abs(stored - kernel) <= step / 2 + 1e-7).all())
    self.assertFalse(np.array_equal(stored, kernel))

  def test_what_bfloat16_holds_takes_half_the_space(self):
    exact = {'params': {'x': np.full((64, 64), 0.5, np.float32)}}
    parts.save(self.folder, 'net', {}, exact)
    self.assertLess((self.folder / 'net.safetensors').stat().st_size, 9000)
    loaded = parts.load(self.folder, 'net').variables['params']['x']
    self.assertEqual(loaded.dtype, np.float32)
    np.testing.assert_array_equal(loaded, exact['params']['x'])

  def test_a_flipped_bit_is_found(self):
    self.save()
    path = self.folder / 'net.safetensors'
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with self.assertRaisesRegex(ValueError, 'must have sha256 .*is damaged'):
      parts.load(self.folder, 'net')

  def test_missing_part(self):
    self.save()
    with self.assertRaisesRegex(FileNotFoundError, 'other.json.*net.json'):
      parts.load(self.folder, 'other')

  def test_other_format(self):
    self.save()
    path = self.folder / 'net.json'
    description = {**json.loads(path.read_text()), 'format': 2}
    del description[files.SEAL]
    path.write_text(json.dumps(description))
    with self.assertRaisesRegex(ValueError, 'must have format 1, but has 2'):
      parts.load(self.folder, 'net')

  def test_unknown_dtype(self):
    with self.assertRaisesRegex(ValueError, "dtype must be .*'int4'"):
      self.save('int4')

  def test_lineage_names_both_hashes(self):
    parts.check_lineage('semantic', {'mulan': 'a' * 64}, {'mulan': 'a' * 64})
    with self.assertRaisesRegex(ValueError, "'semantic'.*a{12}.*b{12}"):
      parts.check_lineage('semantic', {'mulan': 'a' * 64}, {'mulan': 'b' * 64})

  @parameterized.parameters(
      ({'k': np.zeros((2, 3))}, r'shape \(3, 2\), but holds \(2, 3\)'),
      ({}, r'params/k of shape \(3, 2\), but holds nothing'),
      ({'k': np.full((3, 2), np.nan)}, 'must be finite.*params/k'),
  )
  def test_wrong_variables(self, params, message):
    expected = {'params': {'k': np.zeros((3, 2))}}
    with self.assertRaisesRegex(ValueError, message):
      parts.check_variables('net', {'params': params}, expected)


if __name__ == '__main__':
  absltest.main()
