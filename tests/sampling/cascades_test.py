"""Models of other shapes: other codecs, more or fewer stages, a condition."""

import dataclasses
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax import streams
from musiclm_jax.models import parts
from musiclm_jax.models import soundstream
from musiclm_jax.models import spectral_codec
from musiclm_jax.sampling import musiclm
from musiclm_jax.sampling import take as take_lib
from musiclm_jax.sampling import timeline
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table
import numpy as np
import pytest
from tests import random_model

CODECS = {
    # 12.5 Hz, one stream of 8 quantizers.
    'two': soundstream.SoundStreamConfig(
        sample_rate=16000,
        strides=(4, 5, 8, 8),
        channels=2,
        embed_dim=8,
        num_quantizers=8,
        codebook_size=64,
        streams=(('acoustic', 1),),
    ),
    # 25 Hz, three streams of two.
    'four': soundstream.SoundStreamConfig(
        sample_rate=32000,
        strides=(4, 4, 8, 10),
        channels=2,
        embed_dim=8,
        num_quantizers=6,
        codebook_size=64,
        streams=(('coarse', 1), ('fine', 3), ('finest', 5)),
    ),
    # 25 Hz in the time-frequency domain, written frame by frame.
    'delayed': spectral_codec.SpectralCodecConfig(
        channels=8,
        wide_channels=8,
        encoder_blocks=(1, 1),
        decoder_blocks=(1, 1),
        embed_dim=8,
        codebook_size=64,
    ),
}
BEAT = streams.Stream(
    'beat', 2, 16, frame_rate=12.5, is_conditioning=True, is_added=True
)


def streams_of(codec):
  """Returns the streams of the tokenizers of a model, by name."""
  name, _ = random_model.CODECS[type(codec)]
  tokenizer = table.kind(name).tokenizer
  written = tokenizer.streams_of(dataclasses.asdict(codec))
  return {s.name: s for s in (base.MULAN, base.SEMANTIC, BEAT, *written)}


def cascade(name, *more):
  """Returns the stages of a model; the first ones read `more`, too."""
  known = streams_of(CODECS[name])

  def stage(inputs, targets, seconds, **options):
    inputs = tuple(known[n] for n in inputs.split())
    return streams.Stage(targets, inputs, known[targets], seconds, **options)

  semantic = stage(' '.join(['mulan', *more]), 'semantic', 4.0)
  if name == 'two':
    return [semantic, stage('mulan semantic', 'acoustic', 1.6)]
  if name == 'delayed':
    added = dataclasses.replace(base.SEMANTIC, is_added=True)
    known['semantic'], inputs = added, 'mulan semantic'
    return [semantic, stage(inputs, 'acoustic', 1.6, pattern='delay')]
  return [
      stage('fine', 'finest', 0.96, is_independent=True, temperature=0.4),
      semantic,
      stage('mulan coarse', 'fine', 1.2, is_independent=True),
      stage('mulan semantic', 'coarse', 1.6, temperature=0.95),
  ]


