"""What the model in the package makes of each kind of piece."""

from absl.testing import absltest
from absl.testing import parameterized
import librosa
from musiclm_jax import streams
from musiclm_jax.audio import io
from musiclm_jax.data.scores import humming
from musiclm_jax.sampling import musiclm
from musiclm_jax.sampling import pretrained
from musiclm_jax.sampling import timeline
import numpy as np
import pytest

PROMPTS = (
    'a drum groove',
    'solo piano',
    'a church organ',
    'a string quartet',
    'acoustic guitar',
)
RATE = 24000
# MIDI pitches and quarter notes: Ode to Joy, Twinkle, Frere Jacques, When the
# Saints, Greensleeves, Amazing Grace.
TUNES = (
    ('64 64 65 67 67 65 64 62 60 60 62 64 64 62 62', [*[1] * 12, 1.5, 0.5, 2]),
    ('60 60 67 67 69 69 67 65 65 64 64 62 62 60', [*[1] * 6, 2] * 2),
    ('60 62 64 60 60 62 64 60 64 65 67 64 65 67', [*[1] * 10, 2, 1, 1, 2]),
    ('60 64 65 67 60 64 65 67 60 64 65 67 64 60', [1, 1, 1, 5] * 2 + [1] * 6),
    (
        '57 60 62 64 65 64 62 59 55 57 59 60 57 57',
        [1, 2, 1, 1.5, 0.5, 1, 2] * 2,
    ),
    (
        '55 60 64 60 64 62 60 57 55 55 60 64 60 64',
        [1, 2, 0.5, 0.5, 2, 1, 2] * 2,
    ),
)


def hum(tune, rng):
  """Returns 8 s of a tune, at 120 a minute, in some key."""
  pitches, quarters = tune
  pitches = np.array(pitches.split(), int) + rng.integers(-5, 7)
  frames = np.repeat(pitches, np.round(25 * np.array(quarters)).astype(int))
  audio = humming.hum_frames(np.resize(frames, 400), rng, 8 * 16000)
  return io.resample(audio, 16000, RATE)


def chroma(audio):
  """Returns how much of each pitch class there is in each 4 s, unit length."""
  energy = librosa.feature.chroma_stft(
      y=audio, sr=RATE, n_fft=4096, hop_length=1500, tuning=0.0
  )
  energy = energy[:, :128].reshape(12, 2, 64).mean(axis=2)
  energy -= energy.mean(axis=0)
  return (energy / np.linalg.norm(energy)).ravel()


def spectral_flux(audio):
  """Returns how much louder each 11 ms of audio become in any frequency."""
  frames = np.lib.stride_tricks.sliding_window_view(audio, 1024)[::256]
  spectra = np.abs(np.fft.rfft(frames * np.hanning(1024)))
  return np.maximum(np.diff(spectra, axis=0), 0).sum(axis=1)


