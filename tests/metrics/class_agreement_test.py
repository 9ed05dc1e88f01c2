"""Tests for class_agreement."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics import class_agreement
from musiclm_jax.metrics.embedders import base
import numpy as np
import scipy.stats


class Loudness(base.Tagger):
  """Tags a clip as loud or quiet."""

  identity = base.Identity('loudness', 'a' * 64, 100, 1.0, 2)
  classes = ('loud', 'quiet')

  def tag(self, audio):
    loud = np.abs(audio).mean()
    return np.array([loud, 1 - loud])


class ClassAgreementTest(parameterized.TestCase):

  def test_tags_clips_of_any_rate(self):
    clips = [(np.full(100, 0.25), 100), (np.zeros(300, np.float32), 300)]
    found = class_agreement.tag(Loudness(), clips)
    np.testing.assert_allclose(found, [[0.25, 0.75], [0, 1]], atol=1e-6)

  def test_equals_scipy(self):
    rng = np.random.default_rng(0)
    made, reference = rng.uniform(0.01, 1, (2, 30, 7))
    np.testing.assert_allclose(
        class_agreement.kl_divergences(made, reference),
        scipy.stats.entropy(reference, made, axis=1),
        rtol=1e-9,
    )

  def test_by_hand(self):
    # Half of what the reference says is missing: log 2 nats.
    made, reference = np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])
    found = class_agreement.kl_divergences(made, reference)
    np.testing.assert_allclose(found, [np.log(2)], atol=1e-4)

  def test_is_finite_where_a_class_is_ruled_out(self):
    made, reference = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    found = class_agreement.kl_divergences(made, reference)
    np.testing.assert_allclose(found, [np.log(1e6)], rtol=1e-3)

  @parameterized.parameters(
      (np.ones((2, 3)), np.ones((3, 3)), r'shapes \(2, 3\) and \(3, 3\)'),
      (np.ones((2, 3)), -np.ones((2, 3)), 'at least 0'),
      (np.full((2, 3), np.nan), np.ones((2, 3)), 'finite'),
  )
  def test_rejects(self, made, reference, message):
    with self.assertRaisesRegex(ValueError, message):
      class_agreement.kl_divergences(made, reference)

  def test_rejects_no_clips(self):
    with self.assertRaisesRegex(ValueError, 'there are none'):
      class_agreement.tag(Loudness(), [])


if __name__ == '__main__':
  absltest.main()
