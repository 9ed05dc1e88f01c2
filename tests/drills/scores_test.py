"""Scores as people have them: damaged, odd or hostile."""

import contextlib
import io
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from unittest import mock
import zipfile

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import cli
from musiclm_jax import errors
from musiclm_jax.data.scores import notation
from musiclm_jax.data.scores import synthesis
from musiclm_jax.data.scores import synthesizer
from musiclm_jax.data.sources import mutopia
from musiclm_jax.data.sources import score_files
from musiclm_jax.data.sources import rendered_scores
from musiclm_jax.data.scores import smf
import numpy as np

from tests.data.scores import synthesis_test
from tests.data.sources import rendered_scores_test

NOTE = b'\x00\x90\x3c\x40\x83\x60\x3c\x00'  # A beat of middle C.
RATE = 24000
END = b'\x00\xff\x2f\x00'
NEEDS_FLUIDSYNTH = synthesis_test.NEEDS_FLUIDSYNTH


def smf_file(*tracks, kind=1, division=480, num_tracks=None):
  """Returns a MIDI file of the bytes of its tracks."""
  count = len(tracks) if num_tracks is None else num_tracks
  chunks = [b'MThd' + struct.pack('>LHHH', 6, kind, count, division)]
  chunks += [b'MTrk' + struct.pack('>L', len(t)) + t for t in tracks]
  return b''.join(chunks)


def riff(data):
  body = b'RMIDdata' + struct.pack('<L', len(data)) + data
  return b'RIFF' + struct.pack('<L', len(body)) + body


def music_xml(old='', new=''):
  return rendered_scores_test.XML.replace(old, new).encode()


