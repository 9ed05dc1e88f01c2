"""Tests for dry_run."""

import contextlib
import dataclasses
import importlib.util
import io
import os
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import gin
import jax
import jax.numpy as jnp
from musiclm_jax import cli
from musiclm_jax.training import devices
from musiclm_jax.training import dry_run
from musiclm_jax.training import trainer
import optax
import pytest

from tests.training import fake

GIB = 2**30
FILES = (
    'models/soundstream',
    'models/w2v_bert',
    'models/mulan',
    'models/melody',
    'stages/semantic',
    'stages/coarse_melody',
    'stages/fine',
)


def fake_run(fsdp=False, num_microbatches=1):
  specs = {
      'x': jax.ShapeDtypeStruct((8, 4), jnp.float32),
      'y': jax.ShapeDtypeStruct((8,), jnp.float32),
  }
  model = fake.FakeModel(optax.adam(0.1))
  partitioning = trainer.Partitioning(1, fsdp, num_microbatches)
  return dry_run.Run(model, specs, 1000, partitioning)


def run_cli(*argv):
  """Returns the status and the table of `musiclm train --dry_run`."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    status = cli.main(['train', '--dry_run', *argv])
  rows = [line.split('  ', 1) for line in out.getvalue().splitlines()]
  return status, {r[0]: r[-1].strip() for r in rows}, err.getvalue()


def gibibytes(text):
  return float(text.removesuffix(' GiB').replace(',', ''))


class EstimateTest(parameterized.TestCase):

  def test_shares_by_hand(self):
    whole = dry_run.estimate(fake_run(), (1, 1))
    # Kernels of 4 x 8 and 8 x 1, and their biases, in float32.
    self.assertEqual(whole.num_parameters, 49)
    self.assertEqual(whole.parameter_bytes, 4 * 49)
    split = dry_run.estimate(fake_run(), (2, 4))
    # Over 'model' goes the axis of 8: 4 x 2 + 2, 2 x 1 + 1.
    self.assertEqual(split.parameter_bytes, 4 * 13)
    self.assertEqual(split.gradient_bytes, 4 * 13)
    # Two moments of each, and a count.
    self.assertEqual(split.optimizer_bytes, 2 * 4 * 13 + 4)
    self.assertEqual(split.mutable_bytes, 4 * 4)
    shared = dry_run.estimate(fake_run(fsdp=True), (2, 4))
    self.assertEqual(shared.parameter_bytes, 4 * (2 * 2 + 2 + 2 + 1))

  def test_averages_take_as_much_as_parameters(self):
    run = dataclasses.replace(fake_run(), average_decay=0.9)
    found = dry_run.estimate(run, (1, 1))
    self.assertEqual(found.parameter_bytes, 2 * 4 * 49)
    self.assertEqual(found.num_parameters, 49)

  def test_microbatches(self):
    one = dry_run.estimate(fake_run(), (2, 1))
    two = dry_run.estimate(fake_run(num_microbatches=2), (2, 1))
    self.assertEqual(two.gradient_bytes, 2 * one.gradient_bytes)
    self.assertLess(two.activation_bytes, one.activation_bytes)
    self.assertEqual(two.flops, one.flops)

  def test_rejects_a_batch_that_cannot_be_divided(self):
    with self.assertRaisesRegex(ValueError, 'a multiple of 3 .* is 8'):
      dry_run.estimate(fake_run(), (3, 1))

  @parameterized.parameters(
      # Two devices to a host: a row of the mesh, two rows, a fourth of one.
      ((4, 2), '4.0 examples .* 1.0 of them on each host of 2 devices'),
      ((8, 1), '4.0 examples .* 1.0 of them'),
      ((1, 8), '4.0 examples .* 4.0 of them'),
      ((1, 1), '0.5 examples .* 0.5 of them'),
  )
  def test_says_what_hosts_must_read(self, mesh_shape, expected):
    run = fake_run()  # Eight examples; all devices take a second for them.
    flops = dry_run.estimate(run, (1, 1)).flops / 8
    device = devices.Device('X', 2**40, flops, 1.0, 2, 'source')
    table = dry_run.describe(run, mesh_shape, device)
    self.assertRegex(table, rf'input +{expected}')

  def test_says_whether_it_fits(self):
    run = fake_run()
    needed = dry_run.estimate(run, (1, 1)).total_bytes
    flops = dry_run.estimate(run, (1, 1)).flops
    for memory, expected in ((needed, 'fits: 100%'), (needed - 1, 'does not')):
      device = devices.Device('X', memory, 4.0 * flops, 1.0, 4, 'source')
      table = dry_run.describe(run, (1, 1), device)
      self.assertRegex(table, rf'memory +{expected}')
      self.assertRegex(table, r'seconds per step +0.25 at the peak')
    table = dry_run.describe(run, (1, 1), device, 'too much')
    self.assertRegex(table, r'as compiled +too much\n')
    self.assertRegex(table, r'memory +does not')

  @parameterized.parameters('64', '0x2', '2x', 'ax2', '2x2x2')
  def test_rejects_what_is_no_mesh(self, text):
    with self.assertRaisesRegex(ValueError, f"DATAxMODEL.* is '{text}'"):
      dry_run.parse_mesh(text)


class CommandTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)

  @parameterized.parameters(*FILES)
  def test_every_part(self, name):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    vocab = pathlib.Path(folder, 'vocab.txt')
    vocab.write_text('[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n')
    status, table, error = run_cli(
        f'--gin_file={name}.gin',
        '--gin_file=sizes/tiny.gin',
        f'--gin.VOCAB={os.fspath(vocab)!r}',
        '--gin.BATCH_SIZE=8',
        '--mesh=4x2',
        '--device_kind=v5p',
    )
    self.assertEqual(status, 0, error)
    self.assertStartsWith(table['memory'], 'fits')
    self.assertGreater(float(table['FLOP per step']), 1e8)
    self.assertIn('95.00 GiB', table['device'])

  def test_a_stage_of_the_paper(self):
    status, table, error = run_cli(
        '--gin_file=stages/semantic.gin',
        '--gin_file=sizes/paper.gin',
        '--mesh=64x2',
        '--device_kind=v5p',
    )
    self.assertEqual(status, 0, error)
    self.assertEqual(table['parameters'], '417.5 M')
    self.assertEqual(table['tokens per step'], f'{256 * 762:,}')
    # All matrices are split in two, and Adam has two moments of each.
    self.assertAlmostEqual(
        gibibytes(table['parameters, per device']),
        2 * 417.5e6 / GIB,
        delta=0.01,
    )
    self.assertAlmostEqual(
        gibibytes(table['optimizer, per device']), 4 * 417.5e6 / GIB, delta=0.01
    )

  def test_the_compiler_agrees_on_this_machine(self):
    status, table, error = run_cli(
        '--gin_file=stages/semantic.gin', '--gin_file=sizes/tiny.gin'
    )
    self.assertEqual(status, 0, error)
    ratio = gibibytes(table['as compiled']) / gibibytes(
        table['all, per device']
    )
    self.assertBetween(ratio, 0.8, 1.6)
    self.assertNotIn('memory', table)  # Nothing is known of CPUs.

  @parameterized.parameters(
      (['--device_kind=v5p'], 'must come with --mesh'),
      (['--device_kind=v9', '--mesh=1x1'], "is 'v9'"),
      (['--mesh=3x1', '--device_kind=v5p'], 'a multiple of 3'),
  )
  def test_rejects(self, argv, message):
    status, _, error = run_cli(
        '--gin_file=stages/fine.gin', '--gin_file=sizes/tiny.gin', *argv
    )
    self.assertEqual(status, 2)
    self.assertRegex(error, message)

  def test_a_mesh_is_for_dry_runs(self):
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
      status = cli.main(['train', '--mesh=1x1'])
    self.assertEqual(status, 2)
    self.assertIn('must come with --dry_run', err.getvalue())

  @absltest.skipIf(importlib.util.find_spec('libtpu'), 'libtpu is installed')
  def test_topologies_need_libtpu(self):
    argv = (
        '--gin_file=stages/fine.gin',
        '--gin_file=sizes/tiny.gin',
        '--topology=v5p:2x2x1',
    )
    status, _, error = run_cli(*argv)
    self.assertEqual(status, 2)
    self.assertIn('libtpu, which is not installed', error)
    status, table, error = run_cli(*argv, '--mesh=4x1', '--device_kind=v5p')
    self.assertEqual(status, 0, error)
    self.assertIn('libtpu is not installed: estimated, not compiled', table)


@pytest.mark.slow
class TopologyTest(absltest.TestCase):

  @absltest.skipUnless(importlib.util.find_spec('libtpu'), 'needs libtpu')
  def test_compiles_for_tpus_that_are_not_there(self):
    done = subprocess.run(
        [sys.executable, '-m', 'musiclm_jax.cli', 'train', '--dry_run']
        + ['--gin_file=stages/fine.gin', '--gin_file=sizes/tiny.gin']
        + ['--topology=v5p:2x2x1'],
        env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertRegex(done.stdout, r'mesh +4 data x 1 model')
    self.assertRegex(done.stdout, r'as compiled +\d+.\d+ GiB')
    self.assertRegex(done.stdout, r'memory +fits')


if __name__ == '__main__':
  absltest.main()
