"""Tests for corpora."""

import contextlib
import functools
import io
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
import numpy as np

SPLITS = ('train', 'validation', 'test')


def name(work):
  return work


def read(work, bad=()):
  """Yields two clips, whose samples tell the work."""
  if work in bad:
    raise errors.UserError(f'{work}.wav is broken')
  for i in range(2):
    level = float(work[1:]) / 100
    yield clips.Clip(
        audio=np.full(clips.SAMPLE_RATE, level, np.float32),
        captions=('a tone', f'take {i}'),
        id=f'{work}/{i}',
        work=work,
        title=work.upper(),
        source='test',
        license='CC0',
        start=float(i),
        melody=np.array([60, -1], np.int8),
    )


def works(count):
  return [f'w{i}' for i in range(count)]


class SplitWorksTest(parameterized.TestCase):

  @parameterized.parameters(
      # works, validation, test
      (3, 1, 1),
      (10, 1, 1),
      (20, 2, 1),
      (100, 10, 5),
  )
  def test_shares(self, count, validation, test):
    splits = corpora.split_works(works(count), name, corpora.HELD_OUT)
    self.assertEqual(tuple(splits), SPLITS)
    self.assertLen(splits['validation'], validation)
    self.assertLen(splits['test'], test)
    self.assertCountEqual(sum(splits.values(), []), works(count))

  def test_works_of_one_name_stay_together(self):
    splits = corpora.split_works(
        works(40), lambda work: work[-1], corpora.HELD_OUT
    )
    names = [{work[-1] for work in split} for split in splits.values()]
    self.assertEqual([len(n) for n in names], [8, 1, 1])
    self.assertLen(set.union(*names), 10)

  def test_depends_on_names_and_not_on_their_order(self):
    splits = corpora.split_works(works(20), name, corpora.HELD_OUT)
    again = corpora.split_works(works(20)[::-1], name, corpora.HELD_OUT)
    for split in SPLITS:
      self.assertCountEqual(splits[split], again[split])

  def test_rejects_fewer_works_than_splits(self):
    with self.assertRaisesRegex(
        ValueError, r"at least 3 works.*'train', 'validation', 'test'.*has 2"
    ):
      corpora.split_works(['a', 'b', 'a'], name, corpora.HELD_OUT)


class BuildCorpusTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = self.enterContext(tempfile.TemporaryDirectory())

  def build(self, read_work=read, **options):
    return corpora.build_corpus(works(8), read_work, name, self.dir, **options)

  def open(self, split):
    return datasets.open_dataset('music', self.dir, split)

  @parameterized.named_parameters(
      ('in_process', {'num_workers': 1}),
      ('in_workers', {'num_workers': 2}),
      ('in_beam', {'runner': 'FnApiRunner'}),
  )
  def test_writes_every_clip_once(self, options):
    self.assertTrue(self.build(**options))
    examples = [example for split in SPLITS for example in self.open(split)]
    self.assertCountEqual(
        [e['id'] for e in examples],
        [f'{w}/{i}' for w in works(8) for i in '01'],
    )
    for example in examples:
      work, _, index = example['id'].partition('/')
      self.assertEqual(example['work'], work)
      self.assertEqual(example['title'], work.upper())
      self.assertEqual(example['license'], 'CC0')
      self.assertEqual(example['captions'], ['a tone', f'take {index}'])
      self.assertEqual(example['start'], float(index))
      np.testing.assert_array_equal(example['melody'], [60, -1])
      np.testing.assert_allclose(
          clips.to_float(example['audio']), float(work[1:]) / 100, atol=2e-5
      )

  def test_splits_by_work(self):
    self.build(num_workers=1)
    sets = [{e['work'] for e in self.open(split)} for split in SPLITS]
    self.assertEqual([len(s) for s in sets], [6, 1, 1])
    self.assertLen(set.union(*sets), 8)

  def test_order_does_not_depend_on_workers(self):
    self.build(num_workers=1)
    ids = [e['id'] for e in self.open('train')]
    self.build(num_workers=2, overwrite=True)
    self.assertEqual([e['id'] for e in self.open('train')], ids)

  @parameterized.parameters(1, 2)
  def test_a_bad_work_ends_the_build(self, num_workers):
    broken = functools.partial(read, bad=('w3',))
    with self.assertRaisesRegex(ValueError, 'w3.wav is broken'):
      self.build(broken, num_workers=num_workers)
    self.assertFalse(datasets.dataset_exists('music', self.dir))

  def test_skip_bad(self):
    split = corpora.split_works(works(8), name, corpora.HELD_OUT)
    bad = split['train'][0]
    broken = functools.partial(read, bad=(bad,))
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
      self.build(broken, skip_bad=True, num_workers=1)
    self.assertRegex(stderr.getvalue(), f'left out: {bad}.wav is broken')
    self.assertRegex(
        stderr.getvalue(),
        f'read 7, left out 1:\n.*  1 not readable, as said above: {bad}\n',
    )
    self.assertLen(self.open('train'), 10)

  def test_a_split_of_bad_works_only_is_drawn_anew(self):
    split = corpora.split_works(works(8), name, corpora.HELD_OUT)
    broken = functools.partial(read, bad=tuple(split['test']))
    self.build(broken, skip_bad=True, num_workers=1)
    sets = [{e['work'] for e in self.open(split)} for split in SPLITS]
    self.assertEqual([len(s) for s in sets], [5, 1, 1])

  def test_rejects_bad_works_only(self):
    broken = functools.partial(read, bad=tuple(works(6)))
    with self.assertRaisesRegex(ValueError, 'at least 3 works.* but has 2'):
      self.build(broken, skip_bad=True, num_workers=1)

  def test_rejects_splits_of_bad_works_only(self):
    # Whoever split the works may have had reasons to do so.
    splits = {'train': ['w0', 'w1'], 'test': ['w2']}
    broken = functools.partial(read, bad=('w2',))
    with self.assertRaisesRegex(ValueError, "'test'.*is empty.*were skipped"):
      corpora.write_corpus(
          splits, broken, self.dir, skip_bad=True, num_workers=1
      )

  def test_checks_clips(self):
    def read_short(work):
      for clip in read(work):
        yield clips.Clip(**{**vars(clip), 'audio': clip.audio[:100]})

    with self.assertRaisesRegex(ValueError, 'must be at least 1 s'):
      self.build(read_short, num_workers=1)


if __name__ == '__main__':
  absltest.main()
