"""From what is asked for to tokens: those given, and room for the others."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.audio import io
from musiclm_jax.models import mulan as mulan_model
from musiclm_jax.sampling import sampler as sampler_lib
from musiclm_jax.sampling import take
from musiclm_jax.sampling import timeline as timeline_lib
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import melody as melody_lib
from musiclm_jax.tokenizers import mulan as mulan_lib
from musiclm_jax.tokenizers import soundstream
import numpy as np

_BLEND_STEP = 2.0  # Seconds of one mixture of two prompts.


@dataclasses.dataclass(frozen=True)
class Conditioner:
  """The tokenizers of a model, and what they make of a timeline.

  Attributes:
    mulan: Of text and audio prompts.
    codec: Of audio that is there already.
    sampler: Knows how many tokens there will be.
    hashes: The sha256 of each part of the model.
    load_semantic: Loads the tokenizer of semantic tokens, for audio that is
      there already; None if the model has none.
    melody: Of melodies; None if the model follows none.
  """

  mulan: mulan_lib.MuLan
  codec: soundstream.SoundStream
  sampler: sampler_lib.Sampler
  hashes: dict[str, str]
  load_semantic: Callable[[], base.Tokenizer] | None = None
  melody: melody_lib.Melody | None = None

  def prepare(
      self,
      timeline: timeline_lib.Timeline,
      seeds: Sequence[int],
      config: sampler_lib.GenerationConfig,
  ) -> take.Take:
    """Returns a take with tokens yet to be sampled.

    Raises:
      UserError: If the timeline contradicts itself, or asks for what the model
        can't do, or a prompt is too long.
    """
    has_negative_prompt = timeline.negative_prompt is not None
    self.sampler.check_guidance(config, has_negative_prompt)
    rate = self.codec.sample_rate
    seconds = timeline.length(rate)
    starts, embeddings = self._sections(timeline, seconds)
    after = timeline_lib.LOOP_SECONDS if timeline.loop else 0.0
    tokens = self.sampler.empty(1, seconds + after)
    change = None
    if timeline.audio is not None:
      there = len(timeline.audio)
      start, end = timeline.change or (there / rate, seconds)
      change = round(start * rate), round(end * rate)
      self._fill(tokens, timeline.audio, start, end)
    tokens[base.MULAN.name] = self._quantize(embeddings)
    negative = None
    if timeline.negative_prompt is not None:
      unwanted = self.embed(timeline.negative_prompt)
      negative = self._quantize([unwanted] * len(starts))
    if timeline.melody is not None:
      tokenizer = self._melody_tokenizer()
      _check_sound('a melody', timeline.melody)
      audio = self._resample(timeline.melody, tokenizer.sample_rate)
      tokens |= tokenizer.tokenize(audio)
    return take.Take(
        description=_describe(timeline, seconds),
        sample_rate=rate,
        num_samples=round(seconds * rate),
        sections=tuple(starts),
        context_seconds=_context(timeline),
        seeds=tuple(seeds),
        config=config,
        hashes=dict(self.hashes),
        tokens=tokens,
        negative=negative,
        loop=timeline.loop,
        audio=timeline.audio,
        change=change,
    )

  def embed(self, prompt: timeline_lib.Prompt) -> Float[np.ndarray, ' embed']:
    """Returns the MuLan embedding of a text, or of [samples] audio."""
    if isinstance(prompt, str):
      self.mulan.check_text(prompt)
      return self.mulan.embed_text([prompt], truncate=False)[0]
    _check_sound('a prompt', prompt)
    audio = self._resample(prompt, self.mulan.sample_rate)
    return mulan_model.pool_windows(self.mulan.embed_audio(audio))[0]

  def follows(self, audio: np.ndarray, melody: np.ndarray) -> float:
    """Returns how near audio is to the melody it was made with: -1 to 1.

    That is the mean similarity of melody embeddings at the same times.

    Args:
      audio: [samples] at the codec's rate.
      melody: Likewise.

    Raises:
      UserError: If the model follows no melodies.
    """
    tokenizer = self._melody_tokenizer()
    made, given = (
        tokenizer.embed_audio(self._resample(x, tokenizer.sample_rate))[0]
        for x in (audio, melody)
    )
    windows = min(len(made), len(given))
    return float(np.mean(np.sum(made[:windows] * given[:windows], axis=-1)))

  def _resample(self, audio: np.ndarray, rate: int) -> np.ndarray:
    """Returns [1, samples] of what a user passed as [samples]."""
    base.check_audio(audio[np.newaxis], self.codec.sample_rate)
    resampled = io.resample(audio, self.codec.sample_rate, rate)
    return np.clip(resampled, -1, 1)[np.newaxis]

  def _sections(
      self, timeline: timeline_lib.Timeline, seconds: float
  ) -> tuple[list[float], list[np.ndarray]]:
    """Returns the start and the embedding of each section."""
    starts, embeddings = [0.0], [self.embed(timeline.sections[0][1])]
    if len(timeline.sections) > 1 and timeline.blend_seconds >= seconds:
      raise _no_room(timeline)
    for start, prompt in timeline.sections[1:]:
      if start >= seconds:
        raise errors.UserError(
            f'each prompt must start within the {seconds:g} s of the piece, but'
            f' one starts at second {start:g}.'
        )
      before, after = embeddings[-1], self.embed(prompt)
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

  def _quantize(self, embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """Returns [1, sections, quantizers] MuLan tokens."""
    # One by one: products add up in another order where there are more rows.
    rows = [self.mulan.quantize(x[np.newaxis]) for x in embeddings]
    return np.concatenate(rows, axis=1)

  def _fill(
      self, tokens: streams.Tokens, audio: np.ndarray, start: float, end: float
  ) -> None:
    """Writes the tokens of audio that is there, but for those to change."""
    if self.load_semantic is None:
      raise errors.UserError(
          'audio must be for a model with the part w2v_bert, which makes'
          ' semantic tokens of it, but this model has none.'
      )
    semantic = self.load_semantic()
    base.check_audio(audio[np.newaxis], self.codec.sample_rate)
    found = self.codec.tokenize(audio[np.newaxis])
    found |= semantic.tokenize(self._resample(audio, semantic.sample_rate))
    there = len(audio) / self.codec.sample_rate
    for stream in (base.SEMANTIC, base.COARSE, base.FINE):
      room, rate = tokens[stream.name], stream.num_frames(1.0)
      # A last frame that is not whole is left to be sampled.
      count = min(int(there * rate + 1e-3), room.shape[1])
      room[:, :count] = found[stream.name][:, :count]
      changed = slice(int(start * rate + 1e-3), int(np.ceil(end * rate - 1e-3)))
      room[:, changed] = streams.ABSENT

  def _melody_tokenizer(self) -> melody_lib.Melody:
    """Returns `melody`; UserError if the model follows none."""
    if self.melody is None or not self.sampler.reads_melody:
      raise errors.UserError(
          "melody must be for a model with a part 'melody' and stages that read"
          ' it, but this model has none. Train one with `musiclm recipe'
          ' --melody`, or leave the melody out.'
      )
    return self.melody


def _no_room(timeline: timeline_lib.Timeline) -> errors.UserError:
  return errors.UserError(
      'blend_seconds must fit between the prompts, within the piece, but'
      f' prompts start at {[s for s, _ in timeline.sections]} s, and'
      f' blend_seconds is {timeline.blend_seconds}.'
  )


def _context(timeline: timeline_lib.Timeline) -> float:
  # Each mixture of a blend goes on from the one before.
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
  """Returns what was asked for, to be read by people."""
  name = lambda prompt: prompt if isinstance(prompt, str) else '(audio)'
  return {
      'prompts': [[start, name(prompt)] for start, prompt in timeline.sections],
      'seconds': seconds,
      'negative_prompt': timeline.negative_prompt,
      'melody': timeline.melody is not None,
      'blend_seconds': timeline.blend_seconds,
  }
