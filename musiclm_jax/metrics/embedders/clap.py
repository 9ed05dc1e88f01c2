"""CLAP (Wu et al., arXiv 2211.06687), by transformers: audio and text."""

from collections.abc import Sequence
import math
import pathlib
from typing import Any

from jaxtyping import Float
from musiclm_jax.metrics.embedders import base
from musiclm_jax.metrics.embedders import front_ends
from musiclm_jax.metrics.embedders import sources
from musiclm_jax.tokenizers import base as tokenizers
import numpy as np

_PER_CALL = 8
# Classes of music of AudioSet's ontology, to choose from without training.
CLASSES = (
    *('pop', 'hip hop', 'rock', 'heavy metal', 'punk rock', 'grunge'),
    *('progressive rock', 'rock and roll', 'psychedelic rock', 'soul'),
    *('rhythm and blues', 'reggae', 'country', 'swing', 'bluegrass', 'funk'),
    *('folk', 'Middle Eastern', 'jazz', 'disco', 'classical', 'opera'),
    *('electronic', 'house', 'techno', 'dubstep', 'drum and bass', 'ambient'),
    *('trance', 'Latin American', 'salsa', 'flamenco', 'blues', 'new-age'),
    *("children's", 'a capella', 'African', 'Christian', 'Asian', 'ska'),
    *('traditional', 'independent'),
)


class Clap(base.JointEmbedder):
  """CLAP of a folder; windows of 10 s, a shorter clip is repeated.

  Attributes:
    temperature: What similarities are divided by, to be logits.
  """

  def __init__(self, name: str, folder: pathlib.Path):
    weights = sources.find_weights(folder)
    with sources.using_transformers(folder) as transformers:
      self._model, info = transformers.ClapModel.from_pretrained(
          folder, output_loading_info=True, local_files_only=True
      )
      sources.check_complete(folder, info)
      self._features = transformers.ClapFeatureExtractor.from_pretrained(folder)
      self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    self._model.eval()
    config = self._model.config
    # Positions of text begin after that of padding.
    self._max_length = config.text_config.max_position_embeddings - 2
    self.temperature = math.exp(-self._model.logit_scale_a.item())
    self.identity = base.Identity(
        name,
        sources.sha256(weights),
        self._features.sampling_rate,
        float(self._features.max_length_s),
        config.projection_dim,
    )

  def embed_audio(
      self, audio: Float[np.ndarray, ' samples']
  ) -> Float[np.ndarray, 'windows width']:
    tokenizers.check_audio(audio[np.newaxis], self.sample_rate)
    window = self._features.nb_max_samples
    is_short = len(audio) < window
    windows = audio[np.newaxis] if is_short else front_ends.cut(audio, window)
    return self._in_batches(list(windows), self._embed_windows)

  def _embed_windows(self, windows: list[np.ndarray]) -> Any:
    inputs = self._features(
        windows, sampling_rate=self.sample_rate, return_tensors='pt'
    )
    return self._model.get_audio_features(**inputs)

  def embed_text(
      self, texts: Sequence[str]
  ) -> Float[np.ndarray, 'texts width']:
    base.check_texts(texts)
    return self._in_batches(list(texts), self._embed_texts)

  def _embed_texts(self, texts: list[str]) -> Any:
    inputs = self._tokenizer(
        texts,
        padding=True,
        truncation=True,
        max_length=self._max_length,
        return_tensors='pt',
    )
    return self._model.get_text_features(**inputs)

  def _in_batches(self, items: list[Any], embed: Any) -> np.ndarray:
    import torch  # pylint: disable=g-import-not-at-top

    with torch.inference_mode():
      found = [
          embed(items[start : start + _PER_CALL]).pooler_output.numpy()
          for start in range(0, len(items), _PER_CALL)
      ]
    return np.concatenate(found)


class ZeroShotTagger(base.Tagger):
  """The classes of texts that a clip is nearest to (CLAP, section 3.2)."""

  def __init__(self, embedder: Clap, classes: Sequence[str] = CLASSES):
    """Makes a tagger.

    Args:
      embedder: Embeds clips and the names of classes.
      classes: Kinds of music, in a word or two.
    """
    self.identity = embedder.identity
    self.classes = tuple(classes)
    self._embedder = embedder
    self._texts = embedder.embed_text([f'{name} music' for name in classes])

  def tag(
      self, audio: Float[np.ndarray, ' samples']
  ) -> Float[np.ndarray, ' classes']:
    similarities = self._embedder.embed_audio(audio) @ self._texts.T
    logits = similarities.astype(np.float64) / self._embedder.temperature
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.mean(shares / shares.sum(axis=1, keepdims=True), axis=0)


def load(name: str, source: str) -> Clap:
  """Loads CLAP from a folder, or from the hub's cache."""
  return Clap(name, sources.find_folder(source))


def load_tagger(name: str, source: str) -> ZeroShotTagger:
  """Loads CLAP as a tagger of `CLASSES`."""
  return ZeroShotTagger(load(name, source))
