"""The verbs that measure and examine a model: evaluate, doctor."""

import argparse
from collections.abc import Sequence
import importlib

from musiclm_jax.cli import common

# Modules of `metrics` that measure one part, or all.
REPORTS = {
    'all': 'report',
    'codec': 'codec_report',
    'mulan': 'mulan_report',
    'w2v_bert': 'semantic_report',
    'melody': 'melody_report',
}


def _evaluate(args: argparse.Namespace, rest: Sequence[str]) -> None:
  common.no_more(rest)
  from musiclm_jax.metrics import report

  module = importlib.import_module(f'musiclm_jax.metrics.{REPORTS[args.part]}')
  rows = module.evaluate(args.data, args.model, args.split, args.max_clips)
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
