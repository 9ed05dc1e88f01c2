"""Converts between two layouts of the parameters of equal layers.

Unstacked parameters hold 'layers_0', 'layers_1', …; stacked ones hold 'layers',
whose arrays have a leading axis of layers.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

STACKED = 'layers'


def _name(i: int) -> str:
  return f'{STACKED}_{i}'


def stack(params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the stacked layout of parameters of either layout."""
  if STACKED in params:
    return dict(params)
  names: list[str] = []
  while _name(len(names)) in params:
    names.append(_name(len(names)))
  rest = {k: v for k, v in params.items() if k not in names}
  layers = [params[name] for name in names]
  return rest | {STACKED: jax.tree.map(lambda *x: jnp.stack(x), *layers)}


def unstack(params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the unstacked layout of parameters of either layout."""
  if STACKED not in params:
    return dict(params)
  rest = {k: v for k, v in params.items() if k != STACKED}
  size = len(jax.tree.leaves(params[STACKED])[0])
  layers = {
      _name(i): jax.tree.map(lambda x, i=i: x[i], params[STACKED])
      for i in range(size)
  }
  return rest | layers
