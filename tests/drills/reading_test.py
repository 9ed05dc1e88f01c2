"""Drills: what a user gives is read whole, or refused by name and reason."""

import contextlib
import io
import os
import pathlib
import socket
import struct
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import errors
from musiclm_jax.audio import io as audio_io
from musiclm_jax.audio import mp3
from musiclm_jax.data.sources import folder
import numpy as np
from tests.campaigns import mutated_audio

RATE = 24000


def tone(seconds=2.0, hz=440, level=0.5, rate=RATE):
  """Returns [samples] of a tone."""
  time = np.arange(round(seconds * rate)) / rate
  return (level * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def rms(audio):
  return float(np.sqrt(np.mean(np.square(audio))))


def encode(name, *channels, rate=RATE):
  return mutated_audio.encode(name, np.stack(channels, axis=-1), rate)


class Drill(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.said = self.enterContext(contextlib.redirect_stderr(io.StringIO()))

  def read(self, data, name='x.wav'):
    path = self.dir / name
    path.write_bytes(data)
    return audio_io.read_audio(path, RATE)

  def refused(self, data, name='x.wav', reason=''):
    with self.assertRaisesRegex(errors.UserError, f'{name} .*{reason}') as e:
      self.read(data, name)
    self.assertNotIn('\n', str(e.exception))


class WholeTest(Drill):
  """Files are read to their end, whatever their headers say.

  Siblings: mp3 without a header of its length, loud or silent first, joined,
  with tags before, between and after; ogg and flac joined; lengths that
  recorders and pipes leave unknown; other chunks around the sound.
  """

  @parameterized.parameters('loud first', 'silent first')
  def test_mp3_of_varying_bitrate_without_its_length(self, order):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 5 * RATE)
    parts = [noise, np.zeros(5 * RATE)]
    data = encode('mp3', np.concatenate(parts[:: 1 if order[0] == 'l' else -1]))
    first = mp3.parse_frame(data[:4])
    audio = self.read(data[first.length :], 'vbr.mp3')
    self.assertBetween(len(audio) / RATE, 10.0, 10.1)

  @parameterized.parameters(
      ('mp3', b''),
      ('mp3', b'ID3\x04\0\0\0\0\x40\0' + b'\xff\xfb\x90\x64' * 2048),
      ('mp3', b'TAG' + bytes(125)),
      ('ogg', b''),
      ('opus', b''),
      ('flac', b''),
      ('aac', b''),
  )
  def test_joined_files(self, name, between):
    one, two = encode(name, tone(2)), encode(name, tone(3, 880))
    audio = self.read(one + between + two, f'a.{mutated_audio.suffix(name)}')
    self.assertAlmostEqual(len(audio) / RATE, 5.0, delta=0.2)
    self.assertAlmostEqual(rms(audio[-RATE:-4000]), 0.354, delta=0.02)

  def test_joined_files_of_different_rates_and_channels(self):
    one = encode('ogg', tone(2))
    two = encode('ogg', *[tone(3, rate=16000)] * 2, rate=16000)
    self.assertLen(self.read(one + two, 'a.ogg'), 5 * RATE)

  @parameterized.parameters('wav', 'm4a', 'webm')
  def test_joined_files_that_cannot_be_read_on(self, name):
    data = encode(name, tone(2))
    self.refused(2 * data, f'a.{name}', 'one recording.*Split it')

  @parameterized.parameters(0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000)
  def test_wav_of_unknown_length(self, length):
    data = bytearray(encode('wav', tone(2)))
    struct.pack_into('<I', data, 4, length)
    struct.pack_into('<I', data, data.index(b'data') + 4, length)
    np.testing.assert_allclose(self.read(data), tone(2), atol=1e-4)

  def test_flac_of_unknown_length(self):
    data = bytearray(encode('flac', tone(2)))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    np.testing.assert_allclose(self.read(data, 'a.flac'), tone(2), atol=1e-4)

  def test_chunks_around_the_sound(self):
    data = encode('wav', tone(2))
    odd = b'junk' + struct.pack('<I', 5) + b'12345\0'
    between = data[:12] + odd + data[12:] + odd + b'\0' * 9999
    np.testing.assert_allclose(self.read(between), tone(2), atol=1e-4)

  def test_a_picture_and_other_tags_around_mp3(self):
    data = encode('mp3', tone(2))
    size = 300_000
    head = b'ID3\x03\0\0' + bytes((size >> s) & 127 for s in (21, 14, 7, 0))
    picture = np.random.default_rng(0).bytes(size)
    ape = b'APETAGEX' + struct.pack('<IIII', 2000, 64, 1, 1 << 31) + bytes(8)
    audio = self.read(head + picture + data + ape + bytes(64), 'a.mp3')
    self.assertLen(audio, 2 * RATE)

  @parameterized.parameters('flac', 'ogg', 'mp3', 'm4a', 'aiff')
  def test_the_suffix_does_not_matter(self, name):
    audio = self.read(encode(name, tone(2)), 'lie.wav')
    self.assertAlmostEqual(len(audio) / RATE, 2, delta=0.1)

  @parameterized.parameters(*mutated_audio.FORMATS)
  def test_reads(self, name):
    audio = self.read(encode(name, tone(2)), f'x.{mutated_audio.suffix(name)}')
    self.assertAlmostEqual(len(audio) / RATE, 2, delta=0.1)
    self.assertAlmostEqual(rms(audio), 0.354, delta=0.02)


class CutTest(Drill):
  """Files that lack their end are refused.

  Siblings: each format, cut in the middle and near the end, and in the middle
  of what was joined.
  """

  @parameterized.product(
      name=sorted(set(mutated_audio.FORMATS) - {'aac'}), share=(0.5, 0.9)
  )
  def test_cut(self, name, share):
    data = encode(name, tone(2))
    cut = data[: round(share * len(data))]
    self.refused(cut, f'x.{mutated_audio.suffix(name)}', '(again|leave it out)')

  @parameterized.parameters('mp3', 'ogg')
  def test_the_first_of_joined_files(self, name):
    data = encode(name, tone(2))
    self.refused(data[: len(data) // 2] + data, f'x.{name}')

  @parameterized.parameters('mp3', 'ogg')
  def test_the_second_of_joined_files(self, name):
    data = encode(name, tone(2))
    self.refused(data + data[: len(data) // 2], f'x.{name}')

  def test_a_page_of_ogg_that_is_damaged(self):
    data = bytearray(encode('ogg', tone(10)))
    data[len(data) // 2] ^= 1
    self.refused(data, 'x.ogg', 'checksum of its page.*Copy it again')

  def test_sound_behind_the_end_that_the_header_names(self):
    data = bytearray(
        encode('wav', np.random.default_rng(0).normal(0, 0.1, RATE))
    )
    struct.pack_into('<I', data, data.index(b'data') + 4, RATE)
    self.refused(data, reason='its header ends the sound at byte')


class CarriesNothingTest(Drill):
  """Sound that carries nothing is refused, or mended with a word.

  Siblings: stereo and 5.1, channels that cancel each other wholly or in part,
  dead channels, silence, an offset only, single samples far too loud.
  """

  def wav(self, *channels, name='x.wav'):
    data = encode('wav float', *channels)
    return self.read(data, name)

  @parameterized.parameters(
      (lambda x: -x, 'cancel each other'),
      (lambda x: -0.8 * x, 'cancel each other'),
      (
          lambda x: np.where(np.arange(len(x)) < RATE, -x, x),
          'cancel each other',
      ),
      (np.zeros_like, 'only its left channel'),
      (lambda x: 0 * x + 0.1, 'only its left channel'),
  )
  def test_the_left_channel_is_used(self, make_right, word):
    left = tone(3)
    np.testing.assert_allclose(
        self.wav(left, make_right(left).astype(np.float32)), left, atol=1e-4
    )
    self.assertIn('x.wav: ', self.said.getvalue())
    self.assertIn(word, self.said.getvalue())

  def test_stereo_is_the_mean_of_its_channels(self):
    left, right = tone(), tone(hz=550)
    np.testing.assert_allclose(
        self.wav(left, right), (left + right) / 2, atol=1e-6
    )
    self.assertEmpty(self.said.getvalue())

  @parameterized.product(name=('wav float', 'm4a', 'flac'), place=[*range(6)])
  def test_one_channel_of_six(self, name, place):
    channels = [np.zeros(2 * RATE, np.float32)] * 6
    channels[place] = tone()
    audio = self.read(encode(name, *channels), 'six.wav')
    if name != 'm4a' or place != 3:  # A codec may take the LFE for bass.
      self.assertAlmostEqual(rms(audio), 0.354, delta=0.03)

  @parameterized.parameters('wav float', 'm4a', 'flac')
  def test_the_same_in_six_channels(self, name):
    audio = self.read(encode(name, *[tone(level=0.2)] * 6), 'six.wav')
    self.assertAlmostEqual(rms(audio), 0.141, delta=0.01)

  @parameterized.parameters(
      (np.zeros(2 * RATE),),
      (np.full(2 * RATE, 0.5),),
      (tone(level=10 ** (-70 / 20)),),
      (np.random.default_rng(0).normal(0, 1e-4, 2 * RATE),),
  )
  def test_silence(self, audio):
    data = encode('wav float', audio.astype(np.float32))
    self.refused(data, reason='must be heard.*silent')

  def test_one_peak(self):
    audio = tone()
    audio[1000] = 50
    read = self.wav(audio)
    np.testing.assert_allclose(read[2000:], audio[2000:], atol=1e-6)
    self.assertRegex(self.said.getvalue(), r'x.wav: .*peak at 50.*clipped')

  @parameterized.parameters(1.2, 8.0)
  def test_what_is_loud_throughout_is_scaled(self, level):
    np.testing.assert_allclose(
        self.wav(tone(level=level)), tone(level=1), atol=1e-5
    )
    self.assertEmpty(self.said.getvalue())

  @parameterized.parameters(np.nan, np.inf, 1e30)
  def test_what_is_no_number(self, value):
    left = tone()
    left[99] = value
    data = encode('wav float', left, tone())
    self.refused(data, reason='must be finite')


class BoundsTest(Drill):
  """What is no file, or claims to be huge, is refused in a line at once.

  Siblings: headers of terabytes, many hours, pipes, folders, devices, sockets.
  """

  def refuses_path(self, path, reason):
    with self.assertRaisesRegex(errors.UserError, reason):
      audio_io.read_audio(path, RATE)
    with self.assertRaisesRegex(errors.UserError, reason):
      audio_io.read_tags(path)

  def test_no_files(self):
    pipe = self.dir / 'pipe.wav'
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
      server.bind(str(self.dir / 's.wav'))
      for path in (pipe, '/dev/zero', self.dir / 's.wav'):
        self.refuses_path(path, f'{path} must be .* a pipe, a socket or a dev')
    self.refuses_path(self.dir, 'but is a folder')
    self.refuses_path(self.dir / ('x' * 300), 'x must be an audio file')

  def test_no_caption_files(self):
    pipe = self.dir / 'captions.csv'
    os.mkfifo(pipe)
    (self.dir / 'a.wav').write_bytes(encode('wav', tone()))
    with self.assertRaisesRegex(errors.UserError, 'captions.csv .* is a pipe'):
      folder.survey(self.dir)[0]

  def test_terabytes(self):
    data = bytearray(encode('w64', tone()))
    struct.pack_into('<Q', data, data.index(b'data') + 16, 1 << 42)
    self.refused(data, 'x.w64', 'breaks off')
    path = self.dir / 'sparse.wav'
    path.write_bytes(encode('wav', tone()))
    os.truncate(path, 1 << 40)
    self.refuses_path_read(path, 'GiB')

  def refuses_path_read(self, path, reason):
    with self.assertRaisesRegex(errors.UserError, reason):
      audio_io.read_audio(path, RATE)

  def test_damage_of_all_kinds(self):
    with contextlib.redirect_stdout(io.StringIO()):
      total = mutated_audio.run(count=4 * len(mutated_audio.FORMATS), seed=3)
    self.assertContainsSubset(total, {'read', 'refused'})

  def test_hours(self):
    data = bytearray(encode('flac', tone()))
    data[21] |= 0x0F
    self.refused(data, 'x.flac', 'must last at most')


class WritingTest(Drill):
  """A file that cannot be written says why, in the system's words.

  Siblings: long names, a full disk, folders that are files.
  """

  def test_a_name_of_250_characters(self):
    path = self.dir / ('x' * 246 + '.wav')
    audio_io.write_audio(path, tone(), RATE)
    np.testing.assert_allclose(
        audio_io.read_audio(path, RATE), tone(), atol=1e-4
    )

  @parameterized.parameters('wav', 'flac', 'ogg', 'mp3')
  def test_a_full_disk(self, suffix):
    def write_bytes(self, data):
      del self, data
      raise OSError(28, 'No space left on device')

    with absltest.mock.patch.object(pathlib.Path, 'write_bytes', write_bytes):
      with self.assertRaisesRegex(errors.WriteError, f'x.{suffix}.*No space'):
        audio_io.write_audio(self.dir / f'x.{suffix}', tone(), RATE)
    self.assertEmpty(list(self.dir.iterdir()))

  def test_a_folder_that_is_a_file(self):
    (self.dir / 'a').write_text('')
    with self.assertRaisesRegex(errors.WriteError, 'system says'):
      audio_io.write_audio(self.dir / 'a' / 'x.wav', tone(), RATE)


if __name__ == '__main__':
  absltest.main()
