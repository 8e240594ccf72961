"""Long short-term memory: gates decide what a cell state forgets, stores and shows.

Reference: S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997),
with the forget gate of F. Gers, J. Schmidhuber, F. Cummins,
"Learning to forget", ibid. 12 (2000).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.recurrent import LSTM

__all__ = ["lstm_cell", "LSTMNet"]


def lstm_cell(
    x: jax.Array,
    h: jax.Array,
    c: jax.Array,
    weight_ih: jax.Array,
    weight_hh: jax.Array,
    bias_ih: jax.Array,
    bias_hh: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """One step of the recurrence, written out.

    Where f is near 1 and i near 0 the cell state passes unchanged, and so does its gradient:
    dc'/dc = f along the direct path, without the repeated W_hh of an Elman network.

    Args:
      x: input of this step, float (N, D).
      h: state before, the output of the step before, float (N, H).
      c: cell state before, float (N, H).
      weight_ih, weight_hh: float (4H, D) and (4H, H); the rows of i, f, g, o in this order.
      bias_ih, bias_hh: float (4H,).

    Returns: the new h and c, float (N, H) each.
    """
    gates = x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    i = nn.sigmoid(i)  # input gate: how much of the candidate is stored
    f = nn.sigmoid(f)  # forget gate: how much of the cell state remains
    g = jnp.tanh(g)  # candidate
    o = nn.sigmoid(o)  # output gate: how much of the cell state is shown
    # c' = f c + i g
    c = f * c + i * g
    # h' = o tanh(c')
    h = o * jnp.tanh(c)
    return h, c


class LSTMNet(nn.Module):
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
        lstm = LSTM(
            self.input_size,
            self.hidden_size,
            num_layers=self.num_layers,
            bidirectional=self.bidirectional,
            name="lstm",
        )
        _, (h_n, _) = lstm(x, lengths, train=train)
        directions = 2 if self.bidirectional else 1
        last = jnp.concatenate([*h_n[-directions:]], axis=-1)
        return nn.Dense(self.output_size, name="fc")(last)
