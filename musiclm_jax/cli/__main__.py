"""Runs `python -m musiclm_jax.cli` as the command `musiclm`."""

from musiclm_jax import cli

cli.script()
