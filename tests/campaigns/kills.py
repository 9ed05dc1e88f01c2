"""Kills every training, and tokenizing, at random moments, and goes on.

  python -m tests.campaigns.kills --kills 20 --terms 10

A small corpus is made. Each part is trained on it, and the corpus tokenized,
once undisturbed and once with SIGKILL and SIGTERM, after each of which the same
command is run again. The parts and the tokens must be the same bits. Each
SIGTERM must be answered with its status, by a step that is saved, in time.
"""

import argparse
from collections.abc import Iterator, Sequence
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from musiclm_jax.data import datasets
from musiclm_jax.data import renditions
from musiclm_jax.training import checkpoints
from musiclm_jax.training import run_files
import numpy as np
import soundfile
import tqdm

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIZE = ROOT / 'tests' / 'campaigns' / 'smallest.gin'
TOKENIZERS = ('soundstream', 'w2v_bert', 'mulan', 'melody')
STAGES = ('semantic', 'coarse', 'fine')
TOKENIZE = 'tokenize'
JOBS = (*TOKENIZERS, TOKENIZE, *STAGES)
LIMIT = 10.0  # Seconds from SIGTERM to the end.
STARTUP = 8.0  # Seconds in which some of the kills come, however far it is.


@dataclasses.dataclass
class Row:
  """What was seen of a job.

  Attributes:
    kills: SIGKILLs that it was hit by.
    terms: SIGTERMs that it was hit by.
    slowest: Seconds from a SIGTERM to the end, at most.
    faults: What should not be.
  """

  kills: int = 0
  terms: int = 0
  slowest: float = 0.0
  faults: list[str] = dataclasses.field(default_factory=list)


