"""What a test needs that pip does not bring with the project's extras."""

import importlib.util

from absl.testing import absltest

basic_pitch = absltest.skipIf(
    importlib.util.find_spec('basic_pitch') is None
    or importlib.util.find_spec('onnxruntime') is None,
    'Basic Pitch is missing: pip install --no-deps basic-pitch',
)
