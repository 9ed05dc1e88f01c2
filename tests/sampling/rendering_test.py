"""Tests for rendering."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.sampling import rendering
from musiclm_jax.tokenizers import fake
import numpy as np
from tests.sampling import take_test

RATE = 24000


def audio_of(codec, take):
  return codec.detokenize({k: take.tokens[k] for k in ('coarse', 'fine')})[0]


class RenderingTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.codec = fake.FakeCodec()

  def test_plain(self):
    take = take_test.make_take()
    audio = rendering.render(self.codec, take)
    np.testing.assert_array_equal(audio, audio_of(self.codec, take)[:48000])

  def test_audio_around_a_change_stays(self):
    there = np.full(48000, 0.25, np.float32)
    take = take_test.make_take(audio=there, change=(12000, 24000))
    audio = rendering.render(self.codec, take)
    made = audio_of(self.codec, take)
    np.testing.assert_array_equal(audio[:12000], there[:12000])
    np.testing.assert_array_equal(audio[24000:], there[24000:])
    fade = round(0.02 * RATE)
    np.testing.assert_array_equal(
        audio[12000 + fade : 24000 - fade], made[12000 + fade : 24000 - fade]
    )
    # In between, no more of one than of the other is added.
    edge = slice(12000, 12000 + fade)
    low = np.minimum(made[edge], 0.25) - 1e-6
    self.assertTrue(np.all(audio[edge] >= low))

  def test_goes_on_where_audio_ends(self):
    there = np.full(12000, 0.25, np.float32)
    take = take_test.make_take(audio=there, change=(12000, 48000))
    audio = rendering.render(self.codec, take)
    fade = round(0.02 * RATE)
    np.testing.assert_array_equal(audio[: 12000 - fade], there[:-fade])
    np.testing.assert_array_equal(
        audio[12000:], audio_of(self.codec, take)[12000:48000]
    )

  def test_the_end_of_a_loop_leads_into_its_start(self):
    take = take_test.make_take(loop=True)
    made = audio_of(self.codec, take)
    short = dataclasses.replace(take, num_samples=24000)
    audio = rendering.render(self.codec, short)
    self.assertLen(audio, 24000)
    # Its first sample is what would have come after its last.
    self.assertAlmostEqual(float(audio[0]), float(made[24000]), places=5)
    np.testing.assert_array_equal(audio[12000:], made[12000:24000])


if __name__ == '__main__':
  absltest.main()
