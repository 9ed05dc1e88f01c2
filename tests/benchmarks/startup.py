"""How soon the command makes music, and how many programs it builds for that.

  python tests/benchmarks/startup.py --before ../other_checkout

Each run is a process of its own: `import musiclm_jax`, `musiclm --help`, and
`musiclm generate` of 10 s without and with programs that were compiled before.
With --before, runs of that checkout and of this one take turns, and ratios are
of neighbours. Wall time needs a machine that has nothing else to do; CPU time,
of all threads, needs it less.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parents[2]
PROMPT = 'slow piano waltz in A minor'
SECONDS = 10
# Programs that are found in the cache count, too.
GENERATE = """
import sys
from jax import monitoring
built = []
monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: built.append(event))
from musiclm_jax import cli
status = cli.main(sys.argv[1:])
print(sum(e.endswith('backend_compile_duration') for e in built))
sys.exit(status)
"""
COMMANDS = {
    'import': ['-c', 'import musiclm_jax'],
    'help': ['-m', 'musiclm_jax.cli', '--help'],
}


@dataclasses.dataclass
class Run:
  """One process.

  Attributes:
    wall: Seconds from its start to its end.
    cpu: Seconds of all its threads.
    megabytes: Peak of its memory.
    programs: Programs it built, or found in the cache.
  """

  wall: float
  cpu: float
  megabytes: float
  programs: int = 0


def run(checkout: pathlib.Path, arguments: list[str], cache: str) -> Run:
  """Runs Python in a checkout."""
  environment = {
      **os.environ,
      'PYTHONPATH': str(checkout),
      'XDG_CACHE_HOME': cache,
  }
  start = time.perf_counter()
  process = subprocess.Popen(
      [sys.executable, *arguments], cwd=checkout, env=environment,
      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
  )  # fmt: skip
  output = process.stdout.read()
  _, status, usage = os.wait4(process.pid, 0)
  wall = time.perf_counter() - start
  if status:
    raise SystemExit(f'{arguments} failed in {checkout}.')
  last = output.split()[-1] if output else ''
  cpu = usage.ru_utime + usage.ru_stime
  programs = int(last) if last.isdigit() else 0
  return Run(wall, cpu, usage.ru_maxrss / 1024, programs)


def generate(checkout: pathlib.Path, dtype: str) -> tuple[Run, Run]:
  """Returns a run that compiles all programs, and one that finds them."""
  with tempfile.TemporaryDirectory() as folder:
    arguments = [
        '-c', GENERATE, 'generate', PROMPT, '--seconds', str(SECONDS),
        '--output', str(pathlib.Path(folder) / 'music.wav'),
    ]  # fmt: skip
    if dtype != 'default':
      arguments += ['--dtype', dtype]
    return run(checkout, arguments, folder), run(checkout, arguments, folder)


def measure(
    checkouts: dict[str, pathlib.Path], dtypes: list[str], rounds: int
) -> dict[str, dict[str, list[Run]]]:
  """Returns the runs of each command, by checkout; in turn."""
  found: dict[str, dict[str, list[Run]]] = {}

  def add(command: str, name: str, one: Run) -> None:
    found.setdefault(command, {}).setdefault(name, []).append(one)

  for i in range(rounds):
    turn = list(checkouts.items())[:: -1 if i % 2 else 1]
    for name, checkout in turn:
      for command, arguments in COMMANDS.items():
        add(command, name, run(checkout, arguments, ''))
    for dtype in dtypes:
      for name, checkout in turn:
        cold, warm = generate(checkout, dtype)
        add(f'{dtype} cold', name, cold)
        add(f'{dtype} warm', name, warm)
  return found


def show(command: str, by_checkout: dict[str, list[Run]]) -> None:
  """Prints the medians of a command, and of ratios."""
  median = lambda runs, key: statistics.median(getattr(r, key) for r in runs)
  for name, runs in by_checkout.items():
    print(
        f'{command:14} {name:7}{median(runs, "wall"):8.2f} s wall'
        f'{median(runs, "cpu"):8.2f} s CPU{median(runs, "megabytes"):7.0f} MB'
        f'{median(runs, "programs"):5.0f} programs'
    )
  if 'before' in by_checkout:
    pairs = list(zip(by_checkout['here'], by_checkout['before'], strict=True))
    wall, cpu = (
        statistics.median(getattr(a, k) / getattr(b, k) for a, b in pairs)
        for k in ('wall', 'cpu')
    )
    print(f'{command:14} of before: {wall:.2f} wall, {cpu:.2f} CPU')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--before', type=pathlib.Path, help='another checkout')
  parser.add_argument('--dtypes', default='default,int8')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--json')
  args = parser.parse_args()
  checkouts = {'here': HERE}
  if args.before:
    checkouts['before'] = args.before.resolve()
  load = os.getloadavg()[0]
  found = measure(checkouts, args.dtypes.split(','), args.rounds)
  print(f'medians of {args.rounds}; load average before: {load:.2f}')
  for command, by_checkout in found.items():
    show(command, by_checkout)
  if args.json:
    rows = {
        command: {k: [vars(r) for r in v] for k, v in runs.items()}
        for command, runs in found.items()
    }
    with open(args.json, 'w') as f:
      json.dump({'load': load, 'runs': rows}, f)


if __name__ == '__main__':
  main()
