"""Tests for windows."""

from absl.testing import absltest
import jax.numpy as jnp
from musiclm_jax.models import positions
from musiclm_jax.models import windows
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import base
import numpy as np

STAGE = stages.get_stage('coarse_melody', 7.0)


class SplitTest(absltest.TestCase):

  def test_takes_windows_out_of_the_inputs(self):
    # 12 MuLan tokens, 4 windows of 4 s, one a second, and 175 semantic ones.
    inputs = jnp.arange(2 * (12 + 4 * 24 + 175)).reshape(2, -1)
    prefix, ids = windows.split(STAGE, inputs)
    np.testing.assert_array_equal(prefix[:, :12], inputs[:, :12])
    np.testing.assert_array_equal(prefix[:, 12:], inputs[:, 12 + 96 :])
    np.testing.assert_array_equal(
        ids, inputs[:, 12 : 12 + 96].reshape(2, 4, 24)
    )

  def test_stages_and_crops_without_windows(self):
    for stage in (
        stages.get_stage('coarse'),
        stages.get_stage('coarse_melody', 3.0),
    ):
      inputs = jnp.arange(20)[None]
      prefix, ids = windows.split(stage, inputs)
      self.assertIs(prefix, inputs)
      self.assertIsNone(ids)


class NearestTest(absltest.TestCase):

  def test_the_window_whose_centre_is_nearest(self):
    frames = positions.frames(STAGE, 12 + 175, 4 * 350)
    found = windows.nearest(STAGE, frames)
    np.testing.assert_array_equal(found[:12], positions.NO_FRAME)
    # Centres are at 2, 3, 4 and 5 s.
    for second, window in ((0, 0), (2.4, 0), (2.6, 1), (4, 2), (6.9, 3)):
      semantic = 12 + round(second * 25)
      coarse = 12 + 175 + 4 * round(second * 50)
      self.assertEqual(found[semantic], window)
      np.testing.assert_array_equal(found[coarse : coarse + 4], window)


class AddUpTest(absltest.TestCase):

  def test_adds_what_is_known_to_the_positions_of_each_window(self):
    stage = stages.get_stage('semantic_melody', 5.0)
    frames = np.array([positions.NO_FRAME, 0, 70, 80])  # Centres: 50, 75.
    embeddings = np.random.default_rng(0).normal(size=(1, 2, 24, 3))
    ids = np.full((1, 2, 24), stage.ids(base.MELODY).start)
    ids[0, 1, 5:] = stages.ABSENT_ID
    found = windows.add_up(
        jnp.asarray(embeddings, jnp.float32),
        jnp.asarray(ids),
        stage,
        frames,
    )
    scale = 24**-0.5
    second = scale * embeddings[0, 1, :5].sum(axis=0)
    expected = [np.zeros(3), scale * embeddings[0, 0].sum(axis=0)]
    np.testing.assert_allclose(found[0], [*expected, second, second], atol=1e-6)


if __name__ == '__main__':
  absltest.main()
