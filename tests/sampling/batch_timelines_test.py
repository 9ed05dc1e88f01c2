"""Tests for batch: lines with plans and melodies."""

from absl.testing import absltest
from musiclm_jax.audio import io
from musiclm_jax.sampling import plan
import numpy as np
from tests.sampling import batch_test


class PlanModel(batch_test.FakeModel):
  """Keeps the pieces it is asked for."""

  def generate(self, pieces, seed, progress, config=None, **fields):
    self.calls.append((list(pieces), config, fields))
    return np.zeros((len(pieces), 800), np.float32)


class TimelinesTest(batch_test.BatchTestCase):

  def test_plans_of_their_own_are_made_together(self):
    lines = self.lines(
        {'prompt': 'a', 'plan': {'bpm': 96, 'chords': 'C'}, 'top_k': 3},
        {'prompt': 'b', 'top_k': 3},
    )
    model = PlanModel()
    self.run_shards('out', lines, model=model)
    [(pieces, config, fields)] = model.calls
    self.assertEqual([p.prompt for p in pieces], ['a', 'b', 'b', 'b'])
    expected = [plan.Plan(bpm=96, chords='C'), None, None, None]
    self.assertEqual([p.plan for p in pieces], expected)
    self.assertEqual({p.seconds for p in pieces}, {0.1})
    self.assertEqual((config['*'].top_k, fields), (3, {}))

  def test_melodies_are_read_and_a_bad_one_fails_alone(self):
    audio = np.sin(np.arange(4000)).astype(np.float32)
    io.write_audio(self.dir / 'hum.wav', audio, PlanModel.sample_rate)
    (self.dir / 'text.wav').write_text('no audio')
    lines = self.lines(
        {'prompt': 'a', 'melody': str(self.dir / 'hum.wav')},
        {'prompt': 'b', 'melody': str(self.dir / 'text.wav')},
        {'prompt': 'c'},
    )
    model = PlanModel()
    [summary] = self.run_shards('out', lines, model=model)
    self.assertEqual((summary.made, summary.failed), (2, 1))
    self.assertIn('text.wav', (summary.failures).read_text())
    melody = next(p.melody for p in model.calls[-2][0] if p.prompt == 'a')
    np.testing.assert_allclose(melody, audio, atol=1e-3)


if __name__ == '__main__':
  absltest.main()
