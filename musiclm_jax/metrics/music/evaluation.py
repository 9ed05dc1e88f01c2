"""Judges clips of any systems, beside true audio, by every measure there is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.metrics import class_agreement
from musiclm_jax.metrics import embedded_sets
from musiclm_jax.metrics.embedders import base
from musiclm_jax.metrics.music import ears
from musiclm_jax.metrics.music import measures
from musiclm_jax.metrics.music import prompts as prompts_lib
from musiclm_jax.metrics.music import published
from musiclm_jax.metrics.music import reports
from musiclm_jax.metrics.music import rows
from musiclm_jax.metrics.music import sounds
import numpy as np
import tqdm

_NEEDS_PAIRS = 'it needs true audio of the prompts, in files named by their ids'


class _Judge:
  """Measures one group after the other, on the clips that all systems have."""

  def __init__(
      self,
      prompts: prompts_lib.Prompts,
      systems: Sequence[reports.System],
      reference: prompts_lib.Reference | None,
      keep: pathlib.Path | None,
  ):
    self._list = prompts
    self._keep = keep
    self._kept: dict[base.Identity, embedded_sets.EmbeddedSet] = {}
    self._prompts = {prompt.id: prompt for prompt in prompts.prompts}
    self._systems = systems
    self._reference = reference
    everyone = sounds.common({s.name: s.clips for s in systems})
    self._ids = [id_ for id_ in everyone if id_ in self._prompts]
    paired = reference.paired if reference else {}
    self._true = {id_: paired[id_] for id_ in self._ids if id_ in paired}
    self.report = reports.Report(self._about())

  def _about(self) -> dict[str, Any]:
    reference = self._reference
    return {
        'prompts': {
            'source': self._list.source,
            'benchmark': self._list.benchmark,
            'wanted': self._list.wanted,
            'measured': len(self._ids),
            'missing': list(self._list.missing),
        },
        'systems': {
            system.name: {
                'source': system.source,
                'clips': len(system.clips),
                'model_sha256': system.model_sha256,
            }
            for system in self._systems
        },
        'reference': reference
        and {
            'source': reference.source,
            'clips': len(reference.clips),
            'paired': len(self._true),
        },
        'embedders': {},
    }

  def open_kept(self, embedders: Sequence[base.Embedder]) -> None:
    """Reads what was kept of true audio, if that is all there is of it."""
    if self._reference is None or not self._reference.embedded:
      return
    for embedder in embedders:
      identity = embedder.identity
      path = embedded_sets.path_in(self._reference.embedded, identity)
      found = embedded_sets.read(path)
      identity.check_same(found.identity)
      self._kept[identity] = found
      self.report.about['reference']['clips'] = len(found)

  def listen(self) -> None:
    """Measures each clip alone; leaves out those that can't be."""
    columns = self._columns()
    tasks = {
        (name, id_): self._task(id_, (clips[id_],))
        for name, clips in columns.items()
        for id_ in self._ids
        if id_ in clips
    }
    takes = {
        (system.name, id_): self._task(id_, of_id)
        for system in self._systems
        for id_, of_id in system.takes.items()
    }
    with self.report.timing('listening to each clip'):
      found, differing = ears.measure_all(tasks, takes)
    for system in self._systems:
      self.report.found += self._audible(system, found)
    self._leave_out(self._note(found))
    self._note(differing)
    self._check_left()
    if not self._true:
      reason = _NEEDS_PAIRS + ': the ceiling of the estimators is not known'
      refusal = rows.Refusal(measures.OBEDIENCE, rows.REFERENCE, reason)
      self.report.found.append(refusal)
    kept = {name: _of_system(found, name, self._ids) for name in columns}
    with self.report.timing('comparing with plans'):
      with progress.telling('comparing clips with what they should be'):
        self.report.found += measures.obeys(kept, self._prompts)
    self.report.found += measures.melodies(kept)
    self.report.found += measures.alone(kept)
    varieties = {
        system.name: [*_of_system(differing, system.name, self._ids).values()]
        for system in self._systems
    }
    self.report.found += measures.takes(varieties)

  def _audible(
      self, system: reports.System, found: Mapping[ears.Key, Any]
  ) -> rows.Found:
    """Returns for how many prompts a system has a clip that can be heard."""
    name = system.name
    can_be_heard = [
        isinstance(found.get((name, id_)), ears.Measured)
        for id_ in self._prompts
        if id_ not in system.clips or (name, id_) in found
    ]
    return measures.audible(name, can_be_heard)

  def _columns(self) -> dict[str, Mapping[str, sounds.Sound]]:
    """Returns the clips of each system, and the true audio of prompts."""
    columns = {s.name: s.clips for s in self._systems}
    return columns | ({rows.REFERENCE: self._true} if self._true else {})

  def _task(self, id_: str, takes: tuple[sounds.Sound, ...]) -> ears.Task:
    prompt = self._prompts[id_]
    return ears.Task(
        takes[0].name, takes, prompt.seconds, prompt.form, prompt.melody
    )

  def _note(self, found: Mapping[ears.Key, Any]) -> list[ears.Key]:
    """Notes what could not be measured; returns whose and which it is."""
    unheard = {key: x for key, x in found.items() if isinstance(x, str)}
    self.report.left_out += [
        {'system': name, 'id': id_, 'reason': reason}
        for (name, id_), reason in unheard.items()
    ]
    return list(unheard)

  def _leave_out(self, unheard: Sequence[ears.Key]) -> None:
    """Leaves clips that could not be measured out of every system."""
    wrong = {id_ for name, id_ in unheard if name != rows.REFERENCE}
    self._ids = [id_ for id_ in self._ids if id_ not in wrong]
    for _, id_ in unheard:
      self._true.pop(id_, None)
    self.report.about['prompts']['measured'] = len(self._ids)
    if self.report.about['reference']:
      self.report.about['reference']['paired'] = len(self._true)

  def _check_left(self) -> None:
    if not self._ids:
      raise errors.UserError(
          'there must be a prompt of which every system has a clip that can be'
          f' heard, but there is none: {self.report.left_out[:3]}'
      )

  def embed(self, embedder: base.Embedder) -> None:
    """Measures distances and agreement with prompts by one embedder."""
    identity = embedder.identity
    about = dataclasses.asdict(identity)
    self.report.about['embedders'][identity.name] = about
    sets = {}
    with self.report.timing(f'embedding by {identity.name}'):
      for system in self._systems:
        audio = self._read(system.clips, self._ids, embedder, system.name)
        sets[system.name] = embedded_sets.embed(embedder, audio, system.source)
      known, reference = self._embedded_reference(embedder)
    if reference is not None:
      self._compare_sets(sets, reference)
    else:
      reason = 'it needs true audio: give --reference'
      refusal = rows.Refusal(measures.DISTANCES, 'all', reason)
      self.report.found.append(refusal)
    if isinstance(embedder, base.JointEmbedder):
      self._compare_with_text(embedder, sets, known, reference)

  def _compare_sets(
      self,
      sets: Mapping[str, embedded_sets.EmbeddedSet],
      reference: embedded_sets.EmbeddedSet,
  ) -> None:
    """Measures distances, but not of true audio from itself."""
    name = reference.identity.name
    others = dict(sets)
    # By what they hold: a copy of a file, or another path to it, is no other.
    known = set(reference.hashes())
    for system, made in sets.items():
      if known.intersection(made.hashes()):
        del others[system]
        reason = f'clips of {system} are themselves in the true audio'
        refusal = rows.Refusal(measures.DISTANCES, 'all', reason)
        self.report.found.append(refusal)
    if not others:
      return
    with self.report.timing(f'distances by {name}'):
      with progress.telling(f'measuring distances by {name}'):
        self.report.found += measures.distances(others, reference)

  def _read(
      self,
      clips: Mapping[str, sounds.Sound],
      ids: Sequence[str],
      hears: base.Embedder | base.Tagger,
      name: str,
  ) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the audio of the clips of a system, and its sample rate."""
    rate = hears.sample_rate
    for id_ in _bar(ids, hears.identity, name):
      seconds = self._prompts[id_].seconds
      yield sounds.read_first(clips[id_], seconds, rate), rate

  def _embedded_reference(
      self, embedder: base.Embedder
  ) -> tuple[list[str], embedded_sets.EmbeddedSet | None]:
    """Embeds true audio; also returns the names of the clips, in order."""
    if self._reference is None:
      return [], None
    if embedder.identity in self._kept:
      return [], self._kept[embedder.identity]
    longest = max(prompt.seconds for prompt in self._prompts.values())
    names: list[str] = []
    bar = _bar(self._reference.clips, embedder.identity, rows.REFERENCE)
    audio = _readable(bar, longest, embedder.sample_rate, names)
    source = self._reference.source
    found = embedded_sets.embed(embedder, audio, source)
    if self._keep:
      found.save(embedded_sets.path_in(self._keep, embedder.identity))
    return names, found

  def _compare_with_text(
      self,
      embedder: base.JointEmbedder,
      sets: dict[str, embedded_sets.EmbeddedSet],
      known: Sequence[str],
      reference: embedded_sets.EmbeddedSet | None,
  ) -> None:
    texts = {
        name: [self._prompts[id_].text for id_ in self._ids] for name in sets
    }
    places = {name: i for i, name in enumerate(known)}
    ids = [i for i in self._true if self._true[i].name in places]
    if reference is not None and ids:
      indices = np.array([places[self._true[id_].name] for id_ in ids])
      sets = {**sets, rows.REFERENCE: reference.take(indices)}
      texts[rows.REFERENCE] = [self._prompts[id_].text for id_ in ids]
    found, cosines = measures.text(embedder, sets, texts)
    self.report.found += found
    if not self.report.examples:
      self._choose_examples(cosines)

  def _choose_examples(self, cosines: Mapping[str, np.ndarray]) -> None:
    for system in self._systems:
      if system.name not in cosines:
        continue
      order = np.argsort(-cosines[system.name], kind='stable')
      picks = (order[0], order[len(order) // 2], order[-1])
      self.report.examples[system.name] = {
          kind: {
              'id': self._ids[i],
              'prompt': self._prompts[self._ids[i]].text,
              'cosine': float(cosines[system.name][i]),
          }
          for kind, i in zip(reports.EXAMPLES, picks)
      }

  def tag(self, tagger: base.Tagger) -> None:
    """Measures the divergence of classes from those of true audio."""
    identity = tagger.identity
    self.report.about['embedders'][identity.name] = dataclasses.asdict(identity)
    if not self._true:
      self.report.found.append(
          rows.Refusal(measures.CLASSES, measures.KLD, _NEEDS_PAIRS)
      )
      return
    ids, tags = list(self._true), {}
    with self.report.timing(f'tagging by {identity.name}'):
      for name, clips in self._columns().items():
        audio = self._read(clips, ids, tagger, name)
        tags[name] = class_agreement.tag(tagger, audio)
    true = tags.pop(rows.REFERENCE)
    self.report.found += measures.classes(tagger, tags, true)

  def hold_beside_others(self) -> None:
    """Looks up published figures."""
    true = self.report.about['reference']
    count = true['clips'] if true else 0
    self.report.comparable, self.report.others = published.beside(
        self.report.values, self._list, count
    )


def _of_system(
    found: Mapping[ears.Key, Any], name: str, ids: Sequence[str]
) -> dict[str, Any]:
  """Returns what was measured of a system, by the ids of prompts."""
  return {
      id_: found[name, id_]
      for id_ in ids
      if not isinstance(found.get((name, id_), ''), str)
  }


def _bar(items: Sequence[Any], identity: base.Identity, name: str) -> Any:
  return tqdm.tqdm(items, f'{identity.name}: {name}', unit='clip')


def _readable(
    clips: Iterable[sounds.Sound],
    seconds: float,
    sample_rate: int,
    names: list[str],
) -> Iterator[tuple[np.ndarray, int]]:
  """Yields the audio of clips that can be read; adds these to `names`."""
  for clip in clips:
    try:
      audio = sounds.read_first(clip, seconds, sample_rate)
    except errors.UserError as e:
      progress.say(f'left out of true audio: {errors.one_line(e)}')
      continue
    names.append(clip.name)
    yield audio, sample_rate


def evaluate(
    prompts: prompts_lib.Prompts,
    systems: Sequence[reports.System],
    reference: prompts_lib.Reference | None,
    embedders: Sequence[base.Embedder],
    taggers: Sequence[base.Tagger] = (),
    keep: pathlib.Path | None = None,
) -> reports.Report:
  """Judges the clips of systems; all are measured on the same prompts.

  Args:
    prompts: What the clips were made from.
    systems: The clips of each, one system at least.
    reference: True audio; None to leave out what needs it.
    embedders: What distances and agreement with prompts are measured by.
    taggers: What the divergence of classes is measured by.
    keep: Folder to keep the embeddings of true audio in; None not to.

  Raises:
    NotFoundError: If Basic Pitch is missing.
    UserError: If there is no prompt of which every system has a clip that can
      be heard, or true audio is damaged.
  """
  judge = _Judge(prompts, systems, reference, keep)
  judge.open_kept(embedders)
  judge.listen()
  for embedder in embedders:
    judge.embed(embedder)
  for tagger in taggers:
    judge.tag(tagger)
  judge.hold_beside_others()
  order = {name: i for i, name in enumerate(_GROUPS)}
  judge.report.found.sort(key=lambda x: order[x.group])
  return judge.report


_GROUPS = (
    measures.COVERAGE,
    measures.DISTANCES,
    measures.TEXT,
    measures.CLASSES,
    measures.OBEDIENCE,
    measures.MUSICALITY,
    measures.STRUCTURE,
    measures.DIVERSITY,
)
