"""Scores from MusicXML, plain or compressed, by music21."""

import io
import os
import pathlib
import re
import tempfile
import warnings
from xml.etree import ElementTree
import zipfile

from musiclm_jax import errors
from musiclm_jax.data.scores import notation
from musiclm_jax.data.sources import score_files

_MAX_REPEATS = 20  # Most repeats of a passage, which music21 writes out.
_CONTAINER = 'META-INF/container.xml'


def read_musicxml(path: str, name: str) -> notation.Score:
  """Reads the notes of a score.

  Args:
    path: Path of the file, or of the zip file that holds it.
    name: Name of the file: MusicXML, or any file of music21's corpus.

  Raises:
    UserError: If music21 cannot read it, or it has no notes or is too large.
  """
  with tempfile.TemporaryDirectory() as folder:
    source, kind = pathlib.Path(path), None
    if name.lower().endswith(score_files.XML_SUFFIXES):
      source, kind = pathlib.Path(folder, 'score.musicxml'), 'musicxml'
      source.write_bytes(_read_xml(path, name))
    target = os.path.join(folder, 'score.mid')
    import music21  # Slow to import, and rarely needed.

    with (
        errors.reading(name, 'a score that music21 reads'),
        warnings.catch_warnings(),
    ):
      warnings.simplefilter('ignore')
      # Without pickles, which would be read from a shared folder.
      music21.converter.parseFile(
          source, format=kind, forceSource=True, storePickle=False
      ).write('midi', target)
    with open(target, 'rb') as file:
      stream = io.BytesIO(file.read())
  stream.name = name
  return notation.read_midi(stream)


def _read_xml(path: str, name: str) -> bytes:
  """Returns the XML of a score that is neither too large nor too long."""
  data = score_files.read_bytes(path, name)
  if data[:4] == b'PK\3\4':
    data = _unpack(data, name)
  plain = data.replace(b'\0', b'')  # In UTF-16, every other byte is zero.
  if b'<!ENTITY' in plain:
    raise errors.UserError(
        f'{name} must be MusicXML, but declares entities of XML. Leave it out.'
    )
  for times in re.findall(rb'<repeat\b[^>]*\btimes\s*=\s*["\'](\d+)', plain):
    if len(times) > 4 or int(times) > _MAX_REPEATS:
      raise errors.UserError(
          f'{name} must repeat a passage at most {_MAX_REPEATS} times, but does'
          f' so {times.decode():.12} times. Leave it out.'
      )
  return data


def _unpack(data: bytes, name: str) -> bytes:
  """Returns the score in a compressed file (.mxl)."""
  with errors.reading(name, 'compressed MusicXML'):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
      members = archive.namelist()
      root = next(
          (
              m
              for m in members
              if m.lower().endswith(('.xml', '.musicxml'))
              and not m.startswith('META-INF')
          ),
          None,
      )
      if _CONTAINER in members:
        with archive.open(_CONTAINER) as file:
          container = ElementTree.fromstring(file.read(2**16))
        named = container.find('.//{*}rootfile[@full-path]')
        root = root if named is None else named.get('full-path')
      if root is None:
        raise ValueError('it holds no score')
      with archive.open(root) as file:
        score = file.read(score_files.MAX_BYTES + 1)
  if len(score) > score_files.MAX_BYTES:
    raise errors.UserError(
        f'{name} must hold at most {score_files.MAX_BYTES} bytes, but holds'
        ' more. Leave it out.'
    )
  return score