class Campaign:
  """A folder with a corpus, and a run of each job in it.

  Attributes:
    folder: Of everything.
    train_steps: Of each training.
  """

  def __init__(self, folder: pathlib.Path, train_steps: int):
    self.folder = folder
    self.train_steps = train_steps
    self.env = {
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'XDG_CACHE_HOME': str(folder / 'cache'),
        'JAX_PLATFORMS': 'cpu',
    }
    self.env.pop('JAX_COMPILATION_CACHE_DIR', None)

  def data_dir(self, run: str) -> pathlib.Path:
    return self.folder / run / 'data'

  def make_corpus(self) -> None:
    """Makes music, word pieces, and renditions of made-up melodies."""
    music = self.folder / 'music'
    music.mkdir(parents=True)
    rng = np.random.default_rng(0)
    captions = ['path,caption']
    for i in range(12):
      seconds = np.arange(10 * 24000) / 24000
      tone = np.sin(2 * np.pi * 150 * 1.15**i * seconds)
      audio = 0.3 * tone + rng.normal(0, 0.03, len(tone))
      soundfile.write(music / f'{i}.wav', audio, 24000)
      captions.append(f'{i}.wav,a calm piece for piano number {i}')
    (music / 'captions.csv').write_text('\n'.join(captions))
    data = self.data_dir('whole')
    self.run('data', 'folder', str(music), '--output', str(data))
    vocab = self.folder / 'vocab.txt'
    self.run('vocab', '--data', str(data), '--output', str(vocab))
    datasets.write_dataset(
        renditions.NAME,
        data,
        {split: list(_phrases(split)) for split in ('train', 'validation')},
        renditions.features(),
    )
    # Tokens are made of each run's own, the rest is the same.
    self.data_dir('hurt').mkdir(parents=True)
    (self.data_dir('hurt') / 'music').symlink_to(data / 'music')

  def argv(self, job: str, run: str) -> list[str]:
    """Returns the command of a job; of its export, too, but for the verb."""
    data = self.data_dir('whole')
    if job == TOKENIZE:
      model = str(self.folder / 'whole' / 'model')
      return [TOKENIZE, f'--data={self.data_dir(run)}', f'--model={model}']
    kind = 'models' if job in TOKENIZERS else 'stages'
    return [
        'train',
        f'--gin_file={kind}/{job}.gin',
        f'--gin_file={SIZE}',
        f'--gin.MODEL_DIR={str(self.folder / run / job)!r}',
        f'--gin.DATA_DIR={str(data)!r}',
        f'--gin.VOCAB={str(self.folder / "vocab.txt")!r}',
        '--gin.BATCH_SIZE=4',
        f'--gin.TRAIN_STEPS={self.train_steps}',
        '--gin.LOG_PERIOD=5',
        '--gin.CHECKPOINT_PERIOD=20',
        '--gin.EVAL_PERIOD=40',
        '--gin.TENSORBOARD=False',
    ]

  def start(self, *argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, '-m', 'musiclm_jax.cli', *argv],
        env=self.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=self.folder,
    )

  def run(self, *argv: str) -> float:
    """Runs a command to its end; returns the seconds it took."""
    start = time.monotonic()
    process = self.start(*argv)
    stderr = process.communicate()[1]
    if process.returncode:
      raise RuntimeError(f'{argv} ended with {process.returncode}: {stderr}')
    return time.monotonic() - start

  def export(self, job: str, run: str) -> None:
    if job != TOKENIZE:
      output = self.folder / run / 'model'
      flags = self.argv(job, run)[1:]
      self.run('export', *flags, f'--output={output}')

  def disturb(
      self,
      job: str,
      signals: Sequence[int],
      seconds: float,
      rng: np.random.Generator,
  ) -> Row:
    """Runs a job with signals, then to its end.

    Args:
      job: One of JOBS.
      signals: To send, in order.
      seconds: That the job took undisturbed.
      rng: Of the moments.
    """
    row = Row()
    for i, signum in enumerate(signals):
      process = self.start(*self.argv(job, 'hurt'))
      share = (i + rng.uniform()) / (len(signals) + 1)
      if job == TOKENIZE:
        time.sleep(rng.uniform(1, 0.9 * seconds))
      elif signum == signal.SIGKILL and rng.uniform() < 1 / 3:
        time.sleep(rng.uniform(0, STARTUP))
      else:
        self._wait_for_step(job, process, share * self.train_steps)
        time.sleep(rng.uniform(0, 0.5))
      self._hit(job, process, signum, row)
    self.run(*self.argv(job, 'hurt'))
    self.export(job, 'hurt')
    return row

  def _wait_for_step(
      self, job: str, process: subprocess.Popen[str], step: float
  ) -> None:
    path = self.folder / 'hurt' / job / run_files.METRICS
    before = path.stat().st_mtime_ns if path.exists() else 0
    while process.poll() is None:
      # It is written anew once the run goes on.
      if path.exists() and path.stat().st_mtime_ns > before:
        told = run_files.read_metrics(path.parent)
        if told and told[-1]['step'] >= step:
          return
      time.sleep(0.02)

  def _hit(
      self, job: str, process: subprocess.Popen[str], signum: int, row: Row
  ) -> None:
    start = time.monotonic()
    process.send_signal(signum)
    stderr = process.communicate()[1]
    seconds = time.monotonic() - start
    if process.returncode == 0:
      return  # It was done before.
    if signum == signal.SIGKILL:
      row.kills += 1
      return
    row.terms += 1
    row.slowest = max(row.slowest, seconds)
    last = stderr.strip().splitlines()[-1]
    if process.returncode != 128 + signum:
      row.faults.append(f'status {process.returncode}: {last}')
    if seconds > LIMIT:
      row.faults.append(f'{seconds:.1f} s until it ended')
    if 'Traceback' in stderr:
      row.faults.append('a traceback')
    if job != TOKENIZE:
      saved = re.search(r'saved step (\d+) in .*same command', last)
      whole = checkpoints.complete_steps(self.folder / 'hurt' / job)
      if saved is None or int(saved[1]) not in whole:
        row.faults.append(f'nothing saved: {last}')

  def differences(self, job: str) -> Iterator[str]:
    """Yields what the disturbed run made that the other did not."""
    whole, hurt = (self.folder / run for run in ('whole', 'hurt'))
    if job == TOKENIZE:
      for split in ('train', 'validation', 'test'):
        made = [
            datasets.open_dataset('music_tokens', run / 'data', split)
            for run in (whole, hurt)
        ]
        if not _are_same(*made):
          yield f'other tokens in {split}'
      return
    for suffix in ('safetensors', 'json'):
      name = f'model/{job}.{suffix}'
      if (whole / name).read_bytes() != (hurt / name).read_bytes():
        yield f'{name} differs'
    if _without_times(whole / job) != _without_times(hurt / job):
      yield 'metrics differ'


