"""Networks in ONNX files that a user has: embedders and taggers."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.metrics.embedders import base
from musiclm_jax.metrics.embedders import front_ends
from musiclm_jax.metrics.embedders import sources
import numpy as np

_WINDOWS_PER_CALL = 16
# Layers of musicnn, as its authors' graphs name them.
_MUSICNN_EMBEDDINGS = 'model/dense/BiasAdd'
_MUSICNN_TAGS = 'model/Sigmoid'


def _open(path: pathlib.Path) -> Any:
  try:
    import onnxruntime  # pylint: disable=g-import-not-at-top
  except ImportError as e:
    raise errors.NotFoundError(
        f"'{path}' must be read with onnxruntime, which is not installed. Get"
        " it with `pip install 'musiclm_jax[eval]'`."
    ) from e
  with errors.reading(path, 'an ONNX file', 'Export it again.'):
    return onnxruntime.InferenceSession(
        path, providers=['CPUExecutionProvider']
    )


class Network:
  """A graph of one input, windows of features, and of outputs to choose from.

  Attributes:
    path: File of the graph.
    front_end: How audio becomes its input.
    output: Name of the output that is read.
    width: Values of that output for each window.
  """

  def __init__(
      self, path: pathlib.Path, front_end: front_ends.FrontEnd, output: str = ''
  ):
    """Opens a graph.

    Args:
      path: File of the graph.
      front_end: How audio becomes its input.
      output: Name of the output to read; '' for the only one.

    Raises:
      NotFoundError: If onnxruntime is missing.
      UserError: If it is no such graph.
    """
    self.path = path
    self.front_end = front_end
    self._session = _open(path)
    outputs = [x.name for x in self._session.get_outputs()]
    if not output and len(outputs) == 1:
      output = outputs[0]
    if f'{output}:0' in outputs:  # As TensorFlow names them.
      output = f'{output}:0'
    if output not in outputs:
      raise errors.UserError(
          f"'{path}' must have an output {output!r}, but has {outputs}. Name"
          f' one as "output" in \'{description_path(path).name}\' beside it.'
      )
    self.output = output
    self._input = self._session.get_inputs()[0]
    silence = np.zeros(round(front_end.sample_rate * front_end.window_seconds))
    self.width = self.run(silence.astype(np.float32)).shape[1]

  def identity(self, name: str) -> base.Identity:
    return base.Identity(
        name,
        sources.sha256(self.path),
        self.front_end.sample_rate,
        self.front_end.window_seconds,
        self.width,
        f'{self.output} of {self.front_end.name}',
    )

  def _shape(self, windows: np.ndarray) -> np.ndarray:
    """Adds the axes of size 1 that the graph's input has."""
    expected = self._input.shape[1:]
    ones = [i for i, size in enumerate(expected) if size == 1]
    if windows.ndim - 1 < len(expected) and ones:
      windows = np.expand_dims(windows, 1 + ones[0])
    sizes = list(windows.shape[1:])
    fixed = [s if isinstance(s, int) else n for s, n in zip(expected, sizes)]
    if len(expected) != len(sizes) or fixed != sizes:
      raise errors.UserError(
          f"'{self.path}' must take windows of shape {sizes}, as its front end"
          f" '{self.front_end.name}' makes them, but takes {expected}. Describe"
          f" it in '{description_path(self.path).name}' beside it."
      )
    return windows

  def run(
      self, audio: Float[np.ndarray, ' samples']
  ) -> Float[np.ndarray, 'windows width']:
    """Returns the output for each window of a clip, averaged over its frames.

    Args:
      audio: [samples] floats in [-1, 1] at the front end's sample rate.
    """
    windows = self._shape(front_ends.windows(self.front_end, audio))
    batch = self._input.shape[0]
    fixed = batch if isinstance(batch, int) else 0
    found = []
    for start in range(0, len(windows), fixed or _WINDOWS_PER_CALL):
      chunk = windows[start : start + (fixed or _WINDOWS_PER_CALL)]
      padding = [(0, max(0, fixed - len(chunk)))] + [(0, 0)] * (chunk.ndim - 1)
      inputs = {self._input.name: np.pad(chunk, padding)}
      with errors.reading(self.path, 'a graph that runs', 'Export it again.'):
        values = self._session.run([self.output], inputs)[0]
      found.append(
          values.reshape(len(values), -1, values.shape[-1])[: len(chunk)]
      )
    return np.concatenate(found).mean(axis=1)


class OnnxEmbedder(base.Embedder):
  """A network whose output is an embedding."""

  def __init__(self, name: str, network: Network):
    self.identity = network.identity(name)
    self._network = network

  def embed_audio(
      self, audio: Float[np.ndarray, ' samples']
  ) -> Float[np.ndarray, 'windows width']:
    return self._network.run(audio)


