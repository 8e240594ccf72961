"""Averages of the weights themselves: of all steps (ASGD, SWA), or of the latest (EMA).

The average is evaluated, the weights are trained. What batch norm keeps belongs to the weights:
after averaging them, its statistics are taken anew (torch: `update_bn`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnn.training.optimizers import coupled, non_negative

__all__ = ["asgd", "get_ema_avg_fn", "get_swa_avg_fn", "AveragedModel"]


class AsgdState(NamedTuple):
    """Steps taken, the rate and the weight of the step to come, the average of the parameters."""

    count: Any
    eta: jax.Array
    mu: jax.Array
    ax: Any


def asgd(
    lr: optax.ScalarOrSchedule = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Averaged SGD as `torch.optim.ASGD`; the average `ax` is found in the state.

    p <- (1 - lambd eta) p - eta g;  ax <- ax + mu (p - ax)
    then eta = lr / (1 + lambd lr t)^alpha and mu = 1 / max(1, t - t0), for the step after

    Until t0 + 1 the average is the parameter itself. A schedule is followed one step late, except
    for its first value: torch uses the rate that it has computed at the end of the step before.

    Args:
      lr: learning rate or schedule.
      lambd: decay of the parameters, and how fast eta falls.
      alpha: power of that fall.
      t0: step after which the average begins. torch: 1e6, so a short run has no average.
      weight_decay: L2 coefficient.

    Raises:
      ValueError: if `lr` or `weight_decay` is negative.

    Reference:
      Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM J. Control
      and Optimization 30 (1992)
    """
    non_negative(lr=lr, weight_decay=weight_decay)

    def rate(count):
        return lr(count) if callable(lr) else lr

    def init(params):
        dtype = optax.tree.dtype(params, "highest")
        eta, mu = jnp.asarray(rate(0), dtype), jnp.ones((), dtype)
        return AsgdState(jnp.zeros((), jnp.int32), eta, mu, ax=optax.tree.zeros_like(params))

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("asgd: update needs params")
        _, eta, mu, ax = state
        updates = jax.tree.map(lambda g, p: -eta * (g + lambd * p), updates, params)
        moved = optax.apply_updates(params, updates)
        ax = jax.tree.map(lambda a, p: jnp.where(mu == 1, p, a + mu * (p - a)), ax, moved)
        count = optax.safe_increment(state.count)
        now = rate(state.count)
        eta = jnp.asarray(now / (1 + lambd * now * count) ** alpha, eta.dtype)
        mu = 1 / jnp.maximum(1, count - jnp.asarray(t0, mu.dtype))
        return updates, AsgdState(count, eta, mu, ax)

    return optax.chain(coupled(weight_decay), optax.GradientTransformation(init, update))


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Any, Any, Any], Any]:
    """Exponential moving average: a <- decay a + (1 - decay) p.

    `optax.ema` starts from zero and corrects for it; here the first p is copied.

    Args:
      decay: weight of the average so far, in [0, 1].

    Returns:
      f(averaged, current, num_averaged) -> averaged, over pytrees. torch: over one tensor.

    Raises:
      ValueError: if `decay` is outside [0, 1].
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"decay is {decay}: it must be in [0, 1]")
    return lambda averaged, current, num_averaged: optax.incremental_update(
        current, averaged, 1 - decay
    )


def get_swa_avg_fn() -> Callable[[Any, Any, Any], Any]:
    """Stochastic weight averaging, all alike: a <- a + (p - a) / (n + 1).

    Returns:
      f(averaged, current, num_averaged) -> averaged, over pytrees. torch: over one tensor.

    Reference:
      Izmailov et al., Averaging Weights Leads to Wider Optima, 2018,
      https://arxiv.org/abs/1803.05407
    """
    return lambda averaged, current, num_averaged: jax.tree.map(
        lambda a, p: a + (p - a) / (num_averaged + 1), averaged, current
    )


class AveragedModel(NamedTuple):
    """An average of parameters and how many went into it; a pytree.

    torch: a copy of the module, averaged in place by `update_parameters(model)`, with the function
    given to its constructor. The average is `.module` on both sides.

    Args:
      module: the parameters before any average; the first update replaces them.
      n_averaged: number of updates so far.
    """

    module: Any
    n_averaged: Any = 0

    def update_parameters(
        self, model: Any, avg_fn: Callable[[Any, Any, Any], Any] | None = None
    ) -> "AveragedModel":
        """The average after one more set of parameters: the first is copied, `avg_fn` takes the
        others (None: stochastic weight averaging)."""
        averaged = (avg_fn or get_swa_avg_fn())(self.module, model, self.n_averaged)
        module = jax.tree.map(lambda a, p: jnp.where(self.n_averaged == 0, p, a), averaged, model)
        return AveragedModel(module, self.n_averaged + 1)
