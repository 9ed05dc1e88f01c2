"""Text in, music out: a trained MusicLM."""

from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import Any

import jax
from jaxtyping import Float
from musiclm_jax.audio import io
from musiclm_jax.models import parts
from musiclm_jax.sampling import decode
from musiclm_jax.sampling import sampler as sampler_lib
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import melody as melody_lib
from musiclm_jax.tokenizers import mulan as mulan_lib
from musiclm_jax.tokenizers import soundstream
import numpy as np
import tqdm

TEMPERATURES = sampler_lib.Temperatures()
DTYPES = ('float32', 'bfloat16')
PROGRESS_AFTER = 3.0  # Seconds until a progress bar is worth its line.


class MusicLM:
  """Makes music from text.

    model = MusicLM.from_pretrained()
    audio = model.generate(['slow piano waltz in A minor'], seconds=10)

  Attributes:
    sample_rate: Of the audio it makes, in Hz.
  """

  def __init__(
      self,
      mulan: Any,
      codec: base.Codec,
      decoders: Mapping[str, decode.StageDecoder],
      melody: base.Tokenizer | None = None,
  ):
    """Makes a model of loaded parts.

    Args:
      mulan: A `tokenizers.mulan.MuLan`, or what has its `tokenize_text`.
      codec: Turns coarse and fine tokens into audio.
      decoders: The stages 'semantic', 'coarse' and 'fine'.
      melody: Writes the tokens of melodies that stages are to follow.
    """
    self.sample_rate = codec.sample_rate
    self._mulan = mulan
    self._codec = codec
    self._melody = melody
    self._sampler = sampler_lib.Sampler(decoders)

  @classmethod
  def from_pretrained(
      cls,
      name_or_dir: str | os.PathLike[str] | None = None,
      dtype: str = 'float32',
  ) -> 'MusicLM':
    """Loads a model.

    Args:
      name_or_dir: A model directory, or the id 'owner/name' of one on the
        Hugging Face hub; None for the one in the package.
      dtype: Of the weights and arithmetic of the stages: 'float32', or
        'bfloat16', which is faster on accelerators.

    Raises:
      FileNotFoundError: If there is no such model, or it lacks a part.
      ValueError: If a part is damaged, or was trained with other tokenizers.
    """
    if dtype not in DTYPES:
      raise ValueError(f"dtype must be one of {DTYPES}, but is '{dtype}'.")
    _keep_compiled()
    directory = _find(name_or_dir)
    mulan = mulan_lib.MuLan.from_dir(directory)
    codec = soundstream.SoundStream.from_dir(directory)
    hashes = {'mulan': mulan.sha256, 'soundstream': codec.sha256}
    if (directory / 'w2v_bert.json').exists():
      w2v_bert = parts.read_description(directory, 'w2v_bert')
      hashes['w2v_bert'] = w2v_bert['sha256']
    melody = None
    if (directory / 'melody.json').exists():
      melody = melody_lib.Melody.from_dir(directory)
      hashes['melody'] = melody.sha256
    decoders = {}
    for name in sampler_lib.STAGES:
      decoders[name] = decode.StageDecoder.from_dir(directory, name, dtype)
      parts.check_lineage(name, decoders[name].lineage, hashes)
    return cls(mulan, codec, decoders, melody)

  def generate(
      self,
      prompts: str | Sequence[str],
      seconds: int | float = 10.0,
      seed: int = 0,
      temperatures: sampler_lib.Temperatures = TEMPERATURES,
      progress: bool = True,
      melody: Float[np.ndarray, ' melody_samples'] | None = None,
  ) -> Float[np.ndarray, 'batch samples']:
    """Makes a piece of music for each prompt.

    Args:
      prompts: A description of the music, or several.
      seconds: Length of each piece; any.
      seed: The same call gives the same audio. So does the same prompt among
        other ones, but for rare choices that rounding tips: XLA adds up in
        another order where there are more rows. A prompt that is repeated is
        played anew each time.
      temperatures: How far each stage strays from its likeliest tokens.
      progress: Whether to show a progress bar if it takes long.
      melody: [samples] in [-1, 1], at `sample_rate`, e.g. of somebody who hums.
        Every piece follows it, as long as it lasts (MusicLM, section 4.5).

    Returns:
      [batch, samples] float32 in [-1, 1], at `sample_rate`.

    Raises:
      ValueError: If a prompt is empty or too long, or `seconds` not positive,
        or if there is a melody and the model follows none.
    """
    prompts, seconds = _check_prompts(prompts), float(seconds)
    num_samples = self._num_samples(seconds)
    # One by one: products add up in another order where there are more rows.
    texts = [self._mulan.tokenize_text([p])[base.MULAN.name] for p in prompts]
    tokens = {base.MULAN.name: np.concatenate(texts)}
    if melody is not None:
      tokens |= self._melody_tokens(melody, len(prompts))
    total = len(prompts) * self._sampler.num_tokens(seconds)
    with tqdm.tqdm(
        total=total, desc='music', unit=' tokens', unit_scale=True,
        delay=PROGRESS_AFTER, disable=not progress, leave=False,
    ) as bar:  # fmt: skip
      tokens = self._sampler.sample(
          tokens, seconds, _seeds(seed, prompts), temperatures, bar.update
      )
    pieces = ({k: x[[i]] for k, x in tokens.items()} for i in range(len(texts)))
    return np.concatenate([self._audio(p, num_samples) for p in pieces])

  def _num_samples(self, seconds: float) -> int:
    """Returns the length of the audio, if there is any."""
    if not 0 < seconds < float('inf'):
      raise ValueError(
          f'seconds must be greater than 0, but is {seconds}. Ask for as many'
          ' seconds of music as you want to hear.'
      )
    num_samples = round(seconds * self.sample_rate)
    if not num_samples:
      raise ValueError(
          f'seconds must be at least one sample, {1 / self.sample_rate:.2g},'
          f' but is {seconds}.'
      )
    return num_samples

  def _melody_tokens(self, melody: np.ndarray, batch: int) -> base.Tokens:
    """Returns the tokens of a melody, for each piece of a batch."""
    if self._melody is None or not self._sampler.reads_melody:
      raise ValueError(
          "melody must be for a model with a part 'melody' and stages that read"
          ' it, but this model has none. Train one with `musiclm recipe'
          ' --melody`, or leave the melody out.'
      )
    base.check_audio(melody[np.newaxis], self.sample_rate)
    audio = io.resample(melody, self.sample_rate, self._melody.sample_rate)
    tokens = self._melody.tokenize(np.clip(audio, -1, 1)[np.newaxis])
    return {name: np.repeat(t, batch, axis=0) for name, t in tokens.items()}

  def _audio(self, tokens: base.Tokens, num_samples: int) -> np.ndarray:
    """Returns the [1, samples] audio of one piece."""
    streams = {s.name: tokens[s.name] for s in self._codec.streams}
    audio = self._codec.detokenize(streams)[:, :num_samples]
    return audio.astype(np.float32)


