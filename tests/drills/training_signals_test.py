"""Drills of training: signals."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.training import checkpoints
from musiclm_jax.training import reports
from musiclm_jax.training import trainer
import pytest

from tests.drills import training_drill

setUpModule = training_drill.setUpModule
tearDownModule = training_drill.tearDownModule


# A run in a process of its own: slow steps, or for ever at its first.
SCRIPT = """
import sys, time
from musiclm_jax import cli
from musiclm_jax.cli import evaluate

def run(args, rest):
  # Once the command has set what libraries say.
  from musiclm_jax.data import batches
  from musiclm_jax.training import optimizers, trainer
  from tests.training import fake
  from musiclm_jax.training import run as run_lib

  class Model(fake.FakeModel):
    def loss_fn(self, *args):
      if sys.argv[2] == 'compiles':
        print('compiles', flush=True)
        time.sleep(600)
      return super().loss_fn(*args)

  def make_example(record, rng):
    time.sleep(0.01)
    return record

  if sys.argv[2] == 'saves':  # For ever.
    run_lib.Run.save = lambda *args: time.sleep(600)
  trainer.train(
      Model(optimizers.adamw(0.01, 5, 40), dropout=0.1), sys.argv[1],
      batches.Batches(fake.examples(37), make_example, 8),
      batches.Batches(fake.examples(12), make_example, 8, shuffle=False),
      trainer.Schedule(60, 20, 20, log_period=4),
      tensorboard=sys.argv[2] == 'trains')

evaluate._doctor = run
sys.exit(cli.main(['doctor', 'x']))
"""


def send(signum):
  os.kill(os.getpid(), signum)


class SignalsTest(training_drill.Drill):
  """Training saves at a signal, and says how to go on.

  Siblings: SIGTERM and SIGINT; in a step, in the wait for data, in evaluation,
  in compilation; a second signal; another thread.
  """

  @parameterized.parameters(signal.SIGTERM, signal.SIGINT)
  def test_saves_and_goes_on_the_same(self, signum):
    whole = self.other_dir()
    training_drill.train(whole)
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    for position in (7, 13, 16):
      acting = training_drill.Acting(position, lambda: send(signum))
      with self.assertRaisesRegex(
          errors.Interrupted,
          f'saved step {position} in .*; run the same command',
      ) as caught:
        training_drill.train(self.model_dir, acting)
      self.assertEqual(caught.exception.signum, signum)
      self.assertIn(position, checkpoints.complete_steps(self.model_dir))
    training_drill.train(self.model_dir)
    self.assert_same_run(self.model_dir, whole)
    after = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    self.assertEqual(before, after)

  def test_in_the_wait_for_data(self):
    def wait():
      threading.Timer(0.2, send, [signal.SIGTERM]).start()
      time.sleep(60)

    start = time.monotonic()
    with self.assertRaisesRegex(errors.Interrupted, 'saved step 3'):
      training_drill.train(self.model_dir, training_drill.Acting(3, wait))
    self.assertLess(time.monotonic() - start, 20)

  def test_in_evaluation(self):
    held_out = training_drill.Acting(
        1, lambda: send(signal.SIGINT), shuffle=False
    )
    with self.assertRaisesRegex(errors.Interrupted, 'saved step 10'):
      training_drill.train(self.model_dir, eval_batches=held_out)
    self.assertEqual(checkpoints.complete_steps(self.model_dir), [5, 10])

  def test_bad_data_ends_it_likewise(self):
    def fail():
      raise errors.UserError('music.array_record is damaged')

    with self.assertRaisesRegex(errors.UserError, 'is damaged'):
      training_drill.train(self.model_dir, training_drill.Acting(7, fail))
    self.assertEqual(checkpoints.complete_steps(self.model_dir), [5, 7])

  def test_in_another_thread(self):
    threads = []
    thread = threading.Thread(
        target=lambda: threads.append(
            training_drill.train(self.model_dir, train_steps=5)
        )
    )
    thread.start()
    thread.join()
    self.assertLen(threads, 1)

  def start(self, how):
    script = self.model_dir / 'script.py'
    script.write_text(SCRIPT)
    inherited = dict(os.environ)
    inherited.pop('TF_CPP_MIN_LOG_LEVEL', None)  # JAX sets it.
    return subprocess.Popen(
        [sys.executable, str(script), str(self.model_dir / 'run'), how],
        env={
            **inherited,
            'PYTHONPATH': str(pathlib.Path(trainer.__file__).parents[2]),
            'JAX_PLATFORMS': 'cpu',
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

  def test_in_compilation(self):
    process = self.start('compiles')
    self.assertEqual(process.stdout.readline(), 'compiles\n')
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    self.assertLess(time.monotonic() - start, 10)
    self.assertEqual(process.returncode, 143)
    self.assertIn('stopped: nothing was learned yet; run the same', stderr)
    self.assertNotIn('Traceback', stderr)

  def test_a_second_signal(self):
    process = self.start('saves')
    self.wait_for_step(process, 4)
    for _ in range(2):
      process.send_signal(signal.SIGTERM)
      time.sleep(0.5)
    _, stderr = process.communicate(timeout=10)
    self.assertEqual(process.returncode, 143)
    self.assertIn('SIGTERM: saves and stops; once more to stop at', stderr)
    self.assertIn('stopped at once: nothing was learned yet', stderr)

  @pytest.mark.slow
  def test_as_a_command(self):
    """It says what it saved, and nothing is said that is not ours."""
    process = self.start('trains')
    self.wait_for_step(process, 8)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    self.assertEqual(process.returncode, 130)
    lines = stderr.strip().splitlines()
    self.assertRegex(lines[-1], '^musiclm: saved step [0-9]+ in .*same command')
    for line in lines:
      self.assertRegex(line, '^(musiclm: |step |warning: )')

  def wait_for_step(self, process, step):
    while process.poll() is None:
      told = reports.read_metrics(self.model_dir / 'run')
      if told and told[-1]['step'] >= step:
        return
      time.sleep(0.01)
    self.fail(process.communicate()[1])


if __name__ == '__main__':
  absltest.main()
