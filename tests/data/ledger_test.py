"""Tests for ledger and tally."""

import contextlib
import io
import pathlib
import tempfile

from absl.testing import absltest
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
from musiclm_jax.data import ledger
from musiclm_jax.data import tally
import numpy as np

RATE = 8000
# Source, licence and seconds of the clips of each work of 'train'.
TRAIN = {
    'waltz': ('Mutopia', 'Public Domain', (2.0, 1.0)),
    'fugue': ('Mutopia', 'PD', (3.0,)),
    'song': ('a friend', 'Creative Commons Attribution 4.0', (1.5,)),
}
ALLOWED = [
    {
        'source': 'Mutopia',
        'license': 'Public-Domain',
        'works': 2,
        'clips': 3,
        'hours': round(6 / 3600, 5),
        'first': ['waltz/0', 'waltz/1', 'fugue/0'],
    },
    {
        'source': 'a friend',
        'license': 'CC-BY-4.0',
        'works': 1,
        'clips': 1,
        'hours': round(1.5 / 3600, 5),
        'first': ['song/0'],
    },
]


def write_corpus(data_dir, train=None, **options):
  """Writes a corpus of noise."""

  def examples(works):
    for work, (source, license_, lengths) in works.items():
      for i, seconds in enumerate(lengths):
        clip = clips.Clip(
            audio=np.full(int(seconds * RATE), 0.1, np.float32),
            captions=('noise',),
            id=f'{work}/{i}',
            work=work,
            title=work,
            source=source,
            license=license_,
        )
        yield clip.id, clip.to_example()

  test = {'held': ('', '', (1.0,))}
  splits = {'train': examples(train or TRAIN), 'test': examples(test)}
  datasets.write_dataset(
      'music',
      data_dir,
      splits,
      corpora.features(),
      metadata={'sample_rate': RATE},
      **options,
  )


class LedgerTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def test_is_counted_while_a_corpus_is_written(self):
    write_corpus(self.dir)
    kept = datasets.read_metadata('music', self.dir)
    self.assertEqual(kept['sample_rate'], RATE)
    self.assertEqual(kept['ledger']['train'], ALLOWED)
    [held] = kept['ledger']['test']
    self.assertEqual((held['source'], held['license']), ('unknown', 'unknown'))
    self.assertEqual(ledger.read('music', self.dir), kept['ledger'])

  def test_corpora_of_before_are_counted_when_asked(self):
    write_corpus(self.dir)
    kept = ledger.read('music', self.dir)
    path = datasets.dataset_dir('music', self.dir)
    (path / 'metadata.json').write_text(f'{{"sample_rate": {RATE}}}')
    (path / 'checksums.json').unlink()
    found = ledger.read('music', self.dir)
    for split, rows in found.items():
      # Records are not in the order in which they were written.
      self.assertEqual(
          [row | {'first': sorted(row['first'])} for row in rows],
          [row | {'first': sorted(row['first'])} for row in kept[split]],
      )

  def test_table(self):
    write_corpus(self.dir)
    rows = ledger.table('music', self.dir)
    self.assertEqual(
        [r['split'] for r in rows], ['train'] * 2 + ['test', 'all']
    )
    self.assertEqual(
        [r['release'] for r in rows], ['yes', 'yes', 'unknown', '']
    )
    self.assertEqual(rows[-1]['clips'], 5)
    self.assertAlmostEqual(rows[-1]['hours'], 8.5 / 3600, places=4)


class ReleaseTest(absltest.TestCase):

  def test_allowed(self):
    ledger.check_release('fine', ALLOWED)

  def test_refuses_one_clip(self):
    counts = tally.Tally(RATE)
    example = {'audio': np.zeros(RATE), 'source': 'a shop', 'work': 'hit'}
    example |= {'id': 'hit/3', 'license': 'CC BY-NC 4.0'}
    counts.add('train', example)
    with self.assertRaisesRegex(
        ValueError,
        r"'fine' must be trained on music whose licences let weights be"
        r" released, but 1 clip of a shop \(hit/3\) under 'CC-BY-NC-4.0':"
        r' non-commercial\. Make a corpus without them',
    ):
      ledger.check_release('fine', [*ALLOWED, *counts.to_json()['train']])

  def test_refuses_what_is_not_known(self):
    with self.assertRaisesRegex(ValueError, "'fine' must be of known sources"):
      ledger.check_release('fine', None)

  def test_says_what_share_alike_asks_for(self):
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
      ledger.check_release('fine', [{**ALLOWED[0], 'license': 'CC-BY-SA-4.0'}])
    self.assertIn('under CC-BY-SA-4.0, which asks for the', stderr.getvalue())


if __name__ == '__main__':
  absltest.main()
