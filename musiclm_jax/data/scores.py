"""A corpus of rendered scores: MIDI and MusicXML files, and music21's own.

Each score is rendered as it was written, and in arrangements (`arranging`) for
other instruments, in other keys and tempos. Captions are written (`captions`)
from what was rendered, so that they are true.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import tempfile
from typing import Any
import zipfile

from musiclm_jax import errors
from musiclm_jax.data import analysis
from musiclm_jax.data import arranging
from musiclm_jax.data import captions
from musiclm_jax.data import chords
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import facts
from musiclm_jax.data import midi
from musiclm_jax.data import rendering
import numpy as np

MIDI_SUFFIXES = ('.mid', '.midi')
XML_SUFFIXES = ('.xml', '.mxl', '.musicxml')
INDEX_NAMES = ('index.csv', 'index.jsonl')
MUSIC21 = 'music21:'
_MIN_SECONDS = 4.0  # Of a clip, but for the only one of a score.
_MIN_RMS = 3e-3  # -50 dBFS


@dataclasses.dataclass(frozen=True)
class ScoreFile:
  """A file, and what its index says of it.

  Attributes:
    path: Of the file, or of the zip file with it.
    name: Of the file in its folder or zip, or in the corpus of music21.
    work: Name of the work; the scores of a work share a split.
    source: Where it is from.
    license: Empty if unknown.
    metadata: For its captions.
  """

  path: str
  name: str
  work: str
  source: str = ''
  license: str = ''
  metadata: facts.Metadata = facts.Metadata()


def build_scores(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    data_dir: str | os.PathLike[str],
    soundfont: str | os.PathLike[str],
    index: str | os.PathLike[str] | None = None,
    license: str = '',  # pylint: disable=redefined-builtin
    variations: int = 2,
    clip_seconds: float = clips.MAX_SECONDS,
    max_seconds_per_score: float | None = None,
    seed: int = 0,
    **options: Any,
) -> bool:
  """Renders scores to the dataset `music`, split by work.

  Args:
    source: One or several of: a folder or zip of MIDI and MusicXML files, or
      'music21:' and a part of the paths in music21's corpus ('music21:bach').
    data_dir: Folder of the datasets.
    soundfont: Path of a General MIDI SoundFont, sf2 or sf3.
    index: A .csv or .jsonl with a row for each file to use: file, and as far
      as known work, title, composer, genre, key, tempo (beats per minute),
      metre ('unknown' not to trust the file), license and source. By default
      `index.csv` or `index.jsonl` in the source; without one, every file is
      used.
    license: Of the scores whose index names none.
    variations: Times each score is rendered: as it was written, and then in
      arrangements.
    clip_seconds: Length of a clip.
    max_seconds_per_score: Most to render of each variation, from a random
      place; everything by default.
    seed: Of arrangements, places and captions.
    **options: Of `corpora.write_corpus`.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    FileNotFoundError: If a source, the SoundFont or FluidSynth is missing.
    ValueError: If there are no scores, or one cannot be read.
  """
  if variations < 1 or clip_seconds < clips.MIN_SECONDS:
    raise errors.UserError(
        'variations must be at least 1 and clip_seconds at least'
        f' {clips.MIN_SECONDS:g}, but are {variations} and {clip_seconds:g}.'
    )
  rendering.check_renderer(soundfont)
  sources = [source] if isinstance(source, (str, os.PathLike)) else source
  if index is not None and len(sources) != 1:
    raise errors.UserError(
        f'index must be for one source, but there are {len(sources)}. Put'
        ' an index.csv into each.'
    )
  files = [
      file for each in sources for file in list_scores(each, index, license)
  ]
  read = functools.partial(
      read_score,
      soundfont=os.fspath(soundfont),
      variations=variations,
      clip_seconds=clip_seconds,
      max_seconds=max_seconds_per_score,
      seed=seed,
  )
  return corpora.build_corpus(
      files, read, lambda file: file.work, data_dir, **options
  )


def list_scores(
    source: str | os.PathLike[str],
    index: str | os.PathLike[str] | None = None,
    license: str = '',  # pylint: disable=redefined-builtin
) -> list[ScoreFile]:
  """Lists the scores of a source; see `build_scores`.

  Raises:
    FileNotFoundError: If the source or the index is missing.
    ValueError: If it holds no scores, or the index names missing files.
  """
  if os.fspath(source).startswith(MUSIC21):
    label, paths = 'music21', _music21_paths(os.fspath(source))
  else:
    label, paths = pathlib.Path(source).stem, _file_paths(pathlib.Path(source))
  scores = {
      name: path
      for name, path in sorted(paths.items())
      if name.lower().endswith((*MIDI_SUFFIXES, *XML_SUFFIXES))
      or label == 'music21'
  }
  if not scores:
    raise errors.UserError(
        f'{source} must hold MIDI or MusicXML files, but holds none that end'
        f' in {", ".join((*MIDI_SUFFIXES, *XML_SUFFIXES))}.'
    )
  rows = _read_index(index, paths)
  missing = sorted(set(rows) - set(scores))
  if missing:
    raise errors.UserError(
        f'the index must name files of {source}, but {len(missing)} are not'
        f' there, e.g. {missing[0]}. Correct the column file.'
    )
  return [
      _score_file(path, name, label, rows.get(name, {}), license)
      for name, path in scores.items()
      if not rows or name in rows
  ]


def _file_paths(source: pathlib.Path) -> dict[str, str]:
  """Returns the path of each file in a folder or zip, by its name there."""
  if source.is_dir():
    return {
        path.relative_to(source).as_posix(): str(path)
        for path in source.rglob('*')
        if path.is_file()
    }
  if source.suffix.lower() != '.zip' or not zipfile.is_zipfile(source):
    raise errors.NotFoundError(
        f'{source} must be a folder or a .zip of scores.'
    )
  with zipfile.ZipFile(source) as archive:
    return {name: str(source) for name in archive.namelist()}


def _music21_paths(source: str) -> dict[str, str]:
  """Returns the scores of music21's corpus that `source` is a part of."""
  from music21 import corpus  # Slow to import, and rarely needed.

  core = corpus.corpora.CoreCorpus()
  part = source.removeprefix(MUSIC21)
  root = pathlib.Path(corpus.__file__).parent
  names = {p.relative_to(root).as_posix(): str(p) for p in core.getPaths()}
  return {name: path for name, path in names.items() if part in name}


