"""Tests for checkpoints."""

import pathlib
import tempfile
import threading
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from musiclm_jax.training import checkpoints
from musiclm_jax.training import step_folders
import numpy as np


def make_variables(value=1.0):
  return {
      'params': {'kernel': jnp.full((4, 3), value)},
      'codebooks': {'counts': jnp.arange(5)},
  }


def save(model_dir, *steps):
  saved = checkpoints.Checkpoints(model_dir)
  for step in steps:
    optimizer = {'count': jnp.int32(step)}
    saved.save(step, make_variables(step), optimizer, {'position': step * 10})
  saved.close()


def restore(model_dir, step, variables=None):
  saved = checkpoints.Checkpoints(model_dir)
  like = lambda tree: jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      tree,
  )
  try:
    return saved.restore(
        step,
        like(variables or make_variables()),
        like({'count': jnp.int32(0)}),
    )
  finally:
    saved.close()


class CheckpointsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.model_dir = pathlib.Path(
        self.enterContext(tempfile.TemporaryDirectory())
    )

  def test_round_trip(self):
    save(self.model_dir, 7)
    variables, optimizer, data = restore(self.model_dir, 7)
    jax.tree.map(np.testing.assert_array_equal, variables, make_variables(7))
    self.assertEqual(optimizer['count'], 7)
    self.assertEqual(data, {'position': 70})

  def test_restores_variables_alone(self):
    save(self.model_dir, 1, 2)
    variables = checkpoints.restore_variables(self.model_dir)
    jax.tree.map(np.testing.assert_array_equal, variables, make_variables(2))
    self.assertIsInstance(variables['params']['kernel'], np.ndarray)

  def test_keeps_the_last_two(self):
    save(self.model_dir, 1, 2, 3)
    self.assertEqual(checkpoints.complete_steps(self.model_dir), [2, 3])

  def test_is_saving_until_the_wait_is_over(self):
    saved = checkpoints.Checkpoints(self.model_dir)
    written = threading.Event()
    seal = lambda path: written.wait(10)
    self.enterContext(mock.patch.object(step_folders, 'seal', seal))
    saved.save(1, make_variables(), {'n': jnp.int32(1)}, {})
    waiting = threading.Thread(target=saved.wait)
    waiting.start()
    waiting.join(0.3)
    self.assertTrue(saved.is_saving)
    written.set()
    waiting.join()
    self.assertFalse(saved.is_saving)
    saved.close()

  def test_saves_what_was_there_when_save_was_called(self):
    saved = checkpoints.Checkpoints(self.model_dir)
    kernel = jnp.ones((256, 256))
    saved.save(1, {'params': {'kernel': kernel}}, {'n': jnp.int32(1)}, {})
    jax.jit(lambda x: x + 1, donate_argnums=0)(kernel).block_until_ready()
    saved.close()
    restored = checkpoints.restore_variables(self.model_dir)
    np.testing.assert_array_equal(restored['params']['kernel'], 1.0)

  def test_every_flipped_byte_is_noticed(self):
    save(self.model_dir, 1, 2)
    directory = self.model_dir / 'checkpoints' / '2'
    files = [p for p in directory.rglob('*') if p.stat().st_size]
    files = [p for p in files if p.is_file() and p.suffix != '.json']
    self.assertGreater(len(files), 5)
    for path in files:
      good = path.read_bytes()
      path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
      with self.assertRaisesRegex(
          ValueError, f'{path.name} must have.*Delete .*/2 to go on from step 1'
      ):
        checkpoints.restore_variables(self.model_dir)
      path.write_bytes(good)
    checkpoints.restore_variables(self.model_dir)

  def test_a_missing_file_is_noticed(self):
    save(self.model_dir, 3)
    directory = self.model_dir / 'checkpoints' / '3'
    (directory / 'variables' / 'manifest.ocdbt').unlink()
    with self.assertRaisesRegex(
        ValueError, 'manifest.ocdbt.*nothing.*go on from the start'
    ):
      restore(self.model_dir, 3)

  def test_what_was_cut_off_is_no_checkpoint(self):
    save(self.model_dir, 1, 2)
    cut_off = self.model_dir / 'checkpoints' / '2'
    (cut_off / checkpoints.CHECKSUMS).unlink()
    self.assertEqual(checkpoints.complete_steps(self.model_dir), [1])
    variables = checkpoints.restore_variables(self.model_dir)
    self.assertEqual(variables['params']['kernel'][0, 0], 1.0)
    checkpoints.Checkpoints(self.model_dir).close()
    self.assertFalse(cut_off.exists())

  def test_another_model_is_rejected(self):
    save(self.model_dir, 1)
    other = {'params': {'kernel': jnp.zeros((4, 5))}}
    with self.assertRaisesRegex(ValueError, r'counts.*\(5,\).*None'):
      restore(self.model_dir, 1, other)
    other['codebooks'] = make_variables()['codebooks']
    with self.assertRaisesRegex(
        ValueError, r"\['kernel'\] of shape \(4, 3\).* has \(4, 5\)"
    ):
      restore(self.model_dir, 1, other)

  def test_nothing_to_restore(self):
    with self.assertRaisesRegex(FileNotFoundError, 'Train the part first'):
      checkpoints.restore_variables(self.model_dir)


if __name__ == '__main__':
  absltest.main()
