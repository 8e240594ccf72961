"""Optimizers with torch.optim's semantics, as optax gradient transformations.

A learning rate is a float or an optax schedule (step -> float, counted from 0). Every `update`
needs the parameters where weight decay is used.
"""

import math

import jax
import jax.numpy as jnp
import optax

__all__ = ["sgd", "adam", "adamw"]


def sgd(
    lr: optax.ScalarOrSchedule = 1e-3,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Stochastic gradient descent as `torch.optim.SGD` (dampening 0).

    g <- g + weight_decay * p;  b <- momentum * b + g;  p <- p - lr * b
    (Nesterov: p <- p - lr * (g + momentum * b)).

    The decay enters the gradient, hence the momentum buffer; the learning rate comes last, so a
    schedule does not touch the buffer.

    Args:
      lr: learning rate or schedule.
      momentum: decay of the buffer; 0 keeps none.
      nesterov: look one step ahead.
      weight_decay: L2 coefficient.

    Raises:
      ValueError: if `nesterov` without momentum.
    """
    if nesterov and momentum <= 0:
        raise ValueError("Nesterov momentum requires a momentum and zero dampening")
    return optax.chain(_l2(weight_decay), optax.sgd(lr, momentum or None, nesterov))


def adam(
    lr: optax.ScalarOrSchedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Adam as `torch.optim.Adam`: weight decay is L2, added to the gradient.

    g <- g + weight_decay * p;  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    p <- p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Args:
      lr: learning rate or schedule.
      betas: decay rates (b1, b2) of the two moments.
      eps: added to the root, outside of it.
      weight_decay: L2 coefficient; for decoupled decay see `adamw`.

    Reference:
      Kingma and Ba, Adam, 2014, https://arxiv.org/abs/1412.6980
    """
    return optax.chain(
        _l2(weight_decay), _scale_by_adam(*betas, eps), optax.scale_by_learning_rate(lr)
    )


def adamw(
    lr: optax.ScalarOrSchedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> optax.GradientTransformation:
    """AdamW as `torch.optim.AdamW`: p <- p - lr * weight_decay * p - lr * (Adam's direction).

    `optax.adamw` has the same formula, and a weight decay of 1e-4 by default.

    Args:
      lr: learning rate or schedule; it scales the decay as well.
      betas: decay rates (b1, b2) of the two moments.
      eps: added to the root, outside of it.
      weight_decay: decoupled decay.

    Reference:
      Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2017,
      https://arxiv.org/abs/1711.05101
    """
    return optax.chain(
        _scale_by_adam(*betas, eps),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(lr),
    )


def _l2(weight_decay: float) -> optax.GradientTransformation:
    """Weight decay that is coupled: part of the gradient that the optimizer sees."""
    return optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity()


def _scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """`optax.scale_by_adam` with a bias correction that is exact in float32.

    Without x64 optax computes 1 - b2^t in float32, where the subtraction from 1 loses digits: the
    first steps are off by about 1e-5 of their length. torch computes it in double;
    -expm1(t log b2) keeps full precision in float32.
    """
    rates = [math.log(b) if b else -math.inf for b in (b1, b2)]

    def init(params):
        mu, nu = optax.tree.zeros_like(params), optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(count=jnp.zeros((), jnp.int32), mu=mu, nu=nu)

    def update(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        correction1, correction2 = (-jnp.expm1(count * rate) for rate in rates)  # 1 - b^t
        updates = jax.tree.map(
            lambda m, v: (m / correction1) / (jnp.sqrt(v / correction2) + eps), mu, nu
        )
        return updates, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)
