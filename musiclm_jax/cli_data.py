"""The verb `data` of the command `musiclm`, and what verbs have in common."""

import argparse
from collections.abc import Sequence

from musiclm_jax import errors


def positive(text: str) -> float:
  value = float(text)
  if not 0 < value < float('inf'):
    raise argparse.ArgumentTypeError(
        f'must be a number of seconds greater than 0, but is {text}.'
    )
  return value


def no_more(rest: Sequence[str]) -> None:
  if rest:
    raise errors.UserError(
        f'every argument must be one that --help lists, but got {rest[0]}.'
    )


def join_job() -> None:
  """Joins the processes of a job that JAX finds."""
  import jax

  try:
    jax.distributed.initialize()
  except ValueError as e:
    raise errors.UserError(
        '--distributed must be given in a job that JAX finds (TPU pod, Slurm,'
        f' Open MPI, Kubernetes), but it finds none: {e} Leave it out to run'
        ' in one process.'
    ) from e


def add_runner(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
      '--runner',
      help='Beam runner, e.g. FnApiRunner or DataflowRunner; further --flags'
      ' are its pipeline options. Default: this machine, without Beam',
  )


def _data_folder(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from musiclm_jax.data import folder

  folder.build_folder(
      args.audio_dir,
      args.output,
      captions=args.captions,
      clip_seconds=args.clip_seconds,
      runner=args.runner,
      pipeline_options=rest,
      skip_bad=args.skip_bad,
  )


def _data_scores(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from musiclm_jax.data import scores

  scores.build_scores(
      args.source,
      args.output,
      soundfont=args.soundfont,
      variations=args.variations,
      clip_seconds=args.clip_seconds,
      max_seconds_per_score=args.max_seconds_per_score,
      seed=args.seed,
      skip_bad=args.skip_bad,
      runner=args.runner,
      pipeline_options=rest,
  )


def _data_melody(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from musiclm_jax.data import melody

  melody.build_melody_pairs(
      args.source,
      args.output,
      soundfont=args.soundfont,
      variations=args.variations,
      phrases_per_score=args.phrases_per_score,
      phrase_seconds=args.phrase_seconds,
      seed=args.seed,
      skip_bad=args.skip_bad,
      runner=args.runner,
      pipeline_options=rest,
  )


def _data_musiccaps(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from musiclm_jax.data import musiccaps

  musiccaps.build_musiccaps(
      args.csv,
      args.audio_dir,
      args.output,
      runner=args.runner,
      pipeline_options=rest,
  )


def _data_mutopia(args: argparse.Namespace, rest: Sequence[str]) -> None:
  no_more(rest)
  from musiclm_jax.data import mutopia

  mutopia.prepare_mutopia(args.source, args.output, limit=args.limit)


def add_data(verbs: argparse._SubParsersAction) -> None:
  corpora = verbs.add_parser(
      'data', help='make a corpus of clips with captions'
  ).add_subparsers(dest='corpus', required=True)

  folder = corpora.add_parser('folder', help='from a folder of audio')
  folder.add_argument('audio_dir')
  folder.add_argument(
      '--captions',
      help='CSV or JSONL: path, caption, …; default: captions.csv or .jsonl in'
      ' the folder',
  )
  folder.add_argument(
      '--skip_bad',
      action='store_true',
      help="leave out files that can't be read, and say so",
  )
  folder.set_defaults(run=_data_folder)

  scores = corpora.add_parser('scores', help='from MIDI or MusicXML scores')
  scores.add_argument(
      '--variations', type=int, default=2, help='instrumentations of each score'
  )
  scores.add_argument('--max_seconds_per_score', type=positive)
  scores.set_defaults(run=_data_scores)

  melody = corpora.add_parser(
      'melody', help='phrases of scores, played and hummed: melody_pairs'
  )
  melody.add_argument(
      '--variations', type=int, default=4, help='renditions of each phrase'
  )
  melody.add_argument('--phrases_per_score', type=int, default=4)
  melody.add_argument('--phrase_seconds', type=positive, default=8.0)
  melody.set_defaults(run=_data_melody)

  for parser in (scores, melody):
    parser.add_argument(
        'source',
        nargs='+',
        help='folder or zip of scores, or music21:<composer>',
    )
    parser.add_argument('--soundfont', required=True, help='.sf2 or .sf3 file')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--skip_bad',
        action='store_true',
        help="leave out scores that can't be rendered, and say so",
    )

  musiccaps = corpora.add_parser('musiccaps', help='from MusicCaps')
  musiccaps.add_argument('csv')
  musiccaps.add_argument('audio_dir')
  musiccaps.set_defaults(run=_data_musiccaps)

  for parser in (folder, scores, melody, musiccaps):
    parser.add_argument('--output', required=True, help='tfds data directory')
    add_runner(parser)
  for parser in (folder, scores):
    parser.add_argument('--clip_seconds', type=positive, default=30.0)

  mutopia = corpora.add_parser(
      'mutopia', help='compile Mutopia LilyPond sources to MIDI'
  )
  mutopia.add_argument('source', help='folder or zip of LilyPond sources')
  mutopia.add_argument('--output', required=True, help='folder of MIDI')
  mutopia.add_argument('--limit', type=int, help='stop after so many pieces')
  mutopia.set_defaults(run=_data_mutopia)
