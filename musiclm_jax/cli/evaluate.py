"""The verbs that measure and examine a model: evaluate, doctor."""

import argparse
from collections.abc import Sequence

from musiclm_jax import errors
from musiclm_jax.cli import auditing
from musiclm_jax.cli import common
from musiclm_jax.cli import judging

ALL = 'all'
_MAX_CLIPS = 64


def _evaluate(args: argparse.Namespace, rest: Sequence[str]) -> None:
  common.no_more(rest)
  if args.part == judging.MUSIC:
    auditing.check_only_memorization(args, ('stage', 'plot'))
    judging.music(args)
    return
  judging.check_only_music(args)
  if args.data is None:
    raise errors.UserError(
        '--data must be the folder of a dataset, but is not given.'
    )
  if args.max_clips is None:
    args.max_clips = _MAX_CLIPS
  if args.part == auditing.MEMORIZATION:
    auditing.memorization(args)
    return
  auditing.check_only_memorization(args)
  from musiclm_jax.metrics import report

  split = args.split or 'test'
  settings = args.data, args.model, split, args.max_clips
  if args.part == ALL:
    rows = report.evaluate(*settings)
  else:
    rows = report.evaluate_part(args.part, *settings)
  print(report.render(rows))


def _doctor(args: argparse.Namespace, rest: Sequence[str]) -> None:
  common.no_more(rest)
  from musiclm_jax import doctor

  print(doctor.examine(args.run_dir, data_dir=args.data))


def add_verbs(verbs: argparse._SubParsersAction) -> None:
  evaluate = verbs.add_parser('evaluate', help='measure a model on a corpus')
  evaluate.add_argument(
      'part',
      nargs='?',
      default=ALL,
      help=(
          "part to measure in depth, e.g. 'codec' or 'mulan'; 'music', how good"
          " clips are; or 'memorization'. Default: all parts, in one table"
      ),
  )
  evaluate.add_argument('--data', help='tfds data directory')
  evaluate.add_argument(
      '--model', help='model directory; default: the one in the package'
  )
  evaluate.add_argument(
      '--split', help="default: test; for 'memorization', train"
  )
  evaluate.add_argument(
      '--max_clips',
      type=int,
      help=f"evenly spread over the split; default: {_MAX_CLIPS}; for 'music',"
      ' all',
  )
  auditing.add_memorization(evaluate)
  judging.add_music(evaluate)
  evaluate.set_defaults(run=_evaluate)

  doctor = verbs.add_parser(
      'doctor', help='say which part of a run is sick, and why'
  )
  doctor.add_argument('run_dir', help='MODEL_DIR of a part, or of a recipe')
  doctor.add_argument(
      '--data', help='tfds data directory; default: the one of the run'
  )
  doctor.set_defaults(run=_doctor)
