"""The verbs that train a model: train, export, tokenize, vocab, recipe."""

import argparse
from collections.abc import Sequence

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import progress
from musiclm_jax.cli import common


def _steps(text: str) -> tuple[int, int]:
  """Parses START:STOP."""
  start, _, stop = text.partition(':')
  if not (
      start.isdecimal() and stop.isdecimal() and 0 < int(start) < int(stop)
  ):
    raise argparse.ArgumentTypeError(
        f'must be START:STOP, two steps of which the first is less, but is'
        f' {text}.'
    )
  return int(start), int(stop)


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
    common.join_job()
  with progress.telling(common.STARTING):
    from musiclm_jax.training import gin_flags

  gin_flags.train_main(rest, args.profile)


def _vocab(args: argparse.Namespace, rest: Sequence[str]) -> None:
  common.no_more(rest)
  with progress.telling(common.STARTING):
    from musiclm_jax.training import mulan

  files.check_writable(args.output)
  with progress.telling('learning word pieces from the captions'):
    size = mulan.build_corpus_vocab(args.data, args.output)
  print(f'{args.output}: {size} word pieces')


def _export(args: argparse.Namespace, rest: Sequence[str]) -> None:
  with progress.telling(common.STARTING):
    from musiclm_jax.training import export

  export.export_main(
      rest,
      output=args.output,
      dtype=args.dtype,
      release=args.release,
      to_t5x=args.t5x,
  )


def _tokenize(args: argparse.Namespace, rest: Sequence[str]) -> None:
  options = common.writing_options(args, rest)
  with progress.telling(common.STARTING):
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
      listen=args.listen,
  )


def add_verbs(verbs: argparse._SubParsersAction) -> None:
  gin_help = 'takes --gin_file=FILE, --gin.NAME=VALUE, --gin_search_paths=…'
  train = verbs.add_parser('train', help=f'train one part; {gin_help}')
  train.add_argument(
      '--distributed',
      action='store_true',
      help='train in all processes of a job together: of a TPU pod, or under'
      ' Slurm, Open MPI or Kubernetes, as jax.distributed.initialize finds it',
  )
  train.add_argument(
      '--profile',
      type=_steps,
      metavar='START:STOP',
      help='trace steps START to STOP - 1 with xprof, into MODEL_DIR; to look'
      ' at in TensorBoard',
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
  export.add_argument(
      '--release',
      action='store_true',
      help='refuse if a licence of the music forbids to give the weights to'
      ' others: non-commercial, no derivatives, all rights reserved, unknown',
  )
  export.add_argument(
      '--t5x',
      action='store_true',
      help='write a checkpoint that training under t5x can begin from',
  )
  export.set_defaults(run=_export)

  tokenize = verbs.add_parser('tokenize', help='write token records')
  tokenize.add_argument('--data', required=True, help='tfds data directory')
  tokenize.add_argument('--model', required=True, help='model directory')
  common.add_writing(tokenize)
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
      '--listen',
      action='store_true',
      help='train a model that can follow plans, on beats, chords and keys that'
      ' librosa hears in recordings; scores tell them themselves',
  )
  recipe.add_argument(
      '--skip_bad',
      action='store_true',
      help="leave out files that can't be used, and say so",
  )
  recipe.set_defaults(run=_recipe)
