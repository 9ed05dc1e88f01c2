"""Tests for codec_report."""

import contextlib
import dataclasses
import io
import pathlib
import tempfile
import time
from unittest import mock

from absl.testing import absltest
import jax
import jax.numpy as jnp
from musiclm_jax import streams
from musiclm_jax.data import clips
from musiclm_jax.data import corpora
from musiclm_jax.data import datasets
from musiclm_jax.metrics import codec as codec_metrics
from musiclm_jax.metrics import codec_report
from musiclm_jax.metrics import opus
from musiclm_jax.metrics import report
from musiclm_jax.models import parts
from musiclm_jax.models import soundstream as network
from musiclm_jax.tokenizers import acoustic
from musiclm_jax.tokenizers import soundstream
import numpy as np

CONFIG = network.SoundStreamConfig(channels=2, embed_dim=4)


def write_codec(directory):
  """Writes a model of nothing but a codec of random weights."""
  module = network.SoundStream(CONFIG)
  shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 480)))
  rng = np.random.default_rng(0)
  variables = {
      name: jax.tree.map(
          lambda x: rng.normal(scale=0.2, size=x.shape).astype(np.float32),
          shapes[name],
      )
      for name in ('params', 'codebooks')
  }
  parts.save(directory, 'soundstream', dataclasses.asdict(CONFIG), variables)


def example(index):
  audio = np.random.default_rng(index).uniform(-0.3, 0.3, 24100)
  clip = clips.Clip(
      audio=audio.astype(np.float32),
      captions=('noise',),
      id=f'work{index}/0',
      work=f'work{index}',
      title='noise',
      source='noise',
  )
  return clip.id, clip.to_example()


class EvaluateTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.data_dir = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.model_dir = pathlib.Path(cls.data_dir) / 'model'
    write_codec(cls.model_dir)
    splits = {'test': [example(i) for i in range(3)]}
    datasets.write_dataset('music', cls.data_dir, splits, corpora.features())
    # Fewer programs to compile.
    with mock.patch.object(codec_report, 'SHARES', (0.25,)):
      cls.rows = codec_report.evaluate(
          cls.data_dir, cls.model_dir, 'test', max_clips=2
      )
    cls.by_name = {row['codec']: row for row in cls.rows}

  def test_rows(self):
    names = [row['codec'] for row in self.rows]
    expected = ['SoundStream, 3 quantizers']
    if opus.is_installed():
      expected += ['Opus'] * 3
    expected += [f'quantizer {i}' for i in range(1, 13)]
    self.assertEqual(names, [*expected, 'least of 12 quantizers'])
    lines = report.render(self.rows).splitlines()
    self.assertLen(lines, 1 + len(names))

  def test_distances_are_means_over_clips(self):
    codec = soundstream.SoundStream.from_dir(self.model_dir)
    expected = []
    dataset = datasets.open_dataset('music', self.data_dir, 'test')
    for index in (0, 2):  # Two clips, evenly spread.
      audio = clips.to_float(dataset[index]['audio'])[np.newaxis]
      made = codec.detokenize(codec.tokenize(audio, 3))[:, : audio.shape[1]]
      expected.append(codec_metrics.mel_distance(audio, made, 24000)[0])
    row = self.by_name['SoundStream, 3 quantizers']
    np.testing.assert_allclose(
        row['log-mel (dB)'], np.mean(expected), rtol=1e-4
    )
    self.assertEqual(row['kbps'], 1.5)
    # 51 frames for 24100 samples.
    self.assertAlmostEqual(row['actual kbps'], 51 * 30 / (24100 / 24000) / 1000)
    self.assertGreater(row['encode (x real time)'], 0)
    self.assertGreater(row['decode (x real time)'], 0)

  def test_perplexities_are_of_each_quantizer(self):
    perplexities = [
        self.by_name[f'quantizer {i}']['perplexity'] for i in range(1, 13)
    ]
    self.assertBetween(min(perplexities), 1, 102)  # There are 102 frames.
    least = self.by_name['least of 12 quantizers']
    self.assertEqual(least['perplexity'], min(perplexities))
    self.assertEqual(least['share of codes'], min(perplexities) / 1024)

  def test_speed_is_of_the_median(self):
    naps = iter([0.5, 0.01, 0.3, 0.01, 0.01, 0.3])
    factor = codec_report.real_time_factor(lambda: time.sleep(next(naps)), 1.0)
    self.assertBetween(factor, 10, 100)


class OpusRowsTest(absltest.TestCase):

  def test_says_that_opus_is_missing(self):
    with mock.patch.object(opus, 'is_installed', return_value=False):
      with contextlib.redirect_stderr(io.StringIO()) as stderr:
        self.assertEqual(codec_report.opus_rows([np.zeros(9)], 24000), [])
    self.assertIn('opusenc is not installed', stderr.getvalue())

  @absltest.skipIf(not opus.is_installed(), 'opusenc is not installed')
  def test_more_bits_are_better(self):
    audio = clips.to_float(example(0)[1]['audio'])
    rows = codec_report.opus_rows([audio], 24000)
    self.assertEqual([row['kbps'] for row in rows], [6.0, 12.0, 24.0])
    for column, order in (('actual kbps', 1), ('STFT', -1)):
      values = [order * row[column] for row in rows]
      self.assertEqual(values, sorted(values))

  def test_perplexity_is_by_quantizer(self):
    # Quantizer 1 uses one code, the others two alike.
    codes = np.zeros((1, 8, 12), np.int32)
    codes[0, ::2, 1:] = 3
    written = (
        streams.Stream('coarse', 4, 4, 50.0),
        streams.Stream('fine', 8, 4, 50.0),
    )
    rows = codec_report.perplexity_rows(
        [acoustic.split(codes, written)], written
    )
    found = [row['perplexity'] for row in rows]
    np.testing.assert_allclose(found, [1.0] + [2.0] * 11 + [1.0])
    self.assertEqual(rows[1]['share of codes'], 0.5)


if __name__ == '__main__':
  absltest.main()
