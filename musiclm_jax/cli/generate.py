"""The verb `generate` of the command `musiclm`."""

import argparse
from collections.abc import Sequence
import json
import os
import pathlib
import signal
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax.cli import common
from musiclm_jax.cli import planning
from musiclm_jax.cli import working

# Options that describe a new piece; a take has its own.
_OF_PIECE = (
    'prompt', 'at', 'like', 'negative_prompt', 'melody', 'audio', 'change',
    'seconds', 'loop', 'temperature', 'top_k', 'top_p', 'guidance_scale',
    *planning.FLAGS,
)  # fmt: skip
_EXAMPLES = """examples:
  musiclm generate "slow piano waltz in A minor" --seconds 30
  musiclm generate "calm piano" --at 15 "a choir joins" --blend 4 --seconds 30
  musiclm generate "a guitar solo" --audio song.wav --change 20 24
  musiclm generate "a guitar solo" --audio song.wav --seconds 60
  musiclm generate "a slow song" --bpm 96 --key "A minor" --chords "Am F C G"
  musiclm generate "a story" --arrange "0 piano; 8 +bass +drums" --form AABA
  musiclm generate "techno beat" --loop --seconds 8 --save_take beat.json
  musiclm generate --take beat.json --keep_semantic --seed 7
"""


def _check_outputs(args: argparse.Namespace) -> None:
  """Raises UserError, before the work, where results can't be written."""
  from musiclm_jax.audio import io

  if pathlib.Path(args.output).suffix.lower() not in io.SUFFIXES:
    raise errors.UserError(
        f"--output must end in one of {io.SUFFIXES}, but is '{args.output}'."
    )
  outputs = {
      '--output': args.output,
      '--save_take': args.save_take,
      '--manifest': args.manifest,
  }
  inputs = {'--audio': args.audio, '--like': args.like, '--melody': args.melody}
  for option, path in outputs.items():
    if path is None:
      continue
    paths.check(path, option)
    if not paths.is_remote(path):
      _check_folder(option, path)
    files.check_writable(path)
    others = inputs | {o: p for o, p in outputs.items() if o != option}
    for other, there in others.items():
      if there and os.path.abspath(there) == os.path.abspath(path):
        raise errors.UserError(
            f'{option} must be another file than {other}, but both are'
            f" '{path}'."
        )


def _check_folder(option: str, path: str) -> None:
  parent = pathlib.Path(path).absolute().parent
  if not os.path.isdir(parent):
    raise errors.UserError(
        f"{option} must be in a folder that exists, but is '{path}'. Make"
        f" '{parent}' first."
    )


def _check_kind(args: argparse.Namespace) -> None:
  """Raises UserError unless there is either a piece to make or a take."""
  given = [name for name in _OF_PIECE if getattr(args, name)]
  if args.take and given:
    raise errors.UserError(
        f'--take must be without {given}, which are of new pieces. Leave one of'
        ' them out.'
    )
  if not args.take and (args.from_second or args.keep_semantic):
    raise errors.UserError(
        '--from_second and --keep_semantic must be with --take, the piece to'
        ' make again.'
    )
  if not args.take and bool(args.prompt) == bool(args.like):
    raise errors.UserError(
        'there must be either a prompt, a file it should be --like, or a --take'
        ' to play again, but there is none of them, or several.'
    )


def _read(args: argparse.Namespace, option: str, sample_rate: int) -> Any:
  """Returns the audio that an option names; None if it is not given."""
  from musiclm_jax.audio import io

  path = getattr(args, option)
  if not path:
    return None
  try:
    with progress.telling(f'reading {path}'):
      return io.read_audio(path, sample_rate)
  except errors.UserError as e:
    raise type(e)(f'--{option}: {e}') from e