@pytest.mark.slow
class CascadesTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.models, cls.audio = {}, {}
    for name, codec in CODECS.items():
      folder = pathlib.Path(cls.folder, name)
      random_model.write_random_model(
          folder, codec=codec, cascade=cascade(name)
      )
      cls.models[name] = musiclm.MusicLM.from_pretrained(folder, 'float32')
      cls.audio[name] = cls.models[name].generate('waltz', seconds=2.5)[0]

  def copy(self, name, without=''):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    return shutil.copytree(
        pathlib.Path(self.folder, name),
        pathlib.Path(folder, 'model'),
        ignore=shutil.ignore_patterns(without),
    )

  def assert_whole(self, name, take):
    """Checks that all tokens are there, and of the right streams."""
    known = streams_of(CODECS[name])
    written = {stage.targets.name for stage in cascade(name)}
    self.assertEqual(set(take.tokens), {'mulan', *written})
    for stream, tokens in take.tokens.items():
      self.assertEqual(tokens.shape[2], known[stream].num_quantizers)
      self.assertBetween(tokens.min(), 0, known[stream].codebook_size - 1)

  @parameterized.product(name=tuple(CODECS), seconds=(0.05, 2.53))
  def test_generates(self, name, seconds):
    model, rate = self.models[name], CODECS[name].sample_rate
    self.assertEqual(model.sample_rate, rate)
    [take] = model.takes('piano', seconds=seconds)
    self.assert_whole(name, take)
    audio = model.render(take)
    self.assertEqual(audio.shape, (round(seconds * rate),))
    self.assertGreater(np.ptp(audio), 0)

  @parameterized.parameters(*CODECS)
  def test_streams_what_it_generates(self, name):
    chunks = list(self.models[name].stream('waltz', seconds=2.5))
    self.assertLen(chunks, 3)
    np.testing.assert_allclose(
        np.concatenate(chunks), self.audio[name], atol=1e-5
    )

  @parameterized.parameters(*CODECS)
  def test_music_goes_on_or_is_made_anew(self, name):
    model, audio = self.models[name], self.audio[name]
    rate = CODECS[name].sample_rate
    [take] = model.takes('piano', audio=audio, seconds=3.5)
    self.assert_whole(name, take)
    made = model.render(take)
    self.assertLen(made, round(3.5 * rate))
    np.testing.assert_array_equal(made[: 2 * rate], audio[: 2 * rate])
    [take] = model.takes('piano', audio=audio, change=(0.8, 1.6))
    self.assert_whole(name, take)
    made = model.render(take)
    for part in slice(0, round(0.8 * rate)), slice(round(1.6 * rate), None):
      np.testing.assert_array_equal(made[part], audio[part])
    self.assertTrue(np.any(made != audio))

  @parameterized.parameters(*CODECS)
  def test_takes_are_kept_and_varied(self, name):
    model, path = self.models[name], pathlib.Path(self.folder, 'take.json')
    [take] = model.takes('piano', seed=3, seconds=2.5)
    take.save(path)
    again = take_lib.load(path)
    self.assertEqual(again.layout, take.layout)
    np.testing.assert_array_equal(model.render(again), model.render(take))
    varied = model.vary(again, seed=4, keep_semantic=True)
    self.assert_whole(name, varied)
    first, *others = take.sampled
    self.assertEqual(first, base.SEMANTIC)
    for stream in others:
      self.assertTrue(
          np.any(varied.tokens[stream.name] != take.tokens[stream.name])
      )
    np.testing.assert_array_equal(
        varied.tokens[first.name], take.tokens[first.name]
    )
    varied = model.vary(again, seed=4, from_second=1.6)
    for stream in (first, *others):
      known = round(1.6 * stream.frame_rate)
      np.testing.assert_array_equal(
          varied.tokens[stream.name][:, :known],
          take.tokens[stream.name][:, :known],
      )

  @parameterized.parameters(*CODECS)
  def test_stories_loops_and_guidance(self, name):
    model, rate = self.models[name], CODECS[name].sample_rate
    piece = timeline.Timeline(
        [(0, 'piano'), (1, 'a waltz')], 2.5, negative_prompt='slow'
    )
    config = musiclm.CONFIG.changed(guidance_scale=2.0)
    [take] = model.takes(piece, config=config)
    self.assert_whole(name, take)
    loop = model.generate('piano', seconds=1.0, loop=True)
    self.assertEqual(loop.shape, (1, rate))

  def test_a_codec_plays_the_first_of_its_streams(self):
    folder = self.copy('four', without='finest.*')
    model = musiclm.MusicLM.from_pretrained(folder, 'float32')
    [take] = model.takes('piano', audio=self.audio['four'], seconds=3.0)
    self.assertNotIn('finest', take.tokens)
    self.assertEqual(take.acoustic, ('coarse', 'fine'))
    self.assertLen(model.render(take), 96000)

  def test_reads_each_description_once(self):
    read = mock.Mock(side_effect=parts.read_description)
    with mock.patch.object(parts, 'read_description', read):
      musiclm.MusicLM.from_pretrained(pathlib.Path(self.folder, 'four'))
    names = [call.args[1] for call in read.call_args_list]
    self.assertCountEqual(
        names,
        ['soundstream', 'mulan', 'w2v_bert', 'semantic', 'coarse', 'fine',
         'finest'],
    )  # fmt: skip

  def test_files_of_others_are_left_alone(self):
    folder = self.copy('two')
    (folder / 'config.json').write_text('{"architectures": []}')
    musiclm.MusicLM.from_pretrained(folder)

  def test_rejects_a_part_by_another_name(self):
    folder = self.copy('two')
    for path in folder.glob('acoustic.*'):
      path.rename(path.with_stem('sound'))
    with self.assertRaisesRegex(
        errors.UserError, "'sound' must be named after .* 'acoustic'"
    ):
      musiclm.MusicLM.from_pretrained(folder)


class Beat(base.Tokenizer):
  """Tells how loud each half of a frame is."""

  streams, sample_rate = (BEAT,), 8000

  @classmethod
  def streams_of(cls, config):
    return cls.streams

  @classmethod
  def from_dir(cls, directory):
    tokenizer = cls()
    tokenizer.sha256 = parts.load(directory, 'beat').sha256
    return tokenizer

  def tokenize(self, audio):
    base.check_audio(audio, self.sample_rate)
    frames = audio.shape[1] // 640
    halves = audio[:, : frames * 640].reshape(len(audio), frames, 2, 320)
    levels = 15 * np.abs(halves).max(axis=-1)
    return {'beat': np.round(levels).astype(np.int32)}


