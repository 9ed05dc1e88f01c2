"""The `musiclm` command: one verb per step, from data to music.

Each verb imports what it needs and nothing else, so that `musiclm generate`
starts without the training stack.
"""

import argparse
from collections.abc import Sequence
import importlib
import sys

from musiclm_jax import cli_batch
from musiclm_jax import cli_data
from musiclm_jax import cli_generate

# What a user can mend: reported in one line, without a traceback.
USER_ERRORS = (ValueError, OSError, FloatingPointError)
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
    raise ValueError(
        '--mesh, --device_kind and --topology must come with --dry_run: where'
        ' training runs is up to the machine and the gin flags.'
    )
  if args.distributed:
    cli_data.join_job()
  from musiclm_jax.training import gin_flags

  gin_flags.train_main(rest)


def _vocab(args: argparse.Namespace, rest: Sequence[str]) -> None:
  cli_data.no_more(rest)
  from musiclm_jax.training import mulan

  size = mulan.build_corpus_vocab(args.data, args.output)
  print(f'{args.output}: {size} word pieces')


def _export(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from musiclm_jax.training import export

  export.export_main(rest, output=args.output, dtype=args.dtype)


def _tokenize(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from musiclm_jax.data import records

  records.tokenize_corpus(
      args.data, args.model, runner=args.runner, pipeline_options=rest
  )


def _recipe(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from musiclm_jax import recipe

  recipe.recipe_main(
      rest,
      data=args.data,
      output=args.output,
      soundfont=args.soundfont,
      melody=args.melody,
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
  cli_data.add_runner(tokenize)
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


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a verb; returns the exit status, 2 for what the user can mend."""
  args, rest = _parser().parse_known_args(argv)
  try:
    return args.run(args, rest) or 0
  except USER_ERRORS as e:
    message = ' '.join(str(e).split())
    print(f'musiclm: {message}', file=sys.stderr)
    return 2
  except ModuleNotFoundError as e:
    print(
        f'musiclm: {e.name} must be installed for this. Install the'
        ' extras train and eval of musiclm_jax.',
        file=sys.stderr,
    )
    return 2


if __name__ == '__main__':
  sys.exit(main())
