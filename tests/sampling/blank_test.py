"""Tests for blank; pieces of each kind are made in those of musiclm."""

import contextlib
import io
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.sampling import musiclm
from musiclm_jax.sampling import plan
from musiclm_jax.sampling import take as take_lib
from musiclm_jax.sampling import timeline
from musiclm_jax.stages import base as stages
from musiclm_jax.tokenizers import plan_streams
from musiclm_jax.tokenizers import table
import numpy as np
from tests import random_model


class BlankTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    random_model.write_random_model(folder)
    cls.model = musiclm.MusicLM.from_pretrained(folder)

  def test_holds_the_prompt_and_room_for_the_rest(self):
    [take] = self.model.blank('piano', seed=3, seconds=2.0)
    self.assertEqual(take.seeds, (3, 0, 0))
    self.assertEqual(take.num_samples, 48000)
    shapes = {name: tokens.shape for name, tokens in take.tokens.items()}
    self.assertEqual(
        shapes,
        {'semantic': (1, 50, 1), 'coarse': (1, 100, 4), 'fine': (1, 100, 8),
         'mulan': (1, 1, 12)},
    )  # fmt: skip
    for name, tokens in take.tokens.items():
      self.assertEqual(np.all(tokens == streams.ABSENT), name != 'mulan')
    self.assertEqual([s.name for s in take.given], ['mulan'])

  def test_audio_needs_the_part_that_makes_each_stream_of_it(self):
    directory = self.model._tokenizers.directory
    path = pathlib.Path(directory, 'w2v_bert.json')
    content = path.read_bytes()
    self.addCleanup(path.write_bytes, content)
    path.unlink()
    audio = np.full(24000, 0.5, np.float32)
    with self.assertRaisesRegex(
        errors.UserError, "audio must be for a model with .* for 'semantic'"
    ):
      self.model.blank(timeline.Timeline('piano', audio=audio))

  def test_prompts_need_a_part_that_reads_them(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    with self.assertRaisesRegex(errors.NotFoundError, 'reads prompts.* none'):
      _ = table.Tokenizers(folder).text_embedder

  def test_a_plan_needs_stages_that_read_it(self):
    piece = timeline.Timeline('piano', plan=plan.Plan(bpm=90, key='C'))
    with self.assertRaisesRegex(
        errors.UserError, r"plan of \['beat', 'key'\] must .* no such streams"
    ) as context:
      self.model.blank(piece)
    self.assertNotIn('\n', str(context.exception))
    # What the prompt says is for those who read prompts.
    [take] = self.model.blank('piano and drums at 120 bpm')
    self.assertNotIn('plan', take.description)


class PlanTest(parameterized.TestCase):
  """A model whose semantic stage reads plans."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    semantic = stages.make(
        'semantic',
        ('mulan', *plan_streams.NAMES),
        'semantic',
        {**stages.PAPER_STREAMS, **plan_streams.STREAMS},
        crop_seconds=4.0,
    )
    acoustic = [stages.get_stage(n, random_model.CROPS[n]) for n in ('coarse',)]
    random_model.write_random_model(cls.folder, cascade=[semantic, *acoustic])
    plan_streams.PlanStreams.write(cls.folder)
    cls.model = musiclm.MusicLM.from_pretrained(cls.folder, 'float32')

  def semantic(self, asked=None, prompt='piano', **fields):
    """Returns the likeliest semantic tokens."""
    piece = timeline.Timeline(prompt, 3.0, plan=asked, **fields)
    config = musiclm.CONFIG.changed(temperature=0.0)
    [take] = self.model.takes(piece, config=config, progress=False)
    return take.tokens['semantic']

  def test_takes_hold_the_plan_and_its_tokens(self):
    asked = plan.Plan(bpm=90, key='A minor', chords='Am F', arrange='0 piano')
    [take] = self.model.blank(timeline.Timeline('calm', 4.0, plan=asked))
    for name, tokens in asked.tokens(4.0).items():
      np.testing.assert_array_equal(take.tokens[name], tokens)
    path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()), 't')
    take.save(path)
    again = take_lib.load(path)
    self.assertEqual(plan.Plan.from_json(again.description['plan']), asked)
    np.testing.assert_array_equal(again.tokens['chord'], take.tokens['chord'])

  def test_each_stream_reaches_the_stage(self):
    nothing = self.semantic()
    for asked in (
        plan.Plan(bpm=90),
        plan.Plan(key='A minor'),
        plan.Plan(arrange='0 piano'),
    ):
      made = self.semantic(asked)
      self.assertTrue(np.any(made != nothing), asked)
      tokens = {k: asked.tokens(3.0)[k][0] for k in asked.told}
      told = self.semantic(conditions=tokens)
      np.testing.assert_array_equal(told, made)
    one, other = plan.Plan(bpm=90, chords='C'), plan.Plan(bpm=90, chords='G')
    self.assertTrue(np.any(self.semantic(one) != self.semantic(other)))

  def test_a_prompt_fills_what_is_open(self):
    prompt = 'piano and drums, a waltz in A minor'
    find = lambda **fields: self.model.blank(
        timeline.Timeline(prompt, **fields)
    )[0].description
    said = find()
    # Without a tempo, no beat is in any metre.
    self.assertEqual(said['understood'], 'A minor, piano and drums')
    said = find(plan=plan.Plan(bpm=90, key='C major'))
    self.assertEqual(said['understood'], '3/4, piano and drums')
    expected = plan.Plan(90, '3/4', 'C major', arrange='0 piano drums')
    self.assertEqual(said['plan'], expected.to_json())
    self.assertNotIn('plan', find(prompt_only=True))
    given = np.zeros((3, 1), int)
    said = find(conditions={'key': given})
    self.assertEqual(said['plan'], {'arrange': '0 piano drums'})

  def test_the_first_of_several_prompts_does_not_say_who_plays(self):
    story = [(0, 'solo flute at 90 bpm'), (2, 'drums join')]
    [take] = self.model.blank(timeline.Timeline(story, 4.0))
    self.assertEqual(take.description['plan'], {'bpm': 90.0})

  def test_says_what_it_understood(self):
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
      self.model.takes('solo flute at 90 bpm', seconds=1.0)
    self.assertIn('a plan, too: 90 bpm, flute\n', stderr.getvalue())

  def test_rejects_a_plan_that_does_not_fit(self):
    asked = plan.Plan(arrange='0 piano; 20 drums')
    with self.assertRaisesRegex(errors.UserError, 'within the 4 s'):
      self.model.blank(timeline.Timeline('piano', 4.0, plan=asked))

  def test_sections_return_exactly(self):
    asked = plan.Plan(form='ABA', repeat=plan.EXACT)
    pieces = [
        timeline.Timeline('piano', 9.0, plan=asked),
        timeline.Timeline('slow waltz', 9.0),
    ]
    exact, free = self.model.takes(pieces, progress=False)
    semantic = exact.tokens['semantic'][0, :225, 0]
    np.testing.assert_array_equal(semantic[:75], semantic[150:])
    self.assertTrue(np.any(semantic[:75] != semantic[75:150]))
    self.assertTrue(np.all(exact.tokens['coarse'] >= 0))
    other = free.tokens['semantic'][0, :225, 0]
    self.assertTrue(np.any(other[:75] != other[150:]))
    # Up to where it returns, it is what it would have been.
    [varied] = self.model.takes(
        timeline.Timeline('piano', 9.0, plan=plan.Plan(form='ABA'))
    )
    np.testing.assert_array_equal(
        varied.tokens['semantic'][0, :150, 0], semantic[:150]
    )
    streamed = np.concatenate([*self.model.stream(pieces[0])])
    np.testing.assert_allclose(streamed, self.model.render(exact), atol=1e-4)


if __name__ == '__main__':
  absltest.main()
