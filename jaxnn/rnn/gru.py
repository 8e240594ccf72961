"""Gated recurrent units: two gates, and no cell state apart from the state itself.

Reference: K. Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014;
as in the paper z weighs the old state; the reset gate is applied after the product with W_hn, as in
cuDNN (in the paper: before).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.recurrent import GRU

__all__ = ["gru_cell", "GRUNet"]


def gru_cell(
    x: jax.Array,
    h: jax.Array,
    weight_ih: jax.Array,
    weight_hh: jax.Array,
    bias_ih: jax.Array,
    bias_hh: jax.Array,
) -> jax.Array:
    """One step of the recurrence, written out.

    Where z is near 1 the state passes unchanged, and so does its gradient.

    Args:
      x: input of this step, float (N, D).
      h: state before, float (N, H).
      weight_ih, weight_hh: float (3H, D) and (3H, H); the rows of r, z, n in this order.
      bias_ih, bias_hh: float (3H,). Only the sum of the two matters for r and z; not for n.

    Returns: the new state, float (N, H).
    """
    r_x, z_x, n_x = jnp.split(x @ weight_ih.T + bias_ih, 3, axis=-1)
    r_h, z_h, n_h = jnp.split(h @ weight_hh.T + bias_hh, 3, axis=-1)
    r = nn.sigmoid(r_x + r_h)  # reset gate: how much of the state the candidate sees
    z = nn.sigmoid(z_x + z_h)  # update gate: how much of the state remains
    # n = tanh(W_in x + b_in + r (W_hn h + b_hn))
    n = jnp.tanh(n_x + r * n_h)
    # h' = (1 - z) n + z h
    return (1 - z) * n + z * h


class GRUNet(nn.Module):
    """Reads a sequence, then predicts from the last layer's final state.

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of the state.
      output_size: K, predicted values.
      num_layers: recurrent layers, each reading the outputs of the one below.
      bidirectional: read from both ends; the prediction sees both final states.
    """

    input_size: int
    hidden_size: int
    output_size: int
    num_layers: int = 1
    bidirectional: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, lengths: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """float (N, L, D), and lengths int (N,) in 1..L or None for L -> float (N, K)."""
        gru = GRU(
            self.input_size,
            self.hidden_size,
            num_layers=self.num_layers,
            bidirectional=self.bidirectional,
            name="gru",
        )
        _, h_n = gru(x, lengths, train=train)
        directions = 2 if self.bidirectional else 1
        last = jnp.concatenate([*h_n[-directions:]], axis=-1)
        return nn.Dense(self.output_size, name="fc")(last)
