"""A cache of compiled programs on disk."""

import os

import jax
from musiclm_jax import machine
from musiclm_jax import progress


def keep() -> None:
  """Keeps compiled programs on disk, unless JAX is configured otherwise.

  Set JAX_COMPILATION_CACHE_DIR to use another folder, or to '' for none.
  """
  if (
      'JAX_COMPILATION_CACHE_DIR' in os.environ
      or jax.config.values['jax_compilation_cache_dir']
  ):
    return
  cache = machine.cache_dir()
  folder = cache and cache / 'musiclm_jax' / 'compiled'
  try:
    if folder is None:
      raise FileNotFoundError('this user has no home folder')
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as e:
    progress.say(
        f'compiled programs are not kept for the next start: {e}. Set'
        ' JAX_COMPILATION_CACHE_DIR to a folder that can be written.'
    )
    return
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
