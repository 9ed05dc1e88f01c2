"""Tests for conditions."""

from absl.testing import absltest
import jax.numpy as jnp
from musiclm_jax import streams
from musiclm_jax.models import conditions
from musiclm_jax.models import positions
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
import numpy as np

STAGE = stages.get_stage('coarse_melody', 7.0)


class SplitTest(absltest.TestCase):

  def test_takes_windows_out_of_the_inputs(self):
    # 12 MuLan tokens, 4 windows of 4 s, one a second, and 175 semantic ones.
    inputs = jnp.arange(2 * (12 + 4 * 24 + 175)).reshape(2, -1)
    prefix, added = conditions.split(STAGE, inputs)
    np.testing.assert_array_equal(prefix[:, :12], inputs[:, :12])
    np.testing.assert_array_equal(prefix[:, 12:], inputs[:, 12 + 96 :])
    np.testing.assert_array_equal(
        added['melody'], inputs[:, 12 : 12 + 96].reshape(2, 4, 24)
    )

  def test_stages_and_crops_without_windows(self):
    for stage in (
        stages.get_stage('coarse'),
        stages.get_stage('coarse_melody', 3.0),
    ):
      inputs = jnp.arange(stage.feature_lengths['inputs'])[None]
      prefix, added = conditions.split(stage, inputs)
      self.assertLen(prefix[0], sum(map(stage.num_ids, stage.prefix)))
      self.assertEmpty(added)


class NearestTest(absltest.TestCase):

  def test_the_window_whose_centre_is_nearest(self):
    frames = positions.frames(STAGE, 12 + 175, 4 * 350)
    found = conditions.nearest(STAGE, base.MELODY, frames)
    np.testing.assert_array_equal(found[:12], positions.NO_FRAME)
    # Centres are at 2, 3, 4 and 5 s.
    for second, window in ((0, 0), (2.4, 0), (2.6, 1), (4, 2), (6.9, 3)):
      semantic = 12 + round(second * 25)
      coarse = 12 + 175 + 4 * round(second * 50)
      self.assertEqual(found[semantic], window)
      np.testing.assert_array_equal(found[coarse : coarse + 4], window)

  def test_frames_have_their_own_time(self):
    beat = streams.Stream('beat', 2, 8, frame_rate=12.5, is_added=True)
    stage = streams.Stage(
        'semantic', (base.MULAN, beat), base.SEMANTIC, crop_seconds=4.0
    )
    frames = np.array([positions.NO_FRAME, 0, 1, 2, 3, 99, 100])
    np.testing.assert_array_equal(
        conditions.nearest(stage, beat, frames),
        [positions.NO_FRAME, 0, 0, 1, 1, 49, 49],  # The last is behind it.
    )


class AddUpTest(absltest.TestCase):

  def test_adds_what_is_known_to_the_positions_of_each_window(self):
    stage = stages.get_stage('semantic_melody', 5.0)
    frames = np.array([positions.NO_FRAME, 0, 70, 80])  # Centres: 50, 75.
    embeddings = np.random.default_rng(0).normal(size=(1, 2, 24, 3))
    ids = np.full((1, 2, 24), stage.ids(base.MELODY).start)
    ids[0, 1, 5:] = streams.ABSENT_ID
    found = conditions.add_up(
        lambda ids: jnp.asarray(embeddings, jnp.float32),
        {'melody': jnp.asarray(ids)},
        stage,
        frames,
    )
    scale = 24**-0.5
    second = scale * embeddings[0, 1, :5].sum(axis=0)
    expected = [np.zeros(3), scale * embeddings[0, 0].sum(axis=0)]
    np.testing.assert_allclose(found[0], [*expected, second, second], atol=1e-6)

  def test_streams_of_several_rates_add_up(self):
    beat = streams.Stream('beat', 1, 8, frame_rate=12.5, is_added=True)
    bar = streams.Stream('bar', 4, 8, frame_rate=5.0, is_added=True)
    stage = streams.Stage('any', (beat, bar), base.SEMANTIC, crop_seconds=2.0)
    token_frames = np.array([0, 4, 5])  # At 25 Hz.
    first = stage.ids(beat).start + 3
    of_bar = np.zeros((1, 10, 4), int)  # Not known, but for bar 1.
    of_bar[0, 1] = stage.ids(bar).start + np.arange(4)
    ids = {'beat': jnp.full((1, 25, 1), first), 'bar': jnp.asarray(of_bar)}
    found = conditions.add_up(
        lambda ids: jnp.float32(ids)[..., None], ids, stage, token_frames
    )
    second = of_bar[0, 1].sum() / 2  # By the root of 4 quantizers.
    np.testing.assert_allclose(found[0, :, 0], [first, first, first + second])


if __name__ == '__main__':
  absltest.main()
