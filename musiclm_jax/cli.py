"""The `musiclm` command: one verb per step, from data to music.

Each verb imports what it needs and nothing else, so that `musiclm generate`
starts without the training stack.
"""

import argparse
from collections.abc import Sequence
import importlib
import pathlib
import sys

from musiclm_jax import cli_data

# What a user can mend: reported in one line, without a traceback.
USER_ERRORS = (ValueError, OSError, FloatingPointError)
AUDIO_FORMATS = ('.wav', '.flac', '.ogg', '.mp3')
# Modules of `metrics` that measure one part, or all.
REPORTS = {
    'all': 'report',
    'codec': 'codec_report',
    'mulan': 'mulan_report',
    'w2v_bert': 'semantic_report',
    'melody': 'melody_report',
}


def _check_output(path: str) -> None:
  """Raises ValueError, before the work, where audio can't be written."""
  output = pathlib.Path(path)
  if output.suffix.lower() not in AUDIO_FORMATS:
    raise ValueError(
        f"--output must end in one of {AUDIO_FORMATS}, but is '{path}'."
    )
  if not output.absolute().parent.is_dir():
    raise ValueError(
        f"--output must be in a folder that exists, but is '{path}'. Make"
        f" '{output.parent}' first."
    )


def _generate(args: argparse.Namespace, rest: Sequence[str]) -> None:
  cli_data.no_more(rest)
  _check_output(args.output)
  from musiclm_jax.audio import io
  from musiclm_jax.sampling import musiclm

  model = musiclm.MusicLM.from_pretrained(args.model)
  melody = args.melody and io.read_audio(args.melody, model.sample_rate)
  audio = model.generate(
      [args.prompt], seconds=args.seconds, seed=args.seed, melody=melody
  )
  io.write_audio(args.output, audio[0], model.sample_rate)
  print(f'{args.output}: {audio.shape[1] / model.sample_rate:.2f} s')


def _join_job() -> None:
  import jax

  try:
    jax.distributed.initialize()
  except ValueError as e:
    raise ValueError(
        '--distributed must be given in a job that JAX finds (TPU pod, Slurm,'
        f' Open MPI, Kubernetes), but it finds none: {e} Leave it out to train'
        ' in one process.'
    ) from e


def _train(args: argparse.Namespace, rest: Sequence[str]) -> None:
  if args.distributed:
    _join_job()
  from musiclm_jax.training import gin_flags

  gin_flags.train_main(rest)


def _vocab(args: argparse.Namespace, rest: Sequence[str]) -> None:
  cli_data.no_more(rest)
  from musiclm_jax.training import mulan

  size = mulan.build_corpus_vocab(args.data, args.output)
  print(f'{args.output}: {size} word pieces')


def _export(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from musiclm_jax.training import export

  export.export_main(rest, output=args.output, dtype=args.dtype)


def _tokenize(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from musiclm_jax.data import records

  records.tokenize_corpus(
      args.data, args.model, runner=args.runner, pipeline_options=rest
  )


def _recipe(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from musiclm_jax import recipe

  recipe.recipe_main(
      rest,
      data=args.data,
      output=args.output,
      soundfont=args.soundfont,
      melody=args.melody,
  )


def _evaluate(args: argparse.Namespace, rest: Sequence[str]) -> None:
  cli_data.no_more(rest)
  from musiclm_jax.metrics import report

  module = importlib.import_module(f'musiclm_jax.metrics.{REPORTS[args.part]}')
  rows = module.evaluate(args.data, args.model, args.split, args.max_clips)
  print(report.render(rows))


def _doctor(args: argparse.Namespace, rest: Sequence[str]) -> None:
  cli_data.no_more(rest)
  from musiclm_jax import doctor

  print(doctor.examine(args.run_dir, data_dir=args.data))


def _add_training(verbs: argparse._SubParsersAction) -> None:
  gin_help = 'takes --gin_file=FILE, --gin.NAME=VALUE, --gin_search_paths=…'
  train = verbs.add_parser('train', help=f'train one part; {gin_help}')
  train.add_argument(
      '--distributed',
      action='store_true',
      help='train in all processes of a job together: of a TPU pod, or under'
      ' Slurm, Open MPI or Kubernetes, as jax.distributed.initialize finds it',
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
  export.set_defaults(run=_export)

  tokenize = verbs.add_parser('tokenize', help='write token records')
  tokenize.add_argument('--data', required=True, help='tfds data directory')
  tokenize.add_argument('--model', required=True, help='model directory')
  cli_data.add_runner(tokenize)
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
  recipe.set_defaults(run=_recipe)


def _add_use(verbs: argparse._SubParsersAction) -> None:
  generate = verbs.add_parser('generate', help='make music from text')
  generate.add_argument('prompt')
  generate.add_argument('--seconds', type=cli_data.positive, default=10.0)
  generate.add_argument(
      '--output', default='music.wav', help='.wav, .flac, .ogg or .mp3 file'
  )
  generate.add_argument(
      '--model',
      help='model directory or hub id; default: the one in the package',
  )
  generate.add_argument('--seed', type=int, default=0)
  generate.add_argument(
      '--melody', help='audio file of a melody to follow, e.g. hum.wav'
  )
  generate.set_defaults(run=_generate)

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


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog='musiclm', description=__doc__)
  verbs = parser.add_subparsers(dest='verb', required=True)
  _add_use(verbs)
  cli_data.add_data(verbs)
  _add_training(verbs)
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a verb; returns the exit status, 2 for what the user can mend."""
  args, rest = _parser().parse_known_args(argv)
  try:
    args.run(args, rest)
  except USER_ERRORS as e:
    message = ' '.join(str(e).split())
    print(f'musiclm: {message}', file=sys.stderr)
    return 2
  except ModuleNotFoundError as e:
    print(
        f'musiclm: {e.name} must be installed for this. Install the'
        ' extras train and eval of musiclm_jax.',
        file=sys.stderr,
    )
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main())
