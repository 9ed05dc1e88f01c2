"""Tests for families."""

import pathlib
import tempfile

from absl.testing import absltest
from musiclm_jax.metrics import families
from musiclm_jax.metrics import hearing
from musiclm_jax.tokenizers import terms
import numpy as np

RATE = hearing.SAMPLE_RATE


def tones(hertz, seconds=4.0):
  time = np.arange(round(seconds * RATE)) / RATE
  return 0.1 * np.sign(np.sin(2 * np.pi * hertz * time))


class ClassifierTest(absltest.TestCase):

  def test_learns_keeps_and_checks(self):
    rng = np.random.default_rng(0)
    windows = rng.normal(0, 1, (800, 5))
    playing = np.zeros((800, len(terms.FAMILIES)), bool)
    playing[:, 2], playing[:, 5] = windows[:, 0] > 0, windows[:, 1] > 0.5
    fitted = families.fit(3 + 2 * windows, playing, 0.5, {'works': 7})
    found = fitted.probabilities(3 + 2 * windows) >= 0.5
    self.assertGreater(np.mean(found == playing), 0.98)
    path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()), 'f')
    fitted.save(path)
    loaded = families.load(path)
    self.assertEqual(loaded.lineage, {'works': 7})
    likely = loaded.probabilities(3 + 2 * windows)
    np.testing.assert_allclose(
        likely, fitted.probabilities(3 + 2 * windows), atol=0.01
    )
    damaged = path.with_name('damaged')
    damaged.write_text(path.read_text().replace('"piano"', '"banjo"'))
    with self.assertRaisesRegex(ValueError, 'classifier of families'):
      families.load(damaged)

  def test_features_ignore_the_level(self):
    loud, soft = (
        families.features(hearing.Sound(gain * tones(440), RATE))
        for gain in (1, 0.1)
    )
    self.assertLen(loud, 3)  # Windows of two seconds, each second.
    np.testing.assert_allclose(loud, soft, atol=0.5)

  def test_packaged_one_finds_nothing_in_noise_and_silence(self):
    classifier = families.load()
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE)
    for audio in (noise, np.zeros(4 * RATE)):
      found = classifier.find(hearing.Sound(audio, RATE))
      self.assertFalse(found.any())
    self.assertGreater(classifier.lineage['test_f1']['all'], 0.5)


if __name__ == '__main__':
  absltest.main()
