"""How benchmarks measure: systems side by side, one at work at a time.

Each system lives in a process of its own, with its weights loaded and its
programs compiled, and waits until it is asked for something. Rounds go through
all of them, every other round backwards: what counts is the median over rounds
of the ratio within a round, as the machine's own speed differs between rounds.
"""

from collections.abc import Callable, Mapping
import dataclasses
import multiprocessing
from multiprocessing import connection
import os
import time
import traceback
from typing import Any

import numpy as np


@dataclasses.dataclass
class System:
  """What a process has to offer.

  Attributes:
    verbs: What can be timed, by name.
    facts: What there is to know of it, e.g. how many parameters it has.
  """

  verbs: Mapping[str, Callable[[], object]]
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Clock:
  """What seconds are counted, and on how many cores.

  Attributes:
    num_threads: Cores of this machine that a system may use; None for all.
    now: Returns seconds.
  """

  num_threads: int | None = None
  now: Callable[[], float] = time.perf_counter


def _serve(
    make: Callable[[], System], clock: Clock, pipe: connection.Connection
) -> None:
  """Times one call of each verb that is asked for, until None is."""
  if clock.num_threads is not None:
    # Before JAX and torch count the cores.
    cores = sorted(os.sched_getaffinity(0))[: clock.num_threads]
    os.sched_setaffinity(0, cores)
  try:
    system = make()
    for verb in system.verbs.values():  # Compiles, and fills the caches.
      verb()
      verb()
  except Exception:
    pipe.send(traceback.format_exc())
    raise
  pipe.send(dict(system.facts))
  while (verb := pipe.recv()) is not None:
    start = clock.now()
    system.verbs[verb]()
    pipe.send(clock.now() - start)


def measure(
    makers: Mapping[str, Callable[[], System]],
    verbs: list[str],
    num_rounds: int,
    clock: Clock,
) -> tuple[dict[tuple[str, str], np.ndarray], dict[str, dict[str, Any]]]:
  """Times every verb of every system, once in each round.

  Args:
    makers: Of the systems; functions that can be pickled.
    verbs: That all systems have.
    num_rounds: Rounds.
    clock: What is counted.

  Returns:
    The seconds of each round for each (system, verb), and the facts of each
    system.
  """
  context = multiprocessing.get_context('spawn')
  pipes: dict[str, Any] = {}
  workers = []
  facts = {}
  for name, make in makers.items():
    pipes[name], theirs = context.Pipe()
    worker = context.Process(
        target=_serve, args=(make, clock, theirs), daemon=True
    )
    worker.start()
    workers.append(worker)
    theirs.close()
    facts[name] = pipes[name].recv()
    if isinstance(facts[name], str):
      raise RuntimeError(f'{name} must start, but says: {facts[name]}')
  order = [(name, verb) for verb in verbs for name in pipes]
  seconds: dict[tuple[str, str], list[float]] = {key: [] for key in order}
  for i in range(num_rounds):
    for name, verb in order if i % 2 else reversed(order):
      pipes[name].send(verb)
      seconds[name, verb].append(pipes[name].recv())
  for pipe in pipes.values():
    pipe.send(None)
  for worker in workers:
    worker.join()
  return {key: np.array(values) for key, values in seconds.items()}, facts


def interval(ratios: np.ndarray) -> tuple[float, float]:
  """Returns the 95% bootstrap interval of the median."""
  rng = np.random.default_rng(0)
  draws = rng.choice(ratios, (10000, len(ratios)))
  low, high = np.percentile(np.median(draws, axis=1), (2.5, 97.5))
  return float(low), float(high)