def _timeline(args: argparse.Namespace, sample_rate: int) -> Any:
  from musiclm_jax.sampling import take as take_lib
  from musiclm_jax.sampling import timeline

  first: Any = args.prompt or _read(args, 'like', sample_rate)
  later = [(_second(start), text) for start, text in args.at]
  audio = _read(args, 'audio', sample_rate)
  piece = timeline.Timeline(
      prompt=[(0.0, first), *sorted(later)],
      seconds=args.seconds,
      negative_prompt=args.negative_prompt,
      melody=_read(args, 'melody', sample_rate),
      audio=audio,
      change=args.change and tuple(args.change),
      context_seconds=args.context,
      blend_seconds=args.blend,
      loop=args.loop,
      plan=planning.read(args),
      prompt_only=args.prompt_only,
  )
  piece.length(sample_rate)  # Raises if it contradicts the audio.
  if args.save_take and audio is not None:
    take_lib.check_size(len(audio))
  return piece


def _second(text: str) -> float:
  try:
    return float(text)
  except ValueError:
    raise errors.UserError(
        f"--at must have a second and a prompt, but has '{text}' as the second."
    ) from None


def _config(args: argparse.Namespace) -> Any:
  from musiclm_jax.sampling import choosing

  given = {k: getattr(args, k) for k in choosing.FIELDS}
  changes = {k: value for k, value in given.items() if value is not None}
  return choosing.GenerationConfig().changed(**changes)


def _old_take(args: argparse.Namespace, directory: pathlib.Path) -> Any:
  """Returns the take that is given, if it is of the model."""
  from musiclm_jax.models import parts
  from musiclm_jax.sampling import take as take_lib
  from musiclm_jax.tokenizers import table

  take, codec = take_lib.load(args.take), table.codec_in(directory).name
  description = parts.read_description(directory, codec)
  take.check_part(codec, {codec: description['sha256']})
  return take


def _play(
    args: argparse.Namespace, directory: pathlib.Path, piece: Any, config: Any
) -> tuple[Any, Any]:
  """Returns a take and its audio.

  Args:
    args: Options of the command.
    directory: Directory of the model.
    piece: A timeline, or a take to play again or to vary.
    config: How new tokens are chosen.
  """
  from musiclm_jax.sampling import musiclm

  with progress.telling('loading the model'):
    model = musiclm.MusicLM.from_pretrained(directory, args.dtype)
  if not args.take:
    [take] = model.takes(
        piece, seed=args.seed or 0, config=config, best_of=args.best_of
    )
  elif args.seed is None and not args.from_second and not args.keep_semantic:
    take = piece
  else:
    after = (piece.seeds[0] + 1) % 2**32
    seed = after if args.seed is None else args.seed
    take = model.vary(piece, seed, args.from_second, args.keep_semantic)
  with progress.telling('turning tokens into sound'):
    return take, model.render(take)


def _made(args: argparse.Namespace) -> tuple[Any, Any, int]:
  """Returns a take, its audio and the sample rate."""
  with progress.telling(common.STARTING):
    from musiclm_jax.sampling import dtypes
    from musiclm_jax.sampling import musiclm
    from musiclm_jax.sampling import pretrained

  # All that can be wrong is read before the model, which takes long to load.
  dtypes.check(args.dtype)
  directory = pretrained.find(args.model)
  rate, config = pretrained.sample_rate(directory), _config(args)
  musiclm.check_seed(args.seed or 0)
  if args.take:
    piece = _old_take(args, directory)
  else:
    piece = _timeline(args, rate)
    planning.check(piece, directory, rate)
    musiclm.check_total([piece], args.best_of, rate)
  return *_play(args, directory, piece, config), rate


def _make(args: argparse.Namespace, written: list[str]) -> None:
  """Makes a piece and adds to `written` the files that it is in."""
  take, audio, rate = working.interruptible(lambda: _made(args))
  from musiclm_jax.sampling import pretrained
  from musiclm_jax.sampling import provenance

  model = provenance.manifest(pretrained.find(args.model))
  outputs: dict[str, working.Write] = {
      args.output: lambda path: provenance.write_take(
          path, take, audio, rate, model
      )
  }
  if args.save_take:
    outputs[args.save_take] = take.save
  if args.manifest:
    origin = json.loads(provenance.take_comment(take, model))
    outputs[args.manifest] = lambda path: provenance.write_json(path, origin)
  working.write_all(outputs, written)
  print(f'{args.output}: {len(audio) / rate:.2f} s')


