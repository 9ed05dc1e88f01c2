"""Tests for table."""

import importlib
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics.embedders import base
from musiclm_jax.metrics.embedders import table
import numpy as np


class Deaf(base.Embedder):

  def __init__(self, name):
    self.identity = base.Identity(name, 'a', 1, 1.0, 1)

  def embed_audio(self, audio):
    return np.zeros((1, 1))


class TableTest(parameterized.TestCase):

  def test_every_kind_can_be_loaded(self):
    for kind in table.KINDS:
      for path in filter(None, (kind.path, kind.tagger)):
        module, _, function = path.partition(':')
        found = importlib.import_module(
            f'musiclm_jax.metrics.embedders.{module}'
        )
        self.assertTrue(callable(getattr(found, function)), path)

  def test_names_of_one_kind_differ(self):
    judges = [Deaf(name) for name in ('onnx', 'mulan', 'onnx')]
    table.name_apart(judges, ['onnx:a', 'mulan', 'onnx:b'])
    names = [judge.identity.name for judge in judges]
    self.assertEqual(names, ['1: onnx:a', 'mulan', '3: onnx:b'])

  def test_imports_no_network_library(self):
    heavy = ['torch', 'transformers', 'onnxruntime', 'onnx', 'huggingface_hub']
    modules = ['table', 'clap', 'mert', 'onnx', 'vggish', 'mulan']
    script = (
        'import sys;'
        f' from musiclm_jax.metrics.embedders import {", ".join(modules)};'
        ' from musiclm_jax.metrics import text_agreement, class_agreement;'
        f' print([m for m in {heavy} if m in sys.modules])'
    )
    loaded = subprocess.run(
        [sys.executable, '-c', script], check=True, capture_output=True
    )
    self.assertEqual(loaded.stdout.decode().strip(), '[]')

  @parameterized.parameters(
      ('panns', 'one of mulan.*vggish.*clap.*onnx.*but is .panns'),
      ('vggish', "ends in .onnx or .safetensors.*'vggish:PATH'"),
      ('clap:nobody/nothing', 'hf download nobody/nothing'),
      ('mert', 'hf download m-a-p/MERT-v1-95M'),
      ('mulan:/nowhere', 'must hold one part that reads prompts'),
  )
  def test_rejects(self, spec, message):
    with self.assertRaisesRegex(ValueError, message):
      table.load(spec)

  def test_rejects_taggers_that_are_none(self):
    with self.assertRaisesRegex(ValueError, 'one of clap.*musicnn.*onnx'):
      table.load_tagger('mert')


class IdentityTest(parameterized.TestCase):

  @parameterized.parameters(
      ('sha256', 'b'),
      ('sample_rate', 8000),
      ('window_seconds', 2.0),
      ('width', 3),
      ('variant', 'last layer'),
  )
  def test_refuses_others(self, key, value):
    values = {
        'sha256': 'a',
        'sample_rate': 16000,
        'window_seconds': 1.0,
        'width': 2,
    }
    one = base.Identity('one', **values)
    one.check_same(base.Identity('the same by another name', **values))
    with self.assertRaisesRegex(ValueError, f"'one' with {key} .*'two'"):
      one.check_same(base.Identity('two', **(values | {key: value})))


if __name__ == '__main__':
  absltest.main()
