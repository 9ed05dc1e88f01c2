"""Tests for tensorboard."""

import pathlib
from unittest import mock

from absl.testing import absltest
from musiclm_jax import paths
from musiclm_jax.training import tensorboard

from tests import bucket


class FakeWriter:
  """Appends a line to a file for each call."""

  def __init__(self, folder):
    self._file = pathlib.Path(folder) / 'events'

  def write_scalars(self, step, scalars):
    with self._file.open('a') as file:
      file.write(f'{step} {scalars}\n')

  def flush(self):
    pass

  def close(self):
    self.write_scalars('end', {})


class WriterTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.run_dir = paths.to_path(bucket.start(self)) / 'run'
    self.enterContext(mock.patch.object(tensorboard, '_clu_writer', FakeWriter))

  def test_a_bucket_gets_what_was_written(self):
    writer = tensorboard.Writer(self.run_dir)
    writer.write_scalars(1, {'loss': 2})
    writer.copy_if_due()
    self.assertFalse((self.run_dir / 'events').exists())  # A moment ago.
    writer.close()
    self.assertEqual(
        (self.run_dir / 'events').read_text().split('\n')[:2],
        ["1 {'loss': 2}", 'end {}'],
    )

  def test_is_copied_from_time_to_time(self):
    self.enterContext(mock.patch.object(tensorboard, 'PERIOD', 0.0))
    writer = tensorboard.Writer(self.run_dir)
    writer.write_scalars(1, {'loss': 2})
    writer.copy_if_due()
    writer._copying.result()
    self.assertStartsWith((self.run_dir / 'events').read_text(), '1 ')
    writer.close()

  def test_copies_again_after_a_failure(self):
    self.enterContext(mock.patch.object(tensorboard, 'PERIOD', 0.0))
    writer = tensorboard.Writer(self.run_dir)
    writer.write_scalars(1, {'loss': 2})
    with mock.patch.object(paths, 'upload', side_effect=OSError('away')):
      writer.copy_if_due()
      with self.assertRaisesRegex(OSError, 'away'):
        writer._copying.result()
      with self.assertRaisesRegex(OSError, 'away'):
        writer.copy_if_due()
    writer.copy_if_due()
    writer._copying.result()
    self.assertStartsWith((self.run_dir / 'events').read_text(), '1 ')
    writer.close()


if __name__ == '__main__':
  absltest.main()
