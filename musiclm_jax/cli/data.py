"""The verb `data` of the command `musiclm`: makes corpora from sources."""

import argparse
from collections.abc import Sequence
import functools
import importlib

from musiclm_jax import progress
from musiclm_jax.cli import common

# What the parser itself adds to the flags.
_OF_PARSER = ('verb', 'corpus', 'run')


def _build(
    module: str, function: str, args: argparse.Namespace, rest: Sequence[str]
) -> None:
  """Calls a function of `data.sources` with the flags that were given."""
  flags = {k: v for k, v in vars(args).items() if k not in _OF_PARSER}
  if 'runner' in flags:
    flags |= common.writing_options(args, rest)
  else:
    common.no_more(rest)
  with progress.telling(common.STARTING):
    sources = importlib.import_module(f'musiclm_jax.data.sources.{module}')
  given = {name: value for name, value in flags.items() if value is not None}
  getattr(sources, function)(**given)


def _run(module: str, function: str) -> functools.partial:
  return functools.partial(_build, module, function)


def _ledger(args: argparse.Namespace, rest: Sequence[str]) -> None:
  common.no_more(rest)
  with progress.telling(common.STARTING):
    from musiclm_jax.data import ledger
    from musiclm_jax.metrics import report

  print(report.render(ledger.table(args.dataset, args.data)))


def _index(args: argparse.Namespace, rest: Sequence[str]) -> None:
  common.no_more(rest)
  with progress.telling(common.STARTING):
    from musiclm_jax.metrics import nearest_index
    from musiclm_jax.models import parts
    from musiclm_jax.tokenizers import table

  embedder = table.Tokenizers(args.model or parts.embedded_model())
  found = nearest_index.ensure(args.data, embedder.text_embedder)
  print(f'{args.data}: an index of {len(found.clips)} clips')


def _add_tracks(
    corpora: argparse._SubParsersAction,
) -> list[argparse.ArgumentParser]:
  """Adds the corpora of tracks that others have published."""
  jamendo = corpora.add_parser('jamendo', help='from MTG-Jamendo')
  jamendo.add_argument(
      'table',
      nargs='+',
      metavar='tsv',
      help='e.g. raw_30s.tsv, or autotagging-{train,validation,test}.tsv of one'
      ' split',
  )
  jamendo.add_argument(
      '--captions',
      help='CSV, JSON or JSONL: path, caption; leaves out all other tracks.'
      ' Default: captions of tags',
  )
  jamendo.add_argument(
      '--instrumental',
      action='store_true',
      help='take the files that end in _instrumental, without voices',
  )
  jamendo.set_defaults(run=_run('jamendo', 'build_jamendo'))

  fma = corpora.add_parser('fma', help='from the Free Music Archive')
  fma.add_argument('table', metavar='tracks.csv')
  fma.add_argument('genres', metavar='genres.csv')
  fma.add_argument(
      '--subset', help='small, medium or large; default: all tracks'
  )
  fma.set_defaults(run=_run('fma', 'build_fma'))

  describer = corpora.add_parser(
      'songdescriber', help='from Song Describer: a split to evaluate on'
  )
  describer.add_argument('table', metavar='song_describer.csv')
  describer.add_argument(
      '--valid_only',
      action='store_true',
      help='leave out captions that were not found to be valid',
  )
  describer.set_defaults(run=_run('song_describer', 'build_song_describer'))

  for parser in (jamendo, describer):
    parser.add_argument(
        '--licenses',
        help='audio_licenses.txt; default: that in a folder above the table',
    )
  for parser in (jamendo, fma, describer):
    parser.add_argument('audio_dir')
  return [jamendo, fma, describer]


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
  folder.add_argument(
      '--listen',
      action='store_true',
      help='estimate beats, chords and key, for models that follow plans; needs'
      ' librosa',
  )
  folder.set_defaults(run=_run('folder', 'build_folder'))

  scores = corpora.add_parser('scores', help='from MIDI or MusicXML scores')
  scores.add_argument(
      '--variations',
      type=common.at_least(1),
      help='instrumentations of each score; default: 2',
  )
  scores.add_argument('--max_seconds_per_score', type=common.positive)
  scores.set_defaults(run=_run('rendered_scores', 'build_scores'))

  melody = corpora.add_parser(
      'melody', help='phrases of scores, played and hummed: melody_pairs'
  )
  melody.add_argument(
      '--variations',
      type=common.at_least(2),
      help='renditions of each phrase; default: 4',
  )
  melody.add_argument('--phrases_per_score', type=common.at_least(1))
  melody.add_argument('--phrase_seconds', type=common.positive)
  scores.add_argument(
      '--soundfont',
      required=True,
      action='append',
      help='.sf2 or .sf3 file; may be given several times, for varied sounds',
  )
  melody.add_argument('--soundfont', required=True, help='.sf2 or .sf3 file')
  melody.set_defaults(run=_run('melody_pairs', 'build_melody_pairs'))

  for parser in (scores, melody):
    parser.add_argument(
        'source',
        nargs='+',
        help='folder or zip of scores, or music21:<composer>',
    )
    parser.add_argument('--seed', type=int)

  musiccaps = corpora.add_parser('musiccaps', help='from MusicCaps')
  musiccaps.add_argument('table', metavar='csv')
  musiccaps.add_argument('audio_dir')
  musiccaps.set_defaults(run=_run('musiccaps', 'build_musiccaps'))

  of_tracks = _add_tracks(corpora)
  for parser in (folder, scores, melody, musiccaps, *of_tracks):
    parser.add_argument(
        '--output', dest='data_dir', required=True, help='tfds data directory'
    )
    parser.add_argument(
        '--skip_bad',
        action='store_true',
        help="leave out files that can't be read, and report them",
    )
    parser.add_argument(
        '--num_workers',
        type=common.at_least(1),
        help='processes that read at once; default: one per CPU',
    )
    common.add_writing(parser)
  for parser in (folder, scores, musiccaps, *of_tracks):
    parser.add_argument(
        '--sample_rate',
        type=common.at_least(1),
        help='of the clips, in Hz, as the codec needs; default: 24000',
    )
  for parser in (folder, scores, *of_tracks):
    parser.add_argument(
        '--clip_seconds', type=common.positive, help='default: 30'
    )

  ledger = corpora.add_parser(
      'ledger', help='print sources, licences and hours of a corpus'
  )
  ledger.add_argument('data', help='tfds data directory')
  ledger.add_argument(
      '--dataset',
      default='music',
      help='music (default), melody_pairs or music_tokens',
  )
  ledger.set_defaults(run=_ledger)

  index = corpora.add_parser(
      'index', help='write the index that musiclm nearest searches'
  )
  index.add_argument('data', help='tfds data directory')
  index.add_argument(
      '--model', help='model directory; default: the one in the package'
  )
  index.set_defaults(run=_index)

  mutopia = corpora.add_parser(
      'mutopia', help='compile Mutopia LilyPond sources to MIDI'
  )
  mutopia.add_argument('source', help='folder or zip of LilyPond sources')
  mutopia.add_argument(
      '--output', dest='output_dir', required=True, help='folder of MIDI'
  )
  mutopia.add_argument(
      '--limit', type=common.at_least(1), help='stop after so many pieces'
  )
  mutopia.set_defaults(run=_run('mutopia', 'prepare_mutopia'))
