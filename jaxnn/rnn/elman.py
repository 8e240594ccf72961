"""Elman's network: a hidden layer that reads, beside its input, its own state of one step before.

Reference: J. Elman, "Finding structure in time", Cognitive Science 14 (1990); with tanh in place of
his logistic units.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.recurrent import RNN

__all__ = ["elman_cell", "ElmanNet"]


def elman_cell(
    x: jax.Array,
    h: jax.Array,
    weight_ih: jax.Array,
    weight_hh: jax.Array,
    bias_ih: jax.Array,
    bias_hh: jax.Array,
) -> jax.Array:
    """One step of the recurrence, written out.

    The gradient through T steps holds the product of T Jacobians diag(1 - h^2) W_hh: it vanishes or
    explodes with T, which is what the gates of an LSTM and a GRU are for.

    Args:
      x: input of this step, float (N, D).
      h: state before, float (N, H).
      weight_ih, weight_hh: float (H, D) and (H, H).
      bias_ih, bias_hh: float (H,).

    Returns: the new state, float (N, H).
    """
    # h' = tanh(W_ih x + b_ih + W_hh h + b_hh)
    return jnp.tanh(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh)


class ElmanNet(nn.Module):
    """Reads a sequence, then predicts from the last layer's final state.

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of the state.
      output_size: K, predicted values.
      num_layers: recurrent layers, each reading the outputs of the one below.
      bidirectional: read from both ends; the prediction sees both final states.
      nonlinearity: "tanh" or "relu".
    """

    input_size: int
    hidden_size: int
    output_size: int
    num_layers: int = 1
    bidirectional: bool = False
    nonlinearity: str = "tanh"

    @nn.compact
    def __call__(
        self, x: jax.Array, lengths: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """float (N, L, D), and lengths int (N,) in 1..L or None for L -> float (N, K)."""
        rnn = RNN(
            self.input_size,
            self.hidden_size,
            num_layers=self.num_layers,
            nonlinearity=self.nonlinearity,
            bidirectional=self.bidirectional,
            name="rnn",
        )
        _, h_n = rnn(x, lengths, train=train)
        directions = 2 if self.bidirectional else 1
        last = jnp.concatenate([*h_n[-directions:]], axis=-1)
        return nn.Dense(self.output_size, name="fc")(last)
