"""Where compiled programs are kept from one process to the next."""

import os
import pathlib

import jax


def keep() -> None:
  """Keeps compiled programs for the next process, unless JAX is told where.

  JAX_COMPILATION_CACHE_DIR names another folder, or none if it is empty.
  """
  if (
      'JAX_COMPILATION_CACHE_DIR' in os.environ
      or jax.config.values['jax_compilation_cache_dir']
  ):
    return
  cache = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  folder = pathlib.Path(cache) / 'musiclm_jax' / 'compiled'
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
