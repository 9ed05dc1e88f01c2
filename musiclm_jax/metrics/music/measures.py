"""The groups of measures that music is judged by.

Each returns rows of every system, and of true audio, which is the ceiling of
what an estimator can find; a measure that can't be taken is refused.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses

from jaxtyping import Float
from musiclm_jax import errors
from musiclm_jax.metrics import class_agreement
from musiclm_jax.metrics import embedded_sets
from musiclm_jax.metrics import estimates
from musiclm_jax.metrics import obedience
from musiclm_jax.metrics import set_distances
from musiclm_jax.metrics import text_agreement
from musiclm_jax.metrics.embedders import base
from musiclm_jax.metrics.music import ears
from musiclm_jax.metrics.music import prompts as prompts_lib
from musiclm_jax.metrics.music import rows
import numpy as np

COVERAGE = 'clips'
DISTANCES, TEXT, CLASSES = 'distance', 'text', 'classes'
OBEDIENCE, MUSICALITY = 'obedience', 'musicality'
STRUCTURE, DIVERSITY = 'structure', 'takes'
COSINE, KLD = 'cosine to the prompt', 'KLD'
AUDIBLE = 'prompts with a clip to hear'
_RANKS = (1, 10)

Prompts = Mapping[str, prompts_lib.Prompt]
Probabilities = Float[np.ndarray, 'clips classes']


def refusing(
    group: str, measure: str, take: Callable[[], rows.Found]
) -> rows.Found:
  """Returns what `take` finds; its reason, if clips do not allow that."""
  try:
    return take()
  except errors.UserError as e:
    return [rows.Refusal(group, measure, errors.one_line(e))]


def distances(
    sets: Mapping[str, embedded_sets.EmbeddedSet],
    reference: embedded_sets.EmbeddedSet,
) -> rows.Found:
  """Measures how far systems are from true audio, by one embedder.

  Args:
    sets: The clips of each system.
    reference: True audio. How far its halves are apart stands in rows of their
      own, as they have half as many clips.
  """
  found: rows.Found = []
  for measure in set_distances.MEASURES:

    def compared(measure=measure):
      measured = set_distances.compare(measure, sets, reference)
      return [_distance_row(name, x) for name, x in measured.items()]

    def floor(measure=measure):
      halves = set_distances.floor(measure, reference)
      return [_distance_row(rows.REFERENCE, halves, ', of halves')]

    named = _named(measure, reference.identity)
    found += refusing(DISTANCES, named, compared)
    found += refusing(DISTANCES, f'{named}, of halves', floor)
  return found


def _named(measure: str, identity: base.Identity) -> str:
  return f'{measure} ({identity.name})'


def _distance_row(
    name: str, distance: set_distances.Distance, of: str = ''
) -> rows.Row:
  details = distance.to_json()
  details['figure'] = distance.measure
  return rows.Row(
      DISTANCES,
      _named(distance.measure, distance.identity) + of,
      name,
      distance.value,
      distance.standard_error,
      distance.clips,
      details=details,
  )


def text(
    embedder: base.JointEmbedder,
    sets: Mapping[str, embedded_sets.EmbeddedSet],
    texts: Mapping[str, Sequence[str]],
) -> tuple[rows.Found, dict[str, Float[np.ndarray, ' clips']]]:
  """Measures how well clips agree with their prompts.

  Args:
    embedder: What embedded the clips; it embeds text, too.
    sets: The clips of each system.
    texts: The prompt of each of these.

  Returns:
    Rows; and the cosine of each clip of each system.
  """
  found: rows.Found = []
  cosines = {}
  named = _named(COSINE, embedder.identity)
  for name, made in sets.items():
    try:
      agreement = text_agreement.measure(embedder, made, texts[name])
    except errors.UserError as e:
      found.append(rows.Refusal(TEXT, named, errors.one_line(e)))
      continue
    cosines[name] = agreement.cosines
    found += _text_rows(name, agreement)
  return found, cosines


def _text_rows(name: str, agreement: text_agreement.Agreement) -> rows.Found:
  identity, pool = agreement.identity, agreement.pool
  values = [
      (COSINE, agreement.score, agreement.chance.value),
      *(
          (
              f'prompt among the first {k} of {pool}',
              agreement.recall(k),
              k / pool,
          )
          for k in _RANKS
          if k < pool
      ),
      (f'rank of the prompt in {pool}', agreement.mean_rank, (pool + 1) / 2),
  ]
  details = {**dataclasses.asdict(identity), 'embedder': identity.name}
  return [
      rows.of_estimate(
          TEXT,
          _named(measure, identity),
          name,
          value,
          chance,
          {**details, 'figure': measure},
      )
      for measure, value, chance in values
  ]


def classes(
    tagger: base.Tagger,
    tags: Mapping[str, Probabilities],
    reference: Probabilities,
) -> rows.Found:
  """Measures the KLD from the classes of true audio of the same prompts."""
  found: rows.Found = []
  details = {'embedder': tagger.identity.name, 'figure': KLD}
  others = np.roll(reference, 1, axis=0)
  for name, of_system in tags.items():
    values = class_agreement.kl_divergences(of_system, reference)
    chance = class_agreement.kl_divergences(of_system, others)
    found.append(
        rows.of_estimate(
            CLASSES,
            _named(KLD, tagger.identity),
            name,
            estimates.mean(values),
            float(chance.mean()) if len(chance) > 1 else None,
            {**details, 'embedder_sha256': tagger.identity.sha256},
        )
    )
  return found


def obeys(
    measured: Mapping[str, Mapping[str, ears.Measured]], prompts: Prompts
) -> rows.Found:
  """Measures whether clips are what their prompts ask for.

  Args:
    measured: Clips of each system, by the ids of their prompts.
    prompts: The prompts by id.
  """
  found: rows.Found = []
  for name, clips in measured.items():
    targets = {
        id_: target
        for id_ in clips
        if (target := prompts[id_].target) is not None
    }
    heard = [clips[id_].heard for id_ in targets]
    scores = obedience.rows(heard, list(targets.values()))
    found += [
        rows.Row(
            OBEDIENCE,
            score['score'],
            name,
            score['mean'],
            score['error'],
            score['clips'],
            score['chance'],
        )
        for score in scores
        if score['clips']
    ]
  return found


def _means(
    group: str, name: str, values: Sequence[Mapping[str, float]]
) -> rows.Found:
  """Returns the mean of each value, over the clips that have it."""
  names = dict.fromkeys(key for found in values for key in found)
  return [
      rows.of_estimate(
          group,
          key,
          name,
          estimates.mean(np.array([x[key] for x in values if key in x])),
      )
      for key in names
  ]


def melodies(
    measured: Mapping[str, Mapping[str, ears.Measured]],
) -> rows.Found:
  """Measures how well clips keep to the melodies that were given."""
  found: rows.Found = []
  for name, clips in measured.items():
    values = [clip.melody for clip in clips.values() if clip.melody]
    if not values:
      continue
    share, chance, contour = (
        np.array([value[key] for value in values])
        for key in ('chroma', 'chroma by chance', 'contour')
    )
    found += [
        rows.of_estimate(
            OBEDIENCE,
            'melody (pitch classes)',
            name,
            estimates.mean(share),
            float(chance.mean()),
        ),
        rows.of_estimate(
            OBEDIENCE, 'melody (contour)', name, estimates.mean(contour), 0.0
        ),
    ]
  return found


def audible(name: str, can_be_heard: Sequence[bool]) -> rows.Found:
  """Returns the share of the prompts of which there is a clip to hear.

  Silence, and clips that are not there, are in no other measure.
  """
  if not can_be_heard:
    return []
  share = estimates.mean(np.array(can_be_heard, float))
  return [rows.of_estimate(COVERAGE, AUDIBLE, name, share)]


def alone(
    measured: Mapping[str, Mapping[str, ears.Measured]],
) -> rows.Found:
  """Returns what needs no prompt: musicality and structure."""
  found: rows.Found = []
  for name, clips in measured.items():
    values = [clip.musicality for clip in clips.values()]
    found += _means(MUSICALITY, name, values)
  for name, clips in measured.items():
    found += _means(STRUCTURE, name, [x.structure for x in clips.values()])
  return found


def takes(
    measured: Mapping[str, Sequence[Mapping[str, float]]],
) -> rows.Found:
  """Returns how different takes of a prompt are."""
  found: rows.Found = []
  for name, values in measured.items():
    renamed = [{f'{k} between takes': x[k] for k in x} for x in values]
    found += _means(DIVERSITY, name, renamed)
  return found
