"""What torch.nn's layers start with, as functions of standard draws.

  Linear, Conv, ConvTranspose   linear_weight, linear_bias
  Bilinear                      bilinear, for weight and bias
  Embedding, EmbeddingBag       embedding
  RNN, LSTM, GRU and cells      recurrent, for every weight and bias
  MultiheadAttention            xavier_uniform for the packed (E, 3E) of queries, keys and values,
                                or each of three apart; xavier_normal for bias_k and bias_v;
                                linear_weight for out_proj; its other biases 0
  Transformer                   xavier_uniform for every matrix, over what its layers did
  norms, PReLU                  scales 1, biases 0; slopes 0.25

Flax starts kernels as `lecun_normal`, biases at 0 and embeddings with a variance of 1 / D.
"""

import math

import jax

from jaxnn.layers.initialisers import fans, kaiming_uniform, uniform

__all__ = ["linear_weight", "linear_bias", "bilinear", "embedding", "recurrent"]


def linear_weight(draw: jax.Array) -> jax.Array:
    """Uniform in +-1 / sqrt(fan_in), of uniform draws: of Linear and of convolutions.

    torch.nn writes it as `kaiming_uniform` with a = sqrt(5), whose gain is sqrt(1 / 3).

    Args:
      draw: (..., in, out); of groups, in is what one of them reads. A transposed convolution counts
        its outputs as in: Flax's `ConvTranspose` with transpose_kernel=True has (..., out, in).
    """
    return kaiming_uniform(draw, a=math.sqrt(5))


def linear_bias(draw: jax.Array, weight_shape: tuple[int, ...]) -> jax.Array:
    """Uniform in +-1 / sqrt(fan_in) of the weight, of uniform draws. Flax: 0."""
    fan_in, _ = fans(weight_shape)
    return _within(draw, fan_in)


def bilinear(draw: jax.Array, in1_features: int) -> jax.Array:
    """Uniform in +-1 / sqrt(in1_features), of uniform draws."""
    return _within(draw, in1_features)


def embedding(draw: jax.Array, padding_idx: int | None = None) -> jax.Array:
    """Standard normal, with a row of zeros at padding_idx, of normal draws (V, D).

    Raises:
      ValueError: if padding_idx is not in -V..V-1.
    """
    if padding_idx is None:
        return draw
    if not -len(draw) <= padding_idx < len(draw):
        raise ValueError(f"padding_idx={padding_idx} is no row of {len(draw)}")
    return draw.at[padding_idx].set(0)


def recurrent(draw: jax.Array, hidden_size: int) -> jax.Array:
    """Uniform in +-1 / sqrt(hidden_size), of uniform draws.

    Flax: orthogonal for the state, `lecun_normal` for the input.
    """
    return _within(draw, hidden_size)


def _within(draw: jax.Array, size: int) -> jax.Array:
    bound = 1 / math.sqrt(size)
    return uniform(draw, -bound, bound)
