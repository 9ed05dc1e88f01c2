"""Checks that a file is music of the asked length, as far as numbers can."""

import argparse
import sys

import numpy as np
import soundfile


def problems(path: str, seconds: float) -> list[str]:
  """Returns what is wrong with an audio file; nothing if it is sound."""
  audio, sample_rate = soundfile.read(path, dtype='float32')
  rms_db = 20 * np.log10(max(float(np.sqrt(np.mean(audio**2))), 1e-9))
  checks = {
      f'24 kHz mono, but is {sample_rate} Hz {audio.shape}': (
          sample_rate == 24000 and audio.ndim == 1
      ),
      f'{seconds} s long, but is {len(audio) / sample_rate}': (
          len(audio) == round(seconds * sample_rate)
      ),
      'finite': bool(np.isfinite(audio).all()),
      f'within ±1, but peaks at {np.abs(audio).max()}': (
          np.abs(audio).max() <= 1.0
      ),
      f'between -40 and -6 dB RMS, but is {rms_db:.1f}': -40 < rms_db < -6,
  }
  return [
      f'{path} must be {what}' for what, holds in checks.items() if not holds
  ]


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument('path')
  parser.add_argument('--seconds', type=float, required=True)
  args = parser.parse_args()
  found = problems(args.path, args.seconds)
  print('\n'.join(found) or f'{args.path}: sound')
  return len(found)


if __name__ == '__main__':
  sys.exit(main())
