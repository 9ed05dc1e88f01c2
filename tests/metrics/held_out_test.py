"""Tests for held_out."""

import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
from musiclm_jax.metrics import held_out
import numpy as np


def example(number):
  clip = clips.Clip(
      audio=np.full(24000, number / 10, np.float32),
      captions=('noise',),
      id=f'{number}',
      work=f'{number}',
      title='',
      source='',
  )
  return clip.id, clip.to_example()


class SpreadTest(parameterized.TestCase):

  @parameterized.parameters((9, 3, [0, 4, 8]), (2, 5, [0, 1]), (7, 1, [0]))
  def test_by_hand(self, length, count, expected):
    self.assertEqual(held_out.spread(length, count).tolist(), expected)

  def test_rejects_no_clips(self):
    with self.assertRaisesRegex(errors.UserError, 'at least 1, but is 0'):
      held_out.spread(3, 0)


class ReadTest(absltest.TestCase):

  def test_audio_is_at_the_rate_that_is_asked_for(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    splits = {'test': [example(i) for i in range(5)]}
    datasets.write_dataset('music', folder, splits, corpora.features())
    found = list(held_out.read_audio(folder, 'test', 3, 8000, 'read'))
    # Datasets shuffle what they are written of.
    dataset = datasets.open_dataset('music', folder, 'test')
    self.assertEqual(
        [record['id'] for record, _ in found],
        [dataset[i]['id'] for i in (0, 2, 4)],
    )
    for record, audio in found:
      self.assertNotIn('audio', record)
      self.assertEqual(audio.shape, (8000,))
      middle = int(record['id']) / 10
      np.testing.assert_allclose(audio[2000:6000], middle, atol=1e-3)


if __name__ == '__main__':
  absltest.main()
