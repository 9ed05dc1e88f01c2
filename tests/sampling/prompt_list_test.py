"""Tests for prompt_list."""

import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.sampling import prompt_list

DEFAULTS = {'seconds': 10.0, 'seed': 0}


class PromptListTestCase(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def read(self, data, suffix='.jsonl', **defaults):
    path = self.dir / f'list{suffix}'
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return prompt_list.read(path, {**DEFAULTS, **defaults})

  def read_rows(self, *rows, **defaults):
    return self.read('\n'.join(json.dumps(row) for row in rows), **defaults)


class ReadTest(PromptListTestCase):

  def test_jsonl(self):
    first, second = self.read_rows(
        {'prompt': 'a waltz'},
        {'prompt': 'a march', 'id': '-0Gj8-vB1q4', 'seed': 3, 'loop': True},
    )
    self.assertEqual(
        first,
        prompt_list.Line(
            1,
            '000001',
            prompt_list.Request('a waltz', (('seconds', 10.0), ('seed', 0))),
        ),
    )
    self.assertEqual((second.number, second.id), (2, '-0Gj8-vB1q4'))
    self.assertEqual(
        second.request.options,
        (('loop', True), ('seconds', 10.0), ('seed', 3)),
    )

  def test_text(self):
    lines = self.read(
        '\ufeff"a waltz"\r\n\n  café jazz \nlast', suffix='.txt', seed=4
    )
    self.assertEqual(
        [(x.number, x.id, x.request.prompt) for x in lines],
        [(1, '000001', '"a waltz"'), (3, '000003', 'café jazz'),
         (4, '000004', 'last')],
    )  # fmt: skip
    self.assertEqual(dict(lines[0].request.options)['seed'], 4)

  def test_separators_within_json_end_no_line(self):
    [line] = self.read('{"prompt": "a\u2028b\x85c"}')
    self.assertEqual(line.request.prompt, 'a\u2028b\x85c')

  def test_numbers_that_are_equal_are_the_same_request(self):
    one, other = self.read_rows(
        {'prompt': 'a', 'seconds': 10, 'temperature': 1},
        {'prompt': 'a', 'temperature': 1.0},
    )
    self.assertEqual(repr(one.request), repr(other.request))

  def test_plans_that_are_equal_are_the_same_request(self):
    one, other, none = self.read_rows(
        {'prompt': 'a', 'plan': {'bpm': 96, 'key': 'C', 'form': ''}},
        {'prompt': 'a', 'plan': {'key': 'C', 'bpm': 96}},
        {'prompt': 'a', 'prompt_only': True},
    )
    self.assertEqual(repr(one.request), repr(other.request))
    options = dict(one.request.options)
    self.assertEqual(options['plan'], '{"bpm": 96, "key": "C"}')
    self.assertEqual(dict(none.request.options)['prompt_only'], True)

  def test_melodies_are_files_as_they_are(self):
    file = self.dir / 'a'
    row = {'prompt': 'a', 'melody': str(file)}
    [missing] = self.read_rows(row)
    self.assertRegex(missing.error, 'a must be an audio file, .* not there')
    requests = set()
    for content in ('hum', 'hum', 'another'):
      file.write_text(content)
      requests.add(self.read_rows(row)[0].request)
    self.assertLen(requests, 2)

  def test_ids_may_be_numbers(self):
    [line] = self.read_rows({'prompt': 'a', 'id': 17})
    self.assertEqual(line.id, '17')

  @parameterized.named_parameters(
      ('no_json', b'{"prompt": "a"', 'must be JSON in UTF-8'),
      ('no_utf8', b'{"prompt": "\xff"}', 'must be JSON in UTF-8.*0xff'),
      ('deep', b'[' * 100_000, 'must be JSON'),
      ('no_object', b'"a waltz"', r"must be an object .* but is 'a waltz'"),
      ('no_prompt', b'{"seed": 1}', 'prompt must be a text .* but is None'),
      ('blank', b'{"prompt": " "}', "prompt must be a text .* but is ' '"),
      ('number', b'{"prompt": 7}', 'prompt must be a text .* but is 7'),
      ('field', b'{"prompt": "a", "sead": 1}', "one is 'sead'"),
      ('nan', b'{"prompt": "a", "seconds": NaN}', 'seconds must be .* are nan'),
      ('days', b'{"prompt": "a", "seconds": 1e9}', 'at most 21600, but'),
      ('text', b'{"prompt": "a", "seconds": "1"}', "seconds must be .* '1'"),
      ('zero', b'{"prompt": "a", "seconds": 0}', 'seconds must be .* are 0'),
      ('seed', b'{"prompt": "a", "seed": 4294967296}', r'seed must .* 2\*\*32'),
      ('half', b'{"prompt": "a", "seed": 0.5}', 'seed must be a whole .* 0.5'),
      ('true', b'{"prompt": "a", "seed": true}', 'seed must be .* is True'),
      ('null', b'{"prompt": "a", "seed": null}', 'seed must be .* is None'),
      ('none', b'{"prompt": "a", "best_of": 0}', 'best_of must .* but is 0'),
      ('loop', b'{"prompt": "a", "loop": 1}', 'loop must be true or false'),
      ('top_p', b'{"prompt": "a", "top_p": 2}', 'top_p must be .* is 2.0'),
      ('top_k', b'{"prompt": "a", "top_k": 0.5}', 'top_k must be a number'),
      ('long', b'{"prompt": "a", "top_k": 1%s}' % (b'0' * 999), 'top_k must'),
      ('not', b'{"prompt": "a", "negative_prompt": ""}', 'negative_prompt'),
      ('twice', b'{"prompt": "a", "prompt": "b"}', 'has a key twice'),
      ('half_a_character', b'{"prompt": "a\\ud800"}', 'must be Unicode'),
      ('endless', b'{"prompt": "%s"}' % (b'a ' * 2**19), 'at most 10000 char'),
      ('takes', b'{"prompt": "a", "best_of": 9999}', 'best_of must be less'),
      ('plan', b'{"prompt": "a", "plan": {"bpm": 1}}', 'bpm must be from 20'),
      ('no_plan', b'{"prompt": "a", "plan": "C"}', 'a plan must be an object'),
      ('words', b'{"prompt": "a", "prompt_only": 1}', 'prompt_only must be'),
      ('tune', b'{"prompt": "a", "melody": 1}', 'melody must be the name'),
      ('hot', b'{"prompt": "a", "temperature": NaN}', 'temperature must'),
  )
  def test_a_wrong_line_fails_alone(self, text, message):
    wrong, right = self.read(text + b'\n{"prompt": "a"}')
    self.assertIsNone(wrong.request)
    self.assertRegex(wrong.error, message)
    self.assertEqual((wrong.number, wrong.id), (1, '000001'))
    self.assertEqual(right.request.prompt, 'a')
    self.assertEmpty(right.error)

  def test_a_wrong_line_keeps_its_id(self):
    [line] = self.read_rows({'prompt': '', 'id': 'waltz'})
    self.assertEqual(line.id, 'waltz')
    self.assertIsNone(line.request)

  @parameterized.parameters(
      '', '.', '..', '.hidden', 'a/b', 'a\\b', 'a\n', 'a b', 'end.', 'a:b', 'é',
      'a' * 129, None, True, 1.5, -0.5, (['a'],), 'con', 'NUL.x', 10**400,
  )  # fmt: skip
  def test_ids_that_are_no_file_names_fail_alone(self, name):
    right, wrong = self.read_rows({'prompt': 'a'}, {'prompt': 'b', 'id': name})
    self.assertIsNotNone(right.request)
    self.assertIsNone(wrong.request)
    self.assertEqual((wrong.number, wrong.id), (2, '000002'))
    self.assertRegex(wrong.error, 'id must be a safe file name')

  @parameterized.parameters(('a', 'a'), ('Waltz', 'waltz'), ('000001', None))
  def test_of_ids_that_repeat_the_first_counts(self, one, other):
    rows = [{'prompt': 'a', 'id': x} if x else {'prompt': 'a'}
            for x in (other, 'b', one)]  # fmt: skip
    first, second, third = self.read_rows(*rows)
    self.assertIsNotNone(first.request)
    self.assertIsNotNone(second.request)
    self.assertIsNone(third.request)
    self.assertRegex(third.error, f"ids must differ, .* 1 has '{one}' already")

  def test_rejects_lists(self):
    with self.assertRaisesRegex(ValueError, r"must end in .* but is '.*\.csv'"):
      self.read('prompt\na', suffix='.csv')
    with self.assertRaisesRegex(ValueError, 'must hold at least one prompt'):
      self.read('\n \n')
    with self.assertRaises(FileNotFoundError):
      prompt_list.read(self.dir / 'none.txt', DEFAULTS)
    with self.assertRaisesRegex(ValueError, 'seed must be .* but is -1'):
      self.read_rows({'prompt': 'a'}, seed=-1)


class BatchesTest(PromptListTestCase):

  def cut(self, lines, size):
    batches = prompt_list.batches(lines, size)
    return [[request.prompt for request in batch] for batch in batches]

  def test_full_but_for_the_last(self):
    lines = self.read('a\nb\nc\nd\ne', suffix='.txt')
    self.assertEqual(self.cut(lines, 2), [['a', 'b'], ['c', 'd'], ['e']])
    self.assertEqual(self.cut(lines, 8), [['a', 'b', 'c', 'd', 'e']])

  def test_what_differs_in_more_than_prompt_plan_and_seed_is_apart(self):
    lines = self.read_rows(
        {'prompt': 'a'},
        {'prompt': 'b', 'seconds': 3},
        {'prompt': 'c', 'seed': 1},
        {'prompt': 'd', 'plan': {'bpm': 96}},
        {'prompt': 'e', 'seconds': 3},
    )
    self.assertEqual(self.cut(lines, 2), [['a', 'c'], ['d'], ['b', 'e']])

  def test_each_request_once_and_wrong_lines_not_at_all(self):
    lines = self.read_rows(
        {'prompt': 'a'},
        {'prompt': 'b'},
        {'prompt': ''},
        {'prompt': 'a'},
        {'prompt': 'c'},
    )
    self.assertEqual(self.cut(lines, 2), [['a', 'b'], ['c']])


if __name__ == '__main__':
  absltest.main()