def _read_index(
    index: str | os.PathLike[str] | None, paths: Mapping[str, str]
) -> dict[str, dict[str, str]]:
  """Returns the rows of an index by their files; {} without one."""
  if index is None:
    found = [name for name in INDEX_NAMES if name in paths]
    if not found:
      return {}
    index, text = found[0], _read_bytes(paths[found[0]], found[0]).decode()
  else:
    text = pathlib.Path(index).read_text(encoding='utf-8-sig')
  if os.fspath(index).endswith('.csv'):
    rows = list(csv.DictReader(io.StringIO(text)))
  else:
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
  if not all(row.get('file') for row in rows):
    raise errors.UserError(
        f"{index} must have a 'file' in each row, but has the columns"
        f' {list(rows[0])}.'
    )
  return {row['file']: row for row in rows}


def _read_bytes(path: str, name: str) -> bytes:
  if path.lower().endswith('.zip'):
    with zipfile.ZipFile(path) as archive:
      return archive.read(name)
  return pathlib.Path(path).read_bytes()


def _score_file(
    path: str, name: str, label: str, row: Mapping[str, Any], license: str
) -> ScoreFile:
  """Returns the score that a row of an index describes."""
  known = {
      field.name: row[field.name]
      for field in dataclasses.fields(facts.Metadata)
      if row.get(field.name) not in (None, '')
  }
  try:
    if 'tempo' in known:
      known['tempo'] = float(known['tempo'])
    if 'key' in known:
      analysis.transpose_key(known['key'], 0)
  except ValueError as e:
    raise errors.UserError(f'the index has a bad row for {name}: {e}') from e
  work = row.get('work') or pathlib.PurePosixPath(name).with_suffix('')
  return ScoreFile(
      path=path,
      name=name,
      # Sources may name their works alike.
      work=f'{label}/{work}',
      source=row.get('source') or label,
      license=row.get('license') or license,
      metadata=facts.Metadata(**known),
  )


