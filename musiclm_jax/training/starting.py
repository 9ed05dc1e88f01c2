"""What happens before the first step of a run."""

from collections.abc import Iterator
import contextlib
import inspect

from flax import errors as flax_errors
import jax
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import progress
from musiclm_jax.training import checkpoints
from musiclm_jax.training import costs
from musiclm_jax.training import jobs
from musiclm_jax.training import model as model_lib
from musiclm_jax.training import programs
from musiclm_jax.training import reports
from musiclm_jax.training import run_files
from musiclm_jax.training import sharding
from musiclm_jax.training import step_folders


def _check_free(model_dir, first_step, schedule) -> None:
  """Raises UserError if files of the run would collide with another's."""
  if not first_step:
    run_files.check_unused(model_dir)
  for step in step_folders.foreign_steps(model_dir):
    if first_step < step <= schedule.train_steps and schedule.saves(step):
      raise errors.UserError(
          f'{step_folders.directory(model_dir) / str(step)} must be free for a'
          ' checkpoint, but exists, and is none. Move it, or choose another'
          ' MODEL_DIR.'
      )


def first_step(model_dir, schedule, stack) -> int:
  """Locks the folder of a run; returns the step of its last checkpoint.

  Raises:
    UserError: If another run has it, files of others are in the way, or the
      processes of a job see different folders.
  """

  def find() -> int:
    stack.enter_context(files.lock(model_dir, 'musiclm train'))
    step = max(checkpoints.complete_steps(model_dir), default=0)
    _check_free(model_dir, step, schedule)
    return step

  step = jobs.decided(find)
  jobs.check(
      not step or step in checkpoints.complete_steps(model_dir),
      f"MODEL_DIR must be a folder that all hosts share, but '{model_dir}' has"
      f' no checkpoint of step {step} in processes {{}}, and one in the first.',
  )
  return step


def check(
    model: model_lib.TrainableModel,
    num_microbatches: int,
    train_steps: int,
    last_step: int,
) -> None:
  """Raises UserError unless the arguments of a training fit each other.

  Args:
    model: The model to train.
    num_microbatches: Parts of a batch whose gradients are taken in turn.
    train_steps: Total number of steps.
    last_step: Step of the last checkpoint.
  """
  for name, made, method in (
      ('MODEL', model, 'loss_fn'),
      ('OPTIMIZER', getattr(model, 'optimizer_def', None), 'init'),
  ):
    if inspect.isclass(made) or not hasattr(made, method):
      raise errors.UserError(
          f'{name} must be an object with {method}, but is {made!r:.100}. Call'
          f' what makes one: {name} = @maker().'
      )
  splits = getattr(model, 'supports_microbatches', True)
  if num_microbatches > 1 and not splits:
    raise errors.UserError(
        f"num_microbatches must be 1 for '{model.name}', whose loss compares"
        ' the rows of a batch with each other, but is'
        f' {num_microbatches}.'
    )
  if last_step > train_steps:
    raise errors.UserError(
        f'TRAIN_STEPS must be at least {last_step}, the step of the last'
        f' checkpoint, but is {train_steps}. To start again, set another'
        ' MODEL_DIR.'
    )


def is_evaluated(model_dir, step) -> bool:
  """Returns whether a checkpoint has been evaluated."""
  return jobs.decided(
      lambda: any(
          record['step'] == step and record['split'] == 'eval'
          for record in reports.read_metrics(model_dir)
      )
  )


def finished(model_dir, step, describe_config) -> dict[str, float]:
  """Reports that there is nothing left to do; returns the last metrics."""
  try:
    run_files.check_config(model_dir)
  except errors.UserError:
    if describe_config:
      run_files.write_config(model_dir, describe_config())
  return done(model_dir, step)


def done(model_dir, step) -> dict[str, float]:
  """Says that a run is at its last step; returns the last metrics."""
  # Scripts that start runs again look for this line.
  print(f'{model_dir}: done at step {step}', flush=True)
  return reports.final_metrics(model_dir)


def make_program(
    model,
    train_batches,
    eval_batches,
    partitioning,
    random_seed,
    average_decay,
) -> programs.Program:
  """Makes the compiled steps of a run, and tells batches their rows.

  Args:
    model: The model to train.
    train_batches: Batches to train on.
    eval_batches: Batches to evaluate on; may be None.
    partitioning: The `trainer.Partitioning` of a step.
    random_seed: Seed of initialization and dropout.
    average_decay: Decay of an average of the parameters, if there is one.

  Raises:
    UserError: If the batch cannot be divided, or the config makes no model.
  """
  mesh = sharding.make_mesh(partitioning.num_model_partitions)
  size = train_batches.batch_size
  sharding.check_batch_size(size, mesh, partitioning.num_microbatches)
  rows = sharding.rows_of_processes(mesh, size)
  train_batches.place(rows)
  if eval_batches is not None:
    eval_rows = sharding.rows_of_processes(mesh, eval_batches.batch_size)
    eval_batches.place(eval_rows)
  train_batches.position = 0
  with progress.telling('reading the first batch'):
    batch = next(train_batches)
  jobs.check_rows(rows[jax.process_index()], batch, size)
  with progress.telling('making the model'), _made_of_config():
    return programs.Program(
        model,
        mesh,
        {
            name: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)
            for name, x in batch.items()
        },
        partitioning.num_microbatches,
        random_seed,
        sharding.rules(partitioning.fsdp),
        average_decay,
    )


@contextlib.contextmanager
def _made_of_config() -> Iterator[None]:
  """Turns errors in building a model into a UserError about its config."""
  try:
    yield
  except errors.UserError:
    raise
  except (ArithmeticError, TypeError, ValueError, flax_errors.FlaxError) as e:
    raise errors.UserError(
        'the values of a config must fit each other and the data, but no model'
        f' can be made of them: {errors.one_line(e):.300}. Compare them to'
        ' those of the packaged sizes.'
    ) from e


def rates(model, program) -> costs.Rates | None:
  """Counts the operations of a step; None, and a message, if that fails."""
  with progress.telling('counting operations'):
    try:
      return costs.rates(model, program.specs)
    except errors.UserError:  # The loss rejects its batches.
      raise
    except Exception as e:
      progress.say(f'speed is told in steps alone: {errors.one_line(e):.300}')
  return None
