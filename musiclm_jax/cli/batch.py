"""The verb `batch` of the command `musiclm`."""

import argparse
from collections.abc import Sequence
import functools
import importlib
import pathlib
import signal
import sys
from typing import Any

from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.cli import common
from musiclm_jax.cli import working

_CHOICES = {
    'negative_prompt': str,
    'best_of': int,
    'temperature': float,
    'top_k': int,
    'top_p': float,
    'guidance_scale': float,
}


def _shard(args: argparse.Namespace) -> tuple[int, int]:
  """Returns which shard of how many this process is to make."""
  if (args.shard is None) != (args.num_shards is None):
    raise errors.UserError(
        '--shard and --num_shards must be given together, but one is missing.'
    )
  if args.distributed and args.shard is not None:
    raise errors.UserError(
        '--distributed must be without --shard, which it finds.'
    )
  if args.shard is not None:
    return args.shard, args.num_shards
  if args.distributed:
    common.join_job()
  import jax

  shard, num_shards = jax.process_index(), jax.process_count()
  if args.distributed:
    # From here on, each process lives and dies alone.
    jax.distributed.shutdown()
  return shard, num_shards


def _start() -> None:
  with progress.telling(common.STARTING):
    importlib.import_module('musiclm_jax.sampling.musiclm')


class Interruptible:
  """A model whose work ends at once at a signal.

  Attributes:
    sample_rate: See `musiclm.MusicLM`.
  """

  def __init__(self, directory: pathlib.Path, dtype: str):
    """Loads the model."""
    from musiclm_jax.sampling import musiclm

    load = functools.partial(musiclm.MusicLM.from_pretrained, directory, dtype)
    with progress.telling('loading the model'):
      self._model = working.interruptible(load)
    self.sample_rate = self._model.sample_rate

  def generate(self, *args: Any, **options: Any) -> Any:
    """Makes pieces; see `musiclm.MusicLM`."""
    work = functools.partial(self._model.generate, *args, **options)
    return working.interruptible(work)


def _batch(args: argparse.Namespace, rest: Sequence[str]) -> int:
  """Returns the exit status: 1 if there are prompts left to make."""
  common.no_more(rest)
  working.interruptible(_start)
  import jax
  from musiclm_jax.sampling import batch
  from musiclm_jax.sampling import pretrained
  from musiclm_jax.sampling import prompt_list
  from musiclm_jax.sampling import provenance

  given = {name: getattr(args, name, None) for name in prompt_list.OPTIONS}
  defaults = {k: value for k, value in given.items() if value is not None}
  lines = prompt_list.read(args.prompts, defaults)
  index, num_shards = _shard(args)
  model = pretrained.find(args.model)
  # Files are the same only where 'auto' is.
  dtype = pretrained.dtype_in_words(model, args.dtype)
  shard = batch.Shard(
      lines,
      args.output_dir,
      {'model': provenance.model_sha256(model), 'dtype': dtype},
      args.batch_size,
      args.format,
      index,
      num_shards,
      provenance.manifest(model),
      args.manifest,
  )
  try:
    summary = shard.run(lambda: Interruptible(model, args.dtype))
  except KeyboardInterrupt as e:
    raise errors.Interrupted(
        getattr(e, 'signum', signal.SIGINT),
        f"interrupted; what was made is kept in '{args.output_dir}'. Run the"
        ' same command again to go on.',
    ) from e
  except errors.WriteError as e:
    raise errors.WriteError(
        f'{e} What was made is kept; run the same command again to go on.'
    ) from e
  except (jax.errors.JaxRuntimeError, MemoryError) as e:
    message = ' '.join(str(e).split())
    print(
        f'musiclm: stopped by {type(e).__name__}: {message:.500}\nWhat was made'
        ' is kept; run it again to go on. If memory ran out, try a smaller'
        ' --batch_size, in another --output_dir.',
        file=sys.stderr,
    )
    return 1
  print(summary)
  return 1 if summary.failed else 0


def add_verbs(verbs: argparse._SubParsersAction) -> None:
  batch = verbs.add_parser(
      'batch',
      help='make music from every prompt of a list',
      description='Makes an audio file of every prompt of a list. It may be'
      ' killed and run again: it goes on where it was. The same list, options'
      ' and kind of machine give the same files, for any number of shards. Exit'
      ' status: 1 if prompts failed, 2 if the list or an option is wrong.',
  )
  batch.add_argument(
      'prompts',
      help='.jsonl file of objects with a "prompt" and perhaps "id" (the name'
      ' of its file; default: the number of the line, as in 000001), "seconds",'
      ' "seed" and others; or a .txt file of prompts, one on each line',
  )
  batch.add_argument('--output_dir', required=True, help='folder of the files')
  batch.add_argument(
      '--model',
      help='model directory or hub id; default: the one in the package',
  )
  batch.add_argument(
      '--seconds',
      type=common.positive,
      default=10.0,
      help='length of pieces whose lines do not say (default: %(default)s)',
  )
  batch.add_argument(
      '--seed', type=int, default=0, help='of pieces whose lines do not say'
  )
  for name, kind in _CHOICES.items():
    batch.add_argument(f'--{name}', type=kind, help='see musiclm generate')
  batch.add_argument(
      '--batch_size',
      type=int,
      default=8,
      help='pieces made at once (default: %(default)s). Another size rounds in'
      ' another way, so files may differ: keep to one in a folder',
  )
  batch.add_argument(
      '--dtype',
      default='auto',
      help=common.DTYPE_HELP,
  )
  batch.add_argument(
      '--format', default='.wav', help='.wav (default), .flac or .mp3'
  )
  batch.add_argument(
      '--manifest',
      action='store_true',
      help='also write what each file was made of beside it, as JSON; see'
      ' musiclm show',
  )
  batch.add_argument(
      '--shard', type=int, help='make part I of the list, from 0', metavar='I'
  )
  batch.add_argument(
      '--num_shards', type=int, help='of so many parts', metavar='N'
  )
  batch.add_argument(
      '--distributed',
      action='store_true',
      help='instead of --shard: make the part of this process of a job, of a'
      ' TPU pod, or under Slurm, Open MPI or Kubernetes',
  )
  batch.set_defaults(run=_batch)
