"""Recurrent cells, one step of a recurrence each, with torch.nn's packed parameters.

A cell holds, with its G gates stacked in rows,

  weight_ih (G*H, D)  bias_ih (G*H,)   from the input
  weight_hh (G*H, H)  bias_hh (G*H,)   from the state before

Everything starts uniform in +-1/sqrt(H). Flax's cells differ in more than names: one bias in place
of two (the sum of two moves twice as far in a step), the carry as (c, h) and as first argument,
LeCun's normal and orthogonal starts. The recurrences themselves, `elman`, `lstm` and `gru`, are
functions: `jaxnn.layers.recurrent` runs the same ones along sequences.
"""

from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["RNNCell", "LSTMCell", "GRUCell"]

State = tuple[jax.Array, ...]


class RNNCell(nn.Module):
    """Elman's recurrence: h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of the state.
      bias: whether there are bias_ih and bias_hh.
      nonlinearity: "tanh" or "relu".

    Raises:
      ValueError: at another nonlinearity. torch: RuntimeError, in the call.

    Reference:
      Elman, Finding structure in time, Cognitive Science 14, 1990.
    """

    input_size: int
    hidden_size: int
    bias: bool = True
    nonlinearity: str = "tanh"

    @nn.compact
    def __call__(
        self, x: jax.Array, state: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """float (N, D) and the state before, (N, H) or None for zeros -> the new state, (N, H)."""
        (h,) = _step(self, x, (state,), elman(self.nonlinearity), gates=1)
        return h


class LSTMCell(nn.Module):
    """Long short-term memory: c' = f c + i g, h' = o tanh(c').

    The gates, rows of W_ih x + b_ih + W_hh h + b_hh, are i, f, g, o: sigmoid but for g, tanh.

    Args: as `RNNCell`, without a nonlinearity.

    Reference:
      Hochreiter and Schmidhuber, Long short-term memory, Neural Computation 9, 1997; with the
      forget gate of Gers, Schmidhuber and Cummins, Learning to forget, ibid. 12, 2000.
    """

    input_size: int
    hidden_size: int
    bias: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, state: tuple[jax.Array, jax.Array] | None = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """As `RNNCell`, with two states: (h, c) or None -> the new (h, c)."""
        h, c = _step(self, x, state or (None, None), lstm, gates=4)
        return h, c


class GRUCell(nn.Module):
    """Gated recurrent units: h' = (1 - z) n + z h.

    The gates are r, z, n: r and z sigmoids of W_i x + b_i + W_h h + b_h, and
    n = tanh(W_in x + b_in + r (W_hn h + b_hn)): the reset gate covers b_hn too.

    Args: as `RNNCell`, without a nonlinearity.

    Reference:
      Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP 2014; the reset
      gate after the product with W_hn, as in cuDNN.
    """

    input_size: int
    hidden_size: int
    bias: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, state: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """As `RNNCell`."""
        (h,) = _step(self, x, (state,), gru, gates=3)
        return h


# The recurrences: (W_ih x + b_ih (N, G*H), W_hh h + b_hh (N, G*H), state) -> state, a tuple of
# arrays (N, H) that begins with h.
Recurrence = Callable[[jax.Array, jax.Array, State], State]


def elman(nonlinearity: str) -> Recurrence:
    """h' = tanh(from_x + from_h), or relu."""
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity={nonlinearity!r} is neither 'tanh' nor 'relu'")
    activation = jnp.tanh if nonlinearity == "tanh" else nn.relu
    return lambda from_x, from_h, state: (activation(from_x + from_h),)


def lstm(from_x: jax.Array, from_h: jax.Array, state: State) -> State:
    _, c = state
    i, f, g, o = jnp.split(from_x + from_h, 4, axis=-1)
    # c' = sigmoid(f) c + sigmoid(i) tanh(g)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
    # h' = sigmoid(o) tanh(c')
    return nn.sigmoid(o) * jnp.tanh(c), c


def gru(from_x: jax.Array, from_h: jax.Array, state: State) -> State:
    (h,) = state
    r_x, z_x, n_x = jnp.split(from_x, 3, axis=-1)
    r_h, z_h, n_h = jnp.split(from_h, 3, axis=-1)
    r, z = nn.sigmoid(r_x + r_h), nn.sigmoid(z_x + z_h)
    # n = tanh(W_in x + b_in + r (W_hn h + b_hn))
    n = jnp.tanh(n_x + r * n_h)
    # h' = (1 - z) n + z h
    return ((1 - z) * n + z * h,)


def uniform(layer: nn.Module, name: str, *shape: int) -> jax.Array:
    """A parameter of a layer with a `hidden_size`, from torch's initial distribution."""
    bound = layer.hidden_size**-0.5
    return layer.param(
        name, lambda key: jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    )


def packed(layer: nn.Module, gates: int, features: int, width: int, suffix: str = "") -> list:
    """weight_ih, weight_hh, bias_ih, bias_hh; None for the biases of a layer without."""
    rows = gates * layer.hidden_size
    shapes = {"weight_ih": (rows, features), "weight_hh": (rows, width)}
    biases = {"bias_ih": (rows,), "bias_hh": (rows,)} if layer.bias else {}
    found = [uniform(layer, name + suffix, *shape) for name, shape in (shapes | biases).items()]
    return found if layer.bias else [*found, None, None]


def affine(x: jax.Array, weight: jax.Array, bias: jax.Array | None) -> jax.Array:
    """W x + b."""
    return x @ weight.T if bias is None else x @ weight.T + bias


def _step(layer, x, state, recurrence, *, gates):
    """One step of the recurrence with the parameters of `layer`, a bound cell."""
    chex.assert_axis_dimension(x, -1, layer.input_size)
    width = layer.hidden_size
    weight_ih, weight_hh, bias_ih, bias_hh = packed(layer, gates, layer.input_size, width)
    shape = (*x.shape[:-1], width)
    state = tuple(jnp.zeros(shape, x.dtype) if part is None else part for part in state)
    chex.assert_shape(state, shape)
    return recurrence(affine(x, weight_ih, bias_ih), affine(state[0], weight_hh, bias_hh), state)
