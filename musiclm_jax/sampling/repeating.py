"""Sections that return exactly: their semantic tokens are sampled once."""

from collections.abc import Sequence
import dataclasses

from musiclm_jax import streams
from musiclm_jax.sampling import plan
from musiclm_jax.sampling import sampler as sampler_lib
from musiclm_jax.sampling import take as take_lib


def fill(
    sampler: sampler_lib.Sampler,
    takes: Sequence[take_lib.Take],
    progress: sampler_lib.Progress = lambda _: None,
) -> list[take_lib.Take]:
  """Returns takes in which repeated sections have the tokens of the first.

  The first appearance of a section is sampled if need be. Acoustic tokens are
  left to be sampled, so that repeats are played anew.

  Args:
    sampler: Cascade that will sample the takes.
    takes: Takes of one layout and of the same `copies`.
    progress: Called with the number of new tokens.
  """
  takes = list(takes)
  for copy in copies(takes[0]):
    for stream in takes[0].sampled:
      if stream.name not in takes[0].acoustic:
        takes = _copy(sampler, takes, stream, copy, progress)
  return takes


def copies(take: take_lib.Take) -> tuple[tuple[float, float, float], ...]:
  """Returns the copies to make in a take; see `plan.Plan.repeats`."""
  value = take.description.get('plan')
  if value is None:
    return ()
  seconds = take.num_samples / take.sample_rate
  return tuple(plan.Plan.from_json(value).repeats(seconds))


def _copy(
    sampler: sampler_lib.Sampler,
    takes: Sequence[take_lib.Take],
    stream: streams.Stream,
    copy: tuple[float, float, float],
    progress: sampler_lib.Progress,
) -> list[take_lib.Take]:
  """Samples a stream up to the end of a section, and copies the section."""
  start, end, target = (stream.num_frames(second) for second in copy)
  run = sampler.start(takes, progress)
  run.advance(stream.name, end)
  tokens = {name: x.copy() for name, x in run.tokens.items()}
  room = tokens[stream.name][:, target : target + end - start]
  wanted = tokens[stream.name][:, start : start + room.shape[1]]
  is_open = room == streams.ABSENT
  room[is_open] = wanted[is_open]
  progress(int(is_open.sum()))
  return [
      dataclasses.replace(
          take, tokens={k: tokens[k][[row]] for k in take.tokens}
      )
      for row, take in enumerate(takes)
  ]
