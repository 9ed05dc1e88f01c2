"""Data sheets of accelerators."""

import dataclasses

import jax
from musiclm_jax import errors

TPU_DOCS = 'https://docs.cloud.google.com/tpu/docs/'
NVIDIA_DOCS = 'https://www.nvidia.com/en-us/data-center/'


@dataclasses.dataclass(frozen=True)
class Device:
  """A chip, which JAX calls a device.

  Attributes:
    kind: Its `device_kind` in JAX, or a prefix of it.
    memory: Memory in bytes.
    flops: Peak operations per second in bfloat16, without sparsity.
    bandwidth: Bandwidth of the memory, in bytes per second.
    per_host: Devices of a host, in jobs of several.
    source: Address of the data sheet.
  """

  kind: str
  memory: int
  flops: float
  bandwidth: float
  per_host: int
  source: str


def _tpu(kind, gibibytes, teraflops, gigabytes_per_second, page):
  return Device(
      kind,
      gibibytes * 2**30,
      teraflops * 1e12,
      gigabytes_per_second * 1e9,
      4,
      TPU_DOCS + page,
  )


def _gpu(kind, gigabytes, teraflops, gigabytes_per_second, page):
  return Device(
      kind,
      gigabytes * 10**9,
      teraflops * 1e12,
      gigabytes_per_second * 1e9,
      8,
      NVIDIA_DOCS + page,
  )


# By the name that --device_kind takes.
DEVICES = {
    'v4': _tpu('TPU v4', 32, 275, 1228, 'v4'),
    'v5e': _tpu('TPU v5 lite', 16, 197, 819, 'v5e'),
    'v5p': _tpu('TPU v5', 95, 459, 2765, 'v5p'),
    'v6e': _tpu('TPU v6 lite', 32, 918, 1638, 'v6e'),
    'a100-40gb': _gpu('NVIDIA A100-SXM4-40GB', 40, 312, 1555, 'a100/'),
    'a100-80gb': _gpu('NVIDIA A100-SXM4-80GB', 80, 312, 2039, 'a100/'),
    'l4': _gpu('NVIDIA L4', 24, 121, 300, 'l4/'),
    'h100': _gpu('NVIDIA H100 80GB HBM3', 80, 989.5, 3350, 'h100/'),
    'h200': _gpu('NVIDIA H200', 141, 989.5, 4800, 'h200/'),
}


def get_device(name: str) -> Device:
  """Returns the device of that name.

  Raises:
    UserError: If the table has none.
  """
  if name not in DEVICES:
    raise errors.UserError(
        f"device kind must be one of {sorted(DEVICES)}, but is '{name}'."
    )
  return DEVICES[name]


def memory() -> str:
  """Returns what is in use of the memory of the fullest device here.

  Returns:
    E.g. '3.10 GiB in use, 7.25 GiB at most so far, of 31.25 GiB'; empty where
    JAX does not know, as on CPUs.
  """
  known = [d.memory_stats() or {} for d in jax.local_devices()]
  used = max(known, key=lambda stats: stats.get('bytes_in_use', 0))
  if 'bytes_in_use' not in used:
    return ''
  gib = {name: f'{count / 2**30:.2f} GiB' for name, count in used.items()}
  told = f'{gib["bytes_in_use"]} in use'
  if 'peak_bytes_in_use' in gib:
    told += f', {gib["peak_bytes_in_use"]} at most so far'
  if 'bytes_limit' in gib:
    told += f', of {gib["bytes_limit"]}'
  return told


def find(device_kind: str) -> Device | None:
  """Returns the device that JAX calls `device_kind`, None if not known."""
  matches = [d for d in DEVICES.values() if device_kind.startswith(d.kind)]
  # The name of one device may be a prefix of another's: 'TPU v5 lite'.
  return max(matches, key=lambda d: len(d.kind), default=None)