def _phrases(split: str) -> Iterator[tuple[str, dict[str, object]]]:
  rng = np.random.default_rng(len(split))
  for i in range(8):
    audio = rng.uniform(-1, 1, 16000 * 5).astype(np.float32)
    played = [
        renditions.Rendition('solo', factor, audio[:length])
        for factor, length in ((1.0, 80000), (1.25, 64000))
    ]
    name = f'{split}{i}'
    melody = np.full(125, i, np.int8)
    phrase = renditions.Phrase(played, melody=melody, id=name, work=name)
    yield name, phrase.to_example()


def _are_same(one: datasets.Dataset, other: datasets.Dataset) -> bool:
  if len(one) != len(other):
    return False
  return all(
      a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
      for a, b in zip(one, other, strict=True)
  )


def _without_times(model_dir: pathlib.Path) -> list[dict[str, object]]:
  return [
      {k: v for k, v in record.items() if not k.endswith('_per_second')}
      for record in run_files.read_metrics(model_dir)
  ]


def _deal(
    jobs: Sequence[str], kills: int, terms: int, rng: np.random.Generator
) -> dict[str, list[int]]:
  """Deals signals to jobs, as evenly as they go, in random order."""
  signals = [signal.SIGTERM] * terms + [signal.SIGKILL] * kills
  dealt: dict[str, list[int]] = {job: [] for job in jobs}
  for i, signum in enumerate(signals):
    dealt[jobs[i % len(jobs)]].append(signum)
  return {
      job: [int(s) for s in rng.permutation(signals)]
      for job, signals in dealt.items()
  }


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the campaign, prints its table; returns 1 if anything is wrong."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--terms', type=int, default=10)
  parser.add_argument('--train_steps', type=int, default=120)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--output', help='file of the result, JSON')
  args = parser.parse_args(argv)
  rng = np.random.default_rng(args.seed)
  dealt = _deal(JOBS, args.kills, args.terms, rng)
  rows: dict[str, Row] = {}
  start = time.monotonic()
  with tempfile.TemporaryDirectory() as folder:
    campaign = Campaign(pathlib.Path(folder), args.train_steps)
    campaign.make_corpus()
    for job in tqdm.tqdm(JOBS):
      seconds = campaign.run(*campaign.argv(job, 'whole'))
      campaign.export(job, 'whole')
      rows[job] = campaign.disturb(job, dealt[job], seconds, rng)
      rows[job].faults += campaign.differences(job)
  print(f'{"job":12} kill -9  SIGTERM  slowest  faults')
  for job, row in rows.items():
    faults = '; '.join(row.faults) or 'none: the same bits'
    print(
        f'{job:12} {row.kills:7}  {row.terms:7}  {row.slowest:5.1f} s  {faults}'
    )
  kills, terms = (
      sum(getattr(row, name) for row in rows.values())
      for name in ('kills', 'terms')
  )
  print(f'{kills} kills, {terms} SIGTERMs, {time.monotonic() - start:.0f} s')
  if args.output:
    result = {job: dataclasses.asdict(row) for job, row in rows.items()}
    pathlib.Path(args.output).write_text(json.dumps(result, indent=2))
  return int(any(row.faults for row in rows.values()))


if __name__ == '__main__':
  sys.exit(main())
