"""Tests for batch."""

import hashlib
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.sampling import batch
from musiclm_jax.sampling import prompt_list
import numpy as np

ROOT = pathlib.Path(__file__).parents[2]


class FakeModel:
  """Plays noise of prompt and seed; knows no prompt with 'poison' in it."""

  sample_rate = 8000

  def __init__(self):
    self.calls = []

  def generate(self, pieces, seconds, seed, progress):
    self.calls.append(list(pieces))
    if any('poison' in piece for piece in pieces):
      raise errors.UserError('a prompt must not be\npoison.')
    rows = zip(pieces, seed, strict=True)
    return np.stack([self._play(p, seconds, own) for p, own in rows])

  def _play(self, prompt, seconds, seed):
    digest = hashlib.sha256(f'{seed} {prompt}'.encode()).digest()
    rng = np.random.default_rng(list(digest))
    samples = round(seconds * self.sample_rate)
    return rng.uniform(-1, 1, samples).astype(np.float32)


class RowModel(FakeModel):
  """As XLA, which rounds by rows: here all rows sound through in each."""

  def generate(self, pieces, seconds, seed, progress):
    rows = super().generate(pieces, seconds, seed, progress)
    weights = np.arange(1, len(rows) + 1) / len(rows) ** 2
    return 0.5 * (rows + weights @ rows)


def contents(folder):
  """Returns all audio files in a folder."""
  return {
      p.name: p.read_bytes()
      for p in sorted(folder.iterdir())
      if p.suffix != '.jsonl'
  }


