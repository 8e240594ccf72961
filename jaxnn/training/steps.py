"""One step of training, one of evaluation: pure functions of a state.

jit them with the loss static: `jax.jit(train_step, static_argnames="loss")`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import struct
from flax.training import train_state

__all__ = ["train_step", "eval_step"]


class TrainState(train_state.TrainState):
    """Flax's TrainState (step, apply_fn, params, tx, opt_state) plus the running statistics.

    torch: the model holds parameters and buffers, the optimizer its state; both change in place.
    """

    batch_stats: Mapping[str, Any] = struct.field(default_factory=dict)


def train_step(
    state: TrainState, inputs: tuple, targets: tuple, loss: Callable
) -> tuple[TrainState, jax.Array]:
    """Gradient of the loss in training mode, one optimizer update, new running statistics.

    Args:
      state: parameters, optimizer state and batch_stats before the step.
      inputs: what the model takes, in call order.
      targets: what the loss takes after the outputs.
      loss: loss(outputs, *targets) -> scalar.

    Returns:
      (state after the step, loss before it).
    """

    def objective(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        outputs, updated = state.apply_fn(variables, *inputs, train=True, mutable=["batch_stats"])
        return loss(outputs, *targets), updated.get("batch_stats", {})

    (value, batch_stats), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads, batch_stats=batch_stats), value


def eval_step(
    state: TrainState, inputs: tuple, targets: tuple, loss: Callable
) -> tuple[Any, jax.Array]:
    """Outputs and loss in evaluation mode, with the running statistics.

    Args:
      state: parameters and batch_stats.
      inputs: what the model takes, in call order.
      targets: what the loss takes after the outputs.
      loss: loss(outputs, *targets) -> scalar.

    Returns:
      (outputs, loss).
    """
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    outputs = state.apply_fn(variables, *inputs, train=False)
    return outputs, loss(outputs, *targets)
