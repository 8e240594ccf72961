"""Two variants of the LSTM's gates: peepholes onto the cell state, and an input gate that is tied.

Reference: F. Gers, J. Schmidhuber, "Recurrent nets that time and count", IJCNN 2000; K. Greff et
al., "LSTM: a search space odyssey", IEEE TNNLS 28 (2017), of both.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.peephole import PeepholeLSTM

__all__ = ["peephole_lstm_cell", "coupled_lstm_cell", "PeepholeLSTMNet"]


def peephole_lstm_cell(
    x: jax.Array,
    h: jax.Array,
    c: jax.Array,
    weight_ih: jax.Array,
    weight_hh: jax.Array,
    bias: jax.Array,
    weight_ci: jax.Array,
    weight_cf: jax.Array,
    weight_co: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """One step of the recurrence, written out: every gate sees the cell state, too.

    Where o is near 0, h says nothing of c; with peepholes the gates know of it all the same, and
    can count steps.

    Args:
      x: input of this step, float (N, D).
      h: state before, the output of the step before, float (N, H).
      c: cell state before, float (N, H).
      weight_ih, weight_hh: float (4H, D) and (4H, H); the rows of i, f, g, o in this order.
      bias: float (4H,).
      weight_ci, weight_cf, weight_co: the peepholes, one weight for each unit, float (H,).

    Returns: the new h and c, float (N, H) each.
    """
    gates = x @ weight_ih.T + h @ weight_hh.T + bias
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    i = nn.sigmoid(i + weight_ci * c)
    f = nn.sigmoid(f + weight_cf * c)
    # c' = f c + i g
    c = f * c + i * jnp.tanh(g)
    # the output gate looks at the new cell state
    o = nn.sigmoid(o + weight_co * c)
    # h' = o tanh(c')
    h = o * jnp.tanh(c)
    return h, c


def coupled_lstm_cell(
    x: jax.Array,
    h: jax.Array,
    c: jax.Array,
    weight_ih: jax.Array,
    weight_hh: jax.Array,
    bias: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """One step with coupled gates, f = 1 - i: as much is stored as is forgotten.

    The cell state is a weighted mean of itself and of the candidate, so that |c| <= 1 if it
    started so; a GRU does the same with its one state.

    Args:
      x: input of this step, float (N, D).
      h: state before, the output of the step before, float (N, H).
      c: cell state before, float (N, H).
      weight_ih, weight_hh: float (3H, D) and (3H, H); the rows of i, g, o in this order.
      bias: float (3H,).

    Returns: the new h and c, float (N, H) each.
    """
    gates = x @ weight_ih.T + h @ weight_hh.T + bias
    i, g, o = jnp.split(gates, 3, axis=-1)
    i = nn.sigmoid(i)
    # c' = (1 - i) c + i g
    c = (1 - i) * c + i * jnp.tanh(g)
    # h' = o tanh(c')
    h = nn.sigmoid(o) * jnp.tanh(c)
    return h, c


class PeepholeLSTMNet(nn.Module):
    """Reads a sequence with peepholes, then predicts from the final state.

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of the state.
      output_size: K, predicted values.
    """

    input_size: int
    hidden_size: int
    output_size: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """float (N, L, D) -> float (N, K)."""
        _, (h, _) = PeepholeLSTM(self.input_size, self.hidden_size, name="lstm")(x)
        return nn.Dense(self.output_size, name="fc")(h)
