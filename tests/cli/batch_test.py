"""Tests of `musiclm batch`."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from musiclm_jax import cli
from musiclm_jax import errors
from musiclm_jax.sampling import musiclm
from musiclm_jax.stages import base as stages
import pytest
from tests.sampling import batch_test

ROOT = pathlib.Path(__file__).parents[2]
# One process of a job.
PROCESS = """
import sys
from unittest import mock

from musiclm_jax import cli
from musiclm_jax.sampling import musiclm
from tests.sampling import batch_test

model = batch_test.FakeModel()
with mock.patch.object(musiclm.MusicLM, 'from_pretrained', return_value=model):
  sys.exit(cli.main(sys.argv[1:]))
"""


class CliBatchTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.prompts = self.dir / 'prompts.txt'
    self.prompts.write_text('a waltz\na march\na tango\n')
    self.model = batch_test.FakeModel()
    self.load = self.enterContext(
        mock.patch.object(
            musiclm.MusicLM, 'from_pretrained', return_value=self.model
        )
    )

  def arguments(self, *more, name='out'):
    folder = str(self.dir / name)
    return [
        'batch', str(self.prompts), '--output_dir', folder, '--seconds=0.1',
        *more,
    ]  # fmt: skip

  def run_batch(self, *more, name='out'):
    """Returns the exit status, and what was written to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      try:
        status = cli.main(self.arguments(*more, name=name))
      except SystemExit as e:  # How argparse leaves.
        status = e.code
    return status, out.getvalue(), err.getvalue()

  def test_makes_what_is_missing(self):
    status, out, _ = self.run_batch()
    self.assertEqual(status, 0)
    self.assertRegex(out, r'^3 made, 0 skipped, 0 failed; \S+ s of audio per s')
    status, out, _ = self.run_batch()
    self.assertEqual((status, out), (0, '0 made, 3 skipped, 0 failed\n'))
    self.load.assert_called_once()

  def test_manifests(self):
    self.run_batch()
    folder = self.dir / 'out'
    self.assertEmpty(list(folder.glob('*.json')))
    status, out, _ = self.run_batch('--manifest')
    self.assertEqual(status, 0)
    self.assertIn('3 skipped', out)
    for i, prompt in enumerate(('a waltz', 'a march', 'a tango'), start=1):
      found = json.loads((folder / f'00000{i}.json').read_text())
      self.assertEqual(found['prompt'], prompt)
      self.assertIn('semantic', found['manifest']['parts'])
      shown = io.StringIO()
      with contextlib.redirect_stdout(shown):
        self.assertEqual(cli.main(['show', str(folder / f'00000{i}.wav')]), 0)
      self.assertEqual(json.loads(shown.getvalue()), found)

  def test_poison(self):
    self.prompts.write_text('a waltz\npoison\na tango\n')
    status, out, _ = self.run_batch()
    self.assertEqual(status, 1)
    self.assertRegex(
        out, r'(?s)^2 made, 0 skipped, 1 failed;.*\n1 of 3 failed: .*\.jsonl\n$'
    )
    self.assertLen(batch_test.contents(self.dir / 'out'), 2)

  def test_shards(self):
    self.run_batch('--batch_size=1')
    for i in range(3):
      status, out, _ = self.run_batch(
          '--batch_size=1', f'--shard={i}', '--num_shards=3', name='three'
      )
      self.assertEqual(status, 0)
      self.assertStartsWith(out, '1 made, 0 skipped, 0 failed')
    self.assertEqual(
        batch_test.contents(self.dir / 'out'),
        batch_test.contents(self.dir / 'three'),
    )

  def test_options_reach_the_model(self):
    generate = mock.Mock(side_effect=errors.UserError('no music'))
    self.model.generate = generate
    self.prompts = self.dir / 'prompts.jsonl'
    self.prompts.write_text(
        json.dumps({'prompt': 'a', 'top_k': 5, 'negative_prompt': 'b'})
    )
    status, _, _ = self.run_batch(
        '--seed=3', '--guidance_scale=2', '--temperature=0.5', '--best_of=2',
        '--batch_size=2', '--model', str(self.dir), '--dtype=bfloat16',
    )  # fmt: skip
    self.assertEqual(status, 1)
    self.load.assert_called_once_with(self.dir, 'bfloat16')
    self.assertEqual(generate.call_args.args, (['a', 'a'],))
    options = dict(generate.call_args.kwargs)
    config = options.pop('config')
    self.assertEqual(
        options,
        {'progress': False, 'seconds': 0.1, 'seed': [3, 3], 'best_of': 2,
         'negative_prompt': 'b'},
    )  # fmt: skip
    config = config.of(stages.get_stage('coarse'))
    self.assertEqual(config.guidance_scale, 2)
    self.assertEqual(config.top_k, 5)
    self.assertEqual(config.temperature, 0.5 * 0.95)

  @parameterized.parameters(
      (['--shard=1'], '--shard and --num_shards must be given together'),
      (['--shard=0', '--num_shards=2', '--distributed'], 'must be without'),
      (['--shard=2', '--num_shards=2'], 'shard must be in .* but is 2 of 2'),
      (['--format=.ogg'], "format must be one of .* but is '.ogg'"),
      (['--batch_size=0'], 'batch_size must be at least 1'),
      (['--seed=-1'], r'seed must be .* but is -1'),
      (['--guidance_scale=nan'], 'guidance_scale must be'),
      (['--top_p=0'], 'top_p must be above 0'),
      (['--negative_prompt='], 'negative_prompt must be a text'),
      (['--model=./nowhere'], "no directory './nowhere'"),
      (['--colour=blue'], '--colour'),
      (['--dtype=int3'], 'int3'),
      (['--seconds=0'], '--seconds'),
  )
  def test_wrong_options(self, options, message):
    status, _, err = self.run_batch(*options)
    self.assertEqual(status, 2)
    self.assertRegex(err.strip().splitlines()[-1], message)
    self.assertFalse((self.dir / 'out').exists())
    self.load.assert_not_called()

  def test_changed_list(self):
    self.run_batch()
    status, _, err = self.run_batch('--seed=1')
    self.assertEqual(status, 2)
    self.assertRegex(
        err, r'000001\.wav was made with seed 0, not 1; and 2 more'
    )

  @parameterized.parameters(
      (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 9 GB\nat x'),),
      (MemoryError('9 GB'),),
  )
  def test_errors_of_the_device_are_no_poison(self, error):
    self.model.generate = mock.Mock(side_effect=error)
    status, out, err = self.run_batch()
    self.assertEqual((status, out), (1, ''))
    self.assertRegex(err, 'musiclm: stopped by .*Error: .*9 GB')
    self.assertRegex(err, 'run it again to go on. .* smaller --batch_size')
    self.assertEmpty(list((self.dir / 'out').iterdir()))

  def test_distributed_needs_a_job(self):
    error = ValueError('coordinator_address should be defined.')
    with mock.patch('jax.distributed.initialize', side_effect=error):
      status, _, err = self.run_batch('--distributed')
    self.assertEqual(status, 2)
    self.assertRegex(err, '--distributed must be given in a job .*defined')

  @pytest.mark.slow
  def test_each_process_of_a_job_makes_its_part(self):
    arguments = self.arguments('--distributed', '--batch_size=1')
    job = {
        'SLURM_JOB_ID': str(os.getpid()),
        'SLURM_STEP_NODELIST': 'localhost',
        'SLURM_NTASKS': '2',
    }
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', PROCESS, *arguments],
            env={
                **os.environ, **job, 'SLURM_PROCID': f'{i}',
                'SLURM_LOCALID': f'{i}',
            },
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    outputs = [process.communicate()[0] for process in processes]
    self.assertEqual([process.returncode for process in processes], [0, 0])
    self.assertStartsWith(outputs[0], '2 made, 0 skipped, 0 failed')
    self.assertStartsWith(outputs[1], '1 made, 0 skipped, 0 failed')
    self.run_batch('--batch_size=1', name='alone')
    self.assertEqual(
        batch_test.contents(self.dir / 'out'),
        batch_test.contents(self.dir / 'alone'),
    )


if __name__ == '__main__':
  absltest.main()
