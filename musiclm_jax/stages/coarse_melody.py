"""Coarse acoustic modeling that follows a melody (MusicLM 4.5)."""

from musiclm_jax.stages import base
from musiclm_jax.tokenizers import base as tokenizers

STAGE = base.Stage(
    name='coarse_melody',
    inputs=(tokenizers.MULAN, tokenizers.MELODY, tokenizers.SEMANTIC),
    targets=tokenizers.COARSE,
    crop_seconds=10.0,
)
