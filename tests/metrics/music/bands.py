"""An embedder and a tagger without weights: how loud three bands are."""

from musiclm_jax.metrics.embedders import base
import numpy as np

RATE = 16000
WORDS = ('low', 'middle', 'high')
IDENTITY = base.Identity('bands', '0' * 64, RATE, 1.0, len(WORDS))


class Bands(base.JointEmbedder):
  """The shares of three bands, in audio and of the words that name them."""

  identity = IDENTITY

  def embed_audio(self, audio):
    windows = audio[: len(audio) // RATE * RATE].reshape(-1, RATE)
    power = np.abs(np.fft.rfft(windows)) ** 2
    hz = np.fft.rfftfreq(RATE, 1 / RATE)
    bands = [
        (hz >= a) & (hz < b) for a, b in ((50, 150), (150, 400), (400, 900))
    ]
    shares = np.stack([power[:, band].sum(axis=1) for band in bands], axis=1)
    return np.sqrt(shares / power.sum(axis=1, keepdims=True))

  def embed_text(self, texts):
    return np.array([[float(word in text) for word in WORDS] for text in texts])


class BandTagger(base.Tagger):
  identity = IDENTITY
  classes = WORDS

  def tag(self, audio):
    return Bands().embed_audio(audio).mean(axis=0)
