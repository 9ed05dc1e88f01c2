"""Coarse acoustic modeling that follows a melody (MusicLM 4.5)."""

from musiclm_jax import streams
from musiclm_jax.tokenizers import base as tokenizers

STAGE = streams.Stage(
    name='coarse_melody',
    inputs=(tokenizers.MULAN, tokenizers.MELODY, tokenizers.SEMANTIC),
    targets=tokenizers.COARSE,
    crop_seconds=10.0,
)
