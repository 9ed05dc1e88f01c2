"""Flags and checks that verbs share."""

import argparse
from collections.abc import Callable, Sequence
import sys
from typing import Any

from musiclm_jax import errors

STARTING = 'starting'
# Seconds after which the processes of a job end if one of them died, to be
# started again.
DEAD_AFTER = 20
DTYPE_HELP = (
    'type of the weights: float32, bfloat16 or int8, the smaller the faster;'
    ' auto (default) is int8 on a CPU if they are stored so, else float32, and'
    ' bfloat16 on an accelerator'
)


def positive(text: str) -> float:
  """Parses a flag that must be a positive number of seconds."""
  try:
    value = float(text)
  except ValueError:
    value = float('nan')
  if not 0 < value < float('inf'):
    raise argparse.ArgumentTypeError(
        f'must be a number of seconds greater than 0, but is {text}.'
    )
  return value


def at_least(least: int) -> Callable[[str], int]:
  """Returns the type of a flag that must be an integer of at least `least`."""

  def parse(text: str) -> int:
    try:
      value = int(text)
    except ValueError:
      value = least - 1
    if value < least:
      raise argparse.ArgumentTypeError(
          f'must be a whole number of at least {least}, but is {text}.'
      )
    return value

  return parse


def no_more(rest: Sequence[str]) -> None:
  """Raises UserError if the parser left arguments over."""
  if rest:
    raise errors.UserError(
        f'every argument must be one that --help lists, but got {rest[0]}.'
    )


def join_job() -> None:
  """Joins the processes of the job that JAX finds this process in."""
  import jax

  try:
    jax.distributed.initialize(heartbeat_timeout_seconds=DEAD_AFTER)
  except ValueError as e:
    raise errors.UserError(
        '--distributed must be given in a job that JAX finds (TPU pod, Slurm,'
        f' Open MPI, Kubernetes), but it finds none: {e} Leave it out to run'
        ' in one process.'
    ) from e


def in_job() -> bool:
  """Returns whether this process is one of several of a job."""
  jax = sys.modules.get('jax')
  return (
      jax is not None
      and jax.distributed.is_initialized()
      and jax.process_count() > 1
  )


def add_writing(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of every verb that writes a dataset."""
  parser.add_argument(
      '--runner',
      help='Beam runner, e.g. FnApiRunner or DataflowRunner; further --flags'
      ' are its pipeline options. Default: this machine, without Beam',
  )
  parser.add_argument(
      '--overwrite',
      action='store_true',
      help='replace a dataset that exists; default: leave it as it is',
  )


def writing_options(
    args: argparse.Namespace, rest: Sequence[str]
) -> dict[str, Any]:
  """Returns the values of those flags, as arguments of a function."""
  if args.runner is None:
    no_more(rest)
  return {
      'runner': args.runner,
      'pipeline_options': rest,
      'overwrite': args.overwrite,
  }
