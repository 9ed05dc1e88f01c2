"""Makes blank takes: a timeline as tokens, with room for those to sample."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.audio import io
from musiclm_jax.models import mulan
from musiclm_jax.sampling import choosing
from musiclm_jax.sampling import plan as plan_lib
from musiclm_jax.sampling import plan_text
from musiclm_jax.sampling import sampler as sampler_lib
from musiclm_jax.sampling import take
from musiclm_jax.sampling import timeline as timeline_lib
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import plan_streams
from musiclm_jax.tokenizers import table
import numpy as np

_BLEND_STEP = 2.0  # Seconds per step of a blend of two prompts.


def make(
    timeline: timeline_lib.Timeline,
    tokenizers: table.Tokenizers,
    sampler: sampler_lib.Sampler,
    seeds: Sequence[int],
    config: choosing.GenerationConfig,
    hashes: dict[str, str],
) -> take.Take:
  """Returns a take whose tokens are yet to be sampled.

  Args:
    timeline: The piece to make.
    tokenizers: Tokenizers of the model.
    sampler: Cascade that will sample the take.
    seeds: 32-bit numbers that decide the noise.
    config: How tokens are chosen.
    hashes: The sha256 of each part of the model.

  Raises:
    UserError: If the timeline contradicts itself, or asks for something that
      the model can't do, or a prompt is too long.
  """
  negative_prompt = timeline.negative_prompt
  sampler.check(config, negative_prompt is not None)
  text, rate = tokenizers.text_embedder, tokenizers.codec.sample_rate
  seconds = timeline.length(rate)
  starts, embeddings = _sections(timeline, seconds, tokenizers)
  after = timeline_lib.LOOP_SECONDS if timeline.loop else 0.0
  tokens = sampler.empty(seconds + after)
  change = None
  if timeline.audio is not None:
    start, end = timeline.change or (len(timeline.audio) / rate, seconds)
    change = round(start * rate), round(end * rate)
    _fill(tokens, timeline.audio, (start, end), tokenizers, sampler)
  tokens[sampler.prompts.name] = _quantize(text, embeddings)
  negative = None
  if negative_prompt is not None:
    unwanted = embed(negative_prompt, tokenizers)
    negative = _quantize(text, [unwanted] * len(starts))
  plan, understood = find_plan(timeline, sampler.conditions)
  tokens |= _planned(plan or plan_lib.Plan(), seconds, after, sampler)
  tokens |= _conditions(timeline, tokenizers, sampler)
  description = _describe(timeline, seconds)
  if plan is not None:
    description |= {'plan': plan.to_json(), 'understood': understood}
  return take.Take(
      description=description,
      sample_rate=rate,
      num_samples=round(seconds * rate),
      sections=tuple(starts),
      context_seconds=_context(timeline),
      seeds=tuple(seeds),
      config=config,
      hashes=hashes,
      tokens=tokens,
      negative=negative,
      loop=timeline.loop,
      audio=timeline.audio,
      change=change,
      given=(sampler.prompts, *sampler.conditions.values()),
      sampled=sampler.sampled,
      acoustic=sampler.acoustic,
  )


def find_plan(
    timeline: timeline_lib.Timeline, conditions: Mapping[str, streams.Stream]
) -> tuple[plan_lib.Plan | None, str]:
  """Returns the plan of a piece, completed by its first prompt.

  Args:
    timeline: The piece.
    conditions: The streams that the model reads, by name.

  Returns:
    The plan, or None if there is nothing to plan; and a description of what it
    takes from the prompt.

  Raises:
    UserError: If the timeline's plan needs streams that the model does not
      read.
  """
  given = timeline.plan or plan_lib.Plan()
  read = [n for n, s in conditions.items() if plan_streams.is_planned(s)]
  if unread := [name for name in given.told if name not in read]:
    raise errors.UserError(
        f'a plan of {unread} must be for a model whose stages read them, but'
        f' those of this model read {read or "no such streams"}. Leave that out'
        ' of the plan.'
    )
  said = _said(timeline, read)
  taken = {
      name: value
      for name, value in vars(said).items()
      if not getattr(given, name)
      and not (name == 'arrange' and 'arrangement' in given.told)
  }
  if taken.get('metre') and not (given.bpm or said.bpm):
    del taken['metre']  # Without a tempo, it has no times.
  plan = given.filled(plan_lib.Plan(**taken))
  understood = plan_text.describe(plan_lib.Plan(**taken))
  return plan if plan != plan_lib.Plan() else None, understood


def _said(
    timeline: timeline_lib.Timeline, read: Sequence[str]
) -> plan_lib.Plan:
  """Returns what the first prompt plans of streams that are not given.

  Args:
    timeline: The piece.
    read: Names of the plan's streams that the model reads.
  """
  [(_, prompt), *later] = timeline.sections
  if timeline.prompt_only or not isinstance(prompt, str):
    return plan_lib.Plan()
  said = plan_text.read(prompt)
  fields = {
      'key': ['key'],
      'beat': ['bpm', 'metre'],
      'arrangement': ['arrange'],
  }
  kept = [
      field
      for stream, names in fields.items()
      if stream in read and stream not in timeline.conditions
      for field in names
      # With later prompts, the first does not say who plays at the end.
      if not (field == 'arrange' and later)
  ]
  return plan_lib.Plan(**{field: getattr(said, field) for field in kept})


def embed(
    prompt: timeline_lib.Prompt, tokenizers: table.Tokenizers
) -> Float[np.ndarray, ' embed']:
  """Returns the embedding of a text, or of [samples] audio."""
  text = tokenizers.text_embedder
  if isinstance(prompt, str):
    text.check_text(prompt)
    return text.embed_text([prompt], truncate=False)[0]
  _check_sound('a prompt', prompt)
  audio = resample(prompt, tokenizers.codec.sample_rate, text.sample_rate)
  return mulan.pool_windows(text.embed_audio(audio))[0]


def resample(audio: np.ndarray, given: int, wanted: int) -> np.ndarray:
  """Returns a user's [samples] at another rate, as [1, samples]."""
  base.check_audio(audio[np.newaxis], given)
  return np.clip(io.resample(audio, given, wanted), -1, 1)[np.newaxis]


