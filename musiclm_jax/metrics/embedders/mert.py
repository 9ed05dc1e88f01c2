"""MERT (Li et al., arXiv 2306.00107), by transformers' HuBERT."""

import pathlib

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.metrics.embedders import base
from musiclm_jax.metrics.embedders import front_ends
from musiclm_jax.metrics.embedders import sources
import numpy as np

_WINDOW_SECONDS = 5.0  # What it was trained on.


class Mert(base.Embedder):
  """The mean of the last layer over windows of 5 s.

  The code that comes with its weights is not run: without the constant-Q
  features of some sizes, the network is that of HuBERT.
  """

  def __init__(self, name: str, folder: pathlib.Path):
    weights = sources.find_weights(folder)
    values = files.read_json(
        folder / 'config.json', 'the config of MERT', needs_seal=False
    )
    if values.get('feature_extractor_cqt'):
      raise errors.UserError(
          f"'{folder}' must be a MERT that hears audio alone, such as"
          ' m-a-p/MERT-v1-95M, but also hears constant-Q features. Use that'
          ' one, or export this one and name it onnx:PATH.'
      )
    with sources.using_transformers(folder) as transformers:
      config = transformers.HubertConfig.from_dict(values)
      self._model, info = transformers.HubertModel.from_pretrained(
          folder, config=config, output_loading_info=True, local_files_only=True
      )
      sources.check_complete(folder, info)
      self._features = transformers.Wav2Vec2FeatureExtractor.from_pretrained(
          folder
      )
    self._model.eval()
    rate = self._features.sampling_rate
    self._front_end = front_ends.waveform(rate, _WINDOW_SECONDS)
    self.identity = base.Identity(
        name,
        sources.sha256(weights),
        rate,
        _WINDOW_SECONDS,
        config.hidden_size,
        'mean of the last layer',
    )

  def embed_audio(
      self, audio: Float[np.ndarray, ' samples']
  ) -> Float[np.ndarray, 'windows width']:
    import torch  # pylint: disable=g-import-not-at-top

    windows = front_ends.windows(self._front_end, audio)
    inputs = self._features(
        list(windows), sampling_rate=self.sample_rate, return_tensors='pt'
    )
    with torch.inference_mode():
      found = self._model(inputs.input_values).last_hidden_state
    return found.mean(dim=1).numpy()


def load(name: str, source: str) -> Mert:
  """Loads MERT from a folder, or from the hub's cache."""
  return Mert(name, sources.find_folder(source))
