"""The `musiclm` command: one verb per step, from data to music.

Each verb imports what it needs and nothing else, so that `musiclm generate`
starts without the training stack.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
import contextlib
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from types import FrameType
import warnings

from musiclm_jax import cli_batch
from musiclm_jax import cli_data
from musiclm_jax import cli_generate
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import progress

# Set to show the traceback of every error, and what libraries log.
TRACEBACK = 'MUSICLM_TRACEBACK'
# Modules of `metrics` that measure one part, or all.
REPORTS = {
    'all': 'report',
    'codec': 'codec_report',
    'mulan': 'mulan_report',
    'w2v_bert': 'semantic_report',
    'melody': 'melody_report',
}


def _train(args: argparse.Namespace, rest: Sequence[str]) -> None:
  if args.dry_run:
    from musiclm_jax.training import dry_run

    print(
        dry_run.dry_run_main(rest, args.mesh, args.device_kind, args.topology)
    )
    return
  if args.mesh or args.device_kind or args.topology:
    raise errors.UserError(
        '--mesh, --device_kind and --topology must come with --dry_run: where'
        ' training runs is up to the machine and the gin flags.'
    )
  if args.distributed:
    cli_data.join_job()
  with progress.telling(cli_data.STARTING):
    from musiclm_jax.training import gin_flags

  gin_flags.train_main(rest)


def _vocab(args: argparse.Namespace, rest: Sequence[str]) -> None:
  cli_data.no_more(rest)
  with progress.telling(cli_data.STARTING):
    from musiclm_jax.training import mulan

  files.check_writable(args.output)
  with progress.telling('learning word pieces from the captions'):
    size = mulan.build_corpus_vocab(args.data, args.output)
  print(f'{args.output}: {size} word pieces')


def _export(args: argparse.Namespace, rest: Sequence[str]) -> None:
  with progress.telling(cli_data.STARTING):
    from musiclm_jax.training import export

  export.export_main(rest, output=args.output, dtype=args.dtype)


def _tokenize(args: argparse.Namespace, rest: Sequence[str]) -> None:
  options = cli_data.writing_options(args, rest)
  with progress.telling(cli_data.STARTING):
    from musiclm_jax.data import records

  records.tokenize_corpus(args.data, args.model, **options)


def _recipe(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from musiclm_jax import recipe

  recipe.recipe_main(
      rest,
      data=args.data,
      output=args.output,
      soundfont=args.soundfont,
      melody=args.melody,
      skip_bad=args.skip_bad,
  )


def _evaluate(args: argparse.Namespace, rest: Sequence[str]) -> None:
  cli_data.no_more(rest)
  from musiclm_jax.metrics import report

  module = importlib.import_module(f'musiclm_jax.metrics.{REPORTS[args.part]}')
  rows = module.evaluate(args.data, args.model, args.split, args.max_clips)
  print(report.render(rows))


def _doctor(args: argparse.Namespace, rest: Sequence[str]) -> None:
  cli_data.no_more(rest)
  from musiclm_jax import doctor

  print(doctor.examine(args.run_dir, data_dir=args.data))


def _add_training(verbs: argparse._SubParsersAction) -> None:
  gin_help = 'takes --gin_file=FILE, --gin.NAME=VALUE, --gin_search_paths=…'
  train = verbs.add_parser('train', help=f'train one part; {gin_help}')
  train.add_argument(
      '--distributed',
      action='store_true',
      help='train in all processes of a job together: of a TPU pod, or under'
      ' Slurm, Open MPI or Kubernetes, as jax.distributed.initialize finds it',
  )
  train.add_argument(
      '--dry_run',
      action='store_true',
      help='say what training takes (parameters, FLOP, memory), and do not',
  )
  train.add_argument(
      '--mesh', help='of a dry run: devices DATAxMODEL, e.g. 64x2'
  )
  train.add_argument(
      '--device_kind', help='of a dry run: e.g. v5p, v5e, h100, a100-80gb'
  )
  train.add_argument(
      '--topology',
      help='of a dry run: TPUs to compile for, e.g. v5p:4x4x4; needs libtpu',
  )
  train.set_defaults(run=_train)

  vocab = verbs.add_parser(
      'vocab', help="learn MuLan's word pieces from captions"
  )
  vocab.add_argument('--data', required=True, help='tfds data directory')
  vocab.add_argument('--output', required=True, help='file to write')
  vocab.set_defaults(run=_vocab)

  export = verbs.add_parser(
      'export', help=f'write a trained part for inference; {gin_help}'
  )
  export.add_argument('--output', required=True, help='model directory')
  export.add_argument(
      '--dtype', default='float32', choices=('float32', 'bfloat16', 'int8')
  )
  export.set_defaults(run=_export)

  tokenize = verbs.add_parser('tokenize', help='write token records')
  tokenize.add_argument('--data', required=True, help='tfds data directory')
  tokenize.add_argument('--model', required=True, help='model directory')
  cli_data.add_writing(tokenize)
  tokenize.set_defaults(run=_tokenize)

  recipe = verbs.add_parser(
      'recipe', help=f'train every part, in order; {gin_help}'
  )
  recipe.add_argument(
      '--data',
      required=True,
      help='folder of audio or scores, or a data directory',
  )
  recipe.add_argument('--output', required=True)
  recipe.add_argument('--soundfont', help='renders scores')
  recipe.add_argument(
      '--melody',
      action='store_true',
      help='train a model that can follow a melody; needs scores',
  )
  recipe.add_argument(
      '--skip_bad',
      action='store_true',
      help="leave out files that can't be used, and say so",
  )
  recipe.set_defaults(run=_recipe)


def _add_use(verbs: argparse._SubParsersAction) -> None:
  evaluate = verbs.add_parser('evaluate', help='measure a model on a corpus')
  evaluate.add_argument(
      'part',
      nargs='?',
      choices=list(REPORTS),
      default='all',
      help='to measure in depth; default: all, in one table',
  )
  evaluate.add_argument('--data', required=True, help='tfds data directory')
  evaluate.add_argument(
      '--model', help='model directory; default: the one in the package'
  )
  evaluate.add_argument('--split', default='test')
  evaluate.add_argument(
      '--max_clips', type=int, default=64, help='evenly spread over the split'
  )
  evaluate.set_defaults(run=_evaluate)

  doctor = verbs.add_parser(
      'doctor', help='say which part of a run is sick, and why'
  )
  doctor.add_argument('run_dir', help='MODEL_DIR of a part, or of a recipe')
  doctor.add_argument(
      '--data', help='tfds data directory; default: the one of the run'
  )
  doctor.set_defaults(run=_doctor)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog='musiclm', description=__doc__)
  verbs = parser.add_subparsers(dest='verb', required=True)
  cli_generate.add_generate(verbs)
  cli_batch.add_batch(verbs)
  cli_data.add_data(verbs)
  _add_training(verbs)
  _add_use(verbs)
  return parser


def _shows_all() -> bool:
  return os.environ.get(TRACEBACK, '') not in ('', '0')


def _mute() -> Callable[[], None]:
  """Leaves the terminal to what this program says itself.

  Returns:
    What undoes it, but for the environment of other processes.
  """
  if _shows_all():
    return lambda: None
  # CUDA that is not there, slow compilation, and the like, from C++.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  os.environ.setdefault('GRPC_VERBOSITY', 'NONE')
  os.environ.setdefault('PYTHONWARNINGS', 'ignore')
  undo = contextlib.ExitStack()
  undo.callback(logging.disable, logging.root.manager.disable)
  undo.callback(setattr, sys, 'unraisablehook', sys.unraisablehook)
  undo.enter_context(warnings.catch_warnings())
  # What matters of all that is raised, too.
  logging.disable(logging.CRITICAL)
  sys.unraisablehook = lambda unraisable: None
  warnings.simplefilter('ignore')
  return undo.close


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
  """Lets SIGTERM end a verb as Ctrl-C does, so that it tidies up."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return

  def end(signum: int, frame: FrameType | None) -> None:
    raise errors.Interrupted(signum)

  before = signal.signal(signal.SIGTERM, end)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)


