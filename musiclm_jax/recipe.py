"""The whole recipe: from a folder of music to a model that makes music.

Each step does the work of its own command. A step that ended leaves a record in
<output>/steps and is skipped from then on; one that was cut off starts again,
and resumes from its last checkpoint if it trains.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import os
import pathlib
import time
from typing import Any

from musiclm_jax import caching
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import paths
from musiclm_jax import progress
from musiclm_jax import recipe_steps as steps
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table

Result = Mapping[str, Any]

_NUM_LOOKED_AT = 100  # Clips of a corpus, for what they say.


class Recipe:
  """Steps that share an output folder.

  Attributes:
    data: Folder of audio or of scores, a .zip of scores, or a data directory.
    output: Folder of everything that is made.
    gin_flags: Flags of every training step, e.g. ['--gin_file=sizes/tiny.gin'].
    soundfont: Renders scores.
    dtype: Storage of the model.
    melody: Whether the model shall be able to follow a melody.
    skip_bad: Whether files that can't be used are left out.
    listen: Whether to estimate beats, chords and key of recordings, so that the
      model can follow a plan. Of scores they are known.
  """

  def __init__(
      self,
      data: str | os.PathLike[str],
      output: str | os.PathLike[str],
      gin_flags: Sequence[str],
      soundfont: str | None = None,
      dtype: str = 'float32',
      melody: bool = False,
      skip_bad: bool = False,
      listen: bool = False,
  ):
    self.data = caching.local(data)
    self.output = paths.to_path(output, '--output')
    self.gin_flags = list(gin_flags)
    self.soundfont = soundfont and os.fspath(caching.local(soundfont))
    self.dtype = dtype
    self.melody = melody
    self.skip_bad = skip_bad
    self.listen = listen
    self.data_dir = self.output / 'data'
    self.model_dir = self.output / 'model'
    self.vocab = self.output / 'vocab.txt'
    self.source: Any = None  # What `data` is, once it is known.
    self._data_name = os.fspath(paths.absolute(data))

  def run(self) -> None:
    """Runs every step that has not ended yet, and prints the table."""
    with progress.telling('looking at what is there'):
      self._check()
    with files.lock(self.output, 'musiclm recipe'):
      self._begin()
      self._run()

  def _run(self) -> None:
    self._step('corpus', 'makes clips with captions', self._make_corpus)
    self._step(
        'vocab', 'learns word pieces from the captions', self._make_vocab
    )
    for kind in self._kinds:
      if kind.dataset:
        self._step(
            kind.dataset,
            'renders melodies in many ways',
            self._make_melody_pairs,
        )
      train = functools.partial(self._train, 'models', kind.name)
      self._step(kind.name, kind.purpose, train)
    for kind in table.PARTS:
      reader = kind.clip_tokenizer
      if reader is not None and self._is_known(reader):
        write = functools.partial(reader.write, self.model_dir)
        self._step(kind.name, kind.purpose, write)
    self._step('tokens', 'tokenizes the clips', self._tokenize)
    for name in self._stages:
      train = functools.partial(self._train, 'stages', name)
      self._step(name, f'trains the {name} stage', train)
    try:
      self._step('sample', 'makes music for a caption', self._sample)
    except errors.UserError as e:  # The model is made, with or without it.
      progress.say(f'no sample: {errors.one_line(e)}')
    measured = self._step(
        'evaluation', 'measures every part on held-out works', self._evaluate
    )
    from musiclm_jax.metrics import report

    print(report.render(measured['rows']))

  @functools.cached_property
  def _kinds(self) -> list[table.Kind]:
    """The parts to train that write streams, in the order of training."""
    codec = table.kind(self._macro('CODEC')).name
    return [
        kind
        for kind in table.PARTS
        if kind.clip_tokenizer is None
        and (self.melody or not kind.is_optional)
        and (kind.name == codec or not kind.is_codec)
    ]

  def _is_known(self, reader: type[base.ClipTokenizer]) -> bool:
    """Returns whether the corpus holds what a part without weights reads."""
    from musiclm_jax.data import datasets
    from musiclm_jax.data.sources import survey

    if self.source.kind != survey.Kind.DATASET:
      return self.source.kind == survey.Kind.SCORES or self.listen
    clips = datasets.open_dataset('music', self.data_dir, 'train')
    some = range(min(_NUM_LOOKED_AT, len(clips)))
    return any(reader.knows(clips[i]) for i in some)

  @property
  def _stages(self) -> tuple[str, ...]:
    """The stages, in the order of training, as STAGES in gin files says."""
    return self._macro('STAGES')

  def _macro(self, name: str) -> Any:
    """Returns the value of a macro that is the same for all parts."""
    return self._value(table.PARTS[0].name, name)

  def _check(self) -> None:
    """Raises UserError, before anything is written, if input is wrong."""
    from musiclm_jax.data.scores import synthesis
    from musiclm_jax.data.sources import survey

    _ = self._stages  # A wrong flag should not cost a corpus.
    self.source = survey.survey(self.data)
    is_scores = self.source.kind == survey.Kind.SCORES
    if is_scores and self.soundfont is None:
      raise errors.UserError(
          f'--soundfont must name a .sf2 or .sf3 file, since {self.data} holds'
          ' scores, which have to be rendered.'
      )
    if self.melody and not is_scores:
      raise errors.UserError(
          '--melody must go with scores, which the same melody is rendered of'
          f' in many ways, but {self.data} holds none. Leave it out.'
      )
    if self.listen:
      self._check_listening()
    if self.soundfont is not None and not is_scores:
      raise errors.UserError(
          '--soundfont must go with scores, which it renders, but'
          f' {self.data} holds {self.source}. Leave it out.'
      )
    if is_scores:
      synthesis.check_renderer(str(self.soundfont))
    steps.check_output(self.data, self.output)

  def _check_listening(self) -> None:
    from musiclm_jax.data import listening
    from musiclm_jax.data.sources import survey

    if self.source.kind != survey.Kind.AUDIO:
      raise errors.UserError(
          '--listen must go with recordings, whose beats and chords nobody has'
          f' written down, but {self.data} holds {self.source}. Leave it out.'
      )
    listening.check()

  def _begin(self) -> None:
    """Raises UserError if the folder is of another recipe, or damaged."""
    path = self._record('recipe')
    settings = {
        'data': self._data_name,
        'gin_flags': self.gin_flags,
        'dtype': self.dtype,
        'melody': self.melody,
        'soundfont': steps.sha256(self.soundfont),
        'listen': self.listen,
    }
    # Until something is made, anything may be set right.
    is_begun = any(p != path for p in path.parent.glob('*.json'))
    if path.exists() and is_begun:
      before = steps.read_record(path)
      changed = [
          name for name in settings if before.get(name, False) != settings[name]
      ]
      if changed:
        raise errors.UserError(
            f'--output must be new, or of the same recipe, but {self.output} is'
            f' of {before}, which differs in {", ".join(changed)}. Choose'
            ' another folder.'
        )
    link = self.data_dir / 'music'
    if os.path.islink(link) and not link.exists():
      raise errors.NotFoundError(
          f"'{link}' must lead to a dataset, but '{os.readlink(link)}' is not"
          ' there. Put it back, or begin again in another --output.'
      )
    steps.write_record(path, settings)
    print(f'recipe: {self.data}: {self.source}', flush=True)
    self._tell_changes()

  def _tell_changes(self) -> None:
    """Says if the data changed after the corpus was made."""
    path = self._record('corpus')
    before = steps.read_record(path).get('source') if path.exists() else None
    if before and before != self.source.sha256:
      progress.say(
          f'{self.data} has changed since the corpus was made; the recipe goes'
          ' on with the corpus as it is. Choose another --output for one of'
          ' what is there now.'
      )

  def _record(self, name: str) -> paths.Path:
    return self.output / 'steps' / f'{name}.json'

  def _step(
      self, name: str, does: str, make: Callable[[], Result | None]
  ) -> Result:
    """Runs a step, unless it has ended before; returns its record.

    Args:
      name: Name of the step.
      does: What it does, for people.
      make: Runs it; returns what else is to be recorded.
    """
    path = self._record(name)
    if path.exists():
      record = steps.read_record(path)
      print(f'{name}: done before, in {steps.duration(record)}', flush=True)
      return record
    print(f'{name}: {does} …', flush=True)
    start = time.monotonic()
    with steps.saying_how_to_go_on(name):
      result = make() or {}
      seconds = round(time.monotonic() - start, 1)
      steps.write_record(path, {**result, 'seconds': seconds})
    record = steps.read_record(path)
    print(f'{name}: done in {steps.duration(record)}', flush=True)
    return record

  def _make_corpus(self) -> Result:
    from musiclm_jax.data.sources import folder
    from musiclm_jax.data.sources import rendered_scores
    from musiclm_jax.data.sources import survey

    if self.source.kind == survey.Kind.DATASET:
      self._link_corpus()
    elif self.source.kind == survey.Kind.SCORES:
      rendered_scores.build_scores(
          [str(self.data)],
          self.data_dir,
          str(self.soundfont),
          sample_rate=self._sample_rate,
          **self._corpus_options,
      )
    else:
      folder.build_folder(
          self.data,
          self.data_dir,
          sample_rate=self._sample_rate,
          listen=self.listen,
          **self._corpus_options,
      )
    self._check_length()
    return {'source': self.source.sha256}

  @property
  def _corpus_options(self) -> dict[str, Any]:
    # What a step that did not end has written may be of other data.
    return {'skip_bad': self.skip_bad, 'overwrite': True}

  def _value(self, name: str, macro: str) -> Any:
    """Returns the value of a macro of the training of a part."""
    from musiclm_jax.training import gin_flags

    gin_flags.parse(self._flags('models', name))
    return gin_flags.value_of(macro)

  @property
  def _sample_rate(self) -> int:
    """The sample rate of the codec, in Hz."""
    [codec] = [kind for kind in self._kinds if kind.is_codec]
    return self._value(codec.name, 'TASK_OPTIONS')['sample_rate']

  def _check_length(self) -> None:
    """Raises UserError if too little music would end training, hours later."""
    from musiclm_jax.data import datasets

    rate = datasets.sample_rate(self.data_dir)
    needed = max(
        self._value(kind.name, 'MODEL').seconds_to_fit
        for kind in self._kinds
        # The vocabulary of texts is yet to be learned.
        if not issubclass(kind.tokenizer, base.TextEmbedder)
    )
    seconds = 0.0
    for clip in datasets.open_dataset('music', self.data_dir, 'train'):
      seconds += len(clip['audio']) / rate
      if seconds >= needed:
        return
    raise errors.UserError(
        f'--data must hold at least {needed:.0f} s of music to train on, beside'
        f' what is held out, but {self.data} holds {seconds:.0f} s. Add some.'
    )

  def _link_corpus(self) -> None:
    link = self.data_dir / 'music'
    if not isinstance(link, pathlib.Path):  # A bucket has no links.
      paths.upload_tree(self.data / 'music', link)
      return
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
      link.symlink_to((self.data / 'music').resolve())

  def _make_melody_pairs(self) -> None:
    from musiclm_jax.data.sources import melody_pairs

    melody_pairs.build_melody_pairs(
        [str(self.data)],
        self.data_dir,
        str(self.soundfont),
        **self._corpus_options,
    )

  def _make_vocab(self) -> None:
    from musiclm_jax.training import mulan

    mulan.build_corpus_vocab(self.data_dir, self.vocab)

  def _flags(self, folder: str, name: str) -> list[str]:
    """Returns the arguments of `musiclm train` and `export` of a part."""
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
    print(f'{name}: exports it …', flush=True)
    export.export_main(argv, output=str(self.model_dir), dtype=self.dtype)
    return {'metrics': metrics}

  def _tokenize(self) -> None:
    from musiclm_jax.data import records

    records.tokenize_corpus(self.data_dir, self.model_dir)

  def _sample(self) -> Result:
    path = self.output / 'sample.wav'
    return {'prompt': steps.write_sample(self.data_dir, self.model_dir, path)}

  def _evaluate(self) -> Result:
    from musiclm_jax.metrics import report

    return {'rows': report.evaluate(self.data_dir, self.model_dir, 'test')}


def recipe_main(
    argv: Sequence[str],
    data: str,
    output: str,
    soundfont: str | None = None,
    dtype: str = 'float32',
    melody: bool = False,
    skip_bad: bool = False,
    listen: bool = False,
) -> None:
  """Runs the recipe that a command line asks for; see `Recipe`."""
  Recipe(data, output, argv, soundfont, dtype, melody, skip_bad, listen).run()
