"""The verb `generate` of the command `musiclm`."""

import argparse
from collections.abc import Sequence
import pathlib
from typing import Any

from musiclm_jax import cli_data
from musiclm_jax import errors

AUDIO_FORMATS = ('.wav', '.flac', '.ogg', '.mp3')
# Of a new piece; a take has its own.
_OF_PIECE = (
    'prompt', 'at', 'like', 'negative_prompt', 'melody', 'audio', 'change',
    'seconds', 'loop', 'temperature', 'top_k', 'top_p', 'guidance_scale',
)  # fmt: skip
_EXAMPLES = """examples:
  musiclm generate "slow piano waltz in A minor" --seconds 30
  musiclm generate "calm piano" --at 15 "a choir joins" --blend 4 --seconds 30
  musiclm generate "a guitar solo" --audio song.wav --change 20 24
  musiclm generate "a guitar solo" --audio song.wav --seconds 60
  musiclm generate "techno beat" --loop --seconds 8 --save_take beat.json
  musiclm generate --take beat.json --keep_semantic --seed 7
"""


def _check_output(path: str) -> None:
  """Raises ValueError, before the work, where audio can't be written."""
  output = pathlib.Path(path)
  if output.suffix.lower() not in AUDIO_FORMATS:
    raise errors.UserError(
        f"--output must end in one of {AUDIO_FORMATS}, but is '{path}'."
    )
  _check_folder('--output', path)


def _check_folder(option: str, path: str) -> None:
  parent = pathlib.Path(path).absolute().parent
  if not parent.is_dir():
    raise errors.UserError(
        f"{option} must be in a folder that exists, but is '{path}'. Make"
        f" '{parent}' first."
    )


def _check_kind(args: argparse.Namespace) -> None:
  """Raises ValueError unless there is either a piece to make or a take."""
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


def _timeline(args: argparse.Namespace, sample_rate: int) -> Any:
  from musiclm_jax.audio import io
  from musiclm_jax.sampling import timeline

  read = lambda path: io.read_audio(path, sample_rate) if path else None
  first: Any = args.prompt or read(args.like)
  later = [(_second(start), text) for start, text in args.at]
  return timeline.Timeline(
      prompt=[(0.0, first), *sorted(later)],
      seconds=args.seconds,
      negative_prompt=args.negative_prompt,
      melody=read(args.melody),
      audio=read(args.audio),
      change=args.change and tuple(args.change),
      context_seconds=args.context,
      blend_seconds=args.blend,
      loop=args.loop,
  )


def _second(text: str) -> float:
  try:
    return float(text)
  except ValueError:
    raise errors.UserError(
        f"--at must have a second and a prompt, but has '{text}' as the second."
    ) from None


def _config(args: argparse.Namespace) -> Any:
  from musiclm_jax.sampling import sampler

  names = ('temperature', 'top_k', 'top_p', 'guidance_scale')
  changes = {k: getattr(args, k) for k in names if getattr(args, k) is not None}
  return sampler.GenerationConfig().changed(**changes)


def _take(args: argparse.Namespace, model: Any) -> Any:
  """Returns the take to play: a new one, an old one, or what became of it."""
  from musiclm_jax.sampling import take as take_lib

  if not args.take:
    [take] = model.takes(
        _timeline(args, model.sample_rate),
        seed=args.seed or 0,
        config=_config(args),
        best_of=args.best_of,
    )
    return take
  take = take_lib.load(args.take)
  if args.seed is None and not args.from_second and not args.keep_semantic:
    return take
  seed = take.seeds[0] + 1 if args.seed is None else args.seed
  return model.vary(take, seed, args.from_second, args.keep_semantic)


def _generate(args: argparse.Namespace, rest: Sequence[str]) -> None:
  cli_data.no_more(rest)
  _check_output(args.output)
  if args.save_take:
    _check_folder('--save_take', args.save_take)
  _check_kind(args)
  from musiclm_jax.audio import io
  from musiclm_jax.sampling import musiclm

  model = musiclm.MusicLM.from_pretrained(args.model, args.dtype)
  take = _take(args, model)
  if args.save_take:
    take.save(args.save_take)
  audio = model.render(take)
  io.write_audio(args.output, audio, model.sample_rate)
  print(f'{args.output}: {len(audio) / model.sample_rate:.2f} s')


def _add_piece(generate: argparse.ArgumentParser) -> None:
  generate.add_argument('prompt', nargs='?', help='a text about the music')
  generate.add_argument(
      '--seconds', type=cli_data.positive, help='length (default: 10)'
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


def add_generate(verbs: argparse._SubParsersAction) -> None:
  generate = verbs.add_parser(
      'generate',
      help='make music from text',
      epilog=_EXAMPLES,
      formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  _add_piece(generate)
  _add_choices(generate)
  _add_take(generate)
  generate.add_argument(
      '--output', default='music.wav', help='.wav, .flac, .ogg or .mp3 file'
  )
  generate.add_argument(
      '--model',
      help='model directory or hub id; default: the one in the package',
  )
  generate.add_argument(
      '--dtype',
      default='float32',
      choices=('float32', 'bfloat16', 'int8'),
      help='of the weights: smaller is faster',
  )
  generate.set_defaults(run=_generate)
