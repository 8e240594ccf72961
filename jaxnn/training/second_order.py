"""L-BFGS: Newton's direction from the last differences of gradients, without a Hessian."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxnn.training.optimizers import non_negative

__all__ = ["lbfgs"]


class LbfgsState(NamedTuple):
    """torch's state over the flat parameters (n,); the newest of H pairs stands last.

    An empty place of the history has ro = 0, and so adds nothing.
    """

    count: Any  # calls of update: what a schedule reads
    n_iter: jax.Array
    func_evals: jax.Array
    d: jax.Array  # (n,) direction
    t: jax.Array  # step length
    old_dirs: jax.Array  # (H, n) differences y of gradients
    old_stps: jax.Array  # (H, n) steps s
    ro: jax.Array  # (H,) 1 / (y . s)
    H_diag: jax.Array
    prev_flat_grad: jax.Array
    prev_loss: jax.Array


def lbfgs(
    lr: optax.ScalarOrSchedule = 1,
    max_iter: int = 20,
    max_eval: int | None = None,
    tolerance_grad: float = 1e-7,
    tolerance_change: float = 1e-9,
    history_size: int = 100,
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS as `torch.optim.LBFGS` without line search: one update is up to `max_iter` steps.

    y = g - g_before, s = d t;  kept where y . s > 1e-10, and then H_0 = (y . s) / (y . y)
    d = -H g by the two loops;  p <- p + t d with t = lr (the very first: lr min(1, 1 / |g|_1))

    It ends early where max |g| <= tolerance_grad, the step or the change of the loss is at most
    tolerance_change, or -g . d is below it. `optax.lbfgs` takes one step an update, by default
    with a line search and a memory of 10. torch's `line_search_fn="strong_wolfe"` is not here.

    Args:
      lr: step length or schedule over the updates.
      max_iter: steps of one update.
      max_eval: evaluations of one update; None for max_iter * 5 // 4.
      tolerance_grad, tolerance_change: where it ends.
      history_size: H, pairs kept.

    Returns:
      A transformation with `update(grads, state, params, value=loss, value_fn=params -> loss)`.
      torch: `step(closure)`, whose closure computes loss and gradients.

    Raises:
      ValueError: if `lr` is negative, or `max_iter` or `history_size` below 1.

    Reference:
      Nocedal and Wright, Numerical Optimization, algorithm 7.4
    """
    non_negative(lr=lr)
    for name, number in {"max_iter": max_iter, "history_size": history_size}.items():
        if number < 1:
            raise ValueError(f"{name} is {number}: it must be at least 1")
    most = max_iter * 5 // 4 if max_eval is None else max_eval

    def init(params):
        flat, _ = ravel_pytree(params)
        counts = [jnp.zeros((), jnp.int32) for _ in range(3)]
        pairs = [jnp.zeros((history_size, flat.size), flat.dtype) for _ in range(2)]
        return LbfgsState(
            *counts,
            d=jnp.zeros_like(flat),
            t=jnp.zeros((), flat.dtype),
            old_dirs=pairs[0],
            old_stps=pairs[1],
            ro=jnp.zeros(history_size, flat.dtype),
            H_diag=jnp.ones((), flat.dtype),
            prev_flat_grad=jnp.zeros_like(flat),
            prev_loss=jnp.zeros((), flat.dtype),
        )

    def update(updates, state, params=None, *, value=None, value_fn=None, **extra_args):
        del extra_args
        if params is None or value is None or value_fn is None:
            raise ValueError("lbfgs: update needs params, value= and value_fn=")
        start, unravel = ravel_pytree(params)
        gradient, _ = ravel_pytree(updates)
        rate = lr(state.count) if callable(lr) else lr
        objective = jax.value_and_grad(lambda flat: value_fn(unravel(flat)))

        def iterate(carry):
            x, loss, g, s, n, evals, _ = carry
            s, first = _remember(s, g), s.n_iter == 0
            d = jnp.where(first, -g, _direction(s, g))
            t = jnp.where(first, jnp.minimum(1, 1 / jnp.abs(g).sum()), 1) * rate
            t = t.astype(x.dtype)
            s = s._replace(n_iter=s.n_iter + 1, d=d, t=t, prev_flat_grad=g, prev_loss=loss)
            flat_slope = g @ d > -tolerance_change
            x = jnp.where(flat_slope, x, x + t * d)
            n += 1
            again = ~flat_slope & (n < max_iter)  # torch: the last point is not evaluated
            before = loss
            loss, g = jax.lax.cond(again, objective, lambda x: (loss, g), x)
            evals += again
            small = jnp.max(jnp.abs(d * t)) <= tolerance_change
            done = ~again | (evals >= most) | (jnp.max(jnp.abs(g)) <= tolerance_grad)
            done |= small | (jnp.abs(loss - before) < tolerance_change)
            return x, loss, g, s, n, evals, done

        loss = jnp.asarray(value, start.dtype)
        solved = jnp.max(jnp.abs(gradient)) <= tolerance_grad
        none = jnp.zeros((), jnp.int32)
        carry = (start, loss, gradient, state, none, none + 1, solved)
        x, _, _, state, _, evals, _ = jax.lax.while_loop(lambda c: ~c[-1], iterate, carry)
        count = optax.safe_increment(state.count)
        state = state._replace(count=count, func_evals=state.func_evals + evals)
        return unravel(x - start), state

    return optax.GradientTransformationExtraArgs(init, update)


def _remember(s: LbfgsState, g: jax.Array) -> LbfgsState:
    """Puts the last step's pair into the history, where its curvature is positive."""
    y, step = g - s.prev_flat_grad, s.d * s.t
    ys = y @ step
    keep = (s.n_iter > 0) & (ys > 1e-10)

    def pushed(history, newest):
        return jnp.where(keep, jnp.roll(history, -1, 0).at[-1].set(newest), history)

    return s._replace(
        old_dirs=pushed(s.old_dirs, y),
        old_stps=pushed(s.old_stps, step),
        ro=pushed(s.ro, 1 / ys),
        H_diag=jnp.where(keep, ys / (y @ y), s.H_diag),
    )


def _direction(s: LbfgsState, g: jax.Array) -> jax.Array:
    """-H g by the two loops: from the newest pair back, then forward again."""

    def back(q, pair):
        y, step, ro = pair
        al = (step @ q) * ro
        return q - al * y, al

    def forth(r, pair):
        y, step, ro, al = pair
        return r + step * (al - (y @ r) * ro), None

    history = (s.old_dirs, s.old_stps, s.ro)
    q, al = jax.lax.scan(back, -g, history, reverse=True)
    return jax.lax.scan(forth, q * s.H_diag, (*history, al))[0]
