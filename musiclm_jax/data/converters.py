"""The seqio feature converter of every task."""

from collections.abc import Mapping

import seqio


class FeatureConverter(seqio.PassThroughFeatureConverter):
  """Tasks yield what the models read: fixed shapes, nothing to pack or pad."""

  # What seqio.Evaluator asks for: no feature has its time on another axis.
  TASK_FEATURES: Mapping[str, seqio.FeatureConverter.FeatureSpec] = {}
  pack = False
