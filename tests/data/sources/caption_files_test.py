"""Tests for caption_files."""

import contextlib
import io
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.data.sources import caption_files


class CaptionFilesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.path = pathlib.Path(folder) / 'c.csv'

  def read(self, text):
    self.path.write_text(text)
    return caption_files.read_caption_file(self.path)

  @parameterized.parameters(
      ('a waltz', True),
      ('7', True),
      ('華爾茲', True),
      ('', False),
      (' \u200b', False),
      ('?!', False),
      (' NULL ', False),
      ('n/a', False),
  )
  def test_says_something(self, text, expected):
    self.assertEqual(caption_files.says_something(text), expected)

  def test_rows_say_where_they_are(self):
    rows = self.read(
        'file,caption,weight\n\na.wav,"slow\nwaltz",2\n,,\nb.wav,jig\n'
    )
    self.assertEqual(
        [(row['line'], row['captions'], row['weight']) for row in rows],
        [(3, ['slow\nwaltz'], 2.0), (6, ['jig'], 1.0)],
    )

  def test_says_what_is_not_used_and_what_is_repeated(self):
    with contextlib.redirect_stderr(io.StringIO()) as said:
      rows = self.read('file,caption,key,bpm\n' + 3 * 'a.wav,jig,C,90\n')
    self.assertLen(rows, 1)
    self.assertIn('its columns key, bpm are not used', said.getvalue())
    self.assertIn('2 of its rows are repeated', said.getvalue())

  def test_a_long_field_is_refused(self):
    with self.assertRaisesRegex(errors.UserError, 'line 2 .*field limit'):
      self.read(f'file,caption\na.wav,{"x" * 200_000}\n')

  def test_text_is_bounded(self):
    self.path.write_text('x' * 100)
    with self.assertRaisesRegex(errors.UserError, 'at most 99 bytes, but has'):
      caption_files.read_text(self.path, 'a text', 99)

  def test_sidecar(self):
    self.path.write_text(' jig \n\nreel\njig')
    self.assertEqual(caption_files.read_sidecar(self.path), ['jig', 'reel'])
    self.path.write_text('jig\n--\n')
    with self.assertRaisesRegex(errors.UserError, "c.csv line 2 .* '--'"):
      caption_files.read_sidecar(self.path)


if __name__ == '__main__':
  absltest.main()
