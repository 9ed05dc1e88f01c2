"""Passes true audio through a codec: the best that its stages could do."""

from collections.abc import Mapping
import json
import os
import pathlib

from musiclm_jax import errors
from musiclm_jax.audio import io
from musiclm_jax.metrics.music import sounds
from musiclm_jax.tokenizers import base
import numpy as np
import tqdm


def code_all(
    codec: base.Codec,
    clips: Mapping[str, sounds.Sound],
    seconds: Mapping[str, float],
    folder: str | os.PathLike[str],
) -> dict[str, sounds.File]:
  """Writes what a codec makes of clips; those that are there are kept.

  Args:
    codec: The codec.
    clips: True audio by id.
    seconds: How much of each is passed through.
    folder: Folder of the files, `<id>.wav`.

  Returns:
    The files by id.

  Raises:
    UserError: If a file that is there is of another codec, or a clip is no
      audio.
    WriteError: If the system refuses.
  """
  made = {}
  for id_, clip in tqdm.tqdm(clips.items(), 'pass through codec', unit='clip'):
    path = pathlib.Path(folder) / f'{id_}.wav'
    comment = json.dumps(
        {'codec': codec.sha256, 'of': id_, 'seconds': seconds[id_]}
    )
    if path.exists():
      _check_same(path, comment)
    else:
      audio = sounds.read_first(clip, seconds[id_], codec.sample_rate)
      io.write_audio(path, _coded(codec, audio), codec.sample_rate, comment)
    made[id_] = sounds.File(str(path))
  return made


def _coded(codec: base.Codec, audio: np.ndarray) -> np.ndarray:
  tokens = codec.tokenize(audio[np.newaxis])
  return np.clip(codec.detokenize(tokens)[0, : len(audio)], -1, 1)


def _check_same(path: pathlib.Path, comment: str) -> None:
  found = io.read_tags(path).get('comment', '')
  if found != comment:
    raise errors.UserError(
        f"'{path}' must be of this codec and clip, {comment}, but says"
        f' {found!r:.200}. Remove it, or name another folder.'
    )
