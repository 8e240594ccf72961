"""What goes around the steps: when to stop, and with which learning rate to begin.

Splits into folds are indices only, the same for both frameworks: `compare.data.folds`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn.training.steps import TrainState, train_step

__all__ = ["EarlyStopping", "lr_range_test", "suggest_lr"]

DIVERGED = 4  # times the lowest loss so far


class Best(NamedTuple):
    """What is known between two evaluations: a pytree, carried along like an optimizer's state."""

    loss: jax.Array
    params: Any
    waited: jax.Array


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when the validation loss has not improved for a while, with the weights of its best.

    A loss improves if best - loss > min_delta; NaN never does. After `patience` evaluations in a
    row without improvement it is time to stop. To look at an accuracy, pass its negative.

    Pure functions of a state: `state = init(params)`, then after each epoch
    `state = update(state, loss, params)` until `stop(state)`; the best weights are `state.params`,
    those of `init` if no loss improved. Flax's own EarlyStopping keeps no weights. torch: the
    object changes, and loads the weights into the model.

    Args:
      patience: evaluations without improvement that end the training, at least 1.
      min_delta: a gain that is not larger does not count; not negative.

    Raises:
      ValueError: if patience is less than 1 or min_delta negative.

    Reference:
      Prechelt, Early Stopping - But When?, 1998
    """

    patience: int = 10
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1, and is {self.patience}")
        if self.min_delta < 0:
            raise ValueError(f"min_delta must not be negative, and is {self.min_delta}")

    def init(self, params: Any) -> Best:
        """The state before the first evaluation."""
        return Best(jnp.array(jnp.inf), params, jnp.array(0))

    def update(self, state: Best, loss: jax.Array, params: Any) -> Best:
        """The state after an evaluation: loss, float (), of a model with `params`."""
        improved = state.loss - loss > self.min_delta
        # torch: an `if`; a traced condition selects instead, leaf by leaf.
        better = Best(loss, params, jnp.zeros_like(state.waited))
        worse = state._replace(waited=state.waited + 1)
        return jax.tree.map(lambda new, old: jnp.where(improved, new, old), better, worse)

    def stop(self, state: Best) -> jax.Array:
        """Whether it is time, bool ()."""
        return state.waited >= self.patience


def lr_range_test(
    state: TrainState,
    batches: Sequence[tuple[tuple, tuple]],
    loss: Callable,
    start: float = 1e-7,
    end: float = 10.0,
) -> tuple[jax.Array, jax.Array]:
    """Trains one step per batch while the learning rate grows exponentially, and notes the losses.

    Step t of T takes start * (end / start)^(t / (T - 1)). The losses stay where they are, fall,
    and at some rate explode: the test ends there, before the loss that is NaN or more than four
    times the lowest one.

    Args:
      state: a model with an optimizer of learning rate 1, `sgd(lr=1.0)`: its updates are multiplied
        by the rate. It remains as it is. torch: model and optimizer, put back after the test.
      batches: (inputs, targets) for each step, at least two.
      loss: loss(outputs, *targets) -> scalar, positive.
      start, end: the rates of the first and the last step.

    Returns: rates and losses (before each step), float (S,) with S <= T.

    Raises:
      ValueError: if there are fewer than two batches, or not 0 < start < end.

    Reference:
      Smith, Cyclical Learning Rates for Training Neural Networks, 2015,
      https://arxiv.org/abs/1506.01186
    """
    if len(batches) < 2:
        raise ValueError(f"batches must be at least two, not {len(batches)}")
    if not 0 < start < end:
        raise ValueError(f"start must lie between 0 and end {end}, and is {start}")

    # NumPy's are float64: a power of an int32 step would be a float32 power.
    rates = jnp.array(np.geomspace(start, end, len(batches)))
    growing = optax.scale_by_schedule(lambda step: rates[step])
    state = state.replace(
        tx=optax.chain(state.tx, growing),
        opt_state=(state.opt_state, growing.init(state.params)),
    )
    step = jax.jit(train_step, static_argnames="loss")
    losses, lowest = [], float("inf")
    for inputs, targets in batches:
        state, value = step(state, inputs, targets, loss)
        if not value <= DIVERGED * lowest:
            break
        lowest = min(lowest, float(value))
        losses.append(value)
    return rates[: len(losses)], jnp.array(losses)


def suggest_lr(rates: jax.Array, losses: jax.Array) -> jax.Array:
    """The rate at which the loss falls most steeply against log(rate).

    Args:
      rates, losses: of `lr_range_test`, float (S,) with S at least 2; noisy losses are better
        smoothed before.

    Returns: one of the rates, float ().

    Raises:
      ValueError: if there are fewer than two losses.
    """
    if len(losses) < 2:
        raise ValueError(f"losses must be at least two, not {len(losses)}")
    # dloss / dlog(rate) by central differences, one-sided at the ends
    return rates[jnp.argmin(jnp.asarray(jnp.gradient(losses, jnp.log(rates))))]