@pytest.mark.slow
class ConditionTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    kind = table.Kind('beat', f'{__name__}:Beat', 'finds the beat')
    cls.enterClassContext(
        mock.patch.object(table, 'PARTS', (*table.PARTS, kind))
    )
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    stages = cascade('two', 'beat')
    random_model.write_random_model(folder, codec=CODECS['two'], cascade=stages)
    parts.save(folder, 'beat', {}, {'params': {'level': np.ones(1, 'f4')}})
    cls.model = musiclm.MusicLM.from_pretrained(folder, 'float32')

  def semantic(self, beat=None, **choices):
    """Returns the likeliest semantic tokens."""
    piece = timeline.Timeline(
        'piano', 6.0, conditions={} if beat is None else {'beat': beat}
    )
    choices = {'temperature': 0.0, **choices}
    config = musiclm.CONFIG.changed(**choices)
    [take] = self.model.takes(piece, config=config)
    return take.tokens['semantic']

  def pulse(self, seconds, every=0.5):
    time = np.arange(round(seconds * 16000)) / 16000
    return np.where(time % every < 0.1, 0.9, 0.1).astype(np.float32)

  def test_reaches_the_stage_as_audio_or_as_tokens(self):
    audio = self.pulse(6.0)
    [take] = self.model.blank(
        timeline.Timeline('piano', 6.0, conditions={'beat': audio})
    )
    self.assertEqual(take.tokens['beat'].shape, (1, 75, 2))
    self.assertIn('beat', take.hashes)
    self.assertEqual(take.description['conditions'], ['beat'])
    heard = self.semantic(audio)
    told = self.semantic(take.tokens['beat'][0])
    np.testing.assert_array_equal(told, heard)
    self.assertTrue(np.any(heard != self.semantic()))
    self.assertTrue(np.any(heard != self.semantic(self.pulse(6.0, 0.3))))

  def test_what_is_not_told_is_absent(self):
    nothing = np.full((75, 2), streams.ABSENT)
    np.testing.assert_array_equal(self.semantic(nothing), self.semantic())
    half = self.semantic(self.pulse(3.0))
    whole = self.semantic(self.pulse(6.0))
    np.testing.assert_array_equal(half[:, :25], whole[:, :25])
    self.assertTrue(np.any(half != whole))

  def test_guidance_drops_it(self):
    # At 0, it goes all the way to what there is without conditioning.
    with_beat = self.semantic(self.pulse(6.0), guidance_scale=0.0)
    without = self.semantic(guidance_scale=0.0)
    np.testing.assert_array_equal(with_beat, without)
    self.assertTrue(np.any(with_beat != self.semantic()))

  def test_takes_keep_it(self):
    path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()), 't')
    piece = timeline.Timeline(
        'piano', 2.0, conditions={'beat': self.pulse(2.0)}
    )
    [take] = self.model.takes(piece)
    take.save(path)
    again = take_lib.load(path)
    np.testing.assert_array_equal(again.tokens['beat'], take.tokens['beat'])
    varied = self.model.vary(again, seed=take.seeds[0])
    for name, tokens in take.tokens.items():
      np.testing.assert_array_equal(varied.tokens[name], tokens)

  @parameterized.named_parameters(
      ('unknown', 'chords', np.zeros((9, 2), int), r"reads? .*'mulan', 'beat'"),
      ('melody', 'melody', np.ones(9, 'f4'), "a part 'melody' and stages that"),
      (
          'floats',
          'beat',
          np.zeros((9, 2), 'f4'),
          r'\[frames, 2\] tokens below 16',
      ),
      ('int16', 'beat', np.zeros(9, np.int16), r'\[samples\] floats of audio'),
      ('quantizers', 'beat', np.zeros((9, 3), int), r'shape \(9, 3\)'),
      ('none', 'beat', np.zeros((0, 2), int), r'shape \(0, 2\)'),
      ('large', 'beat', np.full((9, 2), 16), 'tokens below 16'),
      ('small', 'beat', np.full((9, 2), -2), 'tokens below 16'),
      ('silent', 'beat', np.zeros(9, 'f4'), "condition 'beat' must be heard"),
      ('loud', 'beat', np.full(9, 2, 'f4'), r'must be in \[-1, 1\]'),
  )
  def test_rejects(self, name, given, message):
    piece = timeline.Timeline('piano', 1.0, conditions={name: given})
    with self.assertRaisesRegex(errors.UserError, message) as context:
      self.model.blank(piece)
    self.assertNotIn('\n', str(context.exception))


if __name__ == '__main__':
  absltest.main()
