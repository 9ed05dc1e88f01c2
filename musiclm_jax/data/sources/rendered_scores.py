"""A corpus of rendered scores: MIDI and MusicXML files, and music21's corpus.

Each score is rendered as it was written, and in arrangements (`arranging`) for
other instruments, in other keys and tempos. Captions (`captions`) are true
because they describe the rendition.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import hashlib
import io
import json
import math
import os
import pathlib
from typing import Any

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax.data.scores import analysis
from musiclm_jax.data.scores import arranging
from musiclm_jax.data.scores import captions
from musiclm_jax.data.scores import chords
from musiclm_jax.data.scores import drumming
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data.scores import effects
from musiclm_jax.data.scores import facts
from musiclm_jax.data.scores import notation
from musiclm_jax.data.scores import musicxml
from musiclm_jax.data.scores import planned
from musiclm_jax.data.scores import synthesis
from musiclm_jax.data.sources import score_files
import numpy as np

_MIN_SECONDS = 4.0  # Shortest clip of a score after its first.
_MIN_RMS = 3e-3  # -50 dBFS


def build_scores(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    data_dir: str | os.PathLike[str],
    soundfont: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    variations: int = 2,
    clip_seconds: float = clips.MAX_SECONDS,
    max_seconds_per_score: float | None = None,
    seed: int = 0,
    sample_rate: int = clips.SAMPLE_RATE,
    **options: Any,
) -> bool:
  """Renders scores to the dataset `music`, split by work.

  Args:
    source: One or several of: a folder or zip of MIDI and MusicXML files, or
      'music21:' and a part of the paths in music21's corpus ('music21:bach').
      An `index.csv` or `index.jsonl` in a source has a row for each file to
      use: file, and as far as known work, title, composer, genre, key, tempo
      (beats per minute), metre ('unknown' if that of the file is not to be
      trusted), license and source. Without an index, every file is used.
    data_dir: Folder of the datasets.
    soundfont: Path of one or several General MIDI SoundFonts, sf2 or sf3. The
      variations of a score use them in turn, starting with one that depends on
      its name.
    variations: Number of renditions of each score: as it was written, and then
      in arrangements, some with drums, in varied rooms, tones and levels
      (`effects.draw`).
    clip_seconds: Length of a clip.
    max_seconds_per_score: Most seconds to render of each variation, from a
      random place; all by default.
    seed: Seed of arrangements, places and captions.
    sample_rate: Sample rate of the clips.
    **options: Options of `corpora.build_corpus`, except left_out.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    NotFoundError: If a source, the SoundFont or FluidSynth is missing.
    UserError: If there are no scores, or one cannot be read.
  """
  if variations < 1 or clip_seconds < clips.MIN_SECONDS:
    raise errors.UserError(
        'variations must be at least 1 and clip_seconds at least'
        f' {clips.MIN_SECONDS:g}, but are {variations} and {clip_seconds:g}.'
    )
  if isinstance(soundfont, (str, os.PathLike)):
    soundfont = [soundfont]
  fonts = [caching.local(font) for font in soundfont]
  for font in fonts:
    synthesis.check_renderer(font)
  files, left_out = score_files.gather_scores(source)
  read = functools.partial(
      read_score,
      soundfonts=[os.fspath(font) for font in fonts],
      variations=variations,
      clip_seconds=clip_seconds,
      max_seconds=max_seconds_per_score,
      seed=seed,
      sample_rate=sample_rate,
  )
  return corpora.build_corpus(
      files,
      read,
      lambda file: file.work,
      data_dir,
      left_out=left_out,
      sample_rate=sample_rate,
      **options,
  )


def load_score(file: score_files.ScoreFile) -> notation.Score:
  """Reads the notes of a file.

  Raises:
    UserError: If it cannot be read, or has no notes.
  """
  with score_files.naming(file):
    if file.name.lower().endswith(score_files.MIDI_SUFFIXES):
      stream = io.BytesIO(score_files.read_bytes(file.path, file.name))
      stream.name = file.name
      return notation.read_midi(stream)
    return musicxml.read_musicxml(file.path, file.name)


def read_score(
    file: score_files.ScoreFile, soundfonts: Sequence[str], **options: Any
) -> Iterator[clips.Clip]:
  """Renders a score; see `build_scores`.

  Args:
    file: The score.
    soundfonts: Paths of SoundFonts.
    **options: Options of `build_scores`: variations, clip_seconds, max_seconds,
      seed, sample_rate.

  Yields:
    The clips of each of its variations.

  Raises:
    UserError: If the score cannot be read or rendered.
  """
  with score_files.naming(file):
    yield from _render_score(file, soundfonts, **options)


def _render_score(
    file: score_files.ScoreFile,
    soundfonts: Sequence[str],
    variations: int = 2,
    clip_seconds: float = clips.MAX_SECONDS,
    max_seconds: float | None = None,
    seed: int = 0,
    sample_rate: int = clips.SAMPLE_RATE,
) -> Iterator[clips.Clip]:
  """Yields the clips of each variation of a score."""
  written = load_score(file)
  beats, score = planned.find_beats(written, file.metadata), written.trim()
  beats -= [float(np.min(written.start)), 0, 0]
  name = str(pathlib.PurePosixPath(file.name).with_suffix(''))
  name = file.work if file.work.endswith(name) else f'{file.work}/{name}'
  first_font = hashlib.sha256(name.encode()).digest()[0]
  for variation in range(variations):
    font = soundfonts[(first_font + variation) % len(soundfonts)]
    sound = effects.PLAIN
    digest = hashlib.sha256(f'{seed}/{name}/{variation}'.encode()).digest()
    rng = np.random.default_rng(list(digest))
    if variation == 0:
      arrangement = arranging.Arrangement(score, arranging.find_roles(score))
    else:
      arrangement = arranging.arrange(score, rng)
      sound = effects.draw(rng)
    beats_then = beats / [arrangement.tempo_factor, 1, 1]
    if variation:
      arrangement = drumming.accompany(arrangement, beats_then, rng)
    # The key of the whole score, before it is cut to an excerpt.
    key = facts.find_key(arrangement, file.metadata)
    arrangement, offset = _excerpt(arrangement, max_seconds, rng)
    beats_then = beats_then - [offset, 0, 0]
    audio = synthesis.render(arrangement.score, font, sample_rate, sound)
    if max_seconds is not None:
      audio = audio[: round(max_seconds * sample_rate)]
    for start, clip in clips.split_audio(audio, sample_rate, clip_seconds):
      end = start + len(clip) / sample_rate
      # Frames of melody and chords.
      num_frames = -(-len(clip) * clips.MELODY_RATE // sample_rate)
      if _is_music(clip, arrangement.score, start, end):
        described = facts.describe(arrangement, file.metadata, key, start, end)
        yield clips.Clip(
            audio=clip,
            captions=captions.write_captions(described, rng),
            id=f'{name}/{variation}/{start:g}',
            work=file.work,
            title=file.metadata.title or pathlib.PurePosixPath(name).name,
            source=f'{file.source}, played by {pathlib.Path(font).stem}',
            license=file.license,
            start=offset + start,
            melody=analysis.melody_frames(arrangement, start, num_frames),
            chords=chords.chord_frames(arrangement.score, start, num_frames),
            beats=planned.crop_beats(beats_then, start, end),
            key=described.key or '',
            families=planned.families(
                arrangement, start, math.ceil(len(clip) / sample_rate)
            ),
            facts=json.dumps(dataclasses.asdict(described)),
        )


def _excerpt(
    arrangement: arranging.Arrangement,
    max_seconds: float | None,
    rng: np.random.Generator,
) -> tuple[arranging.Arrangement, float]:
  """Cuts an arrangement to `max_seconds`; returns it and its first second."""
  score = arrangement.score
  if max_seconds is None or score.seconds <= max_seconds:
    return arrangement, 0.0
  # At a note, so that the excerpt does not begin with a rest.
  starts = score.start[score.start <= score.seconds - max_seconds]
  start = float(starts[rng.integers(len(starts))]) if len(starts) else 0.0
  score = score.crop(start, start + max_seconds).trim()
  return dataclasses.replace(arrangement, score=score), start


def _is_music(
    clip: np.ndarray, score: notation.Score, start: float, end: float
) -> bool:
  """Whether a clip is more than a rest, or than notes dying away."""
  score = score.crop(start, end)
  is_long = start == 0 or score.seconds - start >= _MIN_SECONDS
  is_loud = np.sqrt(np.mean(np.square(clip))) >= _MIN_RMS
  return bool(len(score.start) and is_long and is_loud)