class OnnxTagger(base.Tagger):
  """A network whose output is a probability, or a logit, for each class."""

  def __init__(
      self,
      name: str,
      network: Network,
      classes: Sequence[str],
      has_logits: bool = False,
  ):
    """Makes a tagger.

    Args:
      name: Its name.
      network: The network.
      classes: Names of the classes.
      has_logits: Whether probabilities are the softmax of the output.

    Raises:
      UserError: If the output is not as wide as there are classes.
    """
    if network.width != len(classes):
      raise errors.UserError(
          f"'{network.path}' must have an output for each of {len(classes)}"
          f" classes, but '{network.output}' has {network.width}. Name another"
          f' output or the classes in'
          f" '{description_path(network.path).name}' beside it."
      )
    self.identity = network.identity(name)
    self.classes = tuple(classes)
    self._network = network
    self._has_logits = has_logits

  def tag(
      self, audio: Float[np.ndarray, ' samples']
  ) -> Float[np.ndarray, ' classes']:
    found = self._network.run(audio).astype(np.float64)
    if self._has_logits:
      found = np.exp(found - found.max(axis=1, keepdims=True))
      found /= found.sum(axis=1, keepdims=True)
    if not (found.min() >= 0 and found.max() <= 1):
      raise errors.UserError(
          f"'{self._network.path}' must give probabilities, but gives values"
          f' in [{found.min():.3g}, {found.max():.3g}]. Set "logits": true in'
          f" '{description_path(self._network.path).name}' beside it."
      )
    return found.mean(axis=0)


def description_path(path: pathlib.Path) -> pathlib.Path:
  """Returns where a graph is described: the same name, ending in .json."""
  return path.with_suffix('.json')


def describe(path: pathlib.Path) -> Mapping[str, Any]:
  """Reads what a user says of a graph, in the JSON file beside it, if any.

  Returns:
    Of "sample_rate" and "window_seconds", of networks that hear audio;
    "front_end", 'vggish' or 'musicnn', of those that hear features;
    "output", the name of the output to read; "classes", names of tags; and
    "logits", whether tags are to go through a softmax: those that are set.

  Raises:
    UserError: If a value is of the wrong type.
  """
  beside = description_path(path)
  if not beside.exists():
    return {}
  values = files.read_json(beside, 'a description of a graph', needs_seal=False)
  types: dict[str, Any] = {
      'sample_rate': int,
      'window_seconds': (int, float),
      'front_end': str,
      'output': str,
      'classes': list,
      'logits': bool,
  }
  for key, kind in types.items():
    if key in values and not isinstance(values[key], kind):
      raise errors.UserError(
          f"{beside} must give '{key}' as {kind}, but gives"
          f' {values[key]!r:.40}. Correct it.'
      )
  return values


def _front_end(
    path: pathlib.Path, values: Mapping[str, Any]
) -> front_ends.FrontEnd:
  """Returns the front end that a description names."""
  name = values.get('front_end', 'audio')
  if name in front_ends.NAMED:
    return front_ends.NAMED[name]
  rate, seconds = values.get('sample_rate', 0), values.get('window_seconds', 0)
  if name != 'audio' or rate < 1 or not 0 < seconds * rate < 1 << 26:
    raise errors.UserError(
        f"'{description_path(path)}' must say what '{path.name}' hears:"
        ' "sample_rate" and "window_seconds" of audio, or "front_end", one of'
        f' {list(front_ends.NAMED)}; but says {dict(values)!r:.200}.'
    )
  return front_ends.waveform(rate, seconds)


def _find(name: str, source: str) -> tuple[pathlib.Path, Mapping[str, Any]]:
  path = sources.find_file(source, ('.onnx',), name)
  return path, describe(path)


def load(name: str, source: str) -> base.Embedder:
  """Loads an embedder from an ONNX file that a JSON file describes."""
  path, values = _find(name, source)
  output = values.get('output', '')
  return OnnxEmbedder(name, Network(path, _front_end(path, values), output))


def load_tagger(name: str, source: str) -> base.Tagger:
  """Loads a tagger from an ONNX file that a JSON file describes."""
  path, values = _find(name, source)
  network = Network(path, _front_end(path, values), values.get('output', ''))
  return _tagger(name, network, values)


def _tagger(name: str, network: Network, values: Mapping[str, Any]):
  classes = values.get('classes') or [str(i) for i in range(network.width)]
  return OnnxTagger(name, network, classes, values.get('logits', False))


def load_musicnn(name: str, source: str) -> base.Embedder:
  """Loads musicnn, read at its penultimate layer, from an ONNX file."""
  path, values = _find(name, source)
  output = values.get('output', _MUSICNN_EMBEDDINGS)
  return OnnxEmbedder(name, Network(path, front_ends.MUSICNN, output))


def load_musicnn_tagger(name: str, source: str) -> base.Tagger:
  """Loads musicnn, read at its tags, from an ONNX file."""
  path, values = _find(name, source)
  network = Network(path, front_ends.MUSICNN, _MUSICNN_TAGS)
  return _tagger(name, network, values)
