"""How well clips agree with the prompts they were made from."""

from collections.abc import Sequence
import dataclasses

from jaxtyping import Float, Int
from musiclm_jax import errors
from musiclm_jax.metrics import embedded_sets
from musiclm_jax.metrics import estimates
from musiclm_jax.metrics import mulan as mulan_metrics
from musiclm_jax.metrics.embedders import base
import numpy as np


@dataclasses.dataclass(frozen=True)
class Agreement:
  """Agreement of each clip with its prompt.

  With MuLan as embedder, the mean cosine is the cycle consistency of MusicLM
  (section 5.1); with CLAP, the CLAP score.

  Attributes:
    cosines: [clips] similarity of a clip and its prompt, from -1 to 1.
    others: [clips] mean similarity of a clip and the other prompts: what clips
      reach that have nothing to do with their prompt.
    ranks: [clips] rank of the clip's prompt among all; 1 is the best.
    pool: Number of prompts that differ.
    identity: The embedder.
  """

  cosines: Float[np.ndarray, ' clips']
  others: Float[np.ndarray, ' clips']
  ranks: Int[np.ndarray, ' clips']
  pool: int
  identity: base.Identity

  @property
  def score(self) -> estimates.Estimate:
    """The mean cosine."""
    return estimates.mean(self.cosines)

  @property
  def chance(self) -> estimates.Estimate:
    """The mean cosine of clips and prompts of others."""
    return estimates.mean(self.others)

  @property
  def margin(self) -> estimates.Estimate:
    """By how much clips are nearer to their prompt than to others."""
    return estimates.mean(self.cosines - self.others)

  def recall(self, k: int) -> estimates.Estimate:
    """How often the prompt is among the `k` nearest; by chance, k / pool."""
    return estimates.mean((self.ranks <= k).astype(float))

  @property
  def mean_rank(self) -> estimates.Estimate:
    """The mean rank; by chance, (pool + 1) / 2."""
    return estimates.mean(self.ranks.astype(float))

  @property
  def median_rank(self) -> float:
    """The median rank; by chance, (pool + 1) / 2."""
    return float(np.median(self.ranks))


def measure(
    embedder: base.JointEmbedder,
    made: embedded_sets.EmbeddedSet,
    prompts: Sequence[str],
) -> Agreement:
  """Measures how well clips agree with their prompts.

  Args:
    embedder: Embeds the prompts; it is the one that embedded the clips.
    made: The clips.
    prompts: The prompt of each clip. Those that occur several times count as
      one choice.

  Raises:
    UserError: If there are not as many prompts as clips, fewer than two that
      differ, an empty one, or if the clips are of another embedder.
  """
  embedder.identity.check_same(made.identity)
  choices = {text: i for i, text in enumerate(dict.fromkeys(prompts))}
  if len(prompts) != len(made) or len(choices) < 2:
    raise errors.UserError(
        f'prompts must be one for each of {len(made)} clips, and two or more'
        f' must differ, but {len(prompts)} came of which {len(choices)} differ.'
    )
  similarities = made.per_clip @ embedder.embed_text(list(choices)).T
  matches = np.array([choices[text] for text in prompts])
  cosines = similarities[np.arange(len(made)), matches]
  others = (similarities.sum(axis=1) - cosines) / (len(choices) - 1)
  ranks = mulan_metrics.ranks(similarities, matches)
  return Agreement(cosines, others, ranks, len(choices), embedder.identity)