@pytest.mark.slow
class KindsTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    tokenizers, stages, hashes = pretrained.load(pretrained.find(None), 'int8')
    cls.model = musiclm.MusicLM(tokenizers, stages, hashes)
    pieces = [timeline.Timeline(p, 4.0) for p in PROMPTS * 2]
    cls.takes = cls.model.takes(pieces, seed=1, progress=False)
    cls.audio = [cls.model.render(take) for take in cls.takes]

  @parameterized.parameters(False, True)
  def test_guidance_leads_to_the_prompt(self, is_negative):
    others = [PROMPTS[0 if p == PROMPTS[1] else 1] for p in PROMPTS * 2]
    pieces = [
        timeline.Timeline(p, 4.0, negative_prompt=n if is_negative else None)
        for p, n in zip(PROMPTS * 2, others, strict=True)
    ]

    def agreement(scale, pieces):
      """Returns how well pieces with guidance fit their prompts."""
      # Cold, as it is sampled by default, there is less to be led.
      config = musiclm.CONFIG.changed(1.5, guidance_scale=scale)
      takes = self.model.takes(pieces, seed=1, config=config, progress=False)
      audio = map(self.model.render, takes)
      scores = [self.model.score(x, p) for x, p in zip(audio, PROMPTS * 2)]
      return np.mean(scores)

    plain = agreement(1.0, [timeline.Timeline(p, 4.0) for p in PROMPTS * 2])
    self.assertGreater(agreement(4.0, pieces), plain + 0.02)

  def test_a_hum_is_followed(self):
    rng = np.random.default_rng(0)
    hums = [hum(tune, rng) for tune in TUNES * 2]
    prompts = (PROMPTS[1:] * len(hums))[: len(hums)]

    def likeness(melodies, best_of):
      """Returns the likeness of the chroma of each hum and each piece."""
      pieces = [
          timeline.Timeline(p, 8.0, melody=m)
          for p, m in zip(prompts, melodies, strict=True)
      ]
      audio = self.model.generate(pieces, best_of=best_of, progress=False)
      return np.array([[chroma(h) @ chroma(x) for x in audio] for h in hums])

    # So small a model follows a hum now and then: the best of four takes does.
    free, led = likeness([None] * len(hums), 1), likeness(hums, 4)
    own = np.eye(len(hums), dtype=bool)
    self.assertGreater(np.mean(led[own]), np.mean(free[own]) + 0.05)
    # Pieces are like their own hum, not like any.
    self.assertGreater(np.mean(led[own]), np.mean(led[~own]) + 0.05)

  def test_each_part_of_a_story_is_nearest_to_its_prompt(self):
    pairs = [(PROMPTS[i], PROMPTS[j]) for i, j in ((0, 1), (4, 3), (1, 0))]
    stories = [timeline.Timeline([(0, a), (10, b)], 20.0) for a, b in pairs]
    pieces = self.model.generate(stories, progress=False)
    margins = []
    for prompts, audio in zip(pairs, pieces, strict=True):
      for i, part in enumerate(np.split(audio, 2)):
        scores = [self.model.score(part, prompt) for prompt in prompts]
        margins.append(scores[i] - scores[1 - i])
    # A single part of so small a model may go astray.
    self.assertGreater(np.mean(margins), 0.2, margins)
    self.assertGreaterEqual(np.sum(np.array(margins) > 0), 5, margins)

  def test_the_seam_of_a_loop_is_as_smooth_as_any_second(self):
    for prompt in PROMPTS:
      loop = self.model.generate(prompt, seconds=4, loop=True, progress=False)
      flux = spectral_flux(np.r_[loop[0], loop[0]])
      second, seam = RATE // 256, 4 * RATE // 256
      at_seam = np.mean(flux[seam - second // 2 : seam + second // 2])
      elsewhere = [
          np.mean(flux[i : i + second])
          for i in range(0, seam - second, second // 8)
      ]
      # A note may start there.
      self.assertLessEqual(at_seam, 1.1 * max(elsewhere))

  def test_only_what_is_changed_is_changed(self):
    piece = timeline.Timeline(
        PROMPTS[0], audio=self.audio[1], change=(1.0, 2.0)
    )
    [blank] = self.model.blank(piece)
    [take] = self.model.takes(piece, progress=False)
    for stream in blank.sampled:
      known = blank.tokens[stream.name] != streams.ABSENT
      np.testing.assert_array_equal(
          take.tokens[stream.name][known], blank.tokens[stream.name][known]
      )
    audio = self.model.render(take)
    np.testing.assert_array_equal(audio[:RATE], self.audio[1][:RATE])
    np.testing.assert_array_equal(audio[2 * RATE :], self.audio[1][2 * RATE :])
    self.assertTrue(np.any(audio != self.audio[1]))

  def test_alone_among_others_or_streamed_is_the_same(self):
    # In int8, what is multiplied is rounded, too, and so is a difference in the
    # last bit no small one.
    model = musiclm.MusicLM.from_pretrained(dtype='float32')
    whole = model.generate(PROMPTS[3], seed=1, seconds=4, progress=False)[0]
    chunks = list(model.stream(PROMPTS[3], seed=1, seconds=4))
    np.testing.assert_allclose(np.concatenate(chunks), whole, atol=1e-5)
    both = model.generate(PROMPTS[2:4], seed=1, seconds=4, progress=False)
    np.testing.assert_allclose(both[1], whole, atol=1e-5)


if __name__ == '__main__':
  absltest.main()
