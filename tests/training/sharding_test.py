"""Tests for sharding."""

import pathlib
import subprocess
import sys

from absl.testing import absltest
from flax.linen import partitioning
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from musiclm_jax.training import sharding
import optax

# The devices of a process cannot change, so that this needs one of its own.
SCRIPT = """
import jax, optax
from jax.sharding import PartitionSpec as P
from musiclm_jax.training import sharding, steps
from tests.training import fake

model = fake.FakeModel(optax.adam(0.1))
state, variables = jax.eval_shape(
    steps.make_initializer(model, {'x': (8, 4)}, {}), jax.random.key(0))
placed = steps.shard_state(sharding.make_mesh(2), state, variables)
print(placed.params['wide']['kernel'].spec == P(None, 'model'))
print(placed.params['narrow']['kernel'].spec == P('model', None))
# A single column cannot be split.
print(placed.params['narrow']['bias'].spec == P(None))
print(placed.opt_state[0].mu['wide']['kernel'].spec == P(None, 'model'))
print(placed.opt_state[0].count.spec == P())
print(placed.mutables['statistics']['mean'].spec == P(None))
fsdp = steps.shard_state(
    sharding.make_mesh(2), state, variables, sharding.rules(fsdp=True))
print(fsdp.params['wide']['kernel'].spec == P('data', 'model'))
print(fsdp.opt_state[0].nu['wide']['kernel'].spec == P('data', 'model'))
x = sharding.put_batch(sharding.make_mesh(2), {'x': jax.numpy.ones((8, 4))})
print(x['x'].sharding.shard_shape((8, 4)) == (2, 4))
"""


class ShardingTest(absltest.TestCase):

  def test_axes_go_where_the_rules_say(self):
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT],
        env={
            'PYTHONPATH': str(pathlib.Path(sharding.__file__).parents[2]),
            'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
            'JAX_PLATFORMS': 'cpu',
        },
        capture_output=True,
        check=True,
    )
    self.assertEqual(done.stdout.decode().split(), ['True'] * 9)

  def test_rejects_a_parameter_without_axes(self):
    variables = {
        'params': {'a': {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}},
        'params_axes': {
            'a': {'kernel_axes': partitioning.AxisMetadata(('embed', 'mlp'))}
        },
    }
    with self.assertRaisesRegex(ValueError, "a/bias of 'params' has none"):
      sharding.shard_variables(sharding.make_mesh(), variables)

  def test_statistics_of_masked_optimizers_lie_as_their_parameters(self):
    mesh = sharding.make_mesh()
    params = {'a': jnp.ones((2, 3)), 'b': jnp.ones(3)}
    spec = PartitionSpec('data', 'model')
    placed = {
        'a': jax.sharding.NamedSharding(mesh, spec),
        'b': sharding.replicated(mesh),
    }
    optimizer = optax.multi_transform(
        {'x': optax.adam(0.1), 'y': optax.sgd(0.1)}, {'a': 'x', 'b': 'y'}
    )
    result = sharding.shard_optimizer(
        mesh, optimizer.init(params), params, placed
    )
    mu = result.inner_states['x'].inner_state[0].mu
    self.assertEqual(mu['a'].spec, spec)


if __name__ == '__main__':
  absltest.main()
