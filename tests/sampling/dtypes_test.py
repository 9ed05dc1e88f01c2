"""Tests for dtypes."""

import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from musiclm_jax import errors
from musiclm_jax.models import parts
from musiclm_jax.sampling import dtypes
import numpy as np

PARAMS = {'dense': {'kernel': np.ones((4, 4), np.float32)}}


class DtypesTest(parameterized.TestCase):

  @parameterized.parameters(
      ('float32', 'float32'), ('bfloat16', 'float32'), ('int8', 'int8')
  )
  def test_auto_is_that_of_the_storage(self, stored, expected):
    directory = self.enterContext(tempfile.TemporaryDirectory())
    parts.save(directory, 'fine', {}, {'params': PARAMS}, dtype=stored)
    self.assertEqual(dtypes.resolve('auto', directory, 'fine'), expected)
    with mock.patch.object(jax, 'default_backend', return_value='gpu'):
      found = dtypes.resolve('auto', directory, 'fine')
    self.assertEqual(found, 'bfloat16')

  @parameterized.parameters('float32', 'bfloat16', 'int8')
  def test_others_are_as_they_are(self, dtype):
    self.assertEqual(dtypes.resolve(dtype, 'missing', 'fine'), dtype)

  def test_rejects(self):
    with self.assertRaisesRegex(errors.NotFoundError, 'fine.safetensors'):
      dtypes.resolve('auto', 'missing', 'fine')
    with self.assertRaisesRegex(errors.UserError, "auto.*is 'float16'"):
      dtypes.resolve('float16', 'missing', 'fine')


if __name__ == '__main__':
  absltest.main()
