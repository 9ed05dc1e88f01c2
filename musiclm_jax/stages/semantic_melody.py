"""Semantic modeling that follows a melody: MuLan, melody -> semantic (4.5)."""

from musiclm_jax import streams
from musiclm_jax.tokenizers import base as tokenizers

STAGE = streams.Stage(
    name='semantic_melody',
    inputs=(tokenizers.MULAN, tokenizers.MELODY),
    targets=tokenizers.SEMANTIC,
    crop_seconds=30.0,
)