class BatchTestCase(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.model = FakeModel()

  def lines(self, *rows, **defaults):
    path = self.dir / 'prompts.jsonl'
    path.write_text(
        ''.join(r if isinstance(r, str) else json.dumps(r) + '\n' for r in rows)
    )
    return prompt_list.read(path, {'seconds': 0.1, 'seed': 0, **defaults})

  def many(self, count=20):
    """Returns lines of two lengths and two seeds."""
    return self.lines(
        *(
            {'prompt': f'{i}', 'seconds': 0.1 + i % 3 // 2, 'seed': i // 12}
            for i in range(count)
        )
    )

  def run_shards(
      self, name, lines, num_shards=1, model=None, **settings
  ) -> list[batch.Summary]:
    settings = {'batch_size': 4, 'settings': {'model': 'm'}, **settings}
    load = lambda: model or self.model
    shards = [
        batch.Shard(
            lines, self.dir / name, shard=i, num_shards=num_shards, **settings
        )
        for i in range(num_shards)
    ]
    return [shard.run(load, progress=False) for shard in shards]

  def failures(self, name):
    texts = [
        p.read_text() for p in sorted((self.dir / name).glob('failed-*.jsonl'))
    ]
    return [json.loads(line) for text in texts for line in text.splitlines()]


class BatchTest(BatchTestCase):

  def test_a_file_for_every_line(self):
    lines = self.lines(
        {'prompt': 'a waltz', 'id': 'waltz'},
        {'prompt': 'a march', 'seconds': 0.2, 'seed': 7},
    )
    [summary] = self.run_shards('out', lines)
    self.assertSameElements(
        contents(self.dir / 'out'), ['waltz.wav', '000002.wav']
    )
    for name, prompt, seconds, seed in (
        ('waltz', 'a waltz', 0.1, 0),
        ('000002', 'a march', 0.2, 7),
    ):
      audio = io.read_audio(self.dir / 'out' / f'{name}.wav', 8000)
      [expected] = FakeModel().generate([prompt], seconds, [seed], False)
      np.testing.assert_allclose(audio, expected, atol=1e-4)
    self.assertEqual((summary.made, summary.skipped, summary.failed), (2, 0, 0))
    self.assertAlmostEqual(summary.audio_seconds, 0.3)
    self.assertRegex(
        str(summary), '^2 made, 0 skipped, 0 failed; .* s of audio per second$'
    )

  def test_always_as_many_rows(self):
    self.run_shards('out', self.many(), num_shards=3)
    self.assertEqual({len(call) for call in self.model.calls}, {4})

  @parameterized.parameters(2, 3, 7, 40)
  def test_any_number_of_shards_makes_the_same_files(self, num_shards):
    lines = self.many()
    model = RowModel()
    self.run_shards('one', lines, model=model)
    summaries = self.run_shards('more', lines, num_shards, model=model)
    self.assertLen(contents(self.dir / 'one'), 20)
    self.assertEqual(contents(self.dir / 'one'), contents(self.dir / 'more'))
    self.assertEqual(sum(summary.made for summary in summaries), 20)

  def test_any_order_and_number_of_runs_makes_the_same_files(self):
    lines = self.many()
    model = RowModel()
    self.run_shards('one', lines, model=model)
    self.run_shards('more', lines, num_shards=3, model=model)
    for name in ('000002', '000003', '000011', '000020'):
      (self.dir / 'more' / f'{name}.wav').unlink()
    [summary] = self.run_shards('more', lines, model=model)
    self.assertEqual((summary.made, summary.skipped), (4, 16))
    self.assertEqual(contents(self.dir / 'one'), contents(self.dir / 'more'))

  def test_batch_size_is_of_no_matter_to_a_model_whose_rows_are_apart(self):
    prompts = [{'prompt': f'{i}'} for i in range(6)]
    sounds = []
    for size in (1, 4):
      name = f'{size}'
      self.run_shards(name, self.lines(*prompts), batch_size=size)
      files = sorted((self.dir / name).glob('*.wav'))
      sounds.append(np.stack([io.read_audio(f, 8000) for f in files]))
    np.testing.assert_array_equal(*sounds)

  def test_what_is_there_is_not_made_again(self):
    lines = self.many()
    self.run_shards('out', lines)
    before = {p: p.stat().st_mtime_ns for p in (self.dir / 'out').iterdir()}

    def load():
      raise AssertionError('There is nothing to make.')

    shard = batch.Shard(lines, self.dir / 'out', {'model': 'm'}, 4)
    summary = shard.run(load, progress=False)
    self.assertEqual((summary.made, summary.skipped), (0, 20))
    self.assertEqual(str(summary), '0 made, 20 skipped, 0 failed')
    after = {p: p.stat().st_mtime_ns for p in (self.dir / 'out').iterdir()}
    self.assertEqual(before, after)

  def test_the_same_request_is_the_same_music(self):
    lines = self.lines(*[{'prompt': 'a', 'id': x} for x in ('x', 'y')])
    [summary] = self.run_shards('out', lines)
    files = contents(self.dir / 'out')
    self.assertEqual(files['x.wav'], files['y.wav'])
    self.assertEqual(summary.made, 2)
    self.assertLen(self.model.calls, 1)

  @parameterized.parameters('.wav', '.flac', '.mp3')
  def test_formats(self, audio_format):
    lines = self.many()
    for name, num_shards in (('one', 1), ('two', 2)):
      self.run_shards(name, lines, num_shards, audio_format=audio_format)
    files = contents(self.dir / 'one')
    self.assertLen(files, 20)
    self.assertTrue(all(name.endswith(audio_format) for name in files))
    self.assertEqual(files, contents(self.dir / 'two'))
    [summary] = self.run_shards('one', lines, audio_format=audio_format)
    self.assertEqual(summary.skipped, 20)

  @parameterized.parameters(
      ({'shard': 3, 'num_shards': 3}, r'shard must be in .* but is 3 of 3'),
      ({'shard': -1}, r'shard must be in .* but is -1 of 1'),
      ({'batch_size': 0}, 'batch_size must be at least 1, but is 0'),
      ({'audio_format': '.ogg'}, "format must be one of .* but is '.ogg'"),
  )
  def test_rejects(self, arguments, message):
    with self.assertRaisesRegex(ValueError, message):
      batch.Shard(self.many(), self.dir / 'out', {}, **arguments)


class ChangedTest(BatchTestCase):
  """What is there may only pass if it is what the list asks for."""

  def assert_refused(self, message, lines, **settings):
    before = contents(self.dir / 'out')
    with self.assertRaisesRegex(ValueError, message):
      self.run_shards('out', lines, **settings)
    self.assertEqual(contents(self.dir / 'out'), before)

  def setUp(self):
    super().setUp()
    self.original = [{'prompt': f'{i}' * 300} for i in range(5)]
    self.run_shards('out', self.lines(*self.original))

  def test_another_seed(self):
    self.assert_refused(
        r'000001\.wav was made with seed 0, not 1; and 4 more\. Remove',
        self.lines(*self.original, seed=1),
    )

  def test_another_length(self):
    self.assert_refused(
        'made with seconds 0.1, not 0.5',
        self.lines(*self.original, seconds=0.5),
    )

  def test_another_prompt(self):
    self.original[3]['prompt'] = 'Something else'
    self.assert_refused(
        r'000004\.wav was made with prompt "33+\.\.\., not Something else\. R',
        self.lines(*self.original),
    )

  def test_another_end_of_a_long_prompt(self):
    self.original[3]['prompt'] += '!'
    self.assert_refused(
        r'000004\.wav was made with sha256 ', self.lines(*self.original)
    )

  def test_lines_that_moved(self):
    self.assert_refused(
        r'000001\.wav .*; and 4 more',
        self.lines({'prompt': 'new'}, *self.original),
    )

  def test_another_model(self):
    self.assert_refused(
        'made with model m, not n',
        self.lines(*self.original),
        settings={'model': 'n'},
    )

  def test_another_batch_size(self):
    self.assert_refused(
        'made with batch_size 4, not 8',
        self.lines(*self.original),
        batch_size=8,
    )

  def test_another_format(self):
    self.assert_refused(
        r'000001\.wav is not \.flac',
        self.lines(*self.original),
        audio_format='.flac',
    )

  def test_a_file_of_somebody_else(self):
    io.write_audio(self.dir / 'out/000002.wav', np.zeros(8), 8000)
    self.assert_refused(
        r'000002\.wav is damaged, or was not made from a list',
        self.lines(*self.original),
    )

  def test_a_damaged_file(self):
    (self.dir / 'out/000002.wav').write_bytes(b'RIFF')
    self.assert_refused(r'000002\.wav is damaged', self.lines(*self.original))

  def test_new_lines_are_welcome(self):
    [summary] = self.run_shards(
        'out', self.lines(*self.original, {'prompt': 'new'})
    )
    self.assertEqual((summary.made, summary.skipped), (1, 5))


class PoisonTest(BatchTestCase):

  def setUp(self):
    super().setUp()
    self.rows = [{'prompt': f'prompt {i}'} for i in range(100)]
    self.rows[3] = {'prompt': 'poison'}
    self.rows[4] = {'prompt': 'more poison', 'id': 'bad'}
    self.rows[20] = {'prompt': ''}
    self.rows[21] = {'prompt': 'slow', 'seconds': float('nan')}
    self.rows[99] = '{"prompt": "no end\n'

  @parameterized.parameters(1, 3)
  def test_fails_alone(self, num_shards):
    lines = self.lines(*self.rows)
    summaries = self.run_shards('out', lines, num_shards)
    self.assertEqual(sum(s.failed for s in summaries), 5)
    self.assertEqual(sum(s.made for s in summaries), 95)
    self.assertLen(contents(self.dir / 'out'), 95)
    failures = sorted(self.failures('out'), key=lambda x: x['line'])
    self.assertEqual(
        [(x['id'], x['line']) for x in failures],
        [('000004', 4), ('bad', 5), ('000021', 21), ('000022', 22),
         ('000100', 100)],
    )  # fmt: skip
    self.assertEqual(failures[1]['error'], 'a prompt must not be poison.')
    self.assertIn('must be JSON', failures[4]['error'])
    if num_shards == 1:
      self.assertEndsWith(
          str(summaries[0]),
          f'\n5 of 100 failed: {self.dir}/out/failed-00000-of-00001.jsonl',
      )

  def test_others_are_as_without_it(self):
    model = RowModel()
    lines = self.lines(*self.rows)
    self.run_shards('one', lines, model=model)
    self.run_shards('three', lines, 3, model=model)
    for name in ('000001', '000006'):
      (self.dir / 'three' / f'{name}.wav').unlink()
    self.run_shards('three', lines, model=model)
    self.assertEqual(contents(self.dir / 'one'), contents(self.dir / 'three'))

  def test_a_rerun_tries_again_what_failed_and_nothing_else(self):
    lines = self.lines(*self.rows)
    self.run_shards('out', lines)
    self.model.calls.clear()
    [summary] = self.run_shards('out', lines)
    self.assertEqual(
        (summary.made, summary.skipped, summary.failed), (0, 95, 5)
    )
    self.assertTrue(all('poison' in ' '.join(x) for x in self.model.calls))
    for i in (3, 4, 20, 21, 99):
      self.rows[i] = {**self.rows[0], 'prompt': f'{i}', 'id': f'mended{i}'}
    [summary] = self.run_shards('out', self.lines(*self.rows))
    self.assertEqual((summary.made, summary.failed), (5, 0))
    self.assertEmpty(self.failures('out'))

  def test_lists_of_failures_of_other_numbers_of_shards_go(self):
    lines = self.lines(*self.rows)
    self.run_shards('out', lines, 3)
    self.run_shards('out', lines, 1)
    self.assertEqual(
        [p.name for p in (self.dir / 'out').glob('failed-*')],
        ['failed-00000-of-00001.jsonl'],
    )

  def test_audio_that_is_not_finite_fails_alone(self):
    lines = self.lines({'prompt': 'a'}, {'prompt': 'b'}, {'prompt': 'c'})
    play = FakeModel._play
    broken = lambda self, p, *x: play(self, p, *x) / (0 if p == 'b' else 1)
    broken = mock.patch.object(FakeModel, '_play', broken)
    with broken, np.errstate(all='ignore'):
      [summary] = self.run_shards('out', lines)
    self.assertEqual((summary.made, summary.failed), (2, 1))
    self.assertRegex(self.failures('out')[0]['error'], 'must be finite')

  def test_other_errors_stop_the_run(self):
    error = RuntimeError('RESOURCE_EXHAUSTED')
    fails = mock.patch.object(FakeModel, '_play', side_effect=error)
    with fails, self.assertRaisesRegex(RuntimeError, 'EXHAUSTED'):
      self.run_shards('out', self.lines(*self.rows))
    self.assertEmpty(contents(self.dir / 'out'))


if __name__ == '__main__':
  absltest.main()
