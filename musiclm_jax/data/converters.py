"""The seqio feature converter of every task."""

import seqio

# Tasks yield what the models read: fixed shapes, nothing to pack or pad.
FeatureConverter = seqio.PassThroughFeatureConverter
