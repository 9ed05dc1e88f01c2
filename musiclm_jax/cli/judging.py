"""`musiclm evaluate music`: how good clips are, of any system."""

import argparse
import os
import pathlib
from typing import TYPE_CHECKING

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax.cli import batch as batch_verb
from musiclm_jax.cli import common

if TYPE_CHECKING:
  from musiclm_jax.metrics.music import prompts as prompts_lib
  from musiclm_jax.metrics.music import reports

MUSIC = 'music'
MODEL = 'model'  # Name of a column.
FLAGS = (
    *('prompts', 'benchmark', 'audio', 'reference', 'codec_passed', 'takes'),
    *('output_dir', 'embedder', 'tagger', 'report', 'keep_reference'),
)
_BATCH_SIZE = 8  # The default of `musiclm batch`, which makes the same files.


def music(args: argparse.Namespace) -> None:
  """Runs `musiclm evaluate music`."""
  _check(args)
  with progress.telling(common.STARTING):
    from musiclm_jax.metrics import transcription
    from musiclm_jax.metrics.embedders import table
    from musiclm_jax.metrics.music import evaluation
    from musiclm_jax.metrics.music import page

  transcription.find_model()  # Before hours of work that needs it.
  specs = args.embedder or [f'mulan:{args.model or ""}']
  with progress.telling('loading embedders'):
    embedders = [table.load(spec) for spec in specs]
    taggers = [table.load_tagger(spec) for spec in args.tagger or ()]
    table.name_apart([*embedders, *taggers], [*specs, *(args.tagger or ())])
  prompts = _prompts(args)
  reference = _reference(args, prompts)
  if args.codec_passed:
    _check_paired(reference)
  systems = _systems(args, prompts, reference)
  keep = args.keep_reference and pathlib.Path(args.keep_reference)
  found = evaluation.evaluate(
      prompts, systems, reference, embedders, taggers, keep
  )
  print(page.render(found))
  if args.json:
    page.write_json(args.json, found)
  if args.report:
    page.write(args.report, found, prompts, systems, reference)
    progress.say(f"the page is '{pathlib.Path(args.report) / page.PAGE}'")


def _check(args: argparse.Namespace) -> None:
  """Raises UserError unless flags go together."""
  if not args.output_dir and not args.audio:
    raise errors.UserError(
        'there must be clips to judge: give --output_dir, a folder for those'
        ' that the model makes, or --audio, a folder of clips that are there.'
    )
  if args.prompts and args.benchmark:
    raise errors.UserError('--prompts must be without --benchmark.')
  if not (args.prompts or args.benchmark or args.data):
    raise errors.UserError(
        'there must be prompts: give --prompts, --benchmark, or --data, whose'
        ' captions are then the prompts.'
    )
  if args.max_clips is not None and args.max_clips < 1:
    raise errors.UserError(
        f'--max_clips must be at least 1, but is {args.max_clips}.'
    )
  if args.takes > 1 and not args.output_dir:
    raise errors.UserError(
        '--takes must be with --output_dir, as the model makes them.'
    )
  if args.json:
    files.check_writable(args.json)
  folders = [_named(text)[1] for text in args.audio or ()]
  for flag, folder in (
      *(('--audio', folder) for folder in folders),
      ('--reference', args.reference),
      ('--codec_passed', args.codec_passed),
      ('--keep_reference', args.keep_reference),
      ('--report', args.report),
      ('--data', args.data if args.benchmark else None),
  ):
    if folder:
      paths.check_local(folder, flag)
  for folder in filter(None, (args.report, args.keep_reference)):
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    files.check_writable(pathlib.Path(folder) / 'report.md')


def _prompts(args: argparse.Namespace) -> 'prompts_lib.Prompts':
  from musiclm_jax.metrics.music import benchmarks
  from musiclm_jax.metrics.music import prompts as prompts_lib

  if args.prompts:
    return prompts_lib.of_file(args.prompts).spread(args.max_clips)
  with progress.telling('reading prompts'):
    if args.benchmark:
      found = benchmarks.read(args.benchmark, args.data)
      return found.spread(args.max_clips)
    split = args.split or 'test'
    return prompts_lib.of_dataset(args.data, split, args.max_clips)


