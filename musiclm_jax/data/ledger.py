"""The sources of a corpus: what is in it, from where, under which licence.

They are counted while a dataset is written, go from its metadata into that of
the tokens, and from there into the description of each part that is trained.
"""

from collections.abc import Sequence
import os

from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.data import datasets
from musiclm_jax.data import licenses
from musiclm_jax.data import tally
from musiclm_jax.data import token_dataset
from musiclm_jax.models import ledgers

Rows = Sequence[tally.Row]

_SHOWN = ('source', 'license', 'works', 'clips', 'hours')


def read(
    name: str, data_dir: str | os.PathLike[str]
) -> dict[str, list[tally.Row]]:
  """Returns the sources of each split of a dataset.

  Args:
    name: Name of the dataset.
    data_dir: Folder of the datasets.

  Returns:
    Rows with source, license, works, clips, hours, and the first few clips.
    Nothing for tokens of before there was a ledger; the clips of other datasets
    without one, e.g. those that Beam wrote, are counted now.

  Raises:
    NotFoundError: If there is no such dataset.
  """
  metadata = datasets.read_metadata(name, data_dir)
  if tally.KEY in metadata or name == token_dataset.NAME:
    return metadata.get(tally.KEY, {})
  counts = tally.Tally(datasets.rate_of(name, metadata))
  with progress.telling(f"counting the clips of '{name}'"):
    for split in datasets.splits(name, data_dir):
      for example in datasets.open_dataset(name, data_dir, split):
        counts.add(split, example)
  return counts.to_json()


def of_training(
    names: Sequence[str], data_dir: str | os.PathLike[str]
) -> list[tally.Row] | None:
  """Returns the sources of the music that a part was trained on.

  Args:
    names: Names of the datasets it was trained on.
    data_dir: Folder of the datasets.

  Returns:
    Rows as `read`; None if they are not known of one of the datasets, or it is
    not there.
  """
  there = [x for x in names if datasets.dataset_exists(x, data_dir)]
  known = [rows for x in there if (rows := read(x, data_dir).get('train'))]
  return ledgers.merge(*known) if len(known) == len(names) else None


def check_release(part: str, rows: Rows | None) -> None:
  """Raises UserError unless weights may be released; says what is asked for.

  Args:
    part: Name of the part, for the message.
    rows: The sources that it was trained on; None if they are not known.
  """
  if rows is None:
    raise errors.UserError(
        f"'{part}' must be of known sources to be released, but its dataset has"
        ' no ledger. Make the dataset anew with --overwrite, or export without'
        ' --release.'
    )
  refused = [
      f"{row['clips']} clip{'s' * (row['clips'] != 1)} of {row['source']}"
      f" ({', '.join(row['first'])}{' …' * (row['clips'] > len(row['first']))})"
      f" under '{row['license']}': {why}"
      for row in rows
      if (why := licenses.objection(row['license']))
  ]
  if refused:
    raise errors.UserError(
        f"'{part}' must be trained on music whose licences let weights be"
        f' released, but {"; ".join(refused)}. Make a corpus without them,'
        ' give their licences in its captions file, or export without'
        ' --release.'
    )
  for name in sorted({row['license'] for row in rows}):
    if licenses.is_share_alike(name):
      progress.say(
          f"'{part}' was trained on music under {name}, which asks for the same"
          ' licence for what is made of it'
      )


def table(name: str, data_dir: str | os.PathLike[str]) -> list[tally.Row]:
  """Returns the sources of a dataset as rows of a table, with a total.

  Args:
    name: Name of the dataset.
    data_dir: Folder of the datasets.

  Raises:
    UserError: If its sources are not known.
  """
  rows = [
      {
          'split': split,
          **{key: row[key] for key in _SHOWN},
          'release': licenses.objection(row['license']) or 'yes',
      }
      for split, found in read(name, data_dir).items()
      for row in found
  ]
  if not rows:
    raise errors.UserError(
        f"the sources of '{name}' must be known, but it has no ledger: an older"
        ' version wrote it. Make it anew with --overwrite.'
    )
  total = {key: sum(row[key] for row in rows) for key in ('clips', 'hours')}
  # A work that is of several sources would count several times.
  empty = {'source': '', 'license': '', 'works': None, 'release': ''}
  return [*rows, {**rows[0], **empty, **total, 'split': 'all'}]
