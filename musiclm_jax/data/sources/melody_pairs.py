"""A corpus of melodies: phrases of scores, each rendered in several ways.

The melody network is trained on them (MusicLM, section 4.5): a melody as it was
written, arranged for other instruments, alone on one, and hummed. The key stays
the same, because generated music should follow the hummed pitch; only voices
may be octaves away.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import hashlib
import os
import pathlib
from typing import Any

from jaxtyping import Float
from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax.data.scores import analysis
from musiclm_jax.data.scores import arranging
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data.scores import humming
from musiclm_jax.data.scores import instruments
from musiclm_jax.data.scores import notation
from musiclm_jax.data import renditions
from musiclm_jax.data.scores import synthesis
from musiclm_jax.data.sources import score_files
from musiclm_jax.data.sources import rendered_scores
import numpy as np

KINDS = ('written', 'arranged', 'solo', 'hum')
TEMPO_RANGE = (0.8, 1.25)  # Factors.
MIN_SECONDS = 5.0  # Shortest phrase: 4 s of audio at the greatest factor.
# Least requirements of a melody: notes, share of frames, different pitches.
_NOTES_PER_SECOND = 1.0
_SOUNDING = 0.5
_PITCHES = 4
_CANDIDATES = 8


def build_melody_pairs(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    data_dir: str | os.PathLike[str],
    soundfont: str | os.PathLike[str],
    variations: int = len(KINDS),
    phrases_per_score: int = 4,
    phrase_seconds: float = 8.0,
    seed: int = 0,
    **options: Any,
) -> bool:
  """Renders phrases of scores to the dataset `melody_pairs`, split by work.

  Works are split as in the dataset `music` of the same sources.

  Args:
    source: See `rendered_scores.build_scores`.
    data_dir: Folder of the datasets.
    soundfont: Path of a General MIDI SoundFont, sf2 or sf3.
    variations: Number of renditions of each phrase: one of each of KINDS, then
      more of all but the first.
    phrases_per_score: Most phrases of a score, one after the other.
    phrase_seconds: Length of a phrase as it was written.
    seed: Seed of places, instruments, voices and tempos.
    **options: Options of `corpora.write_works`.

  Returns:
    Whether it was written: False if it exists.

  Raises:
    NotFoundError: If a source, the SoundFont or FluidSynth is missing.
    UserError: If there are no scores, or one cannot be read.
  """
  if variations < 2 or phrases_per_score < 1 or phrase_seconds < MIN_SECONDS:
    raise errors.UserError(
        'variations must be at least 2, phrases_per_score at least 1 and'
        f' phrase_seconds at least {MIN_SECONDS:g}, but are {variations},'
        f' {phrases_per_score} and {phrase_seconds:g}.'
    )
  soundfont = caching.local(soundfont)
  synthesis.check_renderer(soundfont)
  files, left_out = score_files.gather_scores(source)
  read = functools.partial(
      read_examples,
      soundfont=os.fspath(soundfont),
      variations=variations,
      phrases_per_score=phrases_per_score,
      phrase_seconds=phrase_seconds,
      seed=seed,
  )
  splits = corpora.split_works(files, lambda file: file.work, corpora.HELD_OUT)
  return corpora.write_works(
      renditions.NAME,
      renditions.features(),
      splits,
      read,
      data_dir,
      left_out=left_out,
      metadata={'sample_rate': renditions.SAMPLE_RATE},
      **options,
  )


def read_examples(
    file: score_files.ScoreFile, **options: Any
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields the (key, example)s of a score; see `read_phrases`."""
  with score_files.naming(file):
    for phrase in read_phrases(file, **options):
      yield phrase.id, phrase.to_example()


def read_phrases(
    file: score_files.ScoreFile,
    soundfont: str,
    variations: int,
    phrases_per_score: int,
    phrase_seconds: float,
    seed: int = 0,
) -> Iterator[renditions.Phrase]:
  """Renders phrases of a score; see `build_melody_pairs`.

  Yields:
    The phrases with enough of a melody, if any.

  Raises:
    UserError: If the score cannot be read or rendered.
  """
  score = rendered_scores.load_score(file)
  name = f'{file.work}/{pathlib.PurePosixPath(file.name).stem}'
  digest = hashlib.sha256(f'{seed}/{name}'.encode()).digest()
  rng = np.random.default_rng(list(digest))
  melody = find_melody(score)
  start = _find_passage(melody, phrases_per_score * phrase_seconds, rng)
  if start is None:
    return
  end = start + phrases_per_score * phrase_seconds
  # Both begin with a note of the melody, and are trimmed equally.
  score, melody = (s.crop(start, end).trim() for s in (score, melody))
  starts = [
      second
      for second in np.arange(phrases_per_score) * phrase_seconds
      if _is_melody(melody, second, second + phrase_seconds)
  ]
  if not starts:
    return
  passages = [
      _render(kind, score, melody, soundfont, rng)
      for kind in _kinds(variations)
  ]
  for second in starts:
    yield renditions.Phrase(
        renditions=[_cut(p, second, phrase_seconds) for p in passages],
        melody=_frames(melody, second, second + phrase_seconds),
        id=f'{name}/{start + second:g}',
        work=file.work,
        source=file.source,
        license=file.license,
    )


