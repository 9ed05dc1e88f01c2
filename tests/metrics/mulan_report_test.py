"""Tests for mulan_report."""

import dataclasses
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from musiclm_jax import errors
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
from musiclm_jax.data.scores import facts as facts_lib
from musiclm_jax.metrics import mulan_report
from musiclm_jax.metrics import report
from musiclm_jax.tokenizers import mulan
import numpy as np

# Instrument and key of each clip, which is as loud as its number.
CLIPS = (
    ('flute', 'A minor'),
    ('flute', 'C major'),
    ('piano', 'A minor'),
    ('piano', None),
)


class FakeMuLan(mulan.MuLan):
  """Hears the instrument, and is always wrong about the mode.

  The first two dimensions are the instruments, the next two are the modes, and
  each clip has one of its own.
  """

  def __init__(self):
    """Makes one that has no towers."""

  def embed_audio(self, audio):
    number = int(round(float(np.mean(audio)) * 10)) - 1
    instrument, key = CLIPS[number]
    embedding = np.zeros((1, 1, 8))
    embedding[..., ('flute', 'piano').index(instrument)] = 1
    embedding[..., 2 if key == 'A minor' else 3] = 1
    embedding[..., 4 + number] = 1
    return embedding / 3**0.5

  def embed_text(self, texts):
    words = ('flute', 'piano', 'major', 'minor', '0', '1', '2', '3')
    rows = [[float(word in text) for word in words] for text in texts]
    rows = np.array(rows) + 1e-9
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def example(number, with_facts):
  instrument, key = CLIPS[number]
  facts = facts_lib.Facts(instruments=(instrument,), key=key)
  clip = clips.Clip(
      audio=np.full(48000, (number + 1) / 10, np.float32),
      # The captions of the last two are exchanged.
      captions=(f'clip {(0, 1, 3, 2)[number]}',),
      id=f'{number}',
      work=f'{number}',
      title='',
      source='',
      facts=json.dumps(dataclasses.asdict(facts)) if with_facts else '',
  )
  return clip.id, clip.to_example()


class MuLanReportTest(absltest.TestCase):

  def evaluate(self, with_facts):
    with tempfile.TemporaryDirectory() as folder:
      splits = {'test': [example(i, with_facts) for i in range(len(CLIPS))]}
      datasets.write_dataset('music', folder, splits, corpora.features())
      pathlib.Path(folder, 'mulan.json').touch()
      with mock.patch.object(mulan.MuLan, 'from_dir', lambda _: FakeMuLan()):
        return mulan_report.evaluate(folder, folder)

  def test_rows(self):
    rows = {row['metric']: row for row in self.evaluate(with_facts=True)}
    for direction in ('caption to clip', 'clip to caption'):
      found = rows[f'{direction} recall@1']
      self.assertEqual(
          (found['value'], found['chance'], found['choices']), (0.5, 0.25, 4)
      )
      self.assertEqual(rows[f'{direction} recall@5']['value'], 1)
      found = rows[f'{direction} median rank']
      self.assertGreater(found['value'], 1)
      self.assertEqual(found['chance'], 2.5)

    found = rows['zero-shot loudest instrument accuracy']
    self.assertEqual(found['value'], 1)
    self.assertEqual((found['chance'], found['majority']), (0.5, 0.5))
    self.assertEqual((found['choices'], found['clips']), (2, 4))
    for name in ('mean average precision', 'ROC AUC'):
      found = rows[f'zero-shot instruments {name}']
      self.assertEqual((found['value'], found['chance']), (1, 0.5))

    # Of the clip without a key nothing is asked.
    found = rows['zero-shot mode accuracy']
    self.assertEqual((found['value'], found['clips']), (0, 3))
    self.assertAlmostEqual(found['majority'], 2 / 3)
    self.assertFalse([name for name in rows if 'tempo' in name])
    self.assertIn('recall@10', report.render(list(rows.values())))

  def test_needs_a_part_that_embeds_texts(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    with self.assertRaisesRegex(errors.NotFoundError, 'embeds texts'):
      mulan_report.evaluate(folder, folder)

  def test_without_facts_there_is_retrieval_alone(self):
    rows = self.evaluate(with_facts=False)
    self.assertLen(rows, 8)
    self.assertFalse([row for row in rows if 'zero-shot' in row['metric']])


if __name__ == '__main__':
  absltest.main()
