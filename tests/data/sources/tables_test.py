"""Tests for tables."""

import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.data.sources import caption_files
from musiclm_jax.data.sources import tables

COMMAS = tables.Kind('a.csv', ('name', 'number'))
TABS = tables.Kind('b.tsv', ('name', 'rest'), separator='\t', has_rest=True)
TWO = tables.Kind('c.csv', ('id', 'set split'), header_lines=3)


class TablesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder) / 'table'

  def read(self, kind, text, parse=dict):
    self.path.write_text(text)
    return tables.read(self.path, kind, parse)

  def test_quotes_belong_to_fields_with_commas_and_to_titles_with_tabs(self):
    self.assertEqual(
        self.read(COMMAS, 'name,number\n"a, ""b""",1\n\nc,2\n'),
        [{'name': 'a, "b"', 'number': '1'}, {'name': 'c', 'number': '2'}],
    )
    self.assertEqual(
        self.read(TABS, 'name\trest\n"a\tx\ty\n'),
        [{'name': '"a', 'rest': ['x', 'y']}],
    )

  def test_names_of_columns_take_several_lines(self):
    self.assertEqual(
        self.read(TWO, ',set\n,split\nid,\n2,train\n'),
        [{'id': '2', 'set split': 'train'}],
    )

  @parameterized.named_parameters(
      ('column', 'name\na\n', r"columns of a.csv.*lacks \['number'\]"),
      ('short', 'name,number\n"a\nb",1\nc\n', 'line 4 .*as many columns'),
      ('long', 'name,number\nc,1,2\n', 'line 2 .*as many columns'),
      ('quotes', 'name,number\n"a"b,1\n', 'line 2 must be a row of a table'),
      ('empty', '', "lacks .'name', 'number'"),
  )
  def test_rejects(self, text, message):
    with self.assertRaisesRegex(ValueError, message):
      self.read(COMMAS, text)

  def test_says_which_row_is_not_understood(self):
    with self.assertRaisesRegex(ValueError, 'line 3 must be a row of a.csv.*x'):
      self.read(COMMAS, 'name,number\na,1\nb,x\n', lambda r: int(r['number']))


class JsonCaptionsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder) / 'captions.json'

  def test_reads_a_list_of_objects(self):
    self.path.write_text('[{"path": "a.mp3", "caption": "Bells."}]')
    (row,) = caption_files.read_caption_file(self.path)
    self.assertEqual((row['file'], row['captions']), ('a.mp3', ['Bells.']))

  @parameterized.parameters(
      ('{"path": "a.mp3"}', 'must be a JSON list'),
      ('[{"path": "a.mp3"}]', "item 1 must have 'file' and 'caption'"),
      ('[', 'must be JSON'),
  )
  def test_rejects(self, text, message):
    self.path.write_text(text)
    with self.assertRaisesRegex(ValueError, message):
      caption_files.read_caption_file(self.path)


if __name__ == '__main__':
  absltest.main()
