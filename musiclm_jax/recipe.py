"""The whole recipe: from a folder of music to a model that makes music.

Each step runs what its own command would. A step that ended leaves a record in
<output>/steps and is skipped from then on; one that was cut off starts again,
and resumes from its last checkpoint if it trains.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import json
import os
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax.data import datasets

SCORE_SUFFIXES = ('.mid', '.midi', '.xml', '.musicxml', '.mxl')

Result = Mapping[str, Any]


class Recipe:
  """Steps that share an output folder.

  Attributes:
    data: Folder of audio or of scores, or a data directory.
    output: Folder of everything that is made.
    gin_flags: Of every training step, e.g. ['--gin_file=sizes/tiny.gin'].
    soundfont: Renders scores.
    dtype: Storage of the model.
    melody: Whether the model shall be able to follow a melody.
  """

  def __init__(
      self,
      data: str | os.PathLike[str],
      output: str | os.PathLike[str],
      gin_flags: Sequence[str],
      soundfont: str | None = None,
      dtype: str = 'float32',
      melody: bool = False,
  ):
    self.data = pathlib.Path(data)
    self.output = pathlib.Path(output)
    self.gin_flags = list(gin_flags)
    self.soundfont = soundfont
    self.dtype = dtype
    self.melody = melody
    self.data_dir = self.output / 'data'
    self.model_dir = self.output / 'model'
    self.vocab = self.output / 'vocab.txt'

  def run(self) -> None:
    """Runs every step that has not ended yet, and prints the table."""
    self._check()
    self._step('corpus', self._make_corpus)
    self._step('vocab', self._make_vocab)
    for name in ('soundstream', 'w2v_bert', 'mulan'):
      self._step(name, functools.partial(self._train, 'models', name))
    if self.melody:
      self._step('melody_pairs', self._make_melody_pairs)
      self._step('melody', functools.partial(self._train, 'models', 'melody'))
    self._step('tokens', self._tokenize)
    suffix = '_melody' if self.melody else ''
    for name in (f'semantic{suffix}', f'coarse{suffix}', 'fine'):
      self._step(name, functools.partial(self._train, 'stages', name))
    self._step('sample', self._sample)
    table = self._step('evaluation', self._evaluate)
    from musiclm_jax.metrics import report

    print(report.render(table['rows']))

  def _check(self) -> None:
    """Raises ValueError, before anything is written, if input is wrong."""
    from musiclm_jax.training import gin_flags

    # A wrong flag should not cost a corpus.
    gin_flags.parse(self._flags('models', 'soundstream'))
    if not self.data.exists():
      raise errors.NotFoundError(
          f"--data must be a folder that exists, but is '{self.data}'."
      )
    if self.soundfont is None and self._is_scores():
      raise errors.UserError(
          f'--soundfont must name a .sf2 or .sf3 file, since {self.data} holds'
          ' scores, which have to be rendered.'
      )
    if self.melody and not self._is_scores():
      raise errors.UserError(
          '--melody must go with scores, which the same melody is rendered of'
          f' in many ways, but {self.data} holds none. Leave it out.'
      )
    settings = {
        'data': str(self.data.resolve()),
        'gin_flags': self.gin_flags,
        'dtype': self.dtype,
        'melody': self.melody,
    }
    path = self.output / 'steps' / 'recipe.json'
    if path.exists() and (before := json.loads(path.read_text())) != settings:
      raise errors.UserError(
          f'--output must be new, or of the same recipe, but {self.output} is'
          f' of {before}. Choose another folder.'
      )
    _write_json(path, settings)

  def _step(self, name: str, make: Callable[[], Result | None]) -> Result:
    """Runs a step, unless it has ended before; returns its record."""
    path = self.output / 'steps' / f'{name}.json'
    if path.exists():
      print(f'{name}: done before', flush=True)
      return json.loads(path.read_text())
    print(f'{name}: …', flush=True)
    result = make() or {}
    _write_json(path, result)
    print(f'{name}: done', flush=True)
    return result

  def _make_corpus(self) -> None:
    if datasets.dataset_exists('music', self.data):
      self.data_dir.mkdir(parents=True, exist_ok=True)
      link = self.data_dir / 'music'
      if not link.is_symlink():
        link.symlink_to((self.data / 'music').resolve())
    elif self._is_scores():
      from musiclm_jax.data import scores

      scores.build_scores([str(self.data)], self.data_dir, str(self.soundfont))
    else:
      from musiclm_jax.data import folder

      folder.build_folder(self.data, self.data_dir)

  def _make_melody_pairs(self) -> None:
    from musiclm_jax.data import melody

    melody.build_melody_pairs(
        [str(self.data)], self.data_dir, str(self.soundfont)
    )

  def _is_scores(self) -> bool:
    """Returns whether the data has to be rendered first."""
    if datasets.dataset_exists('music', self.data):
      return False
    return any(p.suffix.lower() in SCORE_SUFFIXES for p in self.data.rglob('*'))

  def _make_vocab(self) -> None:
    from musiclm_jax.training import mulan

    mulan.build_corpus_vocab(self.data_dir, self.vocab)

  def _flags(self, folder: str, name: str) -> list[str]:
    """Returns what `musiclm train` and `musiclm export` of a part are told."""
    return [
        f'--gin_file={folder}/{name}.gin',
        *self.gin_flags,
        f'--gin.MODEL_DIR={str(self.output / name)!r}',
        f'--gin.DATA_DIR={str(self.data_dir)!r}',
        f'--gin.VOCAB={str(self.vocab)!r}',
    ]

  def _train(self, folder: str, name: str) -> Result:
    from musiclm_jax.training import export
    from musiclm_jax.training import gin_flags

    argv = self._flags(folder, name)
    metrics = gin_flags.train_main(argv)
    export.export_main(argv, output=str(self.model_dir), dtype=self.dtype)
    return {'metrics': metrics}

  def _tokenize(self) -> None:
    from musiclm_jax.data import records

    records.tokenize_corpus(self.data_dir, self.model_dir)

  def _sample(self) -> Result:
    from musiclm_jax.audio import io
    from musiclm_jax.sampling import musiclm

    prompt = datasets.open_dataset('music', self.data_dir, 'test')[0]
    prompt = prompt['captions'][0]
    model = musiclm.MusicLM.from_pretrained(self.model_dir)
    audio = model.generate([prompt], seconds=10)
    io.write_audio(self.output / 'sample.wav', audio[0], model.sample_rate)
    return {'prompt': prompt}

  def _evaluate(self) -> Result:
    from musiclm_jax.metrics import report

    return {'rows': report.evaluate(self.data_dir, self.model_dir, 'test')}


def _write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a file whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_suffix('.tmp')
  temporary.write_text(json.dumps(value, indent=2))
  temporary.replace(path)


def recipe_main(
    argv: Sequence[str],
    data: str,
    output: str,
    soundfont: str | None = None,
    dtype: str = 'float32',
    melody: bool = False,
) -> None:
  """Runs the recipe that a command line asks for; see `Recipe`."""
  Recipe(data, output, argv, soundfont, dtype, melody).run()