def _explain(error: BaseException) -> tuple[int, str] | None:
  """Returns the exit status and message of an error; None if it is a bug."""
  if isinstance(error, KeyboardInterrupt):
    signum = getattr(error, 'signum', signal.SIGINT)
    return 128 + signum, str(error) or 'interrupted; run it again to go on.'
  is_of_device = type(error).__name__ == 'JaxRuntimeError'
  if isinstance(error, MemoryError) or (
      is_of_device and 'RESOURCE_EXHAUSTED' in str(error)
  ):
    return 2, (
        'there must be memory for this, but it ran out. Ask for less at once,'
        f' e.g. by a smaller batch: {errors.one_line(error):.200}'
    )
  if isinstance(error, ModuleNotFoundError):
    if (error.name or '').startswith('musiclm_jax'):
      return None
    return 2, (
        f'{error.name} must be installed for this. Install the extras train'
        " and eval: pip install 'musiclm_jax[train,eval]'."
    )
  if isinstance(error, (errors.UserError, OSError)):
    return 2, errors.one_line(error)
  return None


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a verb; returns the exit status, 2 for what the user can mend."""
  args, rest = _parser().parse_known_args(argv)
  unmute = _mute()
  try:
    with _ended_by_sigterm():
      return args.run(args, rest) or 0
  except (Exception, KeyboardInterrupt) as e:
    explained = _explain(e)
    if explained is None:
      raise
    if _shows_all():
      traceback.print_exc()
    status, message = explained
    progress.say(message)
    return status
  finally:
    unmute()


def script() -> None:
  """Runs `main` as a program, which an interrupt ends at once."""
  _mute()  # For good: libraries also log while they are torn down.
  status = main()
  if status <= 128:
    sys.exit(status)
  # Threads and processes that are still at work would hold it up.
  for child in multiprocessing.active_children():
    child.terminate()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


if __name__ == '__main__':
  script()