def _reference(
    args: argparse.Namespace, prompts: 'prompts_lib.Prompts'
) -> 'prompts_lib.Reference | None':
  from musiclm_jax.metrics.music import prompts as prompts_lib

  if args.reference is None:
    return prompts.reference
  ids = [prompt.id for prompt in prompts.prompts]
  split = args.split or 'test'
  return prompts_lib.read_reference(args.reference, ids, split, args.max_clips)


def _systems(
    args: argparse.Namespace,
    prompts: 'prompts_lib.Prompts',
    reference: 'prompts_lib.Reference | None',
) -> list['reports.System']:
  """Returns the columns: the model's clips, those of others, coded ones."""
  from musiclm_jax.metrics.music import reports
  from musiclm_jax.metrics.music import rows
  from musiclm_jax.metrics.music import sounds

  ids = [prompt.id for prompt in prompts.prompts]
  found = []
  named = dict(_named(text) for text in args.audio or ())
  reserved = {MODEL, rows.CODED, rows.REFERENCE} & named.keys()
  if reserved or len(named) < len(args.audio or ()):
    raise errors.UserError(
        f'names of --audio must differ, and not be {MODEL}, {rows.CODED} or'
        f' {rows.REFERENCE}, but are those of {args.audio}. Name them:'
        ' NAME=DIR.'
    )
  matched = {
      name: (folder, sounds.match(folder, ids))
      for name, folder in named.items()
  }
  if args.output_dir:
    found.append(_made(args, prompts))
  for name, (folder, clips) in matched.items():
    found.append(reports.System(name, folder, clips))
  if args.codec_passed:
    found.append(_coded(args, prompts, reference))
  for system in found:
    missing = len(ids) - len(system.clips)
    if missing:
      progress.say(
          f'{system.name} has no clip of {missing} of {len(ids)} prompts, which'
          ' are left out of every column'
      )
  return found


def _named(text: str) -> tuple[str, str]:
  """Returns the name and the folder of NAME=DIR, or of DIR."""
  name, equals, folder = text.partition('=')
  if equals and not os.path.isdir(text):
    return name, folder
  return pathlib.Path(text).name or text, text


def _made(
    args: argparse.Namespace, prompts: 'prompts_lib.Prompts'
) -> 'reports.System':
  """Makes clips of the model, but for those that are there."""
  from musiclm_jax.metrics.music import reports
  from musiclm_jax.metrics.music import sounds
  from musiclm_jax.sampling import batch
  from musiclm_jax.sampling import pretrained
  from musiclm_jax.sampling import provenance

  model = pretrained.find(args.model)
  told = {name for prompt in prompts.prompts for name in prompt.planned}
  unread = sorted(told - _read_by(model))
  if unread:
    progress.say(
        f'the model reads no {" and no ".join(unread)}: its clips are made from'
        ' the prompts alone, and held beside the plans all the same'
    )
  takes = {
      prompt.id: [
          prompt.take(number + 1, not unread) for number in range(args.takes)
      ]
      for prompt in prompts.prompts
  }
  sha256 = provenance.model_sha256(model)
  shard = batch.Shard(
      [line for lines in takes.values() for line in lines],
      args.output_dir,
      {
          'model': sha256,
          'dtype': pretrained.dtype_in_words(model, 'auto'),
      },
      _BATCH_SIZE,
      manifest=provenance.manifest(model),
  )
  summary = shard.run(lambda: batch_verb.Interruptible(model, 'auto'))
  progress.say(str(summary))
  there = {
      id_: [
          sounds.File(str(path))
          for line in lines
          if (
              path := paths.to_path(args.output_dir) / f'{line.id}.wav'
          ).exists()
      ]
      for id_, lines in takes.items()
  }
  return reports.System(
      MODEL,
      f'{model} in {args.output_dir}' + ', without plans' * bool(unread),
      {id_: made[0] for id_, made in there.items() if made},
      {id_: tuple(made) for id_, made in there.items() if len(made) > 1},
      sha256,
  )


def _read_by(model: pathlib.Path) -> set[str]:
  """Returns the names of the streams that the stages of a model read."""
  from musiclm_jax.stages import base as stages

  found = stages.stages_in(model).values()
  return {stream.name for stage in found for stream in stage.inputs}