def _sections(
    timeline: timeline_lib.Timeline,
    seconds: float,
    tokenizers: table.Tokenizers,
) -> tuple[list[float], list[np.ndarray]]:
  """Returns the start and the embedding of each section."""
  starts, embeddings = [0.0], [embed(timeline.sections[0][1], tokenizers)]
  if len(timeline.sections) > 1 and timeline.blend_seconds >= seconds:
    raise _no_room(timeline)
  for start, prompt in timeline.sections[1:]:
    if start >= seconds:
      raise errors.UserError(
          f'each prompt must start within the {seconds:g} s of the piece, but'
          f' one starts at second {start:g}.'
      )
    before, after = embeddings[-1], embed(prompt, tokenizers)
    steps = round(timeline.blend_seconds / _BLEND_STEP)
    for i in range(1, steps + 1):
      share = i / (steps + 1)
      mixed = (1 - share) * before + share * after
      time = start + ((i - 1) / steps - 0.5) * timeline.blend_seconds
      starts.append(time)
      norm = np.linalg.norm(mixed)
      embeddings.append(mixed / np.maximum(norm, 1e-9))
    starts.append(start + timeline.blend_seconds / 2 * bool(steps))
    embeddings.append(after)
  if any(a >= b for a, b in zip(starts, starts[1:])) or starts[-1] >= seconds:
    raise _no_room(timeline)
  return starts, embeddings


def _quantize(
    text: base.TextEmbedder, embeddings: Sequence[np.ndarray]
) -> np.ndarray:
  """Returns the [1, sections, quantizers] tokens of prompts."""
  # One by one, as the order of summation depends on the number of rows.
  rows = [text.quantize(x[np.newaxis]) for x in embeddings]
  return np.concatenate(rows, axis=1)


def _fill(
    tokens: streams.Tokens,
    audio: np.ndarray,
    change: tuple[float, float],
    tokenizers: table.Tokenizers,
    sampler: sampler_lib.Sampler,
) -> None:
  """Writes the tokens of existing audio, except those to change."""
  codec = tokenizers.codec
  base.check_audio(audio[np.newaxis], codec.sample_rate)
  found = codec.tokenize(audio[np.newaxis])
  for stream in sampler.sampled:
    if stream.name not in found:
      found |= _tokenize(stream, 'audio', audio, tokenizers)
  for stream in sampler.sampled:
    room, rate = tokens[stream.name], stream.frame_rate or 0.0
    # An incomplete last frame is left to be sampled.
    whole = int(len(audio) / codec.sample_rate * rate + 1e-3)
    count = min(whole, room.shape[1])
    room[:, :count] = found[stream.name][:, :count]
    start, end = int(change[0] * rate + 1e-3), np.ceil(change[1] * rate - 1e-3)
    room[:, start : int(end)] = streams.ABSENT


