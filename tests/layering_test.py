"""Tests that imports point one way."""

import ast
import pathlib
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized

ROOT = pathlib.Path(__file__).parent.parent / 'musiclm_jax'

# What every layer may import: errors, files, the machine, and the version.
GROUND = {'errors', 'files', 'machine', 'muting', 'progress', 'streams'}
GROUND |= {'__version__', 'caching', 'paths'}
# Each layer may import itself, the ground and what is listed, and nothing else
# of ours.
LAYERS = {
    'audio': set(),
    'models': {'audio'},
    'tokenizers': {'audio', 'models'},
    'stages': {'models', 'tokenizers'},
    'data': {'audio', 'models', 'stages', 'tokenizers'},
    'training': {'audio', 'data', 'models', 'stages', 'tokenizers'},
    'sampling': {'audio', 'models', 'stages', 'tokenizers'},
    'metrics': {'audio', 'data', 'models', 'sampling', 'stages', 'tokenizers'},
}
# Heavy or global dependencies, and the only files or layers that may import
# them.
EXTERNAL = {
    'gin': {'training/gin_flags.py', 'training/gin_values.py'},
    't5x': {'training/t5x.py'},
    'tensorflow': {'data'},
    'seqio': {'data'},
    'apache_beam': {'data'},
    'tensorflow_datasets': {'data'},
    'optax': {'training'},
    'clu': {'training'},
    'orbax': {'training'},
    'librosa': {'metrics', 'data/listening.py'},
    'onnxruntime': {'metrics'},
    'torch': {'metrics'},
    'transformers': {'metrics'},
}


def imported_modules(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom):
      yield from (f'{node.module}.{alias.name}' for alias in node.names)
    elif isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)


class LayeringTest(parameterized.TestCase):

  @parameterized.parameters(*LAYERS)
  def test_imports_point_down(self, layer):
    for path in sorted((ROOT / layer).glob('**/*.py')):
      for module in imported_modules(path):
        top, _, rest = module.partition('.')
        if top == 'musiclm_jax':
          self.assertIn(
              rest.split('.')[0],
              LAYERS[layer] | {layer} | GROUND,
              f'{path}: {module}',
          )

  def test_heavy_imports_stay_where_they_belong(self):
    for path in sorted(ROOT.glob('**/*.py')):
      name = str(path.relative_to(ROOT))
      for module in imported_modules(path):
        allowed = EXTERNAL.get(module.partition('.')[0])
        if allowed is not None:
          self.assertTrue(
              name in allowed or name.split('/')[0] in allowed,
              f'{name} must not import {module}',
          )

  def test_generating_imports_no_training_stack(self):
    heavy = ['tensorflow', 'seqio', 't5x', 'librosa', 'gin', 'optax', 'clu']
    heavy += ['torch', 'transformers', 'onnxruntime']
    script = (
        'import sys; import musiclm_jax; musiclm_jax.MusicLM;'
        f' print([m for m in {heavy} if m in sys.modules])'
    )
    loaded = subprocess.run(
        [sys.executable, '-c', script], check=True, capture_output=True
    )
    self.assertEqual(loaded.stdout.decode().strip(), '[]')


if __name__ == '__main__':
  absltest.main()
