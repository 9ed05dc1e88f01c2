"""MusicLM in JAX.

>>> import musiclm_jax
>>> model = musiclm_jax.MusicLM.from_pretrained()
>>> audio = model.generate(['slow piano waltz in A minor'], seconds=10)
"""

from typing import Any

__version__ = '0.1.0'
__all__ = ['MusicLM']


def __getattr__(name: str) -> Any:
  # Lazy, so that `import musiclm_jax` costs nothing.
  if name == 'MusicLM':
    from musiclm_jax.sampling import musiclm

    return musiclm.MusicLM
  raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
