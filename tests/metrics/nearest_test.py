"""Tests for nearest and nearest_index."""

import contextlib
import dataclasses
import io
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from musiclm_jax import cli
from musiclm_jax import errors
from musiclm_jax.audio import fingerprints
from musiclm_jax.audio import io as audio_io
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
from musiclm_jax.data import records
from musiclm_jax.metrics import nearest
from musiclm_jax.metrics import nearest_index
from musiclm_jax.tokenizers import table
import numpy as np

from tests import bucket
from tests.audio import fingerprints_test
from tests.data import records_test

RATE = fingerprints.SAMPLE_RATE
play = fingerprints_test.play


class FakeEmbedder(records_test.FakeMuLan):
  """Embeds each window by its loudness, which differs from clip to clip."""

  def embed_audio(self, audio):
    loud = np.sqrt(np.mean(audio**2, axis=1))
    return np.stack([loud, 1 - loud], axis=1)[:, np.newaxis]


def write_corpus(data_dir, seeds=range(4), **options):
  def examples(numbers):
    for i in numbers:
      clip = clips.Clip(
          audio=(i + 1) / 5 * play(i),
          captions=('notes',),
          id=f'piece{i}/0',
          work=f'piece{i}',
          title=f'Piece {i}',
          source='chance',
          license='CC0',
          start=30.0,
      )
      yield clip.id, clip.to_example()

  datasets.write_dataset(
      'music',
      data_dir,
      {'train': examples(seeds)},
      corpora.features(),
      metadata={'sample_rate': RATE},
      **options,
  )


class NearestTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.data = pathlib.Path(
        cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    write_corpus(cls.data)
    cls.embedder = FakeEmbedder()
    cls.index = nearest_index.ensure(cls.data, cls.embedder)

  @parameterized.named_parameters(
      ('passage', 0.8 * play(2)[10000:30000], 'fingerprint'),
      ('passage_again', 0.8 * play(2)[10000:30000], 'pitch classes'),
      ('transposed', 0.6 * play(2, shift=5), 'pitch classes'),
      ('longer', np.pad(play(2, shift=-4), (9000, 9000)), 'pitch classes'),
      ('as_loud', 0.6 * play(2), 'embedding'),
  )
  def test_finds(self, audio, measure):
    audio = audio.astype(np.float32)
    found = nearest.scores(audio, RATE, self.index, self.embedder)[measure]
    self.assertEqual(found.argmax(), 2)
    self.assertGreater(found[2], np.delete(found, 2).max() + 1e-4)

  def test_a_transposed_piece_is_another_recording(self):
    found = nearest.scores(play(2, shift=5), RATE, self.index, self.embedder)
    self.assertLess(found['fingerprint'].max(), 0.05)

  def test_similarity_is_of_the_best_place(self):
    whole = nearest_index.chroma_of(play(0))
    part = np.roll(whole[6:14], 7, axis=1)
    for pair in ((whole, part), (part, whole)):
      self.assertAlmostEqual(nearest.contour_similarity(*pair), 1, places=5)

  def test_short_clips_are_not_near_everything(self):
    chroma = np.concatenate(
        [self.index.chroma, nearest_index.chroma_of(play(2))[:4]]
    )
    index = dataclasses.replace(
        self.index,
        clips=[*self.index.clips, self.index.clips[0]],
        embeddings=np.concatenate(
            [self.index.embeddings, self.index.embeddings[:1]]
        ),
        chroma=chroma,
        chroma_ends=np.append(self.index.chroma_ends, len(chroma)),
    )
    found = nearest.scores(play(0), RATE, index, self.embedder)
    self.assertEqual(found['pitch classes'][-1], -1)

  def test_refuses_what_is_too_short_to_tell(self):
    with self.assertRaisesRegex(errors.UserError, 'at least 1 s long.*0.50 s'):
      nearest.scores(play(0)[: RATE // 2], RATE, self.index, self.embedder)

  def test_an_index_is_kept(self):
    loaded = nearest_index.load(self.data, self.embedder)
    self.assertEqual(loaded.clips, self.index.clips)
    for name in ('embeddings', 'chroma', 'hashes', 'frames', 'owners'):
      np.testing.assert_array_equal(
          getattr(loaded, name), getattr(self.index, name)
      )
    with mock.patch.object(nearest_index, 'build') as build:
      nearest_index.ensure(self.data, self.embedder)
    build.assert_not_called()

  def test_an_index_in_a_bucket(self):
    data = bucket.start(self)
    write_corpus(data)
    made = nearest_index.ensure(data, self.embedder)
    with mock.patch.object(nearest_index, 'build', side_effect=AssertionError):
      loaded = nearest_index.ensure(data, self.embedder)
    self.assertEqual(loaded.clips, made.clips)
    np.testing.assert_array_equal(loaded.embeddings, made.embeddings)

  def test_another_network_needs_another_index(self):
    other = FakeEmbedder()
    other.sha256 = 'd' * 64
    self.assertIsNone(nearest_index.load(self.data, other))

  def test_a_stale_index_is_made_anew(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    data = pathlib.Path(folder) / 'data'
    shutil.copytree(self.data, data)
    write_corpus(data, seeds=[5], overwrite=True)
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
      index = nearest_index.ensure(data, self.embedder)
    self.assertIn(
        'is of other music: the index is made anew', stderr.getvalue()
    )
    self.assertEqual([clip['id'] for clip in index.clips], ['piece5/0'])

  def test_embeddings_are_those_of_the_tokens_if_there_are_any(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    shutil.copytree(self.data / 'music', pathlib.Path(folder) / 'music')
    with mock.patch.object(records, 'load_tokenizers') as load:
      load.return_value = records_test.make_tokenizers()
      records.tokenize_corpus(folder, 'model', splits=['train'])
    embedder = FakeEmbedder()
    with mock.patch.object(embedder, 'embed_audio', side_effect=AssertionError):
      index = nearest_index.build(folder, embedder)
    self.assertEqual(index.embeddings.shape, (4, 4))
    norms = np.linalg.norm(index.embeddings, axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)

  def test_a_damaged_index_is_named(self):
    folder = self.enterContext(tempfile.TemporaryDirectory())
    data = pathlib.Path(folder) / 'data'
    shutil.copytree(self.data, data)
    [path] = (data / nearest_index.FOLDER).glob('*.safetensors')
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with self.assertRaisesRegex(
        ValueError, f'{path.name} must be an index.*Rem'
    ):
      nearest_index.load(data, self.embedder)

  def test_command(self):
    path = self.data / 'made.wav'
    audio_io.write_audio(path, 0.5 * play(1), RATE)
    with mock.patch.object(table.Tokenizers, 'text_embedder', self.embedder):
      out = io.StringIO()
      with contextlib.redirect_stdout(out):
        argv = ['nearest', path, '--data', self.data, '--count=2']
        self.assertEqual(cli.main([str(x) for x in argv]), 0)
        self.assertEqual(cli.main(['data', 'index', str(self.data)]), 0)
      several = io.StringIO()
      with contextlib.redirect_stdout(several):
        argv = ['nearest', path, path, '--data', self.data, '--count=2']
        self.assertEqual(cli.main([str(x) for x in argv]), 0)
    rows = '\n'.join(out.getvalue().splitlines()[:7])
    self.assertEqual(several.getvalue(), f'\n{path}\n{rows}\n' * 2)
    lines = out.getvalue().splitlines()
    self.assertLen(lines, 8)
    for line in (lines[3], lines[5]):
      self.assertRegex(
          line, r'piece1/0 +piece1 +30.000 +"Piece 1", chance, CC0'
      )
    self.assertEndsWith(lines[-1], 'an index of 4 clips')


if __name__ == '__main__':
  absltest.main()
