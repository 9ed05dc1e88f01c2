"""What the machine has to offer."""

import os
import pathlib

_CGROUP_LIMIT = pathlib.Path('/sys/fs/cgroup/cpu.max')


def cache_dir() -> pathlib.Path | None:
  """Returns the user's folder for caches; None on a machine without one."""
  if cache := os.environ.get('XDG_CACHE_HOME'):
    return pathlib.Path(cache)
  try:
    return pathlib.Path.home() / '.cache'
  except RuntimeError:  # Containers may have neither HOME nor a user entry.
    return None


def num_cpus() -> int:
  """Returns the CPUs that this process may use.

  Unlike `os.cpu_count`, it heeds the affinity of the process and the limit of
  its container: a container on a large host may have a few CPUs only.
  """
  if hasattr(os, 'sched_getaffinity'):
    cpus = len(os.sched_getaffinity(0))
  else:
    cpus = os.cpu_count() or 1
  try:
    quota, period = _CGROUP_LIMIT.read_text().split()
    if quota != 'max':
      cpus = min(cpus, max(1, round(int(quota) / int(period))))
  except (OSError, ValueError):  # No such limit on this machine.
    pass
  return cpus
