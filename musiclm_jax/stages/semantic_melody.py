"""Semantic modeling that follows a melody: MuLan, melody -> semantic (4.5)."""

from musiclm_jax.stages import base
from musiclm_jax.tokenizers import base as tokenizers

STAGE = base.Stage(
    name='semantic_melody',
    inputs=(tokenizers.MULAN, tokenizers.MELODY),
    targets=tokenizers.SEMANTIC,
    crop_seconds=30.0,
)
