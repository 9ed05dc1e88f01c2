"""The verbs that tell what an output was made of, and what it is like."""

import argparse
from collections.abc import Sequence
import json

from musiclm_jax import progress
from musiclm_jax.cli import common


def _show(args: argparse.Namespace, rest: Sequence[str]) -> None:
  common.no_more(rest)
  from musiclm_jax.sampling import provenance

  found, is_whole = provenance.read(args.file)
  if not is_whole:
    progress.say(f'{args.file} was changed after it was made')
  print(json.dumps(found, indent=2))


def add_verbs(verbs: argparse._SubParsersAction) -> None:
  show = verbs.add_parser('show', help='print what a file was made of')
  show.add_argument('file', help='.wav, .flac, .ogg or .mp3 file')
  show.set_defaults(run=_show)
