"""The verb `data` of the command `musiclm`: corpora from what people have."""

import argparse
from collections.abc import Sequence
from typing import Any

from musiclm_jax import progress
from musiclm_jax.cli import common


def _corpus_options(
    args: argparse.Namespace, rest: Sequence[str]
) -> dict[str, Any]:
  return {
      **common.writing_options(args, rest),
      'num_workers': args.num_workers,
      'skip_bad': args.skip_bad,
  }


def _clip_options(
    args: argparse.Namespace, rest: Sequence[str]
) -> dict[str, Any]:
  options = _corpus_options(args, rest)
  if args.sample_rate is not None:
    options['sample_rate'] = args.sample_rate
  return options


def _data_folder(args: argparse.Namespace, rest: Sequence[str]) -> None:
  options = _clip_options(args, rest)
  with progress.telling(common.STARTING):
    from musiclm_jax.data.sources import folder

  folder.build_folder(
      args.audio_dir,
      args.output,
      captions=args.captions,
      clip_seconds=args.clip_seconds,
      **options,
  )


def _data_scores(args: argparse.Namespace, rest: Sequence[str]) -> None:
  options = _clip_options(args, rest)
  with progress.telling(common.STARTING):
    from musiclm_jax.data.sources import rendered_scores

  rendered_scores.build_scores(
      args.source,
      args.output,
      soundfont=args.soundfont,
      variations=args.variations,
      clip_seconds=args.clip_seconds,
      max_seconds_per_score=args.max_seconds_per_score,
      seed=args.seed,
      **options,
  )


def _data_melody(args: argparse.Namespace, rest: Sequence[str]) -> None:
  options = _corpus_options(args, rest)
  with progress.telling(common.STARTING):
    from musiclm_jax.data.sources import melody_pairs

  melody_pairs.build_melody_pairs(
      args.source,
      args.output,
      soundfont=args.soundfont,
      variations=args.variations,
      phrases_per_score=args.phrases_per_score,
      phrase_seconds=args.phrase_seconds,
      seed=args.seed,
      **options,
  )


def _data_musiccaps(args: argparse.Namespace, rest: Sequence[str]) -> None:
  options = _clip_options(args, rest)
  with progress.telling(common.STARTING):
    from musiclm_jax.data.sources import musiccaps

  musiccaps.build_musiccaps(args.csv, args.audio_dir, args.output, **options)


def _data_mutopia(args: argparse.Namespace, rest: Sequence[str]) -> None:
  common.no_more(rest)
  from musiclm_jax.data.sources import mutopia

  mutopia.prepare_mutopia(args.source, args.output, limit=args.limit)


def add_verbs(verbs: argparse._SubParsersAction) -> None:
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
  folder.set_defaults(run=_data_folder)

  scores = corpora.add_parser('scores', help='from MIDI or MusicXML scores')
  scores.add_argument(
      '--variations',
      type=common.at_least(1),
      default=2,
      help='instrumentations of each score',
  )
  scores.add_argument('--max_seconds_per_score', type=common.positive)
  scores.set_defaults(run=_data_scores)

  melody = corpora.add_parser(
      'melody', help='phrases of scores, played and hummed: melody_pairs'
  )
  melody.add_argument(
      '--variations',
      type=common.at_least(2),
      default=4,
      help='renditions of each phrase',
  )
  melody.add_argument('--phrases_per_score', type=common.at_least(1), default=4)
  melody.add_argument('--phrase_seconds', type=common.positive, default=8.0)
  melody.set_defaults(run=_data_melody)

  for parser in (scores, melody):
    parser.add_argument(
        'source',
        nargs='+',
        help='folder or zip of scores, or music21:<composer>',
    )
    parser.add_argument('--soundfont', required=True, help='.sf2 or .sf3 file')
    parser.add_argument('--seed', type=int, default=0)

  musiccaps = corpora.add_parser('musiccaps', help='from MusicCaps')
  musiccaps.add_argument('csv')
  musiccaps.add_argument('audio_dir')
  musiccaps.set_defaults(run=_data_musiccaps)

  for parser in (folder, scores, melody, musiccaps):
    parser.add_argument('--output', required=True, help='tfds data directory')
    parser.add_argument(
        '--skip_bad',
        action='store_true',
        help="leave out what can't be read, and say so",
    )
    parser.add_argument(
        '--num_workers',
        type=common.at_least(1),
        help='processes that read at once; default: one per CPU',
    )
    common.add_writing(parser)
  for parser in (folder, scores, musiccaps):
    parser.add_argument(
        '--sample_rate',
        type=common.at_least(8000),
        help='of the clips, in Hz: that of the codec; default: 24000',
    )
  for parser in (folder, scores):
    parser.add_argument('--clip_seconds', type=common.positive, default=30.0)

  mutopia = corpora.add_parser(
      'mutopia', help='compile Mutopia LilyPond sources to MIDI'
  )
  mutopia.add_argument('source', help='folder or zip of LilyPond sources')
  mutopia.add_argument('--output', required=True, help='folder of MIDI')
  mutopia.add_argument(
      '--limit', type=common.at_least(1), help='stop after so many pieces'
  )
  mutopia.set_defaults(run=_data_mutopia)
