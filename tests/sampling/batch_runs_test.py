"""Tests for batch: whole runs, killed at any moment, or of a real model."""

import pathlib
import subprocess
import sys
from unittest import mock

from absl.testing import absltest
from musiclm_jax.audio import io
from musiclm_jax.sampling import batch
from musiclm_jax.sampling import musiclm
import numpy as np
import pytest
from tests import random_model
from tests.sampling import batch_test

# Starts over whenever it is killed, at a random moment, until it is done.
KILLED = """
import os, pathlib, random, signal, sys, time

from musiclm_jax.sampling import batch, prompt_list
from tests.sampling import batch_test


class SlowModel(batch_test.RowModel):

  def generate(self, *args, **kwargs):
    time.sleep(0.01)
    return super().generate(*args, **kwargs)


lines = prompt_list.read(sys.argv[1], {'seconds': 1.0, 'seed': 0})
rng = random.Random(0)
killed, longest, made = 0, 0.05, 0
while True:
  child = os.fork()
  if not child:
    shard = batch.Shard(lines, sys.argv[2], {'model': 'm'}, 4)
    shard.run(SlowModel, progress=False)
    os._exit(0)
  time.sleep(rng.uniform(0, longest))
  os.kill(child, signal.SIGKILL)
  _, status = os.waitpid(child, 0)
  if not os.WIFSIGNALED(status):
    assert status == 0, status
    break
  killed += 1
  before, made = made, len(list(pathlib.Path(sys.argv[2]).glob('*.wav')))
  longest *= 1.5 if made == before else 1.0  # The machine may be busy.
print(killed)
"""


class KillTest(batch_test.BatchTestCase):

  def test_killed_again_and_again(self):
    lines = self.lines(*[{'prompt': f'{i}'} for i in range(100)], seconds=1.0)
    self.run_shards('whole', lines, model=batch_test.RowModel())
    result = subprocess.run(
        [sys.executable, '-c', KILLED, self.dir / 'prompts.jsonl',
         self.dir / 'killed'],
        check=True,
        capture_output=True,
        text=True,
        cwd=batch_test.ROOT,
    )  # fmt: skip
    self.assertGreaterEqual(int(result.stdout), 5)
    self.assertLen(batch_test.contents(self.dir / 'killed'), 100)
    self.assertEqual(
        batch_test.contents(self.dir / 'whole'),
        batch_test.contents(self.dir / 'killed'),
    )

  def test_cut_off_while_a_file_is_written(self):
    lines = self.many()
    self.run_shards('whole', lines, model=batch_test.RowModel())
    names = sorted(batch_test.contents(self.dir / 'whole'))
    replace = pathlib.Path.replace

    def fail(path, target):
      if target.name == names[9]:
        raise KeyboardInterrupt
      return replace(path, target)

    with mock.patch.object(pathlib.Path, 'replace', fail):
      with self.assertRaises(KeyboardInterrupt):
        self.run_shards('cut', lines, model=batch_test.RowModel())
    self.assertNotIn(names[9], batch_test.contents(self.dir / 'cut'))
    self.assertNotEmpty(batch_test.contents(self.dir / 'cut'))
    self.run_shards('cut', lines, model=batch_test.RowModel())
    self.assertEqual(
        batch_test.contents(self.dir / 'whole'),
        batch_test.contents(self.dir / 'cut'),
    )

  def test_leftovers_go_and_nothing_else(self):
    lines = self.many()
    out = self.dir / 'out'
    out.mkdir()
    for name in (
        '.12.000003.wav', '.13.000003.flac', '.12.failed-00000-of-00001.jsonl',
        '.12.notes.wav', 'notes.wav', '.hidden',
    ):  # fmt: skip
      (out / name).touch()
    self.run_shards('out', lines)
    others = {p.name for p in out.iterdir()} - {
        f'{line.id}.wav' for line in lines
    }
    self.assertEqual(others, {'.12.notes.wav', 'notes.wav', '.hidden'})

  def test_leftovers_of_other_shards_stay(self):
    lines = self.many()
    out = self.dir / 'out'
    out.mkdir()
    for line in lines:
      (out / f'.12.{line.id}.wav').touch()
    shard = batch.Shard(lines, out, {'model': 'm'}, 4, shard=1, num_shards=3)
    summary = shard.run(batch_test.FakeModel, progress=False)
    self.assertBetween(summary.made, 1, 19)
    self.assertLen(list(out.glob('.12.*')), 20 - summary.made)
    self.run_shards('out', lines, 3)
    self.assertEmpty(list(out.glob('.*')))


class RealModelTest(batch_test.BatchTestCase):

  @pytest.mark.slow
  def test_any_number_of_shards_makes_the_same_files(self):
    random_model.write_random_model(self.dir / 'model')
    model = musiclm.MusicLM.from_pretrained(self.dir / 'model', 'float32')
    words = ['slow', 'piano', 'waltz', 'slow piano', 'slow waltz', 'two pianos']
    rows = [{'prompt': word} for word in words]
    rows += [{'prompt': 'a waltz', 'seconds': 0.3}, {'prompt': 'piano ' * 40}]
    rows += [{'prompt': 'piano', 'seed': 5}]
    lines = self.lines(*rows, seconds=0.6)
    [summary] = self.run_shards('one', lines, model=model, batch_size=3)
    self.assertEqual((summary.made, summary.failed), (8, 1))
    [failure] = self.failures('one')
    self.assertRegex(failure['error'], 'at most 30 word pieces.* has 40')
    self.run_shards('three', lines, 3, model=model, batch_size=3)
    (self.dir / 'three' / '000002.wav').unlink()
    (self.dir / 'three' / '000006.wav').unlink()
    self.run_shards('three', lines, 2, model=model, batch_size=3)
    files = batch_test.contents(self.dir / 'one')
    self.assertLen(set(files.values()), 8)
    self.assertEqual(files, batch_test.contents(self.dir / 'three'))
    # The first row of a batch sounds like the same prompt on its own.
    audio = io.read_audio(self.dir / 'one' / '000004.wav', model.sample_rate)
    alone = model.generate(['slow piano'] * 3, seconds=0.6, seed=0)[0]
    np.testing.assert_allclose(audio, alone, atol=1e-4)


if __name__ == '__main__':
  absltest.main()
