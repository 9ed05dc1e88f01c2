"""Text in, music out: a trained MusicLM."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import os
from typing import Any

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax import progress as progress_lib
from musiclm_jax.models import compiled
from musiclm_jax.sampling import blank as blank_lib
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import judging
from musiclm_jax.sampling import playback
from musiclm_jax.sampling import pretrained
from musiclm_jax.sampling import repeating
from musiclm_jax.sampling import sampler as sampler_lib
from musiclm_jax.sampling import take as take_lib
from musiclm_jax.sampling import timeline as timeline_lib
from musiclm_jax.tokenizers import table
import numpy as np
import tqdm

CONFIG = choosing.GenerationConfig()
PROGRESS_AFTER = progress_lib.PATIENCE  # Seconds until a bar is shown.

# A text, or audio that the music should be like, or a full description.
Piece = str | np.ndarray | timeline_lib.Timeline
Pieces = Piece | Sequence[Piece]


class MusicLM:
  """Makes music from text.

    model = MusicLM.from_pretrained()
    audio = model.generate(['slow piano waltz in A minor'], seconds=10)

  Every kind of piece is a `Timeline`: a continuation, music that follows a
  melody, prompts that change, a part made anew, or a loop.

  Attributes:
    sample_rate: Sample rate of the audio it makes, in Hz.
  """

  def __init__(
      self,
      tokenizers: table.Tokenizers,
      decoders: Mapping[str, decode.StageDecoder],
      hashes: dict[str, str],
  ):
    """Makes a model from loaded parts; see `from_pretrained`.

    Args:
      tokenizers: Parts that write streams from audio or text.
      decoders: Stages, by the names of the streams they write.
      hashes: The sha256 of each part.
    """
    self._tokenizers, self._codec = tokenizers, tokenizers.codec
    self._hashes = hashes
    self._sampler = sampler_lib.Sampler(
        decoders,
        tokenizers.text_embedder.streams[0],
        self._codec.streams,
    )
    self.sample_rate = self._codec.sample_rate

  @classmethod
  def from_pretrained(
      cls,
      name_or_dir: str | os.PathLike[str] | None = None,
      dtype: str = 'auto',
  ) -> 'MusicLM':
    """Loads a model.

    Args:
      name_or_dir: A model directory, or the id 'owner/name' of one on the
        Hugging Face hub; None for the one in the package.
      dtype: Type of the stages' weights: 'float32', 'bfloat16' or 'int8', the
        smaller the faster; see the README for their cost in quality.
        'auto' is 'bfloat16' on accelerators, and on CPUs 'int8' if the weights
        are stored as that, else 'float32'.

    Raises:
      NotFoundError: If there is no such model, or it lacks a part.
      UserError: If a part is damaged, or was trained with other tokenizers.
    """
    compiled.keep()
    return cls(*pretrained.load(pretrained.find(name_or_dir), dtype))

  def generate(
      self,
      pieces: Pieces,
      seed: int | Sequence[int] = 0,
      config: choosing.GenerationConfig = CONFIG,
      best_of: int = 1,
      progress: bool = True,
      **fields: Any,
  ) -> Float[np.ndarray, 'batch samples']:
    """Makes pieces of music, all of the same length.

    Args:
      pieces: A text, or audio [samples] that the music should be like, or a
        timeline; or several of these.
      seed: Seed of all pieces, or one for each. The same call gives the same
        audio. So does the same piece among others, except for rare choices that
        rounding tips: XLA sums in another order if there are more rows. A
        repeated text is played anew each time.
      config: How each stage chooses tokens.
      best_of: Number of takes to make of each piece, of which the best is kept:
        its embeddings are nearest to those of the prompts and, if there are
        any, of the melody and other conditions that are embedded.
      progress: Whether to show a progress bar if it takes long.
      **fields: Fields of the `Timeline` for texts and audio, e.g. seconds=30.

    Returns:
      [batch, samples] float32 in [-1, 1], at `sample_rate`.

    Raises:
      UserError: If pieces contradict themselves, differ in length or ask for
        things the model can't do, or a prompt is empty or too long.
    """
    takes = self.takes(pieces, seed, config, best_of, progress, **fields)
    lengths = sorted({take.num_samples for take in takes})
    if len(lengths) > 1:
      raise errors.UserError(
          'pieces must be of one length to be stacked, but have from'
          f' {lengths[0]} to {lengths[-1]} samples. Use `takes` and `render`.'
      )
    return np.stack([self.render(take) for take in takes])

  def takes(
      self,
      pieces: Pieces,
      seed: int | Sequence[int] = 0,
      config: choosing.GenerationConfig = CONFIG,
      best_of: int = 1,
      progress: bool = True,
      **fields: Any,
  ) -> list[take_lib.Take]:
    """Samples the tokens of pieces, of any lengths; see `generate`.

    `render` turns takes into audio, `vary` makes variations of them, and
    `Take.save` stores them.
    """
    timelines = _timelines(pieces, fields)
    check_total(timelines, best_of, self.sample_rate)
    with _telling('compiling what reads prompts', progress):
      blank = self.blank(timelines, seed, config)
    if progress:
      _say_what_is_understood(blank)
    candidates = [
        [take.renumbered(i) for i in range(best_of)] for take in blank
    ]
    sampled = self._sample([c for cs in candidates for c in cs], progress)
    if best_of == 1:
      return sampled
    best = []
    for i, timeline in enumerate(timelines):
      takes = sampled[i * best_of : (i + 1) * best_of]
      with _telling('listening for the best take', progress):
        scores = [
            judging.worth(self.render(take), timeline, self._tokenizers)
            for take in takes
        ]
      best.append(takes[int(np.argmax(scores))])
    return best

  def blank(
      self,
      pieces: Pieces,
      seed: int | Sequence[int] = 0,
      config: choosing.GenerationConfig = CONFIG,
      **fields: Any,
  ) -> list[take_lib.Take]:
    """Returns takes whose tokens are yet to be sampled; see `generate`."""
    timelines = _timelines(pieces, fields)
    seeds = _seeds(seed, len(timelines))
    numbers = _numbers(seeds, timelines)
    return [
        blank_lib.make(
            timeline,
            self._tokenizers,
            self._sampler,
            (own, number, 0),
            config,
            dict(self._hashes),
        )
        for timeline, own, number in zip(timelines, seeds, numbers, strict=True)
    ]

  def render(self, take: take_lib.Take) -> Float[np.ndarray, ' samples']:
    """Returns the [samples] audio of a take, the same every time.

    Raises:
      UserError: If the take was made with another codec.
    """
    codec = table.codec_in(self._tokenizers.directory).name
    take.check_part(codec, self._hashes)
    return playback.render(self._codec, take)

  def vary(
      self,
      take: take_lib.Take,
      seed: int,
      from_second: float = 0.0,
      keep_semantic: bool = False,
      progress: bool = True,
  ) -> take_lib.Take:
    """Samples all or part of a take again.

    Args:
      take: Take to start from.
      seed: Seed of the new tokens.
      from_second: Second before which everything stays as it is.
      keep_semantic: Whether to change only the sound: the acoustic tokens.
      progress: Whether to show a progress bar if it takes long.

    Raises:
      UserError: If the take was made with another model, or ends before
        `from_second`.
    """
    for part in take.hashes:
      take.check_part(part, self._hashes)
    [seed] = _seeds(seed, 1)
    blank = take.erase(seed, from_second, keep_semantic)
    return self._sample([blank], progress)[0]

  def stream(
      self,
      piece: Piece,
      seed: int = 0,
      config: choosing.GenerationConfig = CONFIG,
      **fields: Any,
  ) -> Iterator[Float[np.ndarray, ' some']]:
    """Yields the audio of a piece while it is being made.

    It is that of `generate`, except for rare choices that rounding tips.

    Args:
      piece: A text or a timeline, but not a loop.
      seed: See `generate`.
      config: See `generate`.
      **fields: Fields of the `Timeline`, as in `generate`.

    Raises:
      UserError: As `generate`.
    """
    [take] = self.blank(piece, seed, config, **fields)
    run = self._sampler.start(repeating.fill(self._sampler, [take]))
    yield from playback.stream(self._codec, take, run)

  def score(
      self,
      audio: Float[np.ndarray, ' samples'],
      piece: Piece,
  ) -> float:
    """Returns how well audio matches the prompts of a piece: -1 to 1.

    That is the mean similarity of their embeddings.
    """
    [timeline] = _timelines(piece, {})
    return judging.score(audio, timeline, self._tokenizers)

  def _sample(
      self, takes: Sequence[take_lib.Take], progress: bool
  ) -> list[take_lib.Take]:
    """Returns takes with all tokens sampled, batched by layout."""
    groups: dict[Any, list[int]] = {}
    for i, take in enumerate(takes):
      alike = take.layout, repeating.copies(take)
      groups.setdefault(alike, []).append(i)
    sampled = list(takes)
    with tqdm.tqdm(
        desc='music', unit=' tokens', unit_scale=True,
        delay=PROGRESS_AFTER, disable=not progress, leave=False,
    ) as bar, contextlib.ExitStack() as until_sampled:  # fmt: skip
      until_sampled.enter_context(_telling('compiling the stages', progress))

      def report(count: int) -> None:
        until_sampled.close()  # From here on, the bar shows progress.
        bar.update(count)

      rows = [[takes[i] for i in group] for group in groups.values()]
      bar.total = sum(self._sampler.start(row).num_tokens for row in rows)
      for row, group in zip(rows, groups.values(), strict=True):
        filled = repeating.fill(self._sampler, row, report)
        run = self._sampler.start(filled, report)
        for i, take in zip(group, run.finish(), strict=True):
          sampled[i] = take
    return sampled


def _timelines(
    pieces: Pieces, fields: dict[str, Any]
) -> list[timeline_lib.Timeline]:
  """Returns the timeline of each piece."""
  if isinstance(pieces, Piece):
    pieces = [pieces]
  if not len(pieces):
    raise errors.UserError(
        'prompts must hold at least one text, but are empty.'
    )
  timelines = []
  for piece in pieces:
    if isinstance(piece, timeline_lib.Timeline):
      if fields:
        raise errors.UserError(
            f'{sorted(fields)} must be fields of the timeline, where a piece is'
            ' a timeline, but are given beside it.'
        )
      timelines.append(piece)
    else:
      timelines.append(timeline_lib.Timeline(piece, **fields))
  return timelines


def _say_what_is_understood(blank: Sequence[take_lib.Take]) -> None:
  """Reports what plans take from prompts."""
  said = [take.description.get('understood') for take in blank]
  for words in dict.fromkeys(filter(None, said)):
    progress_lib.say(f'the prompt is understood as a plan, too: {words}')


def _telling(
    what: str, progress: bool
) -> contextlib.AbstractContextManager[None]:
  """Announces what takes long, if it does and progress is to be shown."""
  return progress_lib.telling(what) if progress else contextlib.nullcontext()


def check_total(
    timelines: Sequence[timeline_lib.Timeline], best_of: int, sample_rate: int
) -> None:
  """Raises UserError unless so many takes of each piece fit in memory."""
  if best_of < 1:
    raise errors.UserError(f'best_of must be at least 1, but is {best_of}.')
  longest = max(timeline.length(sample_rate) for timeline in timelines)
  if best_of > 1 and best_of * longest > timeline_lib.MAX_SECONDS:
    raise errors.UserError(
        f'best_of must be less: the takes of a piece last {best_of} times'
        f' {longest:g} s, but must last at most {timeline_lib.MAX_SECONDS} s in'
        ' all.'
    )


def _seeds(seed: int | Sequence[int], num_pieces: int) -> list[int]:
  """Returns the seed of each piece."""
  seeds = [seed] * num_pieces if isinstance(seed, int) else list(seed)
  if len(seeds) != num_pieces:
    raise errors.UserError(
        'seed must be one, or one for each piece, but there are'
        f' {len(seeds)} of {num_pieces} pieces.'
    )
  for one in seeds:
    check_seed(one)
  return seeds


def check_seed(seed: int) -> None:
  """Raises UserError unless a seed has at most 32 bits."""
  if not 0 <= seed < 2**32:
    raise errors.UserError(f'seed must be in [0, 2**32), but is {seed}.')


def _numbers(
    seeds: Sequence[int], timelines: Sequence[timeline_lib.Timeline]
) -> list[int]:
  """Numbers each piece among those with the same seed and prompts."""
  seen: list[Any] = []
  numbers = []
  for seed, timeline in zip(seeds, timelines, strict=True):
    prompts = [(start, _key(prompt)) for start, prompt in timeline.sections]
    numbers.append(seen.count((seed, prompts)))
    seen.append((seed, prompts))
  return numbers


def _key(prompt: timeline_lib.Prompt) -> Any:
  return prompt if isinstance(prompt, str) else prompt.tobytes()
