"""Optimizers with torch.optim's semantics, as optax gradient transformations.

A learning rate is a float or an optax schedule (step -> float, counted from 0). Every `update`
needs the parameters where weight decay is used. Others: `adaptive.py`, `moments.py`,
`averaging.py` (ASGD), `second_order.py`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

__all__ = ["sgd", "adam", "adamw"]


def sgd(
    lr: optax.ScalarOrSchedule = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Stochastic gradient descent as `torch.optim.SGD`.

    g <- g + weight_decay * p;  b <- momentum * b + (1 - dampening) * g;  p <- p - lr * b
    (Nesterov: p <- p - lr * (g + momentum * b)). The first b is g itself, not dampened.

    The decay enters the gradient, hence the momentum buffer; the learning rate comes last, so a
    schedule does not touch the buffer.

    Args:
      lr: learning rate or schedule.
      momentum: decay of the buffer; 0 keeps none.
      dampening: what is held back of every gradient but the first. (optax has none: `optax.ema`
        dampens the first one, too.)
      weight_decay: L2 coefficient.
      nesterov: look one step ahead.

    Raises:
      ValueError: if a number is negative, or `nesterov` without momentum or with dampening.
    """
    non_negative(lr=lr, momentum=momentum, weight_decay=weight_decay)
    if nesterov and (momentum <= 0 or dampening != 0):
        raise ValueError("nesterov needs a momentum above 0 and a dampening of 0")
    if dampening and momentum:
        trace = _dampened_trace(momentum, dampening)
        return optax.chain(coupled(weight_decay), trace, optax.scale_by_learning_rate(lr))
    return optax.chain(coupled(weight_decay), optax.sgd(lr, momentum or None, nesterov))


def adam(
    lr: optax.ScalarOrSchedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> optax.GradientTransformation:
    """Adam as `torch.optim.Adam`: weight decay is L2, added to the gradient.

    g <- g + weight_decay * p;  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    p <- p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Args:
      lr: learning rate or schedule.
      betas: decay rates (b1, b2) of the two moments.
      eps: added to the root, outside of it.
      weight_decay: L2 coefficient; for decoupled decay see `adamw`.
      amsgrad: divide by the largest v so far, corrected after the maximum. (`optax.amsgrad`
        corrects before it, and is another algorithm.)

    Raises:
      ValueError: if a number is negative or a beta not in [0, 1).

    Reference:
      Kingma and Ba, Adam, 2014, https://arxiv.org/abs/1412.6980; AMSGrad: Reddi et al., On the
      Convergence of Adam and Beyond, 2018, https://arxiv.org/abs/1904.09237
    """
    non_negative(lr=lr, weight_decay=weight_decay)
    return optax.chain(
        coupled(weight_decay),
        _scale_by_adam(betas, eps, amsgrad),
        optax.scale_by_learning_rate(lr),
    )


def adamw(
    lr: optax.ScalarOrSchedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
) -> optax.GradientTransformation:
    """AdamW as `torch.optim.AdamW`: p <- p - lr * weight_decay * p - lr * (Adam's direction).

    `optax.adamw` has the same formula, and a weight decay of 1e-4 by default.

    Args:
      lr: learning rate or schedule; it scales the decay as well.
      betas: decay rates (b1, b2) of the two moments.
      eps: added to the root, outside of it.
      weight_decay: decoupled decay.
      amsgrad: as in `adam`.

    Raises:
      ValueError: if a number is negative or a beta not in [0, 1).

    Reference:
      Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2017,
      https://arxiv.org/abs/1711.05101
    """
    non_negative(lr=lr, weight_decay=weight_decay)
    return optax.chain(
        _scale_by_adam(betas, eps, amsgrad),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(lr),
    )


def coupled(weight_decay: float) -> optax.GradientTransformation:
    """Weight decay that is part of the gradient that the optimizer sees."""
    return optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity()


def correction(beta: float, count: Any) -> jax.Array:
    """1 - beta^count, exact in float32.

    Without x64 optax computes it in float32, where the subtraction from 1 loses digits: Adam's
    first steps are off by about 1e-5 of their length. torch computes it in double;
    -expm1(t log beta) keeps full precision in float32.
    """
    return -jnp.expm1(count * (math.log(beta) if beta else -math.inf))


def non_negative(**numbers: object) -> None:
    """ValueError that names what is negative; schedules and traced values pass."""
    for name, value in numbers.items():
        if isinstance(value, int | float) and not value >= 0:
            raise ValueError(f"{name} is {value}: it must not be negative")


def rates(**betas: float) -> None:
    """ValueError that names a decay rate outside [0, 1)."""
    for name, value in betas.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} is {value}: it must be in [0, 1)")


def _dampened_trace(momentum: float, dampening: float) -> optax.GradientTransformation:
    """`optax.trace` of (1 - dampening) * g that starts from the first g as it is."""

    def init(params):
        zeros = optax.tree.zeros_like(params)
        return optax.EmaState(count=jnp.zeros((), jnp.int32), ema=zeros)

    def update(updates, state, params=None):
        del params
        taken = jnp.where(state.count == 0, 1, 1 - dampening)
        ema = jax.tree.map(
            lambda g, b: (momentum * b + taken * g).astype(g.dtype), updates, state.ema
        )
        return ema, optax.EmaState(count=optax.safe_increment(state.count), ema=ema)

    return optax.GradientTransformation(init, update)


def _scale_by_adam(
    betas: tuple[float, float], eps: float, amsgrad: bool
) -> optax.GradientTransformation:
    """`optax.scale_by_adam` with an exact correction, and torch's maximum for AMSGrad."""
    b1, b2 = betas
    rates(b1=b1, b2=b2)
    non_negative(eps=eps)

    def init(params):
        # Each of its own: an array that stands in a state twice could not be donated.
        mu, nu, nu_max = (optax.tree.zeros_like(params) for _ in range(3))
        count = jnp.zeros((), jnp.int32)
        if amsgrad:
            return optax.ScaleByAmsgradState(count=count, mu=mu, nu=nu, nu_max=nu_max)
        return optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    def update(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        state, root = state._replace(count=count, mu=mu, nu=nu), nu
        if amsgrad:
            root = jax.tree.map(jnp.maximum, state.nu_max, nu)
            state = state._replace(nu_max=root)
        c1, c2 = correction(b1, count), correction(b2, count)
        updates = jax.tree.map(lambda m, v: (m / c1) / (jnp.sqrt(v / c2) + eps), mu, root)
        return updates, state

    return optax.GradientTransformation(init, update)
