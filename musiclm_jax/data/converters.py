"""The seqio feature converter of every task."""

import seqio


class FeatureConverter(seqio.PassThroughFeatureConverter):
  """Tasks yield what the models read: fixed shapes, nothing to pack or pad."""

  # What seqio.Evaluator asks for: no feature has its time on another axis.
  TASK_FEATURES = {}
  pack = False
