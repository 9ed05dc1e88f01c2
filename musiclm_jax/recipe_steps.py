"""What the steps of a recipe leave: records, a sample, and words."""

from collections.abc import Iterator, Mapping
import contextlib
import hashlib
import json
import pathlib
import signal
from typing import Any

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths

Record = Mapping[str, Any]


def write_record(path: paths.Path, value: Record) -> None:
  """Writes JSON that says whether it was damaged."""
  # NaN and infinities, of a metric, are no JSON.
  value = json.loads(json.dumps(value), parse_constant=lambda _: None)
  files.write_text(path, json.dumps(files.sealed(value), indent=2))


def read_record(path: paths.Path) -> Record:
  return files.read_json(path, 'the record of a step')


def sha256(path: str | None) -> str | None:
  """Returns the hash of a file, if there is one."""
  if path is None:
    return None
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def duration(record: Record) -> str:
  seconds = record.get('seconds')
  return 'unknown time' if seconds is None else f'{seconds:.0f} s'


@contextlib.contextmanager
def saying_how_to_go_on(name: str) -> Iterator[None]:
  """Adds the name of the step, and the next command, to an interrupt."""
  try:
    yield
  except KeyboardInterrupt as e:
    said = str(e) or 'interrupted; run the same command again to go on there.'
    signum = getattr(e, 'signum', signal.SIGINT)
    raise errors.Interrupted(signum, f"step '{name}': {said}") from e


def check_output(data: pathlib.Path, output: paths.Path) -> None:
  """Raises UserError unless a recipe of some data can write into a folder."""
  if not isinstance(output, pathlib.Path):
    return
  if output.exists() and not output.is_dir():
    raise errors.WriteError(
        f"--output must be a folder, but '{output}' is a file. Choose another"
        ' name.'
    )
  inside, outside = output.resolve(), data.resolve()
  # Else the output would be read as data.
  if inside == outside or outside in inside.parents:
    raise errors.UserError(
        f"--output must be outside of --data, but '{output}' is in '{data}'."
        ' Choose a folder beside it.'
    )


def write_sample(
    data_dir: paths.Path, model_dir: paths.Path, path: paths.Path
) -> str:
  """Writes ten seconds for the first caption of the test split; returns it."""
  from musiclm_jax.data import datasets
  from musiclm_jax.sampling import musiclm
  from musiclm_jax.sampling import provenance

  prompt = datasets.open_dataset('music', data_dir, 'test')[0]['captions'][0]
  directory = caching.local(model_dir)
  model = musiclm.MusicLM.from_pretrained(directory)
  [take] = model.takes([prompt], seconds=10)
  origin, audio = provenance.manifest(directory), model.render(take)
  provenance.write_take(path, take, audio, model.sample_rate, origin)
  return prompt