def _tokenize(
    stream: streams.Stream,
    what: str,
    audio: np.ndarray,
    tokenizers: table.Tokenizers,
) -> streams.Tokens:
  """Tokenizes audio with the part that writes a stream.

  Raises:
    UserError: If no part of the model writes it.
  """
  name = tokenizers.writer_of(stream.name)
  if name is None:
    raise errors.UserError(
        f'{what} must be for a model with a part that makes tokens of audio for'
        f" '{stream.name}', but this model has none."
    )
  tokenizer = tokenizers[name]
  rates = tokenizers.codec.sample_rate, tokenizer.sample_rate
  return tokenizer.tokenize(resample(audio, *rates))


def _conditions(
    timeline: timeline_lib.Timeline,
    tokenizers: table.Tokenizers,
    sampler: sampler_lib.Sampler,
) -> streams.Tokens:
  """Returns the tokens of each condition of a timeline."""
  tokens = {}
  for name, given in timeline.all_conditions.items():
    if name not in sampler.conditions:
      read = [sampler.prompts.name, *sampler.conditions]
      raise errors.UserError(
          f"{name} must be for a model with a part '{name}' and stages that"
          f' read it, but those of this model read {read}. Leave it out.'
      )
    stream = sampler.conditions[name]
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.floating):
      tokens[name] = _check_tokens(stream, given)
      continue
    what = f"condition '{name}'"
    _check_sound(what, given)
    tokens[name] = _tokenize(stream, what, given, tokenizers)[name]
  return tokens


def _planned(
    plan: plan_lib.Plan,
    seconds: float,
    after: float,
    sampler: sampler_lib.Sampler,
) -> streams.Tokens:
  """Returns the tokens of a plan, for each of its streams that stages read."""
  wanted = {
      name: stream
      for name, stream in sampler.conditions.items()
      if plan_streams.is_planned(stream)
  }
  return plan.tokens(seconds, wanted, after)


def _check_tokens(stream: streams.Stream, tokens: np.ndarray) -> np.ndarray:
  """Returns a condition given as tokens, as [1, frames, quantizers]."""
  quantizers, size = stream.num_quantizers, stream.codebook_size
  is_right = (
      np.issubdtype(tokens.dtype, np.integer)
      and tokens.ndim == 2
      and tokens.shape[1] == quantizers
      and 0 < len(tokens)
      and streams.ABSENT <= tokens.min() <= tokens.max() < size
  )
  if not is_right:
    raise errors.UserError(
        f"condition '{stream.name}' must be [samples] floats of audio, or"
        f' [frames, {quantizers}] tokens below {size}, but has shape'
        f' {tokens.shape} and is {tokens.dtype}.'
    )
  return tokens[np.newaxis].astype(np.int32)


def _no_room(timeline: timeline_lib.Timeline) -> errors.UserError:
  return errors.UserError(
      'blend_seconds must fit between the prompts, within the piece, but'
      f' prompts start at {[s for s, _ in timeline.sections]} s, and'
      f' blend_seconds is {timeline.blend_seconds}.'
  )


def _context(timeline: timeline_lib.Timeline) -> float:
  # Each step of a blend continues the one before.
  least = _BLEND_STEP / 2 if timeline.blend_seconds else 0.0
  return max(float(timeline.context_seconds), least)


def _check_sound(what: str, audio: np.ndarray) -> None:
  if not np.any(audio):
    raise errors.UserError(
        f'{what} must be heard, but its {audio.size} samples are silent. Pass'
        ' another recording.'
    )


def _describe(
    timeline: timeline_lib.Timeline, seconds: float
) -> dict[str, Any]:
  """Describes the piece that was asked for, for people to read."""
  name = lambda prompt: prompt if isinstance(prompt, str) else '(audio)'
  return {
      'prompts': [[start, name(prompt)] for start, prompt in timeline.sections],
      'seconds': seconds,
      'negative_prompt': timeline.negative_prompt,
      'conditions': sorted(timeline.all_conditions),
      'blend_seconds': timeline.blend_seconds,
  }
