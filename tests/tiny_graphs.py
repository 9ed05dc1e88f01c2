"""Writes small ONNX graphs, like those of published networks."""

import numpy as np
import onnx
from onnx import helper
from onnx import numpy_helper


def write(
    path,
    input_shape,
    width,
    num_tags=0,
    batch='batch',
    seed=0,
    tags_name='tags',
):
  """Writes a graph that maps features through one random layer.

  Args:
    path: File to write.
    input_shape: Shape of a window; its last axis is kept, others averaged.
    width: Width of the output 'embedding'.
    num_tags: Width of a further output of probabilities; 0 for none.
    batch: Windows of a call; a word if any number will do.
    seed: Seed of the weights.
    tags_name: Name of that output.

  Returns:
    The [bands, width] matrix of the layer, and that of the tags.
  """
  rng = np.random.default_rng(seed)
  layer = rng.normal(size=(input_shape[-1], width)) / input_shape[-1]
  layer = layer.astype(np.float32)
  tags = rng.normal(size=(width, num_tags)).astype(np.float32)
  axes = np.arange(1, len(input_shape))
  nodes = [
      helper.make_node('ReduceMean', ['x', 'axes'], ['mean'], keepdims=0)
      if len(axes)
      else helper.make_node('Identity', ['x'], ['mean']),
      helper.make_node('MatMul', ['mean', 'layer'], ['pre']),
      helper.make_node('Tanh', ['pre'], ['embedding']),
  ]
  outputs = {'embedding': width}
  weights = {'layer': layer, 'axes': axes}
  if num_tags:
    nodes += [
        helper.make_node('MatMul', ['embedding', 'tag_layer'], ['logits']),
        helper.make_node('Sigmoid', ['logits'], [tags_name]),
    ]
    outputs[tags_name] = num_tags
    weights['tag_layer'] = tags
  value = helper.make_tensor_value_info
  graph = helper.make_graph(
      nodes,
      'tiny',
      [value('x', onnx.TensorProto.FLOAT, [batch, *input_shape])],
      [
          value(name, onnx.TensorProto.FLOAT, [batch, size])
          for name, size in outputs.items()
      ],
      [numpy_helper.from_array(x, name) for name, x in weights.items()],
  )
  opset = [helper.make_opsetid('', 18)]
  onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
  return layer, tags
