"""The `musiclm` command: one verb per step, from data to music."""

from musiclm_jax.cli.running import main
from musiclm_jax.cli.running import script

__all__ = ['main', 'script']
