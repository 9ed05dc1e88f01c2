"""Tests for prompts."""

import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.data import datasets
from musiclm_jax.metrics import obedience
from musiclm_jax.metrics.music import prompts
from musiclm_jax.tokenizers import terms
import numpy as np

NO_BEATS = np.zeros((0, 3))
LINES = [
    {
        'id': 'waltz',
        'prompt': 'a waltz',
        'seconds': 6,
        'seed': 7,
        'plan': {'key': 'A minor', 'form': 'ABA'},
    },
    {'id': 'march', 'prompt': 'a march'},
    {'id': 'song', 'prompt': 'a song'},
]


class PromptsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.list = self.dir / 'list.jsonl'
    self.write(LINES)

  def write(self, lines):
    self.list.write_text('\n'.join(map(json.dumps, lines)))

  def test_lines_say_what_clips_should_be(self):
    waltz, march, _ = prompts.of_file(self.list).prompts
    self.assertEqual(
        (waltz.id, waltz.text, waltz.seconds), ('waltz', 'a waltz', 6)
    )
    self.assertEqual(waltz.target.key, terms.parse_key('A minor'))
    self.assertEqual(waltz.form, 'ABA')
    self.assertIsNone(march.target)
    self.assertEqual(march.seconds, prompts.SECONDS)

  def test_words_ask_for_what_a_plan_would(self):
    self.write(
        [
            {'id': 'key', 'prompt': 'a waltz in A minor'},
            {'id': 'tempo', 'prompt': 'a waltz at 96 bpm, solo flute'},
            {'id': 'song', 'prompt': 'a song at 96 bpm'},
        ]
    )
    key, tempo, song = prompts.of_file(self.list).prompts
    self.assertEqual(key.target.key, terms.parse_key('A minor'))
    self.assertIsNone(key.target.metre)  # A plan of it must have a tempo.
    self.assertEqual((tempo.target.bpm, tempo.target.metre), (96, 3))
    self.assertEqual((song.target.bpm, song.target.metre), (96, None))
    flute = terms.FAMILIES.index('flute')
    self.assertEqual(np.flatnonzero(tempo.target.families).tolist(), [flute])

  def test_takes_differ_in_name_and_seed_only(self):
    waltz = prompts.of_file(self.list).prompts[0]
    self.assertEqual(waltz.take(1), waltz.line)
    third = waltz.take(3)
    self.assertEqual(third.id, 'waltz-take3')
    options = dict(third.request.options)
    self.assertEqual(options.pop('seed'), 9)
    expected = dict(waltz.line.request.options)
    expected.pop('seed')
    self.assertEqual(options, expected)

  def test_takes_without_their_plan(self):
    waltz, march, _ = prompts.of_file(self.list).prompts
    self.assertEqual(waltz.planned, ('key',))
    line = waltz.take(1, with_plan=False)
    self.assertEqual(line.id, 'waltz')
    self.assertNotIn('plan', dict(line.request.options))
    self.assertEqual(march.take(1, with_plan=False), march.line)

  def test_wrong_lines_are_named(self):
    self.write([*LINES, {'id': 'x'}])
    with self.assertRaisesRegex(errors.UserError, '1 of 4 lines.*line 4'):
      prompts.of_file(self.list)

  def test_what_is_left_out_is_said(self):
    found = prompts.of_file(self.list)
    self.assertIs(found.spread(3), found)
    some = found.spread(2)
    self.assertEqual([p.id for p in some.prompts], ['waltz', 'song'])
    self.assertEqual(some.missing, ('1 prompts, by --max_clips',))
    self.assertEqual(some.wanted, 3)

  def test_captions_of_a_dataset_are_prompts(self):
    audio = np.full(2 * 8000, 1000, np.int16)
    records = [
        {'captions': [f'song {i}', 'other'], 'audio': audio, 'beats': NO_BEATS}
        for i in range(5)
    ]
    dataset = datasets.Dataset(records, {'shard': 5})
    with (
        mock.patch.object(datasets, 'open_dataset', return_value=dataset),
        mock.patch.object(datasets, 'sample_rate', return_value=8000),
        mock.patch.object(obedience.Target, 'of_record', return_value=None),
    ):
      found = prompts.of_dataset(self.dir, 'test', 3)
      lengths = [len(clip.read(4000)) for clip in found.reference.clips]
    texts = {prompt.id: prompt.text for prompt in found.prompts}
    expected = {'000000': 'song 0', '000002': 'song 2', '000004': 'song 4'}
    self.assertEqual(texts, expected)
    self.assertEqual(list(found.reference.paired), list(expected))
    self.assertEqual(lengths, [8000] * 3)

  def test_files_of_ids_belong_to_prompts(self):
    folder = self.dir / 'true'
    for name in ('waltz', 'song', 'other'):
      audio = np.full(8000, 0.5, np.float32)
      io.write_audio(folder / f'{name}.wav', audio, 8000)
    ids = ['waltz', 'march', 'song']
    found = prompts.read_reference(folder, ids, 'test', None)
    self.assertEqual(list(found.paired), ['waltz', 'song'])
    self.assertEqual(list(found.clips), list(found.paired.values()))
    others = prompts.read_reference(folder, ['x', 'y'], 'test', 2)
    self.assertEmpty(others.paired)
    self.assertLen(others.clips, 2)


if __name__ == '__main__':
  absltest.main()
