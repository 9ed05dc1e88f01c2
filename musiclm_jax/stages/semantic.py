"""Semantic modeling: MuLan tokens -> semantic tokens (MusicLM 3.2)."""

from musiclm_jax.stages import base
from musiclm_jax.tokenizers import base as tokenizers

STAGE = base.Stage(
    name='semantic',
    inputs=(tokenizers.MULAN,),
    targets=tokenizers.SEMANTIC,
    crop_seconds=30.0,
)
