"""Recurrent layers with torch.nn's packed parameters, stacking, directions and padded sequences.

Flax's cells differ from torch.nn's layers in more than names: one bias in place of two (the sum of
two moves twice as far in a step), the carry as (c, h), padded steps left non-zero. Here a parameter
has torch's name and shape: layer k holds

  weight_ih_l{k} (G*H, F)  bias_ih_l{k} (G*H,)   from the input; F is D, or the layer below's width
  weight_hh_l{k} (G*H, H)  bias_hh_l{k} (G*H,)   from the state before

with the G gates stacked in rows, and the same again with the suffix `_reverse` for the direction
that reads from the end. Everything starts uniform in +-1/sqrt(H).
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["RNN", "LSTM", "GRU"]


class RNN(nn.Module):
    """Elman's recurrence in every layer: torch.nn.RNN with batch_first=True.

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of the state.
      num_layers: layers, each reading the outputs of the one below.
      nonlinearity: "tanh" or "relu".
      bidirectional: a second recurrence per layer from the end; outputs are concatenated.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    nonlinearity: str = "tanh"
    bidirectional: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, lengths: jax.Array | None = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Runs over the sequences from a zero state.

        Args:
          x: float (N, L, D).
          lengths: int (N,) in 1..L, or None for L. Steps beyond a length are padding: they give
            zeros, leave the state as it is, and the reverse direction starts before them.

        Returns: the last layer's outputs, float (N, L, S*H) with S directions, and the state at
          each true end, float (num_layers*S, N, H).
        """
        activation = {"tanh": jnp.tanh, "relu": nn.relu}[self.nonlinearity]

        def step(from_x, from_h, state):
            # h' = tanh(W_ih x + b_ih + W_hh h + b_hh)
            return (activation(from_x + from_h),)

        output, (h_n,) = _run(self, x, lengths, step, gates=1, states=1)
        return output, h_n


class LSTM(nn.Module):
    """Long short-term memory: torch.nn.LSTM with batch_first=True.

    Args: as `RNN`, without a nonlinearity.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, lengths: jax.Array | None = None, *, train: bool = False
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """As `RNN`, with two states: returns outputs and (h_n, c_n)."""

        def step(from_x, from_h, state):
            _, c = state
            # i, f, g, o = rows of W_ih x + b_ih + W_hh h + b_hh
            i, f, g, o = jnp.split(from_x + from_h, 4, axis=-1)
            # c' = sigmoid(f) c + sigmoid(i) tanh(g)
            c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
            # h' = sigmoid(o) tanh(c')
            return nn.sigmoid(o) * jnp.tanh(c), c

        output, (h_n, c_n) = _run(self, x, lengths, step, gates=4, states=2)
        return output, (h_n, c_n)


class GRU(nn.Module):
    """Gated recurrent units: torch.nn.GRU with batch_first=True.

    Args: as `RNN`, without a nonlinearity.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, lengths: jax.Array | None = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """As `RNN`: returns outputs and h_n."""

        def step(from_x, from_h, state):
            (h,) = state
            # r, z, n = rows of W x + b: those from the input, those from the state
            r_x, z_x, n_x = jnp.split(from_x, 3, axis=-1)
            r_h, z_h, n_h = jnp.split(from_h, 3, axis=-1)
            r, z = nn.sigmoid(r_x + r_h), nn.sigmoid(z_x + z_h)
            # n = tanh(W_in x + b_in + r (W_hn h + b_hn)): the reset gate covers b_hn too
            n = jnp.tanh(n_x + r * n_h)
            # h' = (1 - z) n + z h
            return ((1 - z) * n + z * h,)

        output, (h_n,) = _run(self, x, lengths, step, gates=3, states=1)
        return output, h_n


def _run(layer, x, lengths, step, *, gates, states):
    """Runs `step` through the layers and directions of `layer`, the bound module with the sizes.

    Args:
      step: (W_ih x + b_ih (N, G*H), W_hh h + b_hh (N, G*H), state) -> state, a tuple of `states`
        arrays (N, H) that begins with h.

    Returns: outputs (N, L, S*H), and a tuple of `states` arrays (num_layers*S, N, H).
    """
    chex.assert_shape(x, (None, None, layer.input_size))
    n, length, _ = x.shape
    lengths = jnp.full(n, length) if lengths is None else lengths
    chex.assert_shape(lengths, (n,))
    valid = jnp.arange(length)[:, None] < lengths
    x = jnp.swapaxes(x, 0, 1)  # time first: scan runs along the leading axis
    suffixes = ("", "_reverse") if layer.bidirectional else ("",)
    finals = []
    for k in range(layer.num_layers):
        outputs = []
        for suffix in suffixes:
            params = _params(layer, gates, x.shape[-1], f"_l{k}{suffix}")
            output, final = _scan(step, params, x, valid, states, reverse=suffix == "_reverse")
            outputs.append(output)
            finals.append(final)
        x = jnp.concatenate(outputs, axis=-1)
    return jnp.swapaxes(x, 0, 1), tuple(jnp.stack(state) for state in zip(*finals, strict=True))


def _params(layer, gates, features, suffix):
    """The four parameters of one layer and direction, from torch's initial distribution."""
    rows, bound = gates * layer.hidden_size, layer.hidden_size**-0.5

    def uniform(key, shape):
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    shapes = {
        "weight_ih": (rows, features),
        "weight_hh": (rows, layer.hidden_size),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
    }
    return [layer.param(name + suffix, uniform, shape) for name, shape in shapes.items()]


def _scan(step, params, x, valid, states, *, reverse):
    """One layer, one direction: x (L, N, F), valid (L, N) -> outputs (L, N, H), final state."""
    weight_ih, weight_hh, bias_ih, bias_hh = params
    from_x = x @ weight_ih.T + bias_ih  # no state in it: one product for all steps
    zeros = jnp.zeros((x.shape[1], weight_hh.shape[1]), from_x.dtype)

    def body(state, inputs):
        from_x, valid = inputs
        moved = step(from_x, state[0] @ weight_hh.T + bias_hh, state)
        # Padding keeps the state; in reverse it comes first, and the state is still zero.
        state = tuple(jnp.where(valid, m, s) for m, s in zip(moved, state, strict=True))
        return state, jnp.where(valid, state[0], 0)

    inputs = (from_x, valid[..., None])
    final, output = jax.lax.scan(body, (zeros,) * states, inputs, reverse=reverse)
    return output, final