def _generate(args: argparse.Namespace, rest: Sequence[str]) -> None:
  common.no_more(rest)
  _check_kind(args)
  written: list[str] = []
  try:
    working.interruptible(lambda: _check_outputs(args))
    _make(args, written)
  except KeyboardInterrupt as e:
    signum = getattr(e, 'signum', signal.SIGINT)
    raise errors.Interrupted(
        signum,
        f"interrupted; {' and '.join(written) or 'nothing'} was written.",
    ) from e


def _add_piece(generate: argparse.ArgumentParser) -> None:
  generate.add_argument('prompt', nargs='?', help='a text about the music')
  generate.add_argument(
      '--seconds', type=common.positive, help='length (default: 10)'
  )
  generate.add_argument(
      '--at',
      nargs=2,
      action='append',
      default=[],
      metavar=('SECOND', 'PROMPT'),
      help='another prompt from a second on; may be given often',
  )
  generate.add_argument(
      '--blend',
      type=float,
      default=0.0,
      metavar='SECONDS',
      help='in which one prompt turns into the next (default: at once)',
  )
  generate.add_argument(
      '--context',
      type=float,
      default=0.0,
      metavar='SECONDS',
      help='of the music before that the music of a new prompt follows from'
      ' (default: none)',
  )
  generate.add_argument(
      '--negative_prompt',
      help='what it should not be like; with --guidance_scale above 1',
  )
  generate.add_argument(
      '--like', metavar='FILE', help='audio it should be like, as the prompt'
  )
  generate.add_argument(
      '--melody', metavar='FILE', help='audio of a melody to follow, e.g. a hum'
  )
  generate.add_argument(
      '--audio', metavar='FILE', help='music to go on with, or to --change'
  )
  generate.add_argument(
      '--change',
      nargs=2,
      type=float,
      metavar=('START', 'END'),
      help='seconds of --audio to make anew; the rest stays',
  )
  generate.add_argument(
      '--loop', action='store_true', help='let the end lead into the start'
  )


def _add_choices(generate: argparse.ArgumentParser) -> None:
  generate.add_argument('--seed', type=int, help='another one, other music')
  generate.add_argument(
      '--best_of',
      type=int,
      default=1,
      metavar='N',
      help='make N takes and keep the one nearest to prompt and melody',
  )
  generate.add_argument(
      '--temperature',
      type=float,
      help='1 is as in the paper, 0 takes the likeliest tokens',
  )
  generate.add_argument(
      '--top_k', type=int, help='choose from so many of the likeliest tokens'
  )
  generate.add_argument(
      '--top_p', type=float, help='choose from the likeliest of this share'
  )
  generate.add_argument(
      '--guidance_scale', type=float, help='above 1, prompts count more'
  )


def _add_take(generate: argparse.ArgumentParser) -> None:
  generate.add_argument(
      '--save_take', metavar='JSON', help='keep all the piece was made of'
  )
  generate.add_argument(
      '--take', metavar='JSON', help='play a take again, the very same'
  )
  generate.add_argument(
      '--keep_semantic',
      action='store_true',
      help='give the take another sound: new acoustic tokens',
  )
  generate.add_argument(
      '--from_second',
      type=float,
      default=0.0,
      metavar='SECOND',
      help='play the take as it is up to here, and go on in another way',
  )


def add_verbs(verbs: argparse._SubParsersAction) -> None:
  generate = verbs.add_parser(
      'generate',
      help='make music from text',
      epilog=_EXAMPLES,
      formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  _add_piece(generate)
  planning.add_flags(generate)
  _add_choices(generate)
  _add_take(generate)
  generate.add_argument(
      '--output', default='music.wav', help='.wav, .flac, .ogg or .mp3 file'
  )
  generate.add_argument(
      '--manifest',
      metavar='JSON',
      help='also write here what the file was made of; see musiclm show',
  )
  generate.add_argument(
      '--model',
      help='model directory or hub id; default: the one in the package',
  )
  generate.add_argument(
      '--dtype',
      default='auto',
      help=common.DTYPE_HELP,
  )
  generate.set_defaults(run=_generate)
