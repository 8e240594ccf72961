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

from jaxnn.layers.cells import affine, elman, gru, lstm, packed, uniform

__all__ = ["RNN", "LSTM", "GRU"]


class RNN(nn.Module):
    """Elman's recurrence in every layer: torch.nn.RNN with batch_first=True.

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of the state.
      num_layers: layers, each reading the outputs of the one below.
      nonlinearity: "tanh" or "relu".
      bias: whether there are bias_ih and bias_hh.
      dropout: rate at which, in training, the inputs of every layer but the first are dropped; the
        mask comes from the rng "dropout".
      bidirectional: a second recurrence per layer from the end; outputs are concatenated.

    Raises:
      ValueError: at another nonlinearity, or a rate outside [0, 1].
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    nonlinearity: str = "tanh"
    bias: bool = True
    dropout: float = 0.0
    bidirectional: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        state: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """Runs over the sequences.

        Args:
          x: float (N, L, D).
          lengths: int (N,) in 1..L, or None for L. Steps beyond a length are padding: they give
            zeros, leave the state as it is, and the reverse direction starts before them.
          state: what each layer and direction starts from, float (num_layers*S, N, H) with S
            directions, layer by layer; None for zeros.

        Returns: the last layer's outputs, float (N, L, S*H), and the state at each true end,
          float (num_layers*S, N, H).
        """
        step, sizes = elman(self.nonlinearity), (self.hidden_size,)
        output, (h_n,) = _run(self, x, lengths, (state,), step, gates=1, sizes=sizes, train=train)
        return output, h_n


class LSTM(nn.Module):
    """Long short-term memory: torch.nn.LSTM with batch_first=True.

    The gates are i, f, g, o, as in `jaxnn.layers.cells.LSTMCell`.

    Args: as `RNN`, without a nonlinearity.
      proj_size: P, features of an h that is projected: h' = W_hr (o tanh(c')), with a parameter
        weight_hr_l{k} (P, H) and weight_hh_l{k} (4H, P); 0 for none.

    Raises:
      ValueError: as `RNN`, and unless 0 <= proj_size < hidden_size.

    Reference: of the projection, Sak et al., 2014, https://arxiv.org/abs/1402.1128
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    dropout: float = 0.0
    bidirectional: bool = False
    proj_size: int = 0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        state: tuple[jax.Array, jax.Array] | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """As `RNN`, with two states: takes (h, c), returns outputs and (h_n, c_n).

        With a projection h and the outputs have P features in place of H.
        """
        if not 0 <= self.proj_size < self.hidden_size:
            raise ValueError(f"proj_size={self.proj_size} is not in [0, {self.hidden_size})")
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)
        start = state or (None, None)
        output, (h, c) = _run(self, x, lengths, start, lstm, gates=4, sizes=sizes, train=train)
        return output, (h, c)


class GRU(nn.Module):
    """Gated recurrent units: torch.nn.GRU with batch_first=True.

    The gates are r, z, n; the reset gate covers b_hn too, as in `jaxnn.layers.cells.GRUCell`.

    Args: as `RNN`, without a nonlinearity.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    dropout: float = 0.0
    bidirectional: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        state: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """As `RNN`: returns outputs and h_n."""
        sizes = (self.hidden_size,)
        output, (h_n,) = _run(self, x, lengths, (state,), gru, gates=3, sizes=sizes, train=train)
        return output, h_n


def _run(layer, x, lengths, state, step, *, gates, sizes, train):
    """Runs a recurrence of `cells` through the layers and directions of `layer`, a bound module.

    Args:
      sizes: the widths of the states, h first.

    Returns: outputs (N, L, S*P), and for each size a state (num_layers*S, N, size).
    """
    chex.assert_shape(x, (None, None, layer.input_size))
    n, length, _ = x.shape
    lengths = jnp.full(n, length) if lengths is None else lengths
    chex.assert_shape(lengths, (n,))
    if not 0 <= layer.dropout <= 1:
        raise ValueError(f"dropout={layer.dropout} is not in [0, 1]")
    suffixes = ("", "_reverse") if layer.bidirectional else ("",)
    shapes = [(layer.num_layers * len(suffixes), n, size) for size in sizes]
    state = [jnp.zeros(s, x.dtype) if p is None else p for p, s in zip(state, shapes, strict=True)]
    chex.assert_shape(state, shapes)
    valid = jnp.arange(length)[:, None] < lengths
    x = jnp.swapaxes(x, 0, 1)  # time first: scan runs along the leading axis
    starts, finals = zip(*state, strict=True), []
    for k in range(layer.num_layers):
        if k and layer.dropout:  # torch: a mask of the packed steps alone
            x = nn.Dropout(layer.dropout, name=f"dropout_l{k}")(x, deterministic=not train)
        outputs = []
        for suffix in suffixes:
            params = packed(layer, gates, x.shape[-1], sizes[0], end := f"_l{k}{suffix}")
            projected = sizes[0] < layer.hidden_size
            params.append(uniform(layer, "weight_hr" + end, *sizes) if projected else None)
            output, final = _scan(step, params, x, valid, next(starts), reverse=bool(suffix))
            outputs.append(output)
            finals.append(final)
        x = jnp.concatenate(outputs, axis=-1)
    return jnp.swapaxes(x, 0, 1), tuple(jnp.stack(part) for part in zip(*finals, strict=True))


def _scan(step, params, x, valid, state, *, reverse):
    """One layer, one direction: x (L, N, F), valid (L, N) -> outputs (L, N, P), final state."""
    weight_ih, weight_hh, bias_ih, bias_hh, weight_hr = params
    from_x = affine(x, weight_ih, bias_ih)  # no state in it: one product for all steps

    def body(state, inputs):
        from_x, valid = inputs
        h, *rest = step(from_x, affine(state[0], weight_hh, bias_hh), state)
        moved = (h if weight_hr is None else h @ weight_hr.T, *rest)
        # Padding keeps the state; in reverse it comes first, and the state is still the start.
        state = tuple(jnp.where(valid, m, s) for m, s in zip(moved, state, strict=True))
        return state, jnp.where(valid, state[0], 0)

    state = tuple(part.astype(from_x.dtype) for part in state)
    final, output = jax.lax.scan(body, state, (from_x, valid[..., None]), reverse=reverse)
    return output, final
