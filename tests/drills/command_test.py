"""What the command says when it fails, is ended, or finds a bare machine."""

import contextlib
import io
import os
import pathlib
import signal
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from musiclm_jax import cli
from musiclm_jax import doctor
from musiclm_jax import errors
from musiclm_jax.cli import running
from musiclm_jax.metrics import report
from musiclm_jax.tokenizers import base
from musiclm_jax.tokenizers import table
from musiclm_jax.models import compiled


def run(verb):
  """Returns the status and stderr of a command whose work is `verb`."""
  stderr = io.StringIO()
  with mock.patch.object(doctor, 'examine', verb):
    with contextlib.redirect_stderr(stderr):
      status = cli.main(['doctor', 'somewhere'])
  return status, stderr.getvalue()


def fail(error):
  def verb(*args, **kwargs):
    del args, kwargs
    raise error

  return verb


class ErrorsTest(parameterized.TestCase):
  """Only what a user can mend is an error in one line.

  Siblings: a full disk, memory of the host and of the device, extras that are
  not installed; on the other side errors of NumPy and JAX that are ValueErrors,
  arithmetic, and modules of ours that are missing.
  """

  @parameterized.named_parameters(
      ('ours', errors.UserError('it must\n be so'), 'musiclm: it must be so'),
      ('disk', OSError(28, 'No space left on device'), 'No space left on dev'),
      ('memory', MemoryError(), 'must be enough memory, but it ran out'),
      (
          'device',
          jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 93 GiB'),
          'must be enough memory, .*a smaller batch: RESOURCE_EXHAUSTED: 93',
      ),
      ('extra', ModuleNotFoundError(name='librosa'), 'librosa must be install'),
  )
  def test_told_in_one_line(self, error, message):
    status, stderr = run(fail(error))
    self.assertEqual(status, 2)
    self.assertRegex(stderr, message)
    self.assertLen(stderr.splitlines(), 1)

  @parameterized.parameters(
      ValueError('cannot reshape array of size 3 into shape (2,)'),
      TypeError('unsupported operand'),
      ZeroDivisionError('division by zero'),
      KeyError('inputs'),
      RuntimeError('generator raised StopIteration'),
      ModuleNotFoundError(name='musiclm_jax.data.missing'),
  )
  def test_bugs_keep_their_traceback(self, error):
    with self.assertRaises(type(error)):
      run(fail(error))

  def test_every_traceback_is_shown_by_request(self):
    with mock.patch.dict(os.environ, {running.TRACEBACK: '1'}):
      status, stderr = run(fail(errors.UserError('it must be so')))
    self.assertEqual(status, 2)
    self.assertRegex(stderr, r'(?s)Traceback.*, in verb.*UserError: it must')
    self.assertEndsWith(stderr, 'musiclm: it must be so\n')


class SignalsTest(parameterized.TestCase):
  """Ctrl-C and SIGTERM end a command in one line, with a status of their own.

  Siblings: a verb that says itself what it has kept.
  """

  @parameterized.parameters((signal.SIGINT, 130), (signal.SIGTERM, 143))
  def test_ends_in_one_line(self, signum, expected):
    before = signal.getsignal(signum)
    status, stderr = run(lambda *args, **kwargs: os.kill(os.getpid(), signum))
    self.assertEqual(status, expected)
    self.assertEqual(stderr, 'musiclm: interrupted; run it again to go on.\n')
    self.assertEqual(signal.getsignal(signum), before)

  def test_verbs_say_what_is_kept(self):
    kept = errors.Interrupted(signal.SIGTERM, 'saved step 12; run it again')
    status, stderr = run(fail(kept))
    self.assertEqual(status, 143)
    self.assertEqual(stderr, 'musiclm: saved step 12; run it again\n')


class FakeTokenizers(table.Tokenizers):

  def __init__(self):
    """Makes one without a model."""
    self._kinds = {}

  def of_kind(self, cls):
    name = 'soundstream' if cls is base.Codec else 'mulan'
    return {name: mock.Mock(streams=[base.MULAN])}


class DiagnosesTest(parameterized.TestCase):
  """A diagnosis that fails is noted, and ends nothing."""

  def test_doctor_goes_on(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    (folder / 'config.gin').write_text('')
    records = {'step': 100, 'split': 'eval', 'loss': 0.0}
    with mock.patch.object(
        doctor.reports, 'read_metrics', return_value=[records]
    ), mock.patch.object(
        doctor.health, 'examine', side_effect=ZeroDivisionError('by zero')
    ):
      told = doctor.examine(folder)
    self.assertIn('records not made: ZeroDivisionError: by zero', told)
    self.assertIn('one-batch gate not made', told)

  def test_one_part_that_cannot_be_measured_hides_no_other(self):
    row = {'part': 'mulan', 'metric': 'rank', 'value': 1.0, 'chance': None}
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), mock.patch.multiple(
        report,
        _tokenize=lambda *args: [],
        _codec_rows=fail(ZeroDivisionError('float division by zero')),
        _perplexity_rows=lambda *args: [],
        _text_rows=lambda *args: [row],
        _stage_rows=fail(errors.NotFoundError('model must hold fine.json')),
    ), mock.patch.multiple(
        report.records, load_tokenizers=lambda _: FakeTokenizers()
    ), mock.patch.multiple(
        report.stages, stages_in=lambda _: {'fine': None}
    ):
      self.assertEqual(report.evaluate('data', 'model'), [row])
    self.assertRegex(stderr.getvalue(), 'soundstream not measured: float div')
    self.assertRegex(stderr.getvalue(), 'fine not measured: model must hold')


class BareMachinesTest(parameterized.TestCase):
  """Containers without HOME, or with one that is not there or not ours."""

  def setUp(self):
    super().setUp()
    config = jax.config.values['jax_compilation_cache_dir']
    self.addCleanup(jax.config.update, 'jax_compilation_cache_dir', config)
    jax.config.update('jax_compilation_cache_dir', None)

  def keep(self, home):
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), mock.patch.dict(os.environ):
      os.environ.pop('JAX_COMPILATION_CACHE_DIR', None)
      os.environ.pop('XDG_CACHE_HOME', None)
      with mock.patch.object(pathlib.Path, 'home', home):
        compiled.keep()
    return stderr.getvalue(), jax.config.values['jax_compilation_cache_dir']

  def test_no_home(self):
    told, kept = self.keep(fail(RuntimeError('Could not determine home')))
    self.assertRegex(told, 'not kept .*no home folder. Set JAX_COMPILATION_C')
    self.assertIsNone(kept)

  def test_a_home_that_cannot_be_written(self):
    with tempfile.NamedTemporaryFile() as file:
      told, kept = self.keep(lambda: pathlib.Path(file.name, 'home'))
    self.assertRegex(told, 'not kept for the next start: .*Not a directory')
    self.assertIsNone(kept)

  def test_a_home(self):
    with tempfile.TemporaryDirectory() as folder:
      told, kept = self.keep(lambda: pathlib.Path(folder))
    self.assertEqual(told, '')
    self.assertStartsWith(kept, folder)


if __name__ == '__main__':
  absltest.main()
