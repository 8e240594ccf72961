"""A bidirectional LSTM that labels every step with what lies before it and what lies behind.

Reference: M. Schuster, K. Paliwal, "Bidirectional recurrent neural networks", IEEE Transactions on
Signal Processing 45 (1997); A. Graves, J. Schmidhuber, "Framewise phoneme classification with
bidirectional LSTM", Neural Networks 18 (2005).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.recurrent import LSTM

__all__ = ["BiLSTM"]


class BiLSTM(nn.Module):
    """One output per step: y_t = W [h_t forward; h_t backward] + b.

    Steps beyond a sequence's length are padding: what x holds there changes nothing, and y is 0.

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of either direction's state.
      output_size: K, values per step.
      num_layers: recurrent layers, each reading both directions of the one below.
    """

    input_size: int
    hidden_size: int
    output_size: int
    num_layers: int = 1

    @nn.compact
    def __call__(
        self, x: jax.Array, lengths: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """float (N, L, D), and lengths int (N,) in 1..L or None for L -> float (N, L, K)."""
        lstm = LSTM(
            self.input_size,
            self.hidden_size,
            num_layers=self.num_layers,
            bidirectional=True,
            name="lstm",
        )
        # jax runs every step of every sequence and masks: shapes are static. torch: packs
        output, _ = lstm(x, lengths, train=train)
        y = nn.Dense(self.output_size, name="fc")(output)
        if lengths is None:
            return y
        inside = jnp.arange(x.shape[1]) < lengths[:, None]
        return jnp.where(inside[..., None], y, 0)
