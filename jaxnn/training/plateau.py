"""A learning rate that falls when a metric no longer improves: a schedule with a state."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.training.optimizers import non_negative

__all__ = ["reduce_lr_on_plateau"]


class PlateauState(NamedTuple):
    """The rate, the best metric, the evaluations without a better one, those still to rest."""

    lr: jax.Array
    best: jax.Array
    num_bad_epochs: jax.Array
    cooldown_counter: jax.Array


class reduce_lr_on_plateau:
    """`torch.optim.lr_scheduler.ReduceLROnPlateau`: lr <- max(factor * lr, min_lr).

    `state = plateau.init()`, then `state = plateau.update(state, metrics=loss)` after each epoch;
    `state.lr` is the rate. torch: `scheduler.step(loss)`.

    It is reduced after `patience` + 1 evaluations in a row that are not better than the best.
    (`optax.contrib.reduce_on_plateau`: after `patience`.) It is also one of optax's stateful
    schedules, for `optax.inject_hyperparams`, which asks it once per update.

    Args:
      lr: the first rate. torch: the optimizer's.
      mode: "min" or "max", what is better.
      factor: of a reduction, below 1.
      patience: evaluations that may be no better.
      threshold: how much better counts: best * (1 -+ threshold) where `threshold_mode` is "rel",
        best -+ threshold where it is "abs".
      cooldown: evaluations after a reduction that do not count.
      min_lr: the lowest rate.
      eps: a reduction by less is left out.

    Raises:
      ValueError: if `factor` is 1 or more, or a mode is unknown.
    """

    def __init__(
        self,
        lr: float,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0,
        eps: float = 1e-8,
    ) -> None:
        non_negative(lr=lr, min_lr=min_lr)
        if factor >= 1:
            raise ValueError(f"factor is {factor}: it must be below 1")
        if mode not in ("min", "max"):
            raise ValueError(f"mode is {mode!r}: it must be 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode is {threshold_mode!r}: it must be 'rel' or 'abs'")
        self.lr, self.sign, self.factor, self.patience = (
            lr,
            -1 if mode == "min" else 1,
            factor,
            patience,
        )
        self.threshold, self.relative = threshold, threshold_mode == "rel"
        self.cooldown, self.min_lr, self.eps = cooldown, min_lr, eps

    def init(self) -> PlateauState:
        """The state before the first evaluation."""
        float_ = jnp.result_type(float)
        zero = jnp.zeros((), jnp.int32)
        return PlateauState(
            jnp.asarray(self.lr, float_), jnp.asarray(-self.sign * math.inf, float_), zero, zero
        )

    def update(self, state: PlateauState, *, metrics: jax.Array, **extra_args) -> PlateauState:
        """The state after one evaluation, a scalar."""
        del extra_args
        margin = self.sign * self.threshold
        bar = state.best * (1 + margin) if self.relative else state.best + margin
        better = self.sign * metrics > self.sign * bar
        best = jnp.where(better, metrics, state.best).astype(state.best.dtype)
        resting = state.cooldown_counter > 0
        bad = jnp.where(better | resting, 0, state.num_bad_epochs + 1)
        reduce = bad > self.patience
        lower = jnp.maximum(state.lr * self.factor, self.min_lr)
        lr = jnp.where(reduce & (state.lr - lower > self.eps), lower, state.lr)
        counter = jnp.where(reduce, self.cooldown, state.cooldown_counter - resting)
        return PlateauState(lr, best, jnp.where(reduce, 0, bad), counter)

    def __call__(self, state: PlateauState, **extra_args) -> jax.Array:
        """The rate."""
        del extra_args
        return state.lr
