"""Fine acoustic modeling: quantizers 1-4 -> quantizers 5-12 (AudioLM 3.3)."""

from musiclm_jax import streams
from musiclm_jax.tokenizers import base as tokenizers

STAGE = streams.Stage(
    name='fine',
    inputs=(tokenizers.COARSE,),
    targets=tokenizers.FINE,
    crop_seconds=3.0,
)