def _check_paired(
    reference: 'prompts_lib.Reference | None',
) -> 'prompts_lib.Reference':
  if reference is None or not reference.paired:
    raise errors.UserError(
        '--codec_passed must be with true audio of the prompts, but there is'
        ' none. Name the files of --reference by the ids of the prompts.'
    )
  return reference


def _coded(
    args: argparse.Namespace,
    prompts: 'prompts_lib.Prompts',
    reference: 'prompts_lib.Reference | None',
) -> 'reports.System':
  """Passes the true audio of the prompts through the model's codec."""
  from musiclm_jax.metrics.music import coding
  from musiclm_jax.metrics.music import reports
  from musiclm_jax.metrics.music import rows
  from musiclm_jax.sampling import pretrained
  from musiclm_jax.sampling import provenance
  from musiclm_jax.tokenizers import table

  reference = _check_paired(reference)
  model = pretrained.find(args.model)
  with progress.telling('loading the codec'):
    codec = table.Tokenizers(model).codec
  seconds = {prompt.id: prompt.seconds for prompt in prompts.prompts}
  true = {
      id_: reference.paired[id_] for id_ in seconds if id_ in reference.paired
  }
  made = coding.code_all(codec, true, seconds, args.codec_passed)
  return reports.System(
      rows.CODED,
      f'the codec of {model}',
      made,
      model_sha256=provenance.model_sha256(model),
  )


def add_music(evaluate: argparse.ArgumentParser) -> None:
  """Adds the flags of `musiclm evaluate music`."""
  group = evaluate.add_argument_group(
      MUSIC,
      'how good clips are: those that the model makes, or those of any system,'
      ' beside true audio. Without --prompts and --benchmark, the captions of'
      ' --data are the prompts. With --json FILE, figures go there, too',
  )
  group.add_argument(
      '--prompts',
      metavar='FILE',
      help='.jsonl or .txt list, as of musiclm batch',
  )
  group.add_argument(
      '--benchmark',
      help='prompts by name: musiccaps, musiccaps-eval, musiccaps-balanced,'
      ' songdescriber or attm, with --data, the folder of what it needs; or'
      ' obedience',
  )
  group.add_argument(
      '--output_dir',
      metavar='DIR',
      help='have the model make clips, here; what is there is kept',
  )
  group.add_argument(
      '--takes',
      type=common.at_least(1),
      default=1,
      help='pieces of each prompt that the model makes, to see how they differ',
  )
  group.add_argument(
      '--audio',
      action='append',
      metavar='[NAME=]DIR',
      help='clips of a system, in files named by the ids of the prompts or in'
      ' their order; may be repeated',
  )
  group.add_argument(
      '--reference',
      metavar='DIR',
      help='true audio: the folder of a dataset, of files, or of what'
      ' --keep_reference kept. Files named by ids of prompts are also the'
      ' ceiling; default: that of --data',
  )
  group.add_argument(
      '--keep_reference',
      metavar='DIR',
      help='keep the embeddings of true audio here, for distances from it'
      ' without embedding it again',
  )
  group.add_argument(
      '--codec_passed',
      metavar='DIR',
      help="add a column of true audio passed through the model's codec, kept"
      ' here',
  )
  group.add_argument(
      '--embedder',
      action='append',
      metavar='NAME[:PATH]',
      help='what embeds clips: mulan, clap, clap-music, mert, vggish:FILE,'
      " musicnn:FILE or onnx:FILE; may be repeated; default: the model's mulan",
  )
  group.add_argument(
      '--tagger',
      action='append',
      metavar='NAME[:PATH]',
      help='whose classes the KLD is of: clap, clap-music, musicnn:FILE or'
      ' onnx:FILE; may be repeated',
  )
  group.add_argument(
      '--report', metavar='DIR', help='write a page with tables and plots here'
  )


def check_only_music(args: argparse.Namespace) -> None:
  """Raises UserError if one of those flags is given without it."""
  for name in FLAGS:
    if getattr(args, name) not in (None, 1):
      raise errors.UserError(
          f'--{name} must be with `musiclm evaluate {MUSIC}`, but is with'
          f" '{args.part}'."
      )
