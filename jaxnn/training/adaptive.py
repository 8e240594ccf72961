"""A rate of its own for every weight, from the size or the sign of its gradients.

With torch.optim's semantics, as optax gradient transformations; a learning rate is a float or a
schedule (step -> float). Where optax has the pieces, they are chained; what its own aliases do
otherwise is noted.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnn.training.optimizers import coupled, non_negative

__all__ = ["adagrad", "adadelta", "rmsprop", "rprop"]


def adagrad(
    lr: optax.ScalarOrSchedule = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
) -> optax.GradientTransformation:
    """Adagrad as `torch.optim.Adagrad`: the rate falls with the sum of all squares so far.

    g <- g + weight_decay * p;  s <- s + g^2;  p <- p - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s)
    + eps)

    Args:
      lr: learning rate or schedule.
      lr_decay: decay of the rate with the step t, on top of a schedule.
      weight_decay: L2 coefficient.
      initial_accumulator_value: s before the first step. `optax.adagrad`: 0.1.
      eps: added to the root. `optax.adagrad`: 1e-7, under the root.

    Raises:
      ValueError: if a number is negative.

    Reference:
      Duchi, Hazan and Singer, Adaptive Subgradient Methods, JMLR 12 (2011)
    """
    start = initial_accumulator_value
    non_negative(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)
    non_negative(initial_accumulator_value=start)

    def init(params):
        return optax.ScaleByRssState(sum_of_squares=optax.tree.full_like(params, start))

    def update(updates, state, params=None):
        del params
        total = jax.tree.map(lambda g, s: s + g * g, updates, state.sum_of_squares)
        updates = jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + eps), updates, total)
        return updates, optax.ScaleByRssState(sum_of_squares=total)

    return optax.chain(
        coupled(weight_decay),
        optax.GradientTransformation(init, update),
        optax.scale_by_schedule(lambda count: 1 / (1 + count * lr_decay)),
        optax.scale_by_learning_rate(lr),
    )


def adadelta(
    lr: optax.ScalarOrSchedule = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Adadelta as `torch.optim.Adadelta`: a step in the units of the parameter.

    v <- rho v + (1 - rho) g^2;  d = sqrt(u + eps) / sqrt(v + eps) * g;
    u <- rho u + (1 - rho) d^2;  p <- p - lr * d

    Args:
      lr: learning rate or schedule. (`optax.adadelta` has the same formula; its default of None
        leaves the sign of the update as it is, and climbs.)
      rho: decay of both averages.
      eps: under both roots; the first steps are as small as its root.
      weight_decay: L2 coefficient.

    Raises:
      ValueError: if a number is negative or `rho` above 1.

    Reference:
      Zeiler, ADADELTA, 2012, https://arxiv.org/abs/1212.5701
    """
    non_negative(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)
    if rho > 1:
        raise ValueError(f"rho is {rho}: it must be in [0, 1]")
    return optax.chain(
        coupled(weight_decay),
        optax.scale_by_adadelta(rho, eps),
        optax.scale_by_learning_rate(lr),
    )


def rmsprop(
    lr: optax.ScalarOrSchedule = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
) -> optax.GradientTransformation:
    """RMSprop as `torch.optim.RMSprop`.

    v <- alpha v + (1 - alpha) g^2;  d = g / (sqrt(v) + eps);  b <- momentum b + d;  p <- p - lr b

    Args:
      lr: learning rate or schedule. `optax.rmsprop` multiplies before the momentum, which differs
        as soon as the rate changes.
      alpha: decay of the average. `optax.rmsprop`: 0.9.
      eps: added to the root. `optax.rmsprop`: under it, unless `eps_in_sqrt=False`.
      weight_decay: L2 coefficient.
      momentum: decay of the buffer b; 0 keeps none.
      centered: subtract the squared average of g from v.

    Raises:
      ValueError: if a number is negative.

    Reference:
      Hinton, Lecture 6e of Neural Networks for Machine Learning, 2012; centered: Graves, 2013,
      https://arxiv.org/abs/1308.0850
    """
    non_negative(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
    scale = optax.scale_by_stddev if centered else optax.scale_by_rms
    return optax.chain(
        coupled(weight_decay),
        scale(alpha, eps, eps_in_sqrt=False),
        optax.trace(momentum) if momentum else optax.identity(),
        optax.scale_by_learning_rate(lr),
    )


class RpropState(NamedTuple):
    """Steps taken, the gradient before (zero where it was undone), a step size for every weight."""

    count: Any
    prev: Any
    step_size: Any


def rprop(
    lr: optax.ScalarOrSchedule = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
) -> optax.GradientTransformation:
    """Resilient backpropagation as `torch.optim.Rprop`: only the gradient's sign counts.

    s <- s * etas[1] where the sign is that of the step before, s * etas[0] where it has changed
    (and then the weight rests for one step);  s <- clip(s, step_sizes);  p <- p - s * sign(g)

    Args:
      lr: the first step size; later values of a schedule are not read.
      etas: factors of s, the first in (0, 1), the second above 1.
      step_sizes: bounds of s. torch: clips at every step, optax only where s changes.

    `optax.rprop` is one step late (it returns the update of the step before), so it is not used.

    Raises:
      ValueError: if `lr` is negative or `etas` not on either side of 1.

    Reference:
      Riedmiller and Braun, A Direct Adaptive Method for Faster Backpropagation, ICNN 1993
    """
    non_negative(lr=lr)
    shrink, grow = etas
    if not 0 < shrink < 1 < grow:
        raise ValueError(f"etas is {etas}: the first must be in (0, 1), the second above 1")

    def init(params):
        first = lr(0) if callable(lr) else lr
        return RpropState(
            jnp.zeros((), jnp.int32),
            prev=optax.tree.zeros_like(params),
            step_size=optax.tree.full_like(params, first),
        )

    def update(updates, state, params=None):
        del params
        agreement = jax.tree.map(lambda g, before: jnp.sign(g * before), updates, state.prev)
        step_size = jax.tree.map(
            lambda a, s: jnp.clip(
                s * jnp.where(a > 0, grow, jnp.where(a < 0, shrink, 1)), *step_sizes
            ),
            agreement,
            state.step_size,
        )
        kept = jax.tree.map(lambda a, g: jnp.where(a < 0, 0, g), agreement, updates)
        updates = jax.tree.map(lambda g, s: -jnp.sign(g) * s, kept, step_size)
        return updates, RpropState(optax.safe_increment(state.count), kept, step_size)

    return optax.GradientTransformation(init, update)
