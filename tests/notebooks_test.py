"""Tests for notebooks."""

import contextlib
import io
import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from IPython import display
from matplotlib import pyplot
from musiclm_jax import notebooks
from musiclm_jax.training import run_files
import numpy as np

# Plays the command: says two lines and ends as its argument says.
COMMAND = """#!/bin/bash
echo "working on $2"
echo "the end" >&2
exit $3
"""


class NotebooksTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.shown = []
    self.enterContext(mock.patch.object(display, 'display', self.shown.append))

  def write_run(self, name, **losses):
    for split, values in losses.items():
      for step, loss in values.items():
        record = {'step': step, 'split': split, 'loss': loss}
        (self.dir / name).mkdir(exist_ok=True)
        run_files.append_metrics(self.dir / name, record)

  def test_hears_and_sees(self):
    audio = np.sin(np.arange(8000, dtype=np.float32) / 5)
    notebooks.hear(audio, 8000, 'a tone')
    figure, player = self.shown
    self.assertEqual(figure.axes[0].get_title(), 'a tone')
    self.assertIsInstance(player, display.Audio)
    # What is loud is at 8000 / 5 / 2 pi Hz.
    image = figure.axes[0].images[0]
    power = np.asarray(image.get_array())[::-1].mean(axis=1)
    self.assertAlmostEqual(np.argmax(power) * 8000 / 1024, 254.6, delta=8)

  def test_silence_is_drawn(self):
    notebooks.hear(np.zeros(8000, np.float32), 8000)
    self.assertLen(self.shown, 2)

  def test_draws_losses_of_every_run(self):
    self.assertIsNone(notebooks.draw_losses(self.dir))
    self.write_run('coarse', train={1: 6.0, 50: 5.0}, eval={50: 5.5})
    self.write_run('fine', train={1: 7.0})
    figure = notebooks.draw_losses(self.dir)
    self.addCleanup(pyplot.close, figure)
    coarse, fine = figure.axes
    self.assertEqual((coarse.get_title(), fine.get_title()), ('coarse', 'fine'))
    train, held_out = coarse.lines
    np.testing.assert_array_equal(train.get_xydata(), [[1, 6], [50, 5]])
    np.testing.assert_array_equal(held_out.get_xydata(), [[50, 5.5]])
    self.assertLen(fine.lines, 1)

  def watch(self, status):
    """Watches a command that ends so; returns what is printed."""
    bin_dir = self.dir / 'bin'
    bin_dir.mkdir()
    (bin_dir / 'musiclm').write_text(COMMAND)
    (bin_dir / 'musiclm').chmod(0o755)
    self.write_run('fine', train={1: 7.0})
    printed = io.StringIO()
    with (
        mock.patch.object(sys, 'executable', str(bin_dir / 'python')),
        mock.patch.object(display, 'clear_output'),
        contextlib.redirect_stdout(printed),
    ):
      try:
        notebooks.watch(['train', 'fine', str(status)], self.dir, period=0.1)
      finally:
        self.printed = printed.getvalue()

  def test_watches_a_command(self):
    self.watch(0)
    self.assertEndsWith(self.printed, 'working on fine\nthe end\n')
    self.assertNotEmpty(self.shown)

  def test_says_how_a_command_failed(self):
    with self.assertRaisesRegex(
        ValueError, 'musiclm train must end well, .*status 2: the end'
    ):
      self.watch(2)


if __name__ == '__main__':
  absltest.main()
