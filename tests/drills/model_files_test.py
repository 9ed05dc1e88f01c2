"""Files of models, takes and vocabularies that are not what they should be."""

import copy
import json
import os
import pathlib
import struct
import tempfile
import time

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.models import parts
from musiclm_jax.models import wordpiece
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import musiclm
from musiclm_jax.sampling import take as take_lib
from musiclm_jax.tokenizers import melody
from musiclm_jax.tokenizers import mulan
from musiclm_jax.tokenizers import soundstream
from musiclm_jax.tokenizers import w2v_bert
import numpy as np
from tests import random_model
from tests.sampling import take_test

LOADERS = {
    'soundstream': soundstream.SoundStream.from_dir,
    'w2v_bert': w2v_bert.W2vBert.from_dir,
    'mulan': mulan.MuLan.from_dir,
    'melody': melody.Melody.from_dir,
    'fine': lambda folder: decode.StageDecoder.from_dir(folder, 'fine'),
}


def paths_of(value, path=()):
  """Yields the path of each number and text in a config."""
  for key, item in value.items():
    if isinstance(item, dict):
      yield from paths_of(item, (*path, key))
    elif not isinstance(item, list):
      yield (*path, key)


class ModelDrill(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = pathlib.Path(
        cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    random_model.write_random_model(cls.folder, has_melody=True)

  def new_folder(self):
    return self.enterContext(tempfile.TemporaryDirectory())

  def damaged(self, name, content):
    """Replaces a file of the model until the test ends."""
    path = self.folder / name
    before = path.read_bytes()
    self.addCleanup(path.write_bytes, before)
    if content is None:
      self.addCleanup(path.unlink, missing_ok=True)
    path.unlink()
    if content is not None:
      path.write_bytes(content)
    return path

  def assert_refused(self, name, load, message=''):
    """Checks for an error that names a file, and comes soon."""
    start = time.monotonic()
    with self.assertRaisesRegex(errors.UserError, f'{name}.*{message}'):
      load()
    self.assertLess(time.monotonic() - start, 10)


class BitsTest(ModelDrill):
  """What is damaged in a file that we wrote is found, and the file named.

  Siblings: descriptions of parts, their variables, takes, vocabularies; bits,
  halves and nothing; keys whose name is damaged. Older files have no hash.
  """

  def each_damage(self, data, count=60):
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data), size=count):
      flipped = bytearray(data)
      flipped[place] ^= 1 << rng.integers(8)
      yield bytes(flipped)
    yield from (b'', data[:1], data[: len(data) // 2], data[:-1])

  @parameterized.product(
      name=('fine', 'mulan', 'soundstream'), suffix=('json', 'safetensors')
  )
  def test_parts(self, name, suffix):
    file = f'{name}.{suffix}'
    data = (self.folder / file).read_bytes()
    path = self.damaged(file, data)
    for damaged in self.each_damage(data):
      path.write_bytes(damaged)
      self.assert_refused(file, lambda: parts.load(self.folder, name))

  def test_takes(self):
    path = pathlib.Path(self.new_folder(), 'take.json')
    audio = np.linspace(-1, 1, 99, dtype=np.float32)
    take_test.make_take(audio=audio, change=(7, 90)).save(path)
    for damaged in self.each_damage(path.read_bytes(), count=200):
      path.write_bytes(damaged)
      self.assert_refused('take.json', lambda: take_lib.load(path))

  def test_vocabularies(self):
    path = pathlib.Path(self.new_folder(), 'vocab.txt')
    wordpiece.WordPiece(random_model.VOCAB).to_file(path)
    for file in (path, pathlib.Path(f'{path}.sha256')):
      data = file.read_bytes()
      for damaged in self.each_damage(data[:-1]):
        file.write_bytes(damaged)
        self.assert_refused(
            'vocab.txt', lambda: wordpiece.WordPiece.from_file(path)
        )
      file.write_bytes(data)
    self.assertEqual(
        wordpiece.WordPiece.from_file(path).vocab, random_model.VOCAB
    )

  def test_older_files_are_read(self):
    text = (self.folder / 'fine.json').read_text()
    description = json.loads(text)
    del description[files.SEAL]
    self.damaged('fine.json', json.dumps(description).encode())
    self.assertEqual(
        parts.load(self.folder, 'fine').sha256, description['sha256']
    )
    path = pathlib.Path(self.new_folder(), 'take.json')
    take_test.make_take().save(path)
    value = json.loads(path.read_text())
    del value[files.SEAL]
    path.write_text(json.dumps(value))
    self.assertEqual(take_lib.load(path).seeds, (3, 0, 0))
    path = path.with_name('vocab.txt')
    path.write_text('\n'.join(random_model.VOCAB) + '\n')
    self.assertEqual(
        wordpiece.WordPiece.from_file(path).vocab, random_model.VOCAB
    )

  def test_the_model_in_the_package_has_hashes(self):
    for path in parts.embedded_model().glob('*.json'):
      self.assertIn(files.SEAL, json.loads(path.read_text()), path)


class ConfigsTest(ModelDrill):
  """A config that describes no network is refused before one is built.

  Siblings: every number and text of every part's config, negative, zero, huge,
  of another type, missing, and keys that are not known.
  """

  def load_with(self, name, change):
    """Loads a part whose config a function has changed."""
    description = json.loads((self.folder / f'{name}.json').read_text())
    del description[files.SEAL]
    change(description['config'])
    text = json.dumps(files.sealed(description))
    path = self.folder / f'{name}.json'
    before = path.read_bytes()
    path.write_text(text)
    try:
      return LOADERS[name](self.folder)
    finally:
      path.write_bytes(before)

  @parameterized.product(name=tuple(LOADERS), value=(10**7, -1, 10**400, []))
  def test_values(self, name, value):
    config = json.loads((self.folder / f'{name}.json').read_text())['config']
    for path in paths_of(config):

      def change(config, path=path):
        for key in path[:-1]:
          config = config[key]
        config[path[-1]] = copy.copy(value)

      start = time.monotonic()
      try:
        self.load_with(name, change)
      except errors.UserError as e:
        self.assertIn(f'{name}.json', str(e), path)
      else:
        # What only training reads may be anything small.
        self.assertIn(value, (-1, []), path)
      self.assertLess(time.monotonic() - start, 5, path)

  @parameterized.product(name=tuple(LOADERS))
  def test_keys(self, name):
    def add(config):
      config = config.get('transformer', config.get('config', config))
      config['colour'] = 'blue'

    self.assert_refused(f'{name}.json', lambda: self.load_with(name, add))
    if name in ('fine', 'mulan', 'soundstream'):
      self.assert_refused(
          f'{name}.json', lambda: self.load_with(name, dict.clear)
      )

  @parameterized.parameters('1e400', 'NaN', '-Infinity')
  def test_numbers_that_are_none(self, number):
    text = (self.folder / 'fine.json').read_text()
    description = json.loads(text)
    del description[files.SEAL]
    text = json.dumps(description).replace(
        '"crop_seconds": 0.48', f'"crop_seconds": {number}'
    )
    self.damaged('fine.json', text.encode())
    self.assert_refused('fine.json', lambda: LOADERS['fine'](self.folder))

  @parameterized.parameters(
      ('{"format": 1, "format": 1}', 'twice'),
      ('{"format": 1}', 'must hold'),
      ('[]', 'must hold an object'),
      ('[' * 100_000, ''),
      ('{"format": 1, "config": [], "lineage": {}, "sha256": ""}', 'a config'),
      ('\xff', ''),
      (' ' * (files.MAX_JSON + 1), 'of at most'),
  )
  def test_descriptions(self, text, message):
    self.damaged('fine.json', text.encode('latin-1'))
    self.assert_refused(
        'fine.json', lambda: parts.load(self.folder, 'fine'), message
    )

  @parameterized.parameters(
      struct.pack('<Q', 1 << 60),
      struct.pack('<Q', 2) + b'{}' + b'\0' * 9,
      b'',
  )  # fmt: skip
  def test_headers_that_lie(self, data):
    import hashlib

    self.damaged('fine.safetensors', data)
    description = json.loads((self.folder / 'fine.json').read_text())
    del description[files.SEAL]
    description['sha256'] = hashlib.sha256(data).hexdigest()
    text = json.dumps(files.sealed(description))
    self.damaged('fine.json', text.encode())
    self.assert_refused(
        'fine.safetensors', lambda: parts.load(self.folder, 'fine')
    )


class KindsOfFilesTest(ModelDrill):
  """What is no plain file is refused at once, and does not hang.

  Siblings: pipes, folders, devices, links in a circle and files of a terabyte,
  in place of each file of a model, a take and a vocabulary.
  """

  def put(self, path, kind):
    match kind:
      case 'pipe':
        os.mkfifo(path)
      case 'folder':
        path.mkdir()
        self.addCleanup(path.rmdir)
      case 'device':
        path.symlink_to('/dev/zero')
      case 'circle':
        path.symlink_to(path)
      case 'terabyte':
        path.touch()
        os.truncate(path, 1 << 40)
    if kind != 'folder':
      self.addCleanup(path.unlink)

  @parameterized.product(
      file=('fine.json', 'fine.safetensors'),
      kind=('pipe', 'folder', 'device', 'circle', 'terabyte'),
  )
  def test_models(self, file, kind):
    path = self.folder / file
    before = path.read_bytes()
    path.unlink()
    self.addCleanup(path.write_bytes, before)
    self.put(path, kind)
    self.assert_refused(
        'fine', lambda: musiclm.MusicLM.from_pretrained(self.folder)
    )

  @parameterized.parameters('pipe', 'folder', 'device', 'circle', 'terabyte')
  def test_takes_and_vocabularies(self, kind):
    folder = pathlib.Path(self.new_folder())
    for name, load in (
        ('take.json', take_lib.load),
        ('vocab.txt', wordpiece.WordPiece.from_file),
    ):
      self.put(folder / name, kind)
      self.assert_refused(name, lambda p=folder / name, f=load: f(p))


if __name__ == '__main__':
  absltest.main()
