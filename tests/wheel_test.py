"""Tests that the wheel holds what the tree does."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

from absl.testing import absltest
import pytest

ROOT = pathlib.Path(__file__).parents[1]
# Folders of the tree, and their names in the wheel.
FOLDERS = {'musiclm_jax': 'musiclm_jax', 'tasks': 'musiclm_jax/tasks',
           'gin': 'musiclm_jax/gin'}  # fmt: skip
FILES = ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE')


def tree() -> set[str]:
  """Returns the paths that the files of the tree should have in the wheel."""
  return {
      f'{name}/{path.relative_to(ROOT / folder).as_posix()}'
      for folder, name in FOLDERS.items()
      for path in (ROOT / folder).rglob('*')
      if path.is_file() and '__pycache__' not in path.parts
  }


@pytest.mark.slow
class WheelTest(absltest.TestCase):

  def test_holds_every_file_of_the_tree(self):
    with tempfile.TemporaryDirectory() as folder:
      source = pathlib.Path(folder) / 'source'  # Builds leave files behind.
      ignore = shutil.ignore_patterns('__pycache__')
      for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
      for name in FILES:
        shutil.copy(ROOT / name, source)
      subprocess.run(
          [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w',
           folder, str(source)],
          check=True,
      )  # fmt: skip
      [wheel] = pathlib.Path(folder).glob('*.whl')
      names = zipfile.ZipFile(wheel).namelist()
    held = {name for name in names if '.dist-info/' not in name}
    self.assertEqual(held, tree())


if __name__ == '__main__':
  absltest.main()
