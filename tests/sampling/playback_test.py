"""Tests for playback."""

import dataclasses
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax.sampling import playback
import numpy as np
from tests import fake_tokenizers
from tests.sampling import take_test

RATE = 24000


def audio_of(codec, take):
  return codec.detokenize({k: take.tokens[k] for k in ('coarse', 'fine')})[0]


class PlaybackTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.codec = fake_tokenizers.FakeCodec()

  def test_plain(self):
    take = take_test.make_take()
    audio = playback.render(self.codec, take)
    np.testing.assert_array_equal(audio, audio_of(self.codec, take)[:48000])

  def test_audio_around_a_change_stays(self):
    there = np.full(48000, 0.25, np.float32)
    take = take_test.make_take(audio=there, change=(12000, 24000))
    audio = playback.render(self.codec, take)
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
    audio = playback.render(self.codec, take)
    fade = round(0.02 * RATE)
    np.testing.assert_array_equal(audio[: 12000 - fade], there[:-fade])
    np.testing.assert_array_equal(
        audio[12000:], audio_of(self.codec, take)[12000:48000]
    )

  def test_loops_are_cut_where_they_fit(self):
    # A chirp of .75 s again and again, and a loop that is as long as three.
    time = np.arange(18000) / RATE
    chirp = 0.5 * np.sin(2 * np.pi * (300 + 800 * time) * time)
    audio = np.tile(chirp, 6).astype(np.float32)
    rng = np.random.default_rng(0)
    audio[:12000] = rng.uniform(-0.5, 0.5, 12000)  # How it starts.
    with mock.patch.object(
        self.codec, 'detokenize', return_value=audio[np.newaxis]
    ):
      take = take_test.make_take(loop=True)
      take = dataclasses.replace(take, num_samples=54000)
      loop = playback.render(self.codec, take)
    self.assertLen(loop, 54000)
    [start] = [
        start
        for start in range(0, 18000, 240)
        if np.array_equal(loop[480:], audio[start + 480 : start + 54000])
    ]
    self.assertGreaterEqual(start, 11000)  # Behind the noise.
    # From its end, it goes on as if nothing were.
    louder = loop[:480] / np.where(
        audio[start:][:480] == 0, 1, audio[start:][:480]
    )
    self.assertTrue(np.all((louder > 0.9) & (louder < 1.5)))


if __name__ == '__main__':
  absltest.main()