def _check_prompts(prompts: str | Sequence[str]) -> list[str]:
  prompts = [prompts] if isinstance(prompts, str) else list(prompts)
  if not prompts:
    raise ValueError('prompts must hold at least one text, but are empty.')
  for prompt in prompts:
    if not isinstance(prompt, str) or not prompt.strip():
      raise ValueError(
          'each prompt must be a text that describes music, but one is'
          f' {prompt!r}.'
      )
  return prompts


def _seeds(seed: int, prompts: Sequence[str]) -> np.ndarray:
  """Returns [batch, 2]: the seed, and which take of its prompt a piece is."""
  if not 0 <= seed < 2**32:
    raise ValueError(f'seed must be in [0, 2**32), but is {seed}.')
  takes = [prompts[:i].count(prompt) for i, prompt in enumerate(prompts)]
  return np.stack([np.full(len(takes), seed), takes], axis=1)


def _find(name_or_dir: str | os.PathLike[str] | None) -> pathlib.Path:
  """Returns the directory of a model, downloading it if need be."""
  if name_or_dir is None:
    return parts.embedded_model()
  if pathlib.Path(name_or_dir).is_dir():
    return pathlib.Path(name_or_dir)
  name = os.fspath(name_or_dir)
  if len(name.split('/')) != 2 or name[0] in './~':
    raise FileNotFoundError(
        "model must be a directory or the id 'owner/name' of one on the"
        f" Hugging Face hub, but there is no directory '{name}'."
    )
  import huggingface_hub  # Slow to import, and seldom needed.

  try:
    path = huggingface_hub.snapshot_download(
        name, allow_patterns=['*.json', '*.safetensors']
    )
  except Exception as e:  # Of many kinds, from the client and below it.
    raise FileNotFoundError(
        f"model '{name}' must be a directory, or be on the Hugging Face hub and"
        f' the hub within reach, but: {str(e).splitlines()[0]} Check the name'
        ' and the network, or pass the path of a model directory.'
    ) from e
  return pathlib.Path(path)


def _keep_compiled() -> None:
  """Keeps compiled programs for the next process, unless JAX is told where.

  JAX_COMPILATION_CACHE_DIR names another folder, or none if it is empty.
  """
  if (
      'JAX_COMPILATION_CACHE_DIR' in os.environ
      or jax.config.values['jax_compilation_cache_dir']
  ):
    return
  cache = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  folder = pathlib.Path(cache) / 'musiclm_jax' / 'compiled'
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
