"""The LSTM with peepholes: its gates see the cell state, which an output gate near 0 hides from h.

Neither torch.nn nor Flax has it. Reference: F. Gers, J. Schmidhuber, "Recurrent nets that time and
count", IJCNN 2000; F. Gers, N. Schraudolph, J. Schmidhuber, "Learning precise timing with LSTM
recurrent networks", JMLR 3 (2002).
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.cells import uniform

__all__ = ["PeepholeLSTMCell", "PeepholeLSTM"]


class PeepholeLSTMCell(nn.Module):
    """One step of a long short-term memory with peepholes.

    With W, U and b the rows of weight_ih, weight_hh and bias of each gate, and p a vector:

      i  = sigmoid(W_i x + U_i h + p_i c + b_i)
      f  = sigmoid(W_f x + U_f h + p_f c + b_f)
      c' = f c + i tanh(W_g x + U_g h + b_g)
      o  = sigmoid(W_o x + U_o h + p_o c' + b_o)      of the new cell state
      h' = o tanh(c')

    Parameters: `weight_ih` (4H, D), `weight_hh` (4H, H) and `bias` (4H,) with the rows of i, f, g,
    o in this order, and the peepholes `weight_ci`, `weight_cf`, `weight_co` (H,); everything starts
    uniform in +-1/sqrt(H). One bias, as in the papers. torch.nn.LSTM: two.

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of both states.
    """

    input_size: int
    hidden_size: int

    @nn.compact
    def __call__(
        self, x: jax.Array, state: tuple[jax.Array, jax.Array] | None = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """float (N, D) and (h, c), (N, H) each, or None for zeros -> the new (h, c)."""
        chex.assert_shape(x, (None, self.input_size))
        size = self.hidden_size
        zeros = jnp.zeros((len(x), size), x.dtype)
        h, c = (zeros, zeros) if state is None else state
        chex.assert_shape([h, c], (len(x), size))
        weight_ih = uniform(self, "weight_ih", 4 * size, self.input_size)
        weight_hh = uniform(self, "weight_hh", 4 * size, size)
        bias = uniform(self, "bias", 4 * size)
        p_i, p_f, p_o = (uniform(self, f"weight_c{gate}", size) for gate in "ifo")

        i, f, g, o = jnp.split(x @ weight_ih.T + h @ weight_hh.T + bias, 4, axis=-1)
        i, f = nn.sigmoid(i + p_i * c), nn.sigmoid(f + p_f * c)
        c = f * c + i * jnp.tanh(g)
        o = nn.sigmoid(o + p_o * c)
        return o * jnp.tanh(c), c


class PeepholeLSTM(nn.Module):
    """The cell along sequences.

    Args: as `PeepholeLSTMCell`.
    """

    input_size: int
    hidden_size: int

    @nn.compact
    def __call__(
        self, x: jax.Array, state: tuple[jax.Array, jax.Array] | None = None, *, train: bool = False
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Runs over the sequences.

        Args:
          x: float (N, L, D).
          state: the first (h, c), (N, H) each, or None for zeros.

        Returns: the outputs h of every step, float (N, L, H), and the last (h, c).
        """

        def step(cell, state, x):
            h, c = cell(x, state)
            return (h, c), h

        # torch: a loop; scan compiles its body once, and the lift shares the cell's parameters.
        scan = nn.scan(
            step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1
        )
        zeros = jnp.zeros((len(x), self.hidden_size), x.dtype)
        start = (zeros, zeros) if state is None else state
        state, output = scan(
            PeepholeLSTMCell(self.input_size, self.hidden_size, name="cell"), start, x
        )
        return output, state