def mxl(member, data, **options):
  """Returns a zip file of one member."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr(member, data, **options)
  return file.getvalue()


def encrypted(data):
  """Sets the flag of encryption in both headers of a zip of one member."""
  data = bytearray(data)
  data[6] |= 1
  data[data.index(b'PK\1\2') + 8] |= 1
  return bytes(data)


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + ''.join(
    f'<!ENTITY {x} "{f"&{y};" * 10}">' for x, y in zip('bcdefghi', 'abcdefgh')
)
DAMAGED = {
    'empty.mid': b'',
    'text.mid': b'not a score',
    'header.mid': b'MThd',
    'cut.mid': smf_file(NOTE + END)[:-6],
    'zero_ticks.mid': smf_file(NOTE + END, division=0),
    'smpte_of_no_rate.mid': smf_file(NOTE + END, division=0x8000),
    'format_2.mid': smf_file(NOTE + END, NOTE + END, kind=2),
    'missing_track.mid': smf_file(NOTE + END, num_tracks=2),
    'chunk_size.mid': smf_file(NOTE + END).replace(
        b'\0\0\0\x0c', b'\0\0\0\x07'
    ),
    'running_status.mid': smf_file(b'\x00\x3c\x40' + END),
    'unknown_status.mid': smf_file(b'\x00\xf4' + NOTE + END),
    'sysex.mid': smf_file(b'\x00\xf0\xff\xff\x7f' + NOTE + END),
    'meta.mid': smf_file(NOTE + b'\x00\xff\x58\x84\x00'),
    'tempo.mid': smf_file(b'\x00\xff\x51\x01\x07' + NOTE + END),
    'endless_number.mid': smf_file(b'\xff' * 100_000),
    'no_notes.mid': smf_file(END),
    'only_silence.mid': smf_file(NOTE.replace(b'\x40', b'\0') + END),
    'no_music.rmi': riff(b'')[:12] + b'LIST\0\0\0\0',
    'huge.mid': b'MThd' + bytes(2**23),
    'empty.musicxml': b'',
    'html.musicxml': b'<html></html>',
    'cut.musicxml': music_xml()[:200],
    'bomb.musicxml': music_xml('<score-p', BOMB + ']><score-p'),
    'external.musicxml': music_xml(
        '<score-p', '<!DOCTYPE x [<!ENTITY e SYSTEM "/etc/passwd">]><score-p'
    ),
    'zero_divisions.musicxml': music_xml('<divisions>1', '<divisions>0'),
    'no_notes.musicxml': music_xml('<note>', '<note><rest/>'),
    'repeats.musicxml': music_xml(
        '</measure>',
        '<barline location="right"><repeat direction="backward"'
        ' times="1000000"/></barline></measure>',
    ),
    'text.mxl': b'no zip',
    'cut_zip.mxl': mxl('a.xml', music_xml())[:-30],
    'no_score.mxl': mxl('a.txt', b'text'),
    'bomb.mxl': mxl('a.xml', bytes(2**26)),
    'encrypted.mxl': encrypted(mxl('a.xml', music_xml())),
}
# What is wrong with these is not played.
HARMLESS = {
    'flats.mid': smf_file(b'\x00\xff\x59\x02\xee\x00' + NOTE + END),
    'metre.mid': smf_file(b'\x00\xff\x58\x04\x04\xff\x18\x08' + NOTE + END),
    'short_metre.mid': smf_file(b'\x00\xff\x58\x01\x04' + NOTE + END),
    'tempo_0.mid': smf_file(b'\x00\xff\x51\x03\0\0\0' + NOTE + END),
    'smpte_offset.mid': smf_file(b'\x00\xff\x54\x01\x00' + NOTE + END),
    'alien_chunk.mid': (
        smf_file(NOTE + END)[:14]
        + b'XFIH\0\0\0\2hi'
        + smf_file(NOTE + END)[14:]
    ),
    'unannounced_track.mid': smf_file(END, NOTE + END, num_tracks=1),
    'trailing_bytes.mid': smf_file(NOTE + END) + bytes(100),
    'no_end.mid': smf_file(NOTE),
    'status_after_meta.mid': smf_file(
        NOTE + b'\x00\xff\x01\x01a' + NOTE[:1] + NOTE[2:]
    ),
    'one_pattern.mid': smf_file(NOTE + END, kind=2),
    'riff.rmi': riff(smf_file(NOTE + END)),
    'UPPER.MID': smf_file(NOTE + END),
    'bom.musicxml': b'\xef\xbb\xbf' + music_xml(),
    'utf_16.musicxml': rendered_scores_test.XML.replace(
        'UTF-8', 'UTF-16'
    ).encode('utf-16'),
    'plain.mxl': music_xml(),
}


class ScoresDrill(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.folder = self.root / 'songs'
    self.folder.mkdir()

  def load(self, name, data):
    path = self.folder / name
    path.write_bytes(data)
    return rendered_scores.load_score(
        score_files.ScoreFile(str(path), name, 'work')
    )

  def run_cli(self, *argv):
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
      status = cli.main(list(map(str, argv)))
    return status, stderr.getvalue()


class DamagedScores(ScoresDrill):
  """Any file that the parser can't take is named, and skipped by --skip_bad.

  Siblings: every part of a MIDI file cut, absent or out of its range; what
  grows without bounds; XML that is none, or has entities; zips that are
  damaged, encrypted or bombs; scores of no notes.
  """

  @parameterized.parameters(*DAMAGED)
  def test_is_refused_by_name(self, name):
    start = time.monotonic()
    with self.assertRaisesRegex(errors.UserError, name):
      self.load(name, DAMAGED[name])
    self.assertLess(time.monotonic() - start, 20)

  @parameterized.parameters(*HARMLESS)
  def test_harmless_defects_are_read_around(self, name):
    score = self.load(name, HARMLESS[name])
    self.assertIn(score.pitch[0], (60, 69))
    self.assertGreater(score.end[0], score.start[0])

  def test_ticks_of_frames_are_seconds(self):
    # 25 frames of 40 ticks: a tick is a millisecond, whatever the tempo.
    data = smf_file(b'\x00\xff\x51\x03\0\0\1' + NOTE + END, division=0xE728)
    score = self.load('frames.mid', data)
    np.testing.assert_allclose(score.end, [0.48])

  @parameterized.named_parameters(
      ('notes', b'\x00\x90\x3c\x40' + b'\x01\x3c\x00' * 2000, 'events'),
      (
          'controls',
          b''.join(b'\x00\xc0' + bytes([i]) + NOTE for i in range(100))
          + b'\x00\xb0\x01\x01' * 100,
          'controls of its parts',
      ),
  )
  def test_what_grows_is_bounded(self, track, message):
    with mock.patch.object(smf, 'MAX_EVENTS', 1000):
      with self.assertRaisesRegex(
          errors.UserError, f'more than 1000 {message}'
      ):
        self.load('many.mid', smf_file(track))

  def test_hours_are_refused_by_name(self):
    data = smf_file(NOTE + b'\xff\xff\xff\x7f' + NOTE[1:] + END)
    (self.folder / 'hours.mid').write_bytes(data)
    (file,), _ = score_files.find_scores(self.folder)
    with self.assertRaisesRegex(errors.UserError, 'hours.mid.*at most 3600 s'):
      list(rendered_scores.read_score(file, ['font.sf2']))

  @NEEDS_FLUIDSYNTH
  def test_the_command_names_and_skips(self):
    for i in range(4):
      rendered_scores_test.write_song(self.folder / f'{i}.mid', beats=8)
    bad = ('cut.mid', 'cut_zip.mxl', 'no_notes.mid', 'bomb.musicxml')
    for name in bad:
      (self.folder / name).write_bytes(DAMAGED[name])
    argv = (
        'data', 'scores', self.folder, '--output', self.root / 'out',
        '--soundfont', synthesis_test.SOUNDFONT, '--num_workers', 1,
        '--variations', 1,
    )  # fmt: skip
    status, stderr = self.run_cli(*argv)
    self.assertEqual(status, 2)
    self.assertRegex(stderr.splitlines()[-1], r'(cut|no_n|bomb).*--skip_bad')
    status, stderr = self.run_cli(*argv, '--skip_bad')
    self.assertEqual(status, 0)
    self.assertIn('read 4, left out 4', stderr)
    for name in bad:
      self.assertRegex(stderr, f'left out: .*{name}')
    self.assertNotIn('Traceback', stderr)


@NEEDS_FLUIDSYNTH
class Renderer(ScoresDrill):
  """FluidSynth that fails, hangs or substitutes ends in one line.

  Siblings: a SoundFont that is cut, empty or lacks an instrument or drums; a
  crash; a hang; a parent that is killed.
  """

  def soundfont(self, change):
    """Writes a SoundFont whose (program, bank)s are changed."""
    data = bytearray(synthesis_test.SOUNDFONT.read_bytes())
    start = data.index(b'phdr')
    (size,) = struct.unpack_from('<L', data, start + 4)
    for place in range(start + 28, start + 8 + size, 38):
      preset = struct.unpack_from('<HH', data, place)
      struct.pack_into('<HH', data, place, *change(*preset))
    path = self.root / 'font.sf2'
    path.write_bytes(data)
    return path

  @parameterized.parameters(12, 1000, 3_000_000)
  def test_a_cut_soundfont_is_refused_before_the_work(self, size):
    path = self.root / 'font.sf2'
    path.write_bytes(synthesis_test.SOUNDFONT.read_bytes()[:size])
    with self.assertRaisesRegex(errors.UserError, 'font.sf2, but failed'):
      synthesis.check_renderer(path)

  def test_no_instrument_is_replaced_by_another(self):
    path = self.soundfont(lambda p, b: (p, 7 if 0 < p < 128 and not b else b))
    synthesis.check_renderer(path)
    score = synthesis_test.make_score
    self.assertNotEmpty(synthesis.render(score(program=0), path, RATE))
    with self.assertRaisesRegex(errors.UserError, 'font.sf2 .*has no flute'):
      synthesis.render(score(program=73), path, RATE)

  def test_drums_may_not_be_missing(self):
    path = self.soundfont(lambda p, b: (p, 7 if b == 128 else b))
    score = synthesis_test.make_score(pitch=38)
    drums = (notation.Part('', 0, is_drums=True),)
    score = notation.Score(**{**vars(score), 'parts': drums})
    self.assertNotEmpty(synthesis.render(score, synthesis_test.SOUNDFONT, RATE))
    with self.assertRaisesRegex(errors.UserError, 'font.sf2 .*has no drum'):
      synthesis.render(score, path, RATE)

  @parameterized.named_parameters(
      (
          'crash',
          'import os; input(); os.kill(os.getpid(), 11)',
          60.0,
          'status -11',
      ),
      ('early', 'import sys; sys.exit(3)', 60.0, 'exit status 3'),
      ('half', 'print("100"); print("audio")', 60.0, 'exit status 0'),
      ('hang', 'input(); input()', 2.0, 'within 2 s, but did not'),
  )
  def test_a_synthesizer_that_fails(self, program, timeout, message):
    failing = synthesizer.Synthesizer()
    self.addCleanup(failing.end)
    with mock.patch.object(synthesizer, '_PROGRAM', program):
      with self.assertRaisesRegex(errors.UserError, message):
        failing.play('a.mid', 'font.sf2', {}, timeout)
    # The next piece has a new process.
    with self.assertRaisesRegex(errors.UserError, 'rendered to silence'):
      with mock.patch.object(synthesis, '_SYNTHESIZER', failing):
        with mock.patch.object(synthesis, '_SILENCE', 1.0):
          synthesis.render(
              synthesis_test.make_score(), synthesis_test.SOUNDFONT, RATE
          )

  def test_the_synthesizer_ends_with_its_parent(self):
    code = 'import time; from musiclm_jax.data.scores import synthesis;'
    code += f'synthesis.check_renderer({str(synthesis_test.SOUNDFONT)!r});'
    code += 'print(synthesis._SYNTHESIZER._process.pid, flush=True);'
    code += 'time.sleep(60)'
    with subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True
    ) as parent:
      # pyfluidsynth may say first where it found the library.
      child = next(int(x) for x in parent.stdout if x.strip().isdigit())
      parent.kill()
    self.assert_ends(child)

  @absltest.skipIf(shutil.which('setpriv') is None, 'setpriv is missing')
  def test_ends_with_its_parent(self):
    sleep = [*mutopia.tied(), 'sleep', '60']
    code = f'import subprocess; p = subprocess.Popen({sleep!r});'
    code += 'print(p.pid, flush=True); p.wait()'
    with subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True
    ) as parent:
      child = int(parent.stdout.readline())
      time.sleep(0.3)  # Until it is what it will be.
      parent.kill()
    self.assert_ends(child)

  def assert_ends(self, child):
    """Fails unless a process ends within five seconds."""
    for _ in range(50):
      stat = pathlib.Path(f'/proc/{child}/stat')
      if not stat.exists() or ') Z ' in stat.read_text():
        return
      time.sleep(0.1)
    self.fail('it still runs')


if __name__ == '__main__':
  absltest.main()
