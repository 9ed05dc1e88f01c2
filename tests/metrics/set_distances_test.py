"""Tests for set_distances."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.metrics import embedded_sets
from musiclm_jax.metrics import frechet
from musiclm_jax.metrics import kernel
from musiclm_jax.metrics import set_distances
from musiclm_jax.metrics.embedders import base
import numpy as np

WIDTH = 8
IDENTITY = base.Identity('random', 'a' * 64, 16000, 1.0, WIDTH)


def clips_of(seed, count, shift=0.0, windows=2, width=WIDTH, identity=IDENTITY):
  """Returns clips whose windows vary around a point of the clip's own."""
  rng = np.random.default_rng(seed)
  centers = rng.normal(size=(count, 1, width)) + shift
  embeddings = centers + 0.3 * rng.normal(size=(count, windows, width))
  return embedded_sets.make(embeddings, identity, f'seed {seed}')


class SetDistancesTest(parameterized.TestCase):

  def test_values_are_those_of_the_embeddings(self):
    made, reference = clips_of(0, 40, 0.5, 1), clips_of(1, 60, windows=1)
    pair = made.embeddings, reference.embeddings
    self.assertAlmostEqual(
        set_distances.frechet(made, reference).value,
        frechet.frechet_distance(*pair),
    )
    self.assertAlmostEqual(
        set_distances.kernel(made, reference).value,
        kernel.kernel_distance(*pair),
    )

  @parameterized.parameters((set_distances.FRECHET,), (set_distances.KERNEL,))
  def test_error_is_the_spread_over_sets_of_other_clips(self, measure):
    reference = clips_of(1, 100)
    measure = set_distances.MEASURES[measure]
    found = [measure(clips_of(i, 60, 0.5), reference) for i in range(2, 16)]
    spread = np.std([x.value for x in found], ddof=1)
    mean_error = np.mean([x.standard_error for x in found])
    self.assertBetween(mean_error / spread, 0.6, 1.7)
    self.assertAlmostEqual(
        (found[0].high - found[0].low) / found[0].standard_error, 2 * 1.96
    )

  def test_bias_by_count_and_its_extrapolation(self):
    # All are of one distribution: the true distance is that of the reference's
    # own size, nearly 0.
    reference = clips_of(1, 3000, windows=1)
    values = {
        count: np.mean(
            [
                frechet.frechet_distance(
                    clips_of(seed, count, windows=1).embeddings,
                    reference.embeddings,
                )
                for seed in range(2, 6)
            ]
        )
        for count in (50, 100, 200, 400)
    }
    # Twice the clips, half the bias.
    for count in (50, 100, 200):
      self.assertBetween(values[count] / values[2 * count], 1.6, 2.6)
    infinite = [
        set_distances.frechet_of_infinite(
            clips_of(s, 200, windows=1), reference
        )
        for s in range(2, 5)
    ]
    mean = np.mean([x.value for x in infinite])
    self.assertLess(abs(mean), 0.25 * values[200])

  def test_extrapolates_over_clips_not_windows(self):
    # Windows of a clip tell little new: many of them do not make a large set.
    reference = clips_of(1, 2000, windows=1)
    made = clips_of(2, 60, windows=20)
    infinite = set_distances.frechet_of_infinite(made, reference)
    biased = set_distances.frechet(made, reference)
    self.assertLess(abs(infinite.value), 0.6 * biased.value)

  @parameterized.parameters(1, 10)
  def test_kernel_distance_of_one_distribution_is_0(self, windows):
    found = [
        set_distances.kernel(
            clips_of(seed, 25, windows=windows),
            clips_of(seed + 100, 25, windows=windows),
        ).value
        for seed in range(40)
    ]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    self.assertLess(abs(np.mean(found)), 3 * error)

  def test_kernel_is_of_windows_of_different_clips(self):
    made, reference = clips_of(0, 3, 0.5), clips_of(1, 4)
    width = kernel.median_distance(reference.embeddings)
    clip = lambda clips: np.repeat(np.arange(len(clips)), clips.counts)

    def mean(a, b):
      difference = a.embeddings[:, None] - b.embeddings
      kernels = np.exp(-np.sum(difference**2, -1) / (2 * width**2))
      if a is b:
        kernels = kernels[clip(a)[:, None] != clip(b)]
      return kernels.mean()

    expected = mean(made, made) + mean(reference, reference)
    expected -= 2 * mean(made, reference)
    found = set_distances.kernel(made, reference).value
    self.assertAlmostEqual(found, 100 * float(expected), places=4)

  def test_halves_of_a_set_are_at_the_floor(self):
    reference, far = clips_of(1, 240), clips_of(2, 120, 0.5)
    for measure, of in set_distances.MEASURES.items():
      floor = set_distances.floor(measure, reference)
      half, _ = reference.halves()
      self.assertLess(floor.value, 0.2 * of(far, half).value)
      self.assertEqual(floor.clips, 120)
    floor = set_distances.floor(set_distances.KERNEL, reference)
    self.assertLess(abs(floor.value), 4 * floor.standard_error)

  def test_row_tells_the_embedder(self):
    row = set_distances.kernel(clips_of(0, 5), clips_of(1, 9)).to_json()
    self.assertEqual(row['embedder'], 'random')
    self.assertEqual(row['embedder_sha256'], 'a' * 64)
    self.assertEqual(row['sample_rate'], 16000)
    self.assertEqual((row['clips'], row['windows']), (5, 10))
    self.assertEqual(row['reference_clips'], 9)

  def test_refuses_other_embedders(self):
    other = dataclasses.replace(IDENTITY, sha256='b' * 64)
    made = clips_of(0, 40, identity=other)
    for measure in set_distances.MEASURES.values():
      with self.assertRaisesRegex(ValueError, 'one embedder.*sha256'):
        measure(made, clips_of(1, 40))

  def test_refuses_too_few_clips(self):
    few, enough = clips_of(0, 4), clips_of(1, 40)
    with self.assertRaisesRegex(ValueError, 'more than they are wide'):
      set_distances.frechet(few, enough)
    with self.assertRaisesRegex(ValueError, 'from 16 or more.* are 10'):
      set_distances.frechet_of_infinite(clips_of(0, 10), enough)
    with self.assertRaisesRegex(ValueError, 'two clips or more, but is of 1'):
      set_distances.kernel(clips_of(0, 1), enough)

  def test_compares_systems_of_equal_counts_only(self):
    reference = clips_of(1, 40)
    systems = {'near': clips_of(2, 30), 'far': clips_of(3, 30, 1.0)}
    for measure in set_distances.MEASURES:
      found = set_distances.compare(measure, systems, reference)
      self.assertLess(found['near'].high, found['far'].low)
    systems['far'] = clips_of(3, 29, 1.0)
    with self.assertRaisesRegex(ValueError, 'equal clips, but have 30 and 29'):
      set_distances.compare(set_distances.FRECHET, systems, reference)
    set_distances.compare(set_distances.KERNEL, systems, reference)

  def test_refuses_other_references(self):
    made = clips_of(0, 30)
    found = [set_distances.kernel(made, clips_of(i, 30)) for i in (1, 2)]
    with self.assertRaisesRegex(ValueError, 'equal reference_sha256'):
      set_distances.check_comparable(found)


if __name__ == '__main__':
  absltest.main()
