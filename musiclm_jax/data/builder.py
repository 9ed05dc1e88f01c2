"""How tfds builds a dataset from examples, and what it says of itself."""

import dataclasses
import io

import numpy as np
import tensorflow_datasets as tfds

VERSION = '1.0.0'


@dataclasses.dataclass(frozen=True)
class Card:
  """What a dataset says of itself, as tfds keeps it.

  Attributes:
    description: Its content.
    homepage: Where it comes from; empty if it comes from the user.
    citation: Publication to cite.
    license: Terms of its parts; examples also have their own.
  """

  description: str = 'Music with captions.'
  homepage: str = ''
  citation: str = ''
  license: str = ''


UNTITLED = Card()  # Of what comes from the user.


class Builder(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
  """Builds a dataset from examples."""

  VERSION = tfds.core.Version(VERSION)

  def __init__(self, name, data_dir, splits, features, metadata, arrays, card):
    self.name = name
    self._card = card
    self._splits = splits
    self._feature_spec = features
    self._metadata = metadata
    self._arrays = arrays
    super().__init__(data_dir=data_dir, file_format='array_record')

  def _info(self):
    return tfds.core.DatasetInfo(
        builder=self,
        description=self._card.description,
        homepage=self._card.homepage,
        citation=self._card.citation,
        license=self._card.license,
        features=tfds.features.FeaturesDict(self._feature_spec),
        metadata=tfds.core.MetadataDict(self._metadata),
    )

  def _split_generators(self, dl_manager):
    for name, array in self._arrays.items():
      buffer = io.BytesIO()
      np.save(buffer, array)
      # Unlike np.save, it reports why a write fails.
      (self.data_path / f'{name}.npy').write_bytes(buffer.getvalue())
    return self._splits

  def _generate_examples(self):
    raise NotImplementedError  # `_split_generators` provides the examples.
