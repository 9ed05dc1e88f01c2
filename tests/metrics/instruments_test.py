"""Tests that measures put true audio before coded audio before noise."""

import json
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.audio import io
from musiclm_jax.metrics import class_agreement
from musiclm_jax.metrics import embedded_sets
from musiclm_jax.metrics import estimates
from musiclm_jax.metrics import set_distances
from musiclm_jax.metrics.embedders import table
import numpy as np
from tests import tiny_graphs

RATE = 16000
CLIPS = 40


def play(rng, seconds=2.0):
  """Returns plucked tones of a random chord, at a random tempo."""
  time = np.arange(round(seconds * RATE)) / RATE
  beat = rng.uniform(0.25, 0.6)
  audio = np.zeros_like(time)
  for pitch in rng.choice(np.arange(45, 80), 3, replace=False):
    hz = 440 * 2 ** ((pitch - 69) / 12)
    for harmonic in range(1, 9):
      audio += np.sin(2 * np.pi * hz * harmonic * time) / harmonic
  audio *= np.exp(-rng.uniform(2, 6) * (time % beat))
  audio += 0.2 * rng.normal(size=len(time)) * np.exp(-40 * (time % beat))
  return (0.5 * audio / np.abs(audio).max()).astype(np.float32)


class InstrumentsTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    rng = np.random.default_rng(0)
    true, references = ([play(rng) for _ in range(CLIPS)] for _ in range(2))
    coded = []
    for audio in true:
      io.write_audio(folder / 'x.mp3', io.resample(audio, RATE, 8000), 8000)
      coded.append(io.read_audio(folder / 'x.mp3', RATE))
    noise = [rng.uniform(-0.5, 0.5, len(x)).astype('float32') for x in true]
    cls.clips = {'true': true, 'coded': coded, 'noise': noise}
    cls.references = references
    cls.path = folder / 'random.onnx'
    tiny_graphs.write(cls.path, (96, 64), 8, num_tags=6)
    path = cls.describe(output='embedding')
    embedder = table.load(f'onnx:{path}')
    cls.sets = {
        name: embedded_sets.embed(embedder, ((x, RATE) for x in clips), name)
        for name, clips in cls.clips.items()
    }
    cls.reference = embedded_sets.embed(
        embedder, ((x, RATE) for x in references), 'reference'
    )

  @classmethod
  def describe(cls, **values):
    text = json.dumps({'front_end': 'vggish', **values})
    cls.path.with_suffix('.json').write_text(text)
    return cls.path

  @parameterized.parameters(*set_distances.MEASURES)
  def test_distances(self, measure):
    found = set_distances.compare(measure, self.sets, self.reference)
    self.assertLess(found['true'].high, found['coded'].low)
    self.assertLess(found['coded'].high, found['noise'].low)
    # True audio is as near as one half of the reference is to the other.
    floor = set_distances.floor(measure, self.reference)
    self.assertLess(found['true'].low, floor.high)

  def test_divergence_of_classes(self):
    path = self.describe(output='tags')
    tagger = table.load_tagger(f'onnx:{path}')
    tags = {
        name: class_agreement.tag(tagger, ((x, RATE) for x in clips))
        for name, clips in self.clips.items()
    }
    found = {
        name: estimates.mean(class_agreement.kl_divergences(x, tags['true']))
        for name, x in tags.items()
    }
    self.assertEqual(found['true'].value, 0)
    self.assertGreater(found['coded'].value, 0)
    self.assertLess(
        found['coded'].value + 2 * found['coded'].standard_error,
        found['noise'].value - 2 * found['noise'].standard_error,
    )


if __name__ == '__main__':
  absltest.main()
