"""Which families of instruments play, by a small classifier of timbre.

It is a perceptron with one hidden layer, of statistics of the log-mel spectrum
of a window; fitted on renders of scores, it knows nothing of our models.
"""

from collections.abc import Mapping
import dataclasses
import functools
import json
import os
import pathlib
from typing import Any

from jaxtyping import Bool, Float
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.metrics import hearing
from musiclm_jax.tokenizers import terms
import numpy as np

WINDOW_SECONDS = 2.0
DEFAULT = pathlib.Path(__file__).with_suffix('.json')
_QUANTILES = (0.1, 0.5, 0.9)
_MAX_BYTES = 1 << 24
_UNITS = 128  # In the hidden layer.
_PENALTY = 1.0  # On the squares of weights.
_DIGITS = 4  # Of weights that are kept.


def features(sound: hearing.Sound) -> Float[np.ndarray, 'windows features']:
  """Returns the statistics of each window of a clip; windows overlap by half.

  They are quantiles of each mel band, relative to the loudest, and how much it
  rises and falls from frame to frame; the level does not count.
  """
  length = round(WINDOW_SECONDS * hearing.FRAME_RATE)
  last = max(1, sound.log_mel.shape[1] - length + 1)
  return np.stack(
      [
          _statistics(sound.log_mel[:, start : start + length])
          for start in range(0, last, length // 2)
      ]
  )


def _statistics(
    log_mel: Float[np.ndarray, 'mels frames'],
) -> Float[np.ndarray, ' features']:
  quantiles = np.quantile(log_mel, _QUANTILES, axis=1)
  change = np.diff(log_mel, axis=1)
  rise, fall = np.maximum(change, 0).mean(1), np.minimum(change, 0).mean(1)
  return np.concatenate([*(quantiles - quantiles.max()), rise, fall])


@dataclasses.dataclass(frozen=True)
class Classifier:
  """Tells how likely each family plays.

  Attributes:
    hidden: [features + 1, units] weights and bias of the hidden layer.
    output: [units + 1, families] weights and bias of the output.
    threshold: Least probability of a family that plays.
    lineage: What it was fitted on, and how well it does on other works.
  """

  hidden: Float[np.ndarray, 'inputs units']
  output: Float[np.ndarray, 'hiddens families']
  threshold: float
  lineage: Mapping[str, Any]

  def probabilities(
      self, windows: Float[np.ndarray, 'windows features']
  ) -> Float[np.ndarray, 'windows families']:
    """Returns how likely each of `terms.FAMILIES` plays in each window."""
    units = np.maximum(windows @ self.hidden[:-1] + self.hidden[-1], 0)
    return 1 / (1 + np.exp(-(units @ self.output[:-1] + self.output[-1])))

  def find(self, sound: hearing.Sound) -> Bool[np.ndarray, ' families']:
    """Returns which of `terms.FAMILIES` play in a clip."""
    return self.likely(sound) >= self.threshold

  def likely(self, sound: hearing.Sound) -> Float[np.ndarray, ' families']:
    """Returns how likely each of `terms.FAMILIES` plays; 0 in silence."""
    if sound.is_silent:
      return np.zeros(len(terms.FAMILIES))
    return self.probabilities(features(sound)).mean(axis=0)

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes it to a JSON file, for `load`."""
    values = dict(vars(self))
    for name in ('hidden', 'output'):
      values[name] = [
          [float(f'{x:.{_DIGITS}g}') for x in row] for row in values[name]
      ]
    values['families'] = list(terms.FAMILIES)
    text = json.dumps(files.sealed(values)) + '\n'
    pathlib.Path(path).write_text(text, encoding='utf-8')


@functools.cache
def load(path: str | os.PathLike[str] = DEFAULT) -> Classifier:
  """Reads a classifier that was saved; by default the one of the package.

  Raises:
    NotFoundError: If there is no such file.
    UserError: If it is none, or for other families or features.
  """
  value = files.read_json(path, 'a classifier of families', _MAX_BYTES)
  with errors.reading(path, 'a classifier of families'):
    names = value.pop('families')
    value['hidden'] = np.array(value['hidden'], float)
    value['output'] = np.array(value['output'], float)
    classifier = Classifier(**value)
    if tuple(names) != terms.FAMILIES:
      raise errors.UserError(
          f'{path} must be a classifier of {terms.FAMILIES}, but is of'
          f' {names!r:.200}. Fit it anew.'
      )
  return classifier


def fit(
    windows: Float[np.ndarray, 'n features'],
    playing: Bool[np.ndarray, 'n families'],
    threshold: float,
    lineage: Mapping[str, Any],
) -> Classifier:
  """Fits a classifier.

  Args:
    windows: [n, features] of `features`.
    playing: [n, families] which play in each.
    threshold: See `Classifier`.
    lineage: See `Classifier`.

  Raises:
    UserError: If scikit-learn is missing.
  """
  network = _network()
  mean, scale = windows.mean(axis=0), np.maximum(windows.std(axis=0), 1e-6)
  network.fit((windows - mean) / scale, playing)
  weights, bias = network.coefs_[0] / scale[:, np.newaxis], network.intercepts_
  hidden = np.vstack([weights, bias[0] - mean @ weights])
  output = np.vstack([network.coefs_[1], bias[1]])
  return Classifier(hidden, output, threshold, lineage)


def _network() -> Any:
  try:
    from sklearn import neural_network
  except ImportError as e:
    raise errors.UserError(
        'fitting a classifier must have scikit-learn, but it is not installed.'
        ' Install it: pip install scikit-learn.'
    ) from e
  return neural_network.MLPClassifier(
      (_UNITS,), alpha=_PENALTY, early_stopping=True, random_state=0
  )
