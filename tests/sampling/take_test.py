"""Tests for take."""

import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import files
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import take as take_lib
import numpy as np


def make_take(**fields):
  rng = np.random.default_rng(0)
  tokens = {
      name: rng.integers(1024, size=(1, frames, quantizers), dtype=np.int32)
      for name, frames, quantizers in (
          ('mulan', 2, 12), ('semantic', 50, 1), ('coarse', 100, 4),
          ('fine', 100, 8),
      )  # fmt: skip
  }
  config = choosing.GenerationConfig(
      semantic=choosing.SamplingConfig(0.9, top_k=7, guidance_scale=2.0)
  )
  return take_lib.Take(
      description={'prompts': [[0.0, 'piano']]},
      sample_rate=24000,
      num_samples=48000,
      sections=(0.0, 1.0),
      context_seconds=0.5,
      seeds=(3, 0, 0),
      config=config,
      hashes={'soundstream': 'a' * 64},
      tokens=tokens,
      **fields,
  )


class TakeTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder) / 'take.json'

  @parameterized.named_parameters(
      ('plain', {}),
      ('loop', {'loop': True}),
      ('negative', {'negative': np.ones((1, 2, 12), np.int32)}),
      (
          'audio',
          {
              'audio': np.random.default_rng(1).normal(size=99).astype('f4'),
              'change': (7, 90),
          },
      ),
  )
  def test_is_the_same_when_it_is_loaded(self, fields):
    take = make_take(**fields)
    take.save(self.path)
    loaded = take_lib.load(self.path)
    for name in (
        'description', 'sample_rate', 'num_samples', 'sections',
        'context_seconds', 'seeds', 'config', 'hashes', 'loop', 'change',
        'layout', 'given', 'sampled', 'acoustic',
    ):  # fmt: skip
      self.assertEqual(getattr(loaded, name), getattr(take, name))
    for name, tokens in take.tokens.items():
      np.testing.assert_array_equal(loaded.tokens[name], tokens)
      self.assertEqual(loaded.tokens[name].dtype, np.int32)
    for name in ('negative', 'audio'):
      before, after = getattr(take, name), getattr(loaded, name)
      self.assertEqual(before is None, after is None)
      if before is not None:
        np.testing.assert_array_equal(after, before)
        self.assertEqual(after.dtype, before.dtype)

  def test_erases_what_comes_after(self):
    take = make_take()
    erased = take.erase(seed=5, from_second=1.2)
    for name, first in (('semantic', 30), ('coarse', 60), ('fine', 60)):
      np.testing.assert_array_equal(
          erased.tokens[name][:, :first], take.tokens[name][:, :first]
      )
      self.assertTrue(np.all(erased.tokens[name][:, first:] == -1))
    np.testing.assert_array_equal(erased.tokens['mulan'], take.tokens['mulan'])
    self.assertEqual(erased.seeds, (5, 0, 0))
    self.assertFalse(np.any(take.tokens['fine'] == -1))

  def test_erases_the_sound_alone(self):
    take = make_take()
    erased = take.erase(seed=5, keep_semantic=True)
    np.testing.assert_array_equal(
        erased.tokens['semantic'], take.tokens['semantic']
    )
    self.assertTrue(np.all(erased.tokens['coarse'] == -1))

  @parameterized.parameters(-1.0, 2.0, 99.0)
  def test_erases_within_the_piece(self, second):
    with self.assertRaisesRegex(ValueError, f'within the piece.* {second}'):
      make_take().erase(seed=1, from_second=second)

  def test_rejects_other_parts(self):
    take = make_take()
    take.check_part('soundstream', {'soundstream': 'a' * 64})
    with self.assertRaisesRegex(ValueError, "'soundstream' .* aaaa.* is bbbb"):
      take.check_part('soundstream', {'soundstream': 'b' * 64})

  def test_takes_that_do_not_name_their_streams_have_those_of_the_paper(self):
    make_take().save(self.path)
    value = json.loads(self.path.read_text())
    for name in ('given', 'sampled', 'acoustic', files.SEAL):
      del value[name]
    own = value['config'].pop(choosing.OTHERS)
    value['config'] |= {'coarse': own, 'fine': own}
    self.path.write_text(json.dumps(value))
    take = take_lib.load(self.path)
    self.assertEqual(take.prompts, 'mulan')
    self.assertEqual(
        [s.name for s in take.sampled], ['semantic', 'coarse', 'fine']
    )
    self.assertEqual(take.acoustic, ('coarse', 'fine'))
    self.assertEqual(take.config['fine'], choosing.DEFAULT)
    self.assertTrue(np.all(take.erase(1).tokens['semantic'] == -1))
    value['tokens']['fine'][0][0] = 1024
    self.path.write_text(json.dumps(value))
    with self.assertRaisesRegex(ValueError, "tokens of 'fine' are none"):
      take_lib.load(self.path)

  @parameterized.named_parameters(
      ('no_json', '{', 'JSONDecodeError'),
      ('no_take', '{"tokens": 3}', 'KeyError'),
      ('list', '[]', 'TypeError'),
      ('damaged', '{"format": "musiclm_jax take 1", "tokens": {}}', 'KeyError'),
      ('binary', b'\xff\xfe\x00', 'UnicodeDecodeError'),
  )
  def test_rejects_other_files(self, content, message):
    content = content if isinstance(content, bytes) else content.encode()
    self.path.write_bytes(content)
    with self.assertRaisesRegex(
        ValueError, f'must be a file that --save_take wrote.*{message}'
    ):
      take_lib.load(self.path)


if __name__ == '__main__':
  absltest.main()
