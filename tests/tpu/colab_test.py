"""Executes the notebooks of tpu/colab, at tiny sizes."""

import os
import pathlib
import re
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.models import parts
import pytest

from tests import headline_test
from tests import random_model

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / 'tpu' / 'colab'
NAMES = ('generate', 'train_your_own', 'batch_tpu')


def read(name):
  import nbformat

  return nbformat.read(FOLDER / f'{name}.ipynb', as_version=4)


def tags(cell):
  return cell.metadata.get('tags', ())


class NotebooksTest(parameterized.TestCase):

  @parameterized.parameters(*NAMES)
  def test_is_valid_and_stripped(self, name):
    import nbformat

    notebook = read(name)
    nbformat.validate(notebook)
    for cell in notebook.cells:
      if cell.cell_type == 'code':
        self.assertEqual((cell.outputs, cell.execution_count), ([], None))
    tagged = [tag for cell in notebook.cells for tag in tags(cell)]
    self.assertCountEqual(tagged, ['install', 'parameters'])

  def test_all_come_from_one_repository(self):
    found = set()
    for name in NAMES:
      text = (FOLDER / f'{name}.ipynb').read_text()
      badge = re.search(
          r'\(https://colab.research.google.com/github/([\w-]+/[\w-]+)/blob/'
          rf'main/tpu/colab/{name}.ipynb\)',
          text,
      )
      found |= {
          badge[1],
          re.search(r'git\+https://github.com/([\w/-]+)', text)[1],
      }
    self.assertLen(found, 1)


@pytest.mark.slow
class ExecutionTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    environment = {
        'PYTHONPATH': str(ROOT),
        'JAX_PLATFORMS': 'cpu',
        'IPYTHONDIR': str(self.dir / 'ipython'),
        'JUPYTER_RUNTIME_DIR': str(self.dir / 'jupyter'),
    }
    self.enterContext(mock.patch.dict(os.environ, environment))

  def run_notebook(self, name, **parameters):
    """Executes all cells but the installation; returns what each shows."""
    import nbclient
    import nbformat

    notebook = read(name)
    cells = []
    for cell in notebook.cells:
      if 'install' in tags(cell):
        continue
      cells.append(cell)
      if 'parameters' in tags(cell):
        values = [f'{key} = {value!r}' for key, value in parameters.items()]
        cells.append(nbformat.v4.new_code_cell('\n'.join(values)))
    notebook.cells = cells
    nbclient.NotebookClient(
        notebook,
        timeout=None,  # That of the test counts.
        kernel_name='python3',
        resources={'metadata': {'path': str(self.dir)}},
    ).execute()
    return {cell.id: cell.outputs for cell in cells if cell.cell_type == 'code'}

  def assert_shows(self, outputs, num_players):
    """Checks that there are players, with a spectrogram for each."""
    kinds = [set(output.get('data', ())) for output in outputs]
    players = [k for k in kinds if 'text/html' in k]
    pictures = [k for k in kinds if 'image/png' in k]
    self.assertLen(players, num_players)
    self.assertLen(pictures, num_players)

  def test_generate(self):
    random_model.write_random_model(self.dir / 'model', has_melody=True)
    shown = self.run_notebook(
        'generate', MODEL=str(self.dir / 'model'), SECONDS=2
    )
    for cell, count in {'text': 1, 'story': 1, 'hum': 2, 'takes': 3}.items():
      self.assert_shows(shown[cell], count)
    self.assertTrue((self.dir / 'take.json').exists())

  def test_batch(self):
    random_model.write_random_model(self.dir / 'model')
    shown = self.run_notebook(
        'batch_tpu', MODEL=str(self.dir / 'model'), SECONDS=1, BATCH_SIZE=2,
        PROMPTS=['slow piano', 'waltz'],
    )  # fmt: skip
    self.assert_shows(shown['hear'], 2)
    self.assertTrue((self.dir / 'music.zip').exists())

  def test_train_your_own(self):
    headline_test.write_recordings(self.dir / 'music')
    (self.dir / 'nano.gin').write_text(headline_test.NANO)
    shown = self.run_notebook(
        'train_your_own', MUSIC='music', OUTPUT='model', PROMPT='calm',
        FLAGS='--gin_file=nano.gin --gin.MULAN_TRAIN_STEPS=4', SECONDS=1,
    )  # fmt: skip
    self.assert_shows(shown['hear'], 1)
    drawn = [o for o in shown['train'] if 'image/png' in o.get('data', ())]
    self.assertLen(drawn, 1)  # The losses of the end are left.
    self.assertRegex(str(shown['train']), r'fine +nats per token +\d')
    for part in (*headline_test.TOKENIZERS, *headline_test.STAGES):
      parts.read_description(self.dir / 'model' / 'model', part)


if __name__ == '__main__':
  absltest.main()
