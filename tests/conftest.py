"""What a test process needs before it imports any test."""

import os

import pytest


def pytest_configure(config: pytest.Config):
  """Gives each worker a cache of its own for what numba compiles.

  Numba writes a function and its wrapper as two files: workers that import
  librosa at once can leave a pair that does not match, and calling it is a
  segmentation fault (numba/numba#10128).
  """
  worker = os.environ.get('PYTEST_XDIST_WORKER', 'main')
  if hasattr(config, 'cache'):  # Else pytest runs without one.
    folder = config.cache.mkdir(f'numba-{worker}')
    os.environ['NUMBA_CACHE_DIR'] = str(folder)
