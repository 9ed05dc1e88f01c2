"""Coarse acoustic modeling: MuLan and semantic tokens -> quantizers 1-4."""

from musiclm_jax import streams
from musiclm_jax.tokenizers import base as tokenizers

STAGE = streams.Stage(
    name='coarse',
    inputs=(tokenizers.MULAN, tokenizers.SEMANTIC),
    targets=tokenizers.COARSE,
    crop_seconds=10.0,
)
