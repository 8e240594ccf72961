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

import torch

from torchref.foundations.backprop import Cache, Grads
from torchref.rnn.elman import elman_cell

__all__ = ["elman_forward", "elman_backward", "lstm_forward", "lstm_backward"]


def elman_forward(
    x: torch.Tensor,
    h: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias_ih: torch.Tensor,
    bias_hh: torch.Tensor,
) -> tuple[torch.Tensor, Cache]:
    """Every state h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh).

    Args:
      x: float (N, L, D).
      h: state before the first step, float (N, H).
      weight_ih, weight_hh: float (H, D) and (H, H).
      bias_ih, bias_hh: float (H,).

    Returns: the states of all steps, float (N, L, H), and the cache.
    """
    states = [h]
    for x_t in x.unbind(1):
        states.append(elman_cell(x_t, states[-1], weight_ih, weight_hh, bias_ih, bias_hh))
    y = torch.stack(states[1:], dim=1)
    return y, (x, h, y, weight_ih, weight_hh)


def elman_backward(dy: torch.Tensor, cache: Cache, truncate: int | None = None) -> Grads:
    """Gradients of every argument of the forward pass, by its name.

    Args:
      dy: gradient of every state, float (N, L, H); zeros where the loss does not look at one.
      cache: from the forward pass.
      truncate: k, steps that the gradient goes back at most; None for all.

    Raises:
      ValueError: if truncate is less than 1.
    """
    x, h, y, weight_ih, weight_hh = cache
    das, dh = [], torch.zeros_like(h)
    # jax: lax.scan with reverse=True
    for t in reversed(range(y.shape[1])):
        # h_t reaches the loss by its own output and by the step after it
        dh = dh + dy[:, t]
        # h = tanh(a):  da = (1 - h^2) dh
        da = (1 - y[:, t] ** 2) * dh
        # a = ... + W_hh h_(t-1):  dh_(t-1) = W_hh^T da, or nothing across a cut
        dh = _kept(t, truncate) * (da @ weight_hh)
        das.append(da)
    return {"h": dh} | _shares(torch.stack(das[::-1], dim=1), x, h, y, weight_ih)


def lstm_forward(
    x: torch.Tensor,
    h: torch.Tensor,
    c: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias_ih: torch.Tensor,
    bias_hh: torch.Tensor,
) -> tuple[torch.Tensor, Cache]:
    """Every output h_t of a long short-term memory; the cell is `rnn.lstm.lstm_cell`.

    Args:
      x: float (N, L, D).
      h, c: output and cell state before the first step, float (N, H).
      weight_ih, weight_hh: float (4H, D) and (4H, H); the rows of i, f, g, o in this order.
      bias_ih, bias_hh: float (4H,).

    Returns: the outputs of all steps, float (N, L, H), and the cache.
    """
    h_t, ys, inner = h, [], []
    for x_t in x.unbind(1):
        a = x_t @ weight_ih.T + bias_ih + h_t @ weight_hh.T + bias_hh
        i, f, g, o = a.chunk(4, dim=-1)
        i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        c_before, c = c, f * c + i * g
        h_t = o * torch.tanh(c)
        ys.append(h_t)
        inner.append((c_before, c, i, f, g, o))
    y = torch.stack(ys, dim=1)
    # Time stands first in what the steps keep, as the backward pass goes through it.
    return y, (x, h, y, weight_ih, weight_hh, *(torch.stack(v) for v in zip(*inner, strict=True)))


def lstm_backward(dy: torch.Tensor, cache: Cache, truncate: int | None = None) -> Grads:
    """Gradients of every argument of the forward pass, by its name; see `elman_backward`."""
    x, h, y, weight_ih, weight_hh, *inner = cache
    das, dh, dc = [], torch.zeros_like(h), torch.zeros_like(h)
    for t, (c_before, c, i, f, g, o) in reversed([*enumerate(zip(*inner, strict=True))]):
        dh = dh + dy[:, t]
        # h = o tanh(c):  do = tanh(c) dh,  dc gains o (1 - tanh^2 c) dh
        s = torch.tanh(c)
        do, dc = s * dh, dc + o * (1 - s**2) * dh
        # c = f c_before + i g
        di, df, dg = g * dc, c_before * dc, i * dc
        # i, f, o are sigmoids, whose derivative is s (1 - s); g is a tanh
        da = torch.cat(
            [di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], dim=-1
        )
        # dh_(t-1) = W_hh^T da;  dc_(t-1) = f dc, without a matrix: the path that does not vanish
        kept = _kept(t, truncate)
        dh, dc = kept * (da @ weight_hh), kept * (f * dc)
        das.append(da)
    return {"h": dh, "c": dc} | _shares(torch.stack(das[::-1], dim=1), x, h, y, weight_ih)


def _kept(t, truncate):
    """Whether the gradient passes from step t to the step before it: not at a cut."""
    if truncate is not None and truncate < 1:
        raise ValueError(f"truncate must be positive or None, and is {truncate}")
    # The state before the first step is the first piece's own.
    return t == 0 or truncate is None or t % truncate != 0


def _shares(da, x, h, y, weight_ih):
    """What a_t = W_ih x_t + b_ih + W_hh h_(t-1) + b_hh passes on; the weights sum over steps."""
    before = torch.cat([h[:, None], y[:, :-1]], dim=1)
    dbias = da.sum((0, 1))
    return {
        "x": da @ weight_ih,
        "weight_ih": torch.einsum("nlg,nld->gd", da, x),
        "weight_hh": torch.einsum("nlg,nlh->gh", da, before),
        "bias_ih": dbias,
        "bias_hh": dbias,
    }
