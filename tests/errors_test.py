"""Tests for errors."""

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors


class ErrorsTest(parameterized.TestCase):

  @parameterized.parameters(
      (errors.UserError, ValueError),
      (errors.NotFoundError, FileNotFoundError),
      (errors.WriteError, OSError),
      (errors.DivergenceError, FloatingPointError),
  )
  def test_are_also_of_the_standard_classes(self, ours, standard):
    with self.assertRaisesRegex(standard, '^it must be so, but is not$'):
      raise ours('it must be so, but is not')
    self.assertTrue(issubclass(ours, errors.UserError))

  def test_one_line(self):
    self.assertEqual(errors.one_line(ValueError('a\n  b')), 'a b')
    self.assertEqual(errors.one_line(MemoryError()), 'MemoryError')

  @parameterized.parameters(
      (KeyError('x'), "song.mid must be a MIDI file, .*KeyError: 'x'"),
      (RuntimeError('a\nb'), 'RuntimeError: a b. Replace it or leave it out'),
      (PermissionError(13, 'No'), 'song.mid .*cannot be read: .Errno 13. No'),
      (FileNotFoundError(2, 'No'), 'song.mid must be .*but is not there'),
      (errors.UserError('already said'), '^already said$'),
  )
  def test_reading_names_the_file(self, error, message):
    with self.assertRaisesRegex(errors.UserError, message):
      with errors.reading('song.mid', 'a MIDI file'):
        raise error

  def test_reading_passes_on_what_no_file_is_to_blame_for(self):
    for error in (MemoryError, KeyboardInterrupt):
      with self.assertRaises(error):
        with errors.reading('song.mid', 'a MIDI file'):
          raise error


if __name__ == '__main__':
  absltest.main()
