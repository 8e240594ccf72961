"""Adam's relatives: another norm, another momentum, another start.

With torch.optim's semantics, as optax gradient transformations; a learning rate is a float or a
schedule (step -> float). m and v are Adam's two moments of the gradient, b1 and b2 their decay
rates, t the step, counted from 1.
"""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnn.training.optimizers import correction, coupled, non_negative, rates

__all__ = ["adamax", "nadam", "radam"]


def adamax(
    lr: optax.ScalarOrSchedule = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Adamax as `torch.optim.Adamax`: Adam with the infinity norm of the gradients.

    u <- max(b2 u, |g| + eps);  p <- p - lr * (m / (1 - b1^t)) / u

    Args:
      lr: learning rate or schedule.
      betas: decay rates (b1, b2).
      eps: added to |g|.
      weight_decay: L2 coefficient. (`optax.adamaxw` decays decoupled.)

    Raises:
      ValueError: if a number is negative or a beta not in [0, 1).

    Reference:
      Kingma and Ba, Adam, section 7.1, https://arxiv.org/abs/1412.6980
    """
    b1, b2 = betas
    non_negative(lr=lr, eps=eps, weight_decay=weight_decay)
    rates(b1=b1, b2=b2)
    return optax.chain(
        coupled(weight_decay),
        optax.scale_by_adamax(b1, b2, eps),
        optax.scale_by_learning_rate(lr),
    )


class NadamState(NamedTuple):
    """Steps taken, the product of all momenta so far, the two moments."""

    count: Any
    mu_product: jax.Array
    exp_avg: Any
    exp_avg_sq: Any


def nadam(
    lr: optax.ScalarOrSchedule = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
) -> optax.GradientTransformation:
    """NAdam as `torch.optim.NAdam`: Adam with Nesterov's look ahead and a momentum that grows.

    mu_t = b1 (1 - 0.96^(t momentum_decay) / 2);  P_t = mu_1 ... mu_t
    p <- p - lr * ((1 - mu_t) g / (1 - P_t) + mu_{t+1} m / (1 - P_{t+1})) / (sqrt(v / (1 - b2^t))
    + eps)

    `optax.nadam` keeps the momentum constant: another algorithm.

    Args:
      lr: learning rate or schedule.
      betas: decay rates (b1, b2).
      eps: added to the root.
      weight_decay: L2 coefficient, or the decoupled decay.
      momentum_decay: how fast mu grows from b1 / 2 to b1.
      decoupled_weight_decay: decay the parameter by lr * weight_decay instead of adding to g.

    torch: the product is kept in the default dtype, float32 even for float64 parameters unless
    `torch.set_default_dtype(torch.float64)`; here in that of the parameters.

    Raises:
      ValueError: if a number is negative or a beta not in [0, 1).

    Reference:
      Dozat, Incorporating Nesterov Momentum into Adam, ICLR workshop 2016
    """
    b1, b2 = betas
    non_negative(lr=lr, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
    rates(b1=b1, b2=b2)

    def init(params):
        one = jnp.ones((), optax.tree.dtype(params, "highest"))
        m, v = optax.tree.zeros_like(params), optax.tree.zeros_like(params)
        return NadamState(jnp.zeros((), jnp.int32), one, exp_avg=m, exp_avg_sq=v)

    def update(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        mu, following = (b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (count, count + 1))
        product = (state.mu_product * mu).astype(state.mu_product.dtype)
        m = optax.tree.update_moment(updates, state.exp_avg, b1, 1)
        v = optax.tree.update_moment(updates, state.exp_avg_sq, b2, 2)
        of_gradient = (1 - mu) / (1 - product)
        of_average = following / (1 - product * following)
        c2 = correction(b2, count)
        updates = jax.tree.map(
            lambda g, m, v: (of_gradient * g + of_average * m) / (jnp.sqrt(v / c2) + eps),
            updates,
            m,
            v,
        )
        return updates, NadamState(count, product, m, v)

    return _decayed(
        optax.GradientTransformation(init, update), lr, weight_decay, decoupled_weight_decay
    )


def radam(
    lr: optax.ScalarOrSchedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
) -> optax.GradientTransformation:
    """RAdam as `torch.optim.RAdam`: no second moment until it can be trusted.

    r = 2 / (1 - b2) - 1;  r_t = r - 2 t b2^t / (1 - b2^t), the length of the average v
    r_t <= 5:  p <- p - lr * m / (1 - b1^t)
    r_t > 5:   p <- p - lr * m / (1 - b1^t) * sqrt(1 - b2^t) / (sqrt(v) + eps)
                    * sqrt((r_t - 4) (r_t - 2) r / ((r - 4) (r - 2) r_t))

    Args:
      lr: learning rate or schedule.
      betas: decay rates (b1, b2).
      eps: added to the root before the correction. (`optax.radam`: after it, and r_t >= 5.)
      weight_decay: L2 coefficient, or the decoupled decay.
      decoupled_weight_decay: decay the parameter by lr * weight_decay instead of adding to g.

    torch: r_t is computed in double; in float32 the difference loses digits, about 1e-4 of the
    first rectified steps. Which step is the first is found in double here, too.

    Raises:
      ValueError: if a number is negative or a beta not in [0, 1).

    Reference:
      Liu et al., On the Variance of the Adaptive Learning Rate, 2019,
      https://arxiv.org/abs/1908.03265
    """
    b1, b2 = betas
    non_negative(lr=lr, eps=eps, weight_decay=weight_decay)
    rates(b1=b1, b2=b2)
    longest = 2 / (1 - b2) - 1
    decay = -math.log(b2) if b2 else math.inf

    def length(t, expm1):  # b2^t / (1 - b2^t) = 1 / (b2^-t - 1)
        return longest - 2 * t / expm1(t * decay)

    steps = itertools.count(1) if longest > 5 else ()
    first = next((t for t in steps if length(t, math.expm1) > 5), math.inf)

    def update(updates, state, params=None):
        state: Any = moments.update(updates, state, params)[1]
        t = state.count
        r = jnp.maximum(length(t, jnp.expm1), 5)  # what is not used must not be NaN
        part = (r - 4) * (r - 2) * longest / ((longest - 4) * (longest - 2) * r)
        scale = jnp.sqrt(part * correction(b2, t)) if longest > 5 else 1.0
        c1 = correction(b1, t)
        updates = jax.tree.map(
            lambda m, v: m / c1 * jnp.where(t >= first, scale / (jnp.sqrt(v) + eps), 1),
            state.mu,
            state.nu,
        )
        return updates, state

    moments = optax.scale_by_adam(b1, b2)  # its state and its two averages
    rule = optax.GradientTransformation(moments.init, update)
    return _decayed(rule, lr, weight_decay, decoupled_weight_decay)


def _decayed(
    rule: optax.GradientTransformation,
    lr: optax.ScalarOrSchedule,
    weight_decay: float,
    decoupled: bool,
) -> optax.GradientTransformation:
    """The rule, its rate and its decay: in the gradient before it, or in the step after it."""
    before, after = (0.0, weight_decay) if decoupled else (weight_decay, 0.0)
    return optax.chain(coupled(before), rule, coupled(after), optax.scale_by_learning_rate(lr))
