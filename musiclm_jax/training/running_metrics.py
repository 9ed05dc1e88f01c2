"""The metrics of the steps since the last report."""

from collections.abc import Mapping
import time
from typing import Any

import jax
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import steps
import numpy as np

# Steps that are queued on the device, so that it does not wait for the host.
NUM_IN_FLIGHT = 2
# Steps that take this many seconds are not queued: a signal waits for one only.
SLOW = 1.0


class RunningMetrics:
  """Metrics of the steps since the last report, still on the device.

  They can be kept in a checkpoint, so that a run that stops between two reports
  reports the same as one that does not.
  """

  def __init__(self, kept: Mapping[str, Any] | None = None):
    """Starts empty, or from values that `keep` returned in another process."""
    self._outputs: list[tuple[model_lib.Metrics, jax.Array]] = []
    self._kept = dict(kept or {})
    self._time = time.monotonic()

  def add(self, metrics: model_lib.Metrics, skipped_in_a_row: jax.Array):
    """Adds a step, and waits so that few are in flight."""
    self._outputs.append((metrics, skipped_in_a_row))
    is_slow = time.monotonic() - self._time > SLOW
    waited = 1 if is_slow else NUM_IN_FLIGHT
    if len(self._outputs) >= waited:
      jax.block_until_ready(self._outputs[-waited])
    self._time = time.monotonic()

  def flush(self) -> tuple[dict[str, float], int]:
    """Returns the metrics, and the most consecutive steps that were skipped.

    Skipped steps have no metrics.
    """
    merged, skipped, most = self._merge()
    self._outputs, self._kept = [], {}
    metrics = steps.compute(merged)
    metrics['skipped_steps'] = float(skipped)
    return metrics, most

  def keep(self) -> dict[str, Any]:
    """Returns JSON values that restore these metrics in another process."""
    if not self._outputs:
      return self._kept
    merged, skipped, most = self._merge()
    sums = {
        name: [np.asarray(x).tolist() for x in jax.tree.leaves(metric)]
        for name, metric in merged.items()
    }
    return {'metrics': sums, 'skipped': skipped, 'most': most}

  def _merge(self) -> tuple[model_lib.Metrics, int, int]:
    outputs = jax.device_get(self._outputs)
    in_a_row = [int(count) for _, count in outputs]
    metrics = [metrics for metrics, count in outputs if not int(count)]
    if outputs and (sums := self._kept.get('metrics')):
      metrics.insert(0, _restore(sums, outputs[0][0]))
    skipped = self._kept.get('skipped', 0) + sum(n > 0 for n in in_a_row)
    most = max([self._kept.get('most', 0), *in_a_row])
    return steps.combine(metrics), skipped, most


def _restore(
    sums: Mapping[str, list[Any]], like: model_lib.Metrics
) -> model_lib.Metrics:
  """Restores kept metrics, in the classes of those of a step."""
  restored = {}
  for name, metric in like.items():
    leaves, structure = jax.tree.flatten(metric)
    if len(sums.get(name, ())) == len(leaves):
      values = [
          np.asarray(x, np.asarray(leaf).dtype)
          for x, leaf in zip(sums[name], leaves, strict=True)
      ]
      restored[name] = jax.tree.unflatten(structure, values)
  return restored
