"""Learning-rate schedules of torch.optim.lr_scheduler that go one way, as optax schedules.

A schedule is a function step -> rate, counted from 0: `sgd(step_lr(0.1, 30))`. torch: an object
that overwrites the optimizer's rate at each `step()`, mostly by a factor on the rate before. Those
that turn back are in `cyclic_schedules.py`, the one that reads a metric in `plateau.py`.

The step is int32, and JAX divides an int32 by an int in float32, even in x64 mode; hence the
`float(...)` below, which optax's own schedules do not have.

`sequential_lr` is `optax.join_schedules(schedules, boundaries)`; it does not check that there is
one boundary fewer than schedules. torch: `SequentialLR(optimizer, schedulers, milestones)`, the
same, except for a `MultiplicativeLR` that is not the first: that goes on from the rate it finds.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import join_schedules as sequential_lr

__all__ = [
    "lambda_lr",
    "multiplicative_lr",
    "step_lr",
    "multi_step_lr",
    "constant_lr",
    "linear_lr",
    "exponential_lr",
    "polynomial_lr",
    "sequential_lr",
    "chained_scheduler",
]


def lambda_lr(lr: float, lr_lambda: Callable[[Any], Any]) -> optax.Schedule:
    """lr * lr_lambda(step), for any function of a traced int32. torch: of a Python int."""
    return lambda count: lr * lr_lambda(count)


def multiplicative_lr(lr: float, lr_lambda: Callable[[Any], Any]) -> optax.Schedule:
    """lr * lr_lambda(1) * ... * lr_lambda(step).

    The product is formed anew at each step, in a loop; torch keeps the rate of the step before.
    """

    def schedule(count):
        start = jnp.asarray(lr, jnp.result_type(float))
        return jax.lax.fori_loop(1, count + 1, lambda i, rate: rate * lr_lambda(i), start)

    return schedule


def step_lr(lr: float, step_size: int, gamma: float = 0.1) -> optax.Schedule:
    """lr * gamma^floor(step / step_size).

    `optax.exponential_decay` is continuous unless `staircase=True`.

    Raises:
      ValueError: if `step_size` is below 1.
    """
    positive(step_size=step_size)
    return lambda count: lr * gamma ** jnp.floor_divide(count, step_size)


def multi_step_lr(lr: float, milestones: Iterable[int], gamma: float = 0.1) -> optax.Schedule:
    """lr * gamma^n after n milestones; one that is given twice counts twice."""
    scales = {step: gamma**times for step, times in Counter(milestones).items()}
    return optax.piecewise_constant_schedule(lr, scales)


def constant_lr(lr: float, factor: float = 1 / 3, total_iters: int = 5) -> optax.Schedule:
    """lr * factor before step `total_iters`, then lr.

    Raises:
      ValueError: if `factor` is outside [0, 1]. torch: with 0 it fails at `total_iters`.
    """
    fraction(factor=factor)
    return lambda count: jnp.where(jnp.less(count, total_iters), lr * factor, lr)


def linear_lr(
    lr: float, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
) -> optax.Schedule:
    """From lr * start_factor to lr * end_factor in `total_iters` steps, then constant.

    Raises:
      ValueError: if a factor is outside [0, 1], `start_factor` 0 or `total_iters` below 1.
    """
    fraction(start_factor=start_factor, end_factor=end_factor)
    positive(start_factor=start_factor, total_iters=total_iters)

    def schedule(count):
        left = (total_iters - jnp.minimum(count, total_iters)) / float(total_iters)
        return lr * (end_factor + (start_factor - end_factor) * left)

    return schedule


def exponential_lr(lr: float, gamma: float) -> optax.Schedule:
    """lr * gamma^step."""
    return lambda count: lr * gamma**count


def polynomial_lr(lr: float, total_iters: int = 5, power: float = 1.0) -> optax.Schedule:
    """lr * (1 - min(step, total_iters) / total_iters)^power.

    `optax.polynomial_schedule` is the same in float32, to which it falls (see above): its last
    value may be some 1e-9 below 0.

    Raises:
      ValueError: if `total_iters` is below 1.
    """
    positive(total_iters=total_iters)

    def schedule(count):
        return lr * ((total_iters - jnp.minimum(count, total_iters)) / float(total_iters)) ** power

    return schedule


def chained_scheduler(schedulers: Sequence[optax.Schedule]) -> optax.Schedule:
    """The product of schedules that share one factor lr: make one with it, the others with lr 1.

    `chained_scheduler([constant_lr(0.1), exponential_lr(1.0, 0.9)])`

    torch: each scheduler changes the rate that it finds. That is the product for those of this
    file but `LambdaLR`, which sets the rate anew, like the ones of `cyclic_schedules.py`.

    Raises:
      ValueError: if `schedulers` is empty.
    """
    if not schedulers:
        raise ValueError("schedulers is empty: at least one is needed")
    return lambda count: math.prod(schedule(count) for schedule in schedulers)


def positive(**numbers: float) -> None:
    """ValueError that names what is not above 0."""
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}: it must be positive")


def fraction(**numbers: float) -> None:
    """ValueError that names what is outside [0, 1]."""
    for name, value in numbers.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}: it must be in [0, 1]")