def _kinds(variations: int) -> list[str]:
  """Returns the kind of each rendition of a phrase."""
  more = variations - len(KINDS)
  again = [KINDS[1 + i % (len(KINDS) - 1)] for i in range(max(0, more))]
  return [*KINDS[:variations], *again]


def find_melody(score: notation.Score) -> notation.Score:
  """Returns the melody of a score: the highest of its melody parts.

  Args:
    score: Notes. If no part is a melody (see `arranging.find_roles`), all parts
      but drums count as melodies.

  Returns:
    One part of one note at a time; without notes if there is no melody.
  """
  roles = arranging.find_roles(score)
  melodies = [i for i, r in enumerate(roles) if r == arranging.Role.MELODY]
  is_melody = np.isin(score.part, melodies) if melodies else ~score.is_drums
  line = score.select(is_melody)
  end = line.end.copy()
  kept: list[int] = []
  # Where notes begin together, the highest comes first.
  for i in np.lexsort((-line.pitch, line.start)):
    if kept and line.start[i] < end[kept[-1]]:
      if line.pitch[i] < line.pitch[kept[-1]]:
        continue
      end[kept[-1]] = line.start[i]
    kept.append(int(i))
  order = np.array([i for i in kept if end[i] > line.start[i]], int)
  program = score.parts[int(line.part[0])].program if len(order) else 0
  return dataclasses.replace(
      line,
      parts=(notation.Part('melody', program),),
      start=line.start[order],
      end=end[order],
      pitch=line.pitch[order],
      velocity=line.velocity[order],
      volume=line.volume[order],
      part=np.zeros(len(order), int),
      controls=(),
  )


def _find_passage(
    melody: notation.Score, seconds: float, rng: np.random.Generator
) -> float | None:
  """Returns the start of a passage with many notes; None if there is none."""
  if not len(melody.start):
    return None
  latest = max(melody.start[0], melody.seconds - seconds)
  places = melody.start[melody.start <= latest]
  places = places[rng.integers(len(places), size=_CANDIDATES)]
  num_notes = [
      np.sum((melody.start >= p) & (melody.start < p + seconds)) for p in places
  ]
  return float(places[int(np.argmax(num_notes))])


def _frames(melody: notation.Score, start: float, end: float) -> np.ndarray:
  """Returns the pitches of [start, end) seconds at `clips.MELODY_RATE`."""
  line = arranging.Arrangement(melody, (arranging.Role.MELODY,))
  num_frames = round((end - start) * clips.MELODY_RATE)
  return analysis.melody_frames(line, start, num_frames)


def _is_melody(melody: notation.Score, start: float, end: float) -> bool:
  """Whether [start, end) seconds have enough notes to be recognized."""
  onsets = np.sum((melody.start >= start) & (melody.start < end))
  frames = _frames(melody, start, end)
  sounding = frames[frames >= 0]
  return bool(
      onsets >= _NOTES_PER_SECOND * (end - start)
      and len(sounding) >= _SOUNDING * len(frames)
      and len(np.unique(sounding)) >= _PITCHES
  )


def _render(
    kind: str,
    score: notation.Score,
    melody: notation.Score,
    soundfont: str,
    rng: np.random.Generator,
) -> renditions.Rendition:
  """Renders a passage in one of KINDS, at a random tempo."""
  factor = float(np.exp(rng.uniform(*np.log(TEMPO_RANGE))))
  if kind == 'hum':
    audio = humming.hum(melody.accelerate(factor), rng)
    return renditions.Rendition(kind, factor, audio)
  if kind == 'arranged':
    score = arranging.arrange(score, rng, 0, (1.0, 1.0)).score
  elif kind == 'solo':
    part = notation.Part('', _choose_soloist(melody, rng))
    score = dataclasses.replace(melody, parts=(part,))
  audio = synthesis.render(
      score.accelerate(factor), soundfont, renditions.SAMPLE_RATE
  )
  return renditions.Rendition(kind, factor, audio)


def _choose_soloist(melody: notation.Score, rng: np.random.Generator) -> int:
  """Draws a program, other than the written one, that can play the melody."""
  programs = [
      i.program
      for i in instruments.MELODY
      if i.can_play(melody.pitch) and i.program != melody.parts[0].program
  ]
  # A synth lead plays melodies out of the range of all of them.
  return int(rng.choice(programs)) if programs else 80


def _cut(
    passage: renditions.Rendition, second: float, seconds: float
) -> renditions.Rendition:
  """Cuts a phrase out of a passage, at melody times."""

  def sample(second: float) -> int:
    return round(second / passage.tempo_factor * renditions.SAMPLE_RATE)

  length = sample(seconds)
  audio: Float[np.ndarray, ' samples'] = passage.audio[sample(second) :]
  audio = np.pad(audio[:length], (0, max(0, length - len(audio))))
  return dataclasses.replace(passage, audio=audio)
