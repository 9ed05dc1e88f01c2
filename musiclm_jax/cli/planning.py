"""Flags of the verb `generate` that plan a piece."""

import argparse
import pathlib
from typing import Any

# Flags that are fields of a plan, and their helps.
_FIELDS = {
    'bpm': 'beats per minute',
    'metre': 'e.g. 3/4; default, with a tempo: 4/4',
    'key': "e.g. 'A minor'",
    'chords': "a chord per bar, or of more or fewer: 'Am F:2 C G:0.5'",
    'arrange': "who plays from which second on: '0 piano; 8 +bass +drums; 24"
    " -drums +strings'",
    'form': 'letters of sections of equal length, e.g. AABA',
    'repeat': 'exact, for sections that return with the same notes, or varied',
}
FLAGS = (*_FIELDS, 'plan', 'prompt_only')


def add_flags(generate: argparse.ArgumentParser) -> None:
  """Adds the flags, for models that read plans."""
  plan = generate.add_argument_group('plan')
  for name, text in _FIELDS.items():
    plan.add_argument(
        f'--{name}', type=float if name == 'bpm' else str, help=text
    )
  plan.add_argument(
      '--plan',
      metavar='JSON',
      help='file with an object of these, and "sections" by letter; flags'
      ' count more',
  )
  plan.add_argument(
      '--prompt_only',
      action='store_true',
      help='leave what the prompt says of tempo, metre, key and instruments out'
      ' of the plan; by default it fills what is left open',
  )


def read(args: argparse.Namespace) -> Any:
  """Returns the plan that flags and a file ask for; None if they don't."""
  from musiclm_jax.sampling import plan

  given = {name: getattr(args, name) for name in _FIELDS}
  given = {name: value for name, value in given.items() if value is not None}
  there = plan.load(args.plan) if args.plan else plan.Plan()
  # Together, as e.g. the form may be in the file and its repetition a flag.
  asked = plan.Plan.from_json(there.to_json() | given)
  return asked if asked != plan.Plan() else None


def check(piece: Any, directory: pathlib.Path, sample_rate: int) -> None:
  """Raises UserError if a model can't follow the plan of a timeline."""
  if piece.plan is None:
    return
  from musiclm_jax.sampling import blank
  from musiclm_jax.stages import base as stages

  cascade = stages.stages_in(directory).values()
  inputs = {stream.name: stream for stage in cascade for stream in stage.inputs}
  plan, _ = blank.find_plan(piece, inputs)
  if plan is not None:
    plan.tokens(piece.length(sample_rate))
