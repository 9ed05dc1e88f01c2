"""Runs the README's Python, and checks what its commands name."""

import pathlib
import re

from absl.testing import absltest
from absl.testing import parameterized

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()


def blocks(language):
  return re.findall(rf'```{language}\n(.*?)```', README, re.DOTALL)


class ReadmeTest(parameterized.TestCase):

  @parameterized.parameters(*[(code,) for code in blocks('python')])
  def test_python_runs(self, code):
    exec(compile(code, 'README.md', 'exec'), {})  # pylint: disable=exec-used

  def test_gin_files_exist(self):
    t5x = (ROOT / 'gin' / 't5x' / 'README.md').read_text()
    names = re.findall(r'--gin_file=([^\s`]+)', README + t5x)
    self.assertNotEmpty(names)
    for name in names:
      self.assertTrue((ROOT / 'gin' / name).exists(), name)

  def test_links_lead_somewhere(self):
    for target in re.findall(r'\]\((?!http)([^)]+)\)', README):
      self.assertTrue((ROOT / target).exists(), target)


if __name__ == '__main__':
  absltest.main()
