"""The verbs that tell what an output was made of, and what it is like."""

import argparse
from collections.abc import Sequence
import json

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax.cli import common

MEMORIZATION = 'memorization'
_DRAWN = ('.png', '.svg', '.pdf')


def memorization(args: argparse.Namespace) -> None:
  """Runs `musiclm evaluate memorization`."""
  if args.plot:
    paths.check_local(args.plot, '--plot')
  for path in filter(None, (args.json, args.plot)):
    files.check_writable(path)
  if args.plot and not args.plot.endswith(_DRAWN):
    raise errors.UserError(
        f"--plot must end in one of {_DRAWN}, but is '{args.plot}'."
    )
  with progress.telling(common.STARTING):
    from musiclm_jax.metrics import memorization as audit
    from musiclm_jax.metrics import report
    from musiclm_jax.sampling import pretrained
    from musiclm_jax.sampling import provenance

  split = args.split or 'train'
  rows = audit.evaluate(
      args.data, args.model, split, args.max_clips, args.stage
  )
  print(report.render(rows))
  if args.json:
    model = pretrained.find(args.model)
    audit.write_json(
        args.json,
        rows,
        split=split,
        model=str(model),
        model_sha256=provenance.model_sha256(model),
    )
  if args.plot:
    audit.plot(args.plot, rows)


def add_memorization(evaluate: argparse.ArgumentParser) -> None:
  """Adds the flags of `musiclm evaluate memorization`."""
  group = evaluate.add_argument_group(
      MEMORIZATION, 'which training clips the stages know by heart'
  )
  group.add_argument('--stage', help='the one to audit; default: all')
  group.add_argument('--json', metavar='FILE', help='also write the table here')
  group.add_argument('--plot', metavar='FILE', help='draw the curves: .png, …')


def check_only_memorization(
    args: argparse.Namespace, names: Sequence[str] = ('stage', 'json', 'plot')
) -> None:
  """Raises UserError if one of its flags is given without it."""
  for name in names:
    if getattr(args, name):
      raise errors.UserError(
          f'--{name} must be with `musiclm evaluate {MEMORIZATION}`, but is'
          f" with '{args.part}'."
      )


def _show(args: argparse.Namespace, rest: Sequence[str]) -> None:
  common.no_more(rest)
  from musiclm_jax.sampling import provenance

  found, is_whole = provenance.read(args.file)
  if not is_whole:
    progress.say(f'{args.file} was changed after it was made')
  print(json.dumps(found, indent=2))


def _nearest(args: argparse.Namespace, rest: Sequence[str]) -> None:
  common.no_more(rest)
  with progress.telling(common.STARTING):
    from musiclm_jax.metrics import nearest
    from musiclm_jax.metrics import report

  found = nearest.find(args.files, args.data, args.model, args.count)
  for path, rows in zip(args.files, found):
    if len(args.files) > 1:
      print(f'\n{path}')
    print(report.render(rows), flush=True)


def add_verbs(verbs: argparse._SubParsersAction) -> None:
  nearest = verbs.add_parser(
      'nearest', help='print the training clips that files are nearest to'
  )
  nearest.add_argument(
      'files', nargs='+', help='audio, e.g. outputs of musiclm generate'
  )
  nearest.add_argument('--data', required=True, help='tfds data directory')
  nearest.add_argument(
      '--model',
      help='model directory, for what embeds audio; default: the one in the'
      ' package',
  )
  nearest.add_argument(
      '--count',
      type=common.at_least(1),
      default=5,
      help='clips of each measure (default: %(default)s)',
  )
  nearest.set_defaults(run=_nearest)

  show = verbs.add_parser('show', help='print what a file was made of')
  show.add_argument('file', help='.wav, .flac, .ogg or .mp3 file')
  show.set_defaults(run=_show)
