"""Semantic modeling: MuLan tokens -> semantic tokens (MusicLM 3.2)."""

from musiclm_jax import streams
from musiclm_jax.tokenizers import base as tokenizers

STAGE = streams.Stage(
    name='semantic',
    inputs=(tokenizers.MULAN,),
    targets=tokenizers.SEMANTIC,
    crop_seconds=30.0,
)
