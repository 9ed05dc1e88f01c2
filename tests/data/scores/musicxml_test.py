"""Tests for musicxml."""

import io
import pathlib
import tempfile
import zipfile

from absl.testing import absltest
from musiclm_jax import errors
from musiclm_jax.data.scores import musicxml
import numpy as np

from tests.data.sources import rendered_scores_test

CONTAINER = """<container><rootfiles>
<rootfile full-path="b.xml"/></rootfiles></container>"""
OTHER = rendered_scores_test.XML.replace('<step>A', '<step>C')


class ReadTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def read(self, name, data):
    path = self.folder / name
    path.write_bytes(data)
    return musicxml.read_musicxml(str(path), name)

  def archive(self, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
      for name, text in members.items():
        archive.writestr(name, text)
    return file.getvalue()

  def test_plain(self):
    score = self.read('a.xml', rendered_scores_test.XML.encode())
    np.testing.assert_array_equal(score.pitch, [69])
    self.assertEqual(score.parts[0].name, 'Piano')

  def test_compressed(self):
    members = {'a.xml': OTHER, 'b.xml': rendered_scores_test.XML}
    score = self.read('a.mxl', self.archive(**members))
    np.testing.assert_array_equal(score.pitch, [60])
    members['META-INF/container.xml'] = CONTAINER
    score = self.read('a.mxl', self.archive(**members))
    np.testing.assert_array_equal(score.pitch, [69])

  def test_a_root_that_is_not_there(self):
    members = {'a.xml': OTHER, 'META-INF/container.xml': CONTAINER}
    with self.assertRaisesRegex(errors.UserError, "a.mxl must be .*'b.xml'"):
      self.read('a.mxl', self.archive(**members))


if __name__ == '__main__':
  absltest.main()
