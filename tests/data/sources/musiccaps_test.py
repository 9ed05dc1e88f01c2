"""Tests for musiccaps."""

import csv
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data import clips
from musiclm_jax.data import datasets
from musiclm_jax.data.sources import musiccaps
import numpy as np
import soundfile

RATE = 16000


def row(ytid, is_eval=False, start=30):
  return {
      'ytid': ytid,
      'start_s': start,
      'end_s': start + 10,
      'is_audioset_eval': is_eval,
      'aspect_list': "['slow tempo', \"male singer's voice\"]",
      'caption': f'A song, {ytid}.',
  }


class MusicCapsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.audio = root / 'audio'
    self.audio.mkdir()
    self.data = root / 'data'
    self.table = root / 'musiccaps.csv'
    self.write_table(
        [
            row('-0Gj8-vB1q4', is_eval=True),
            row('b_1'),
            row('c-2', start=5),
            row('d', is_eval=True),
            row('e'),
        ]
    )

  def write_table(self, rows):
    with self.table.open('w', newline='') as file:
      writer = csv.DictWriter(file, list(rows[0]))
      writer.writeheader()
      writer.writerows(rows)

  def write_audio(self, name, seconds=10.0):
    """Writes audio whose samples are its time in 100 s."""
    time = np.arange(round(seconds * clips.SAMPLE_RATE)) / clips.SAMPLE_RATE
    soundfile.write(self.audio / name, time / 100, clips.SAMPLE_RATE)

  def build(self, **options):
    return musiccaps.build_musiccaps(
        self.table, self.audio, self.data, num_workers=1, **options
    )

  def test_builds_what_is_there(self):
    self.write_audio('[-0Gj8-vB1q4]-[30-40].wav')
    self.write_audio('b_1.flac')
    self.write_audio('c-2.wav', seconds=20.0)
    self.assertTrue(self.build(sample_rate=RATE))
    self.assertEqual(datasets.sample_rate(self.data), RATE)
    (test,) = datasets.open_dataset('music', self.data, 'test')
    self.assertEqual(test['work'], '-0Gj8-vB1q4')
    self.assertEqual(
        test['captions'],
        ['A song, -0Gj8-vB1q4.', "slow tempo, male singer's voice"],
    )
    self.assertEqual(test['start'], 30)
    self.assertLen(test['audio'], 10 * RATE)
    others = {
        example['work']: example
        for split in ('train', 'validation')
        for example in datasets.open_dataset('music', self.data, split)
    }
    self.assertCountEqual(others, ['b_1', 'c-2'])
    # The whole video is cut to the clip: seconds 5 to 15.
    audio = clips.to_float(others['c-2']['audio'])
    self.assertLen(audio, 10 * RATE)
    np.testing.assert_allclose(audio[[0, -1]], [0.05, 0.15], atol=1e-4)
    with (self.data / 'missing.csv').open(newline='') as file:
      missing = list(csv.reader(file))
    self.assertEqual(
        missing,
        [['ytid', 'start_s', 'end_s'], ['d', '30', '40'], ['e', '30', '40']],
    )

  def test_rejects_a_video_that_ends_before_the_clip(self):
    self.write_audio('d.wav')
    self.write_audio('b_1.wav', seconds=20.0)
    self.write_audio('e.wav')
    with self.assertRaisesRegex(
        ValueError, 'b_1.wav must hold seconds 30 to 40 of b_1.*0.00 s'
    ):
      self.build()

  def test_rejects_a_folder_without_the_eval_split(self):
    self.write_audio('b_1.wav')
    with self.assertRaisesRegex(
        ValueError, 'clips of the eval split.*holds 1 clips and none'
    ):
      self.build()
    self.assertTrue((self.data / 'missing.csv').exists())

  def test_rejects_a_folder_without_other_clips(self):
    self.write_audio('d.wav')
    self.write_audio('e.wav')
    with self.assertRaisesRegex(ValueError, 'at least 2 works.*but has 1'):
      self.build()

  def test_rejects_another_table(self):
    self.write_table([{'ytid': 'a', 'caption': 'b'}])
    with self.assertRaisesRegex(
        ValueError, r"columns of musiccaps-public.csv.*\['aspect_list', 'end_s'"
    ):
      self.build()

  def test_rejects_a_missing_folder(self):
    with self.assertRaisesRegex(FileNotFoundError, 'none must be a folder'):
      musiccaps.survey(self.audio / 'none')


if __name__ == '__main__':
  absltest.main()
