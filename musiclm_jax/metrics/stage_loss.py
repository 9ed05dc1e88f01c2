"""The loss of a model's stages on tokens that they have not seen."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

import jax
import jax.numpy as jnp
from musiclm_jax import streams
from musiclm_jax.data import stage_examples
from musiclm_jax.models import likelihood
from musiclm_jax.models import parts
from musiclm_jax.models import transformer
from musiclm_jax.stages import base as stages
import numpy as np

_BATCH_SIZE = 8

Record = Mapping[str, Any]
Crops = Mapping[str, np.ndarray]


def crop(
    stage: streams.Stage,
    records: Sequence[Record],
    quantizers: Mapping[str, stage_examples.Quantizer],
    conditioning: Sequence[Record] | None = None,
) -> dict[str, np.ndarray]:
  """Returns 'inputs' and 'targets' of a stage, one crop of each record.

  Args:
    stage: The stage that reads and writes them.
    records: Records of tokens.
    quantizers: Quantizers of the inputs that records keep as embeddings.
    conditioning: One record each to read the inputs from; by default the
      records themselves.
  """
  make = stage_examples.StageExamples()
  target = stage.targets.name
  crops = [
      make(
          {**inputs, target: record[target]},
          stage.feature_lengths,
          np.random.default_rng(i),
          stage=stage,
          quantizers=quantizers,
      )
      for i, (inputs, record) in enumerate(
          zip(conditioning or records, records, strict=True)
      )
  ]
  return {k: np.stack([c[k] for c in crops]) for k in crops[0]}


def nats(
    directory: str | os.PathLike[str], name: str, crops: Crops
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the nats of each crop's targets, and how many tokens they are.

  Args:
    directory: Directory of the model.
    name: Name of the stage's part.
    crops: What `crop` returns.
  """
  part = parts.load(directory, name)
  stage = stages.of_part(part.config)
  # As the sampler computes; bfloat16 takes several times as long on a CPU.
  config = transformer.TransformerConfig(
      **{**part.config['transformer'], 'dtype': 'float32'}
  )
  module = transformer.StageTransformer(config, stage)

  @jax.jit
  def score(params, inputs, targets):
    logits = module.apply({'params': params}, inputs, targets)
    found, seen = likelihood.nats(stage, logits, targets)
    return jnp.sum(found, axis=1, where=seen), jnp.sum(seen, axis=1)

  found = []
  for i in range(0, len(crops['targets']), _BATCH_SIZE):
    batch = (crops[k][i : i + _BATCH_SIZE] for k in ('inputs', 'targets'))
    found.append(jax.device_get(score(part.variables['params'], *batch)))
  sums, counts = zip(*found)
  return np.concatenate(sums), np.concatenate(counts)
