"""Backpropagation through time by hand, whole and truncated; for the pattern see `backprop`.

A recurrence is one layer used L times. Its backward pass runs from the last step to the first with
dh, the gradient of the state: what the step's own output receives, and what comes back from the
step after it. The weights collect a share in every step.

Truncated to k steps, the sequence is cut into pieces of k from its beginning, and dh is dropped at
each cut: a piece takes its initial state as given. Values stay as they are, gradients lose what is
older than the cut. torch: `h.detach()` between the pieces; jax: `lax.stop_gradient(h)`.

Reference: R. Williams, J. Peng, "An efficient gradient-based algorithm for on-line training of
recurrent network trajectories", Neural Computation 2 (1990).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.foundations.backprop import Cache, Grads
from jaxnn.rnn.elman import elman_cell

__all__ = ["elman_forward", "elman_backward", "lstm_forward", "lstm_backward"]


def elman_forward(
    x: jax.Array,
    h: jax.Array,
    weight_ih: jax.Array,
    weight_hh: jax.Array,
    bias_ih: jax.Array,
    bias_hh: jax.Array,
) -> tuple[jax.Array, Cache]:
    """Every state h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh).

    Args:
      x: float (N, L, D).
      h: state before the first step, float (N, H).
      weight_ih, weight_hh: float (H, D) and (H, H).
      bias_ih, bias_hh: float (H,).

    Returns: the states of all steps, float (N, L, H), and the cache.
    """

    def step(h, x_t):
        h = elman_cell(x_t, h, weight_ih, weight_hh, bias_ih, bias_hh)
        return h, h

    _, y = jax.lax.scan(step, h, jnp.swapaxes(x, 0, 1))
    y = jnp.swapaxes(y, 0, 1)
    return y, (x, h, y, weight_ih, weight_hh)


def elman_backward(dy: jax.Array, cache: Cache, truncate: int | None = None) -> Grads:
    """Gradients of every argument of the forward pass, by its name.

    Args:
      dy: gradient of every state, float (N, L, H); zeros where the loss does not look at one.
      cache: from the forward pass.
      truncate: k, steps that the gradient goes back at most; None for all.

    Raises:
      ValueError: if truncate is less than 1.
    """
    x, h, y, weight_ih, weight_hh = cache

    def step(dh, inputs):
        dy_t, y_t, kept = inputs
        # h_t reaches the loss by its own output and by the step after it
        dh = dh + dy_t
        # h = tanh(a):  da = (1 - h^2) dh
        da = (1 - y_t**2) * dh
        # a = ... + W_hh h_(t-1):  dh_(t-1) = W_hh^T da, or nothing across a cut
        return kept * (da @ weight_hh), da

    inputs = (jnp.swapaxes(dy, 0, 1), jnp.swapaxes(y, 0, 1), _kept(y, truncate))
    dh, da = jax.lax.scan(step, jnp.zeros_like(dy[:, 0]), inputs, reverse=True)
    return {"h": dh} | _shares(jnp.swapaxes(da, 0, 1), x, h, y, weight_ih)


def lstm_forward(
    x: jax.Array,
    h: jax.Array,
    c: jax.Array,
    weight_ih: jax.Array,
    weight_hh: jax.Array,
    bias_ih: jax.Array,
    bias_hh: jax.Array,
) -> tuple[jax.Array, Cache]:
    """Every output h_t of a long short-term memory; the cell is `rnn.lstm.lstm_cell`.

    Args:
      x: float (N, L, D).
      h, c: output and cell state before the first step, float (N, H).
      weight_ih, weight_hh: float (4H, D) and (4H, H); the rows of i, f, g, o in this order.
      bias_ih, bias_hh: float (4H,).

    Returns: the outputs of all steps, float (N, L, H), and the cache.
    """

    def step(state, x_t):
        h, c = state
        a = x_t @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh
        i, f, g, o = jnp.split(a, 4, axis=-1)
        i, f, g, o = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o)
        c_before, c = c, f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c_before, c, i, f, g, o)

    _, (y, *inner) = jax.lax.scan(step, (h, c), jnp.swapaxes(x, 0, 1))
    y = jnp.swapaxes(y, 0, 1)
    return y, (x, h, y, weight_ih, weight_hh, *inner)


def lstm_backward(dy: jax.Array, cache: Cache, truncate: int | None = None) -> Grads:
    """Gradients of every argument of the forward pass, by its name; see `elman_backward`."""
    x, h, y, weight_ih, weight_hh, *inner = cache

    def step(carry, inputs):
        dh, dc = carry
        dy_t, (c_before, c, i, f, g, o), kept = inputs
        dh = dh + dy_t
        # h = o tanh(c):  do = tanh(c) dh,  dc gains o (1 - tanh^2 c) dh
        s = jnp.tanh(c)
        do, dc = s * dh, dc + o * (1 - s**2) * dh
        # c = f c_before + i g
        di, df, dg = g * dc, c_before * dc, i * dc
        # i, f, o are sigmoids, whose derivative is s (1 - s); g is a tanh
        da = jnp.concatenate(
            [di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], axis=-1
        )
        # dh_(t-1) = W_hh^T da;  dc_(t-1) = f dc, without a matrix: the path that does not vanish
        return (kept * (da @ weight_hh), kept * (f * dc)), da

    zeros = jnp.zeros_like(dy[:, 0])
    inputs = (jnp.swapaxes(dy, 0, 1), tuple(inner), _kept(dy, truncate))
    (dh, dc), da = jax.lax.scan(step, (zeros, zeros), inputs, reverse=True)
    return {"h": dh, "c": dc} | _shares(jnp.swapaxes(da, 0, 1), x, h, y, weight_ih)


def _kept(y, truncate):
    """1 where the gradient passes from step t to the step before it, 0 at a cut: (L,)."""
    length = y.shape[1]
    if truncate is not None and truncate < 1:
        raise ValueError(f"truncate must be positive or None, and is {truncate}")
    steps = jnp.arange(length)
    # The state before the first step is the first piece's own.
    return ((steps == 0) | (steps % (truncate or length) != 0)).astype(y.dtype)


def _shares(da, x, h, y, weight_ih):
    """What a_t = W_ih x_t + b_ih + W_hh h_(t-1) + b_hh passes on; the weights sum over steps."""
    before = jnp.concatenate([h[:, None], y[:, :-1]], axis=1)
    dbias = da.sum((0, 1))
    return {
        "x": da @ weight_ih,
        "weight_ih": jnp.einsum("nlg,nld->gd", da, x),
        "weight_hh": jnp.einsum("nlg,nlh->gh", da, before),
        "bias_ih": dbias,
        "bias_hh": dbias,
    }
