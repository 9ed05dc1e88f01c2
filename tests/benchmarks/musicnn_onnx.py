"""Turns the weights of the package musicnn into an ONNX file and its tags.

  pip install --no-deps musicnn
  pip install --no-deps tf2onnx onnx
  python -m tests.benchmarks.musicnn_onnx musicnn.onnx
  musiclm evaluate music … --tagger musicnn:musicnn.onnx

musicnn (Pons and Serra, arXiv 1909.06654) comes with graphs of TensorFlow 1,
which its own code cannot run any more. This needs TensorFlow, of the extra
`train`; what it writes is read by onnxruntime alone.
"""

import argparse
import importlib.util
import json
import pathlib

import tensorflow as tf
import tf2onnx

v1 = tf.compat.v1

OUTPUTS = ('model/dense/BiasAdd', 'model/Sigmoid')  # Embeddings and tags.
MODELS = {'MTT_musicnn': 'MTT_LABELS', 'MSD_musicnn': 'MSD_LABELS'}


def package() -> pathlib.Path:
  """Returns the folder of the package, without importing it."""
  found = importlib.util.find_spec('musicnn')
  if found is None or found.origin is None:
    raise SystemExit('musicnn must be installed: pip install --no-deps musicnn')
  return pathlib.Path(found.origin).parent


def frozen_graph(folder: pathlib.Path):
  """Returns the graph of a checkpoint with constants, and its input's name."""
  described = v1.MetaGraphDef()
  described.ParseFromString((folder / '.meta').read_bytes())
  for node in described.graph_def.node:
    # Those of gradients do not hold in TensorFlow 2.
    node.attr.pop('_output_shapes', None)
  with v1.Graph().as_default() as graph, v1.Session() as session:
    v1.train.import_meta_graph(described).restore(session, f'{folder}/')
    inputs = [o for o in graph.get_operations() if o.type == 'Placeholder']
    constants = v1.graph_util.convert_variables_to_constants(
        session, graph.as_graph_def(), OUTPUTS
    )
  is_training = {
      o.outputs[0].name: False for o in inputs if o.outputs[0].dtype == tf.bool
  }
  with v1.Graph().as_default() as graph:
    fixed = {name: tf.constant(x) for name, x in is_training.items()}
    v1.import_graph_def(constants, name='', input_map=fixed)
    [spectrum] = [
        o.outputs[0].name
        for o in inputs
        if o.outputs[0].shape.ndims == 3 and o.outputs[0].dtype == tf.float32
    ]
    return graph.as_graph_def(), spectrum


def labels(name: str) -> list[str]:
  """Returns the tags of a model."""
  found: dict[str, list[str]] = {}
  exec((package() / 'configuration.py').read_text(), found)  # pylint: disable=exec-used
  return found[MODELS[name]]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
  parser.add_argument('output', type=pathlib.Path)
  parser.add_argument('--model', choices=MODELS, default='MTT_musicnn')
  args = parser.parse_args()
  v1.disable_eager_execution()
  graph, spectrum = frozen_graph(package() / args.model)
  tf2onnx.convert.from_graph_def(
      graph,
      input_names=[spectrum],
      output_names=[f'{name}:0' for name in OUTPUTS],
      opset=13,
      output_path=str(args.output),
  )
  described = json.dumps({'classes': labels(args.model)})
  args.output.with_suffix('.json').write_text(described, encoding='utf-8')


if __name__ == '__main__':
  main()
