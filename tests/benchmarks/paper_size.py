"""Stages of the paper's size, with random weights.

What imports JAX is imported late: see how `protocol` starts processes.
"""

from typing import Any

import numpy as np

LAYERS, HEADS, EMBED, MLP = 24, 16, 1024, 4096


def make_config(num_layers: int = LAYERS, **options: Any) -> Any:
  """Returns a TransformerConfig: MusicLM 4.1, but for layers and options."""
  from musiclm_jax.models import transformer

  return transformer.TransformerConfig(
      num_layers=num_layers,
      num_heads=HEADS,
      head_dim=EMBED // HEADS,
      embed_dim=EMBED,
      mlp_dim=MLP,
      **options,
  )


def draw_params(config: Any, stage: Any) -> Any:
  """Returns parameters of a stage that keep the scale of what they multiply."""
  import jax
  from musiclm_jax.models import transformer

  rng = np.random.default_rng(0)

  def draw(x):
    scale = x.shape[-2] ** -0.5 if len(x.shape) > 1 else 1.0
    return rng.standard_normal(x.shape, np.float32) * np.float32(scale)

  return jax.tree.map(draw, transformer.abstract_params(config, stage))