def load_score(file: ScoreFile) -> midi.Score:
  """Reads the notes of a file.

  Raises:
    ValueError: If it cannot be read, or has no notes.
  """
  if file.name.lower().endswith(MIDI_SUFFIXES):
    stream = io.BytesIO(_read_bytes(file.path, file.name))
    stream.name = file.name
    return midi.read_midi(stream)
  import music21  # Slow to import, and rarely needed.

  with tempfile.TemporaryDirectory() as folder:
    source = pathlib.Path(file.path)
    if file.path.lower().endswith('.zip'):
      source = pathlib.Path(folder, pathlib.PurePosixPath(file.name).name)
      source.write_bytes(_read_bytes(file.path, file.name))
    target = os.path.join(folder, 'score.mid')
    try:
      music21.converter.parse(source).write('midi', target)
    except Exception as e:  # music21 raises errors of many unrelated classes.
      raise errors.UserError(
          f'{file.name} must be a score that music21 reads, but it says: {e}.'
          ' Leave it out.'
      ) from e
    return midi.read_midi(target)


def read_score(
    file: ScoreFile,
    soundfont: str,
    variations: int = 2,
    clip_seconds: float = clips.MAX_SECONDS,
    max_seconds: float | None = None,
    seed: int = 0,
) -> Iterator[clips.Clip]:
  """Renders a score; see `build_scores`.

  Yields:
    The clips of each of its variations.

  Raises:
    ValueError: If the score cannot be read or rendered.
  """
  score = load_score(file).trim()
  name = str(pathlib.PurePosixPath(file.name).with_suffix(''))
  name = file.work if file.work.endswith(name) else f'{file.work}/{name}'
  for variation in range(variations):
    digest = hashlib.sha256(f'{seed}/{name}/{variation}'.encode()).digest()
    rng = np.random.default_rng(list(digest))
    if variation == 0:
      arrangement = arranging.Arrangement(score, arranging.find_roles(score))
    else:
      arrangement = arranging.arrange(score, rng)
    # Of the whole score, before an excerpt is taken.
    key = facts.find_key(arrangement, file.metadata)
    arrangement, offset = _excerpt(arrangement, max_seconds, rng)
    audio = rendering.render(arrangement.score, soundfont)
    if max_seconds is not None:
      audio = audio[: round(max_seconds * clips.SAMPLE_RATE)]
    for start, clip in clips.split_audio(audio, clip_seconds):
      end = start + len(clip) / clips.SAMPLE_RATE
      if _is_music(clip, arrangement.score, start):
        described = facts.describe(arrangement, file.metadata, key, start, end)
        yield clips.Clip(
            audio=clip,
            captions=captions.write_captions(described, rng),
            id=f'{name}/{variation}/{start:g}',
            work=file.work,
            title=file.metadata.title or pathlib.PurePosixPath(name).name,
            source=file.source,
            license=file.license,
            start=offset + start,
            melody=analysis.melody_frames(
                arrangement, start, _num_frames(clip)
            ),
            chords=chords.chord_frames(
                arrangement.score, start, _num_frames(clip)
            ),
            facts=json.dumps(dataclasses.asdict(described)),
        )


def _excerpt(
    arrangement: arranging.Arrangement,
    max_seconds: float | None,
    rng: np.random.Generator,
) -> tuple[arranging.Arrangement, float]:
  """Cuts an arrangement to its maximum; returns it with where it begins."""
  score = arrangement.score
  if max_seconds is None or score.seconds <= max_seconds:
    return arrangement, 0.0
  # At a note, so that the excerpt does not begin with a rest.
  starts = score.start[score.start <= score.seconds - max_seconds]
  start = float(starts[rng.integers(len(starts))]) if len(starts) else 0.0
  score = score.crop(start, start + max_seconds).trim()
  return dataclasses.replace(arrangement, score=score), start


def _is_music(clip: np.ndarray, score: midi.Score, start: float) -> bool:
  """Whether a clip is more than a rest, or what dies away at the end."""
  end = start + len(clip) / clips.SAMPLE_RATE
  score = score.crop(start, end)
  is_long = start == 0 or score.seconds - start >= _MIN_SECONDS
  is_loud = np.sqrt(np.mean(np.square(clip))) >= _MIN_RMS
  return bool(len(score.start) and is_long and is_loud)


def _num_frames(clip: np.ndarray) -> int:
  """Returns the frames of melody and chords in a clip of [samples]."""
  samples_per_frame = clips.SAMPLE_RATE // clips.MELODY_RATE
  return -(-len(clip) // samples_per_frame)
