"""Embedding with torch's semantics."""

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["Embedding"]


class Embedding(nn.Module):
    """y = W[x]: a learned row for each index, as `torch.nn.Embedding`.

    `flax.linen.Embed` starts with variance 1 / D and not 1, knows no padding, and takes the last
    row for the index -1.

    Variables: params `embedding`, (K, D), standard normal, with zeros in the padding's row.

    Args:
      num_embeddings: K, the number of rows.
      embedding_dim: D, the size of each.
      padding_idx: the row that stands for no token: it gets no gradient. Negative numbers count
        from the end, here and not in x. (Weight decay moves a row that is not zero all the same.)

    Raises:
      ValueError: if padding_idx is no row, or if x has no integers. torch: AssertionError and
        RuntimeError.
    """

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Rows (..., D) of x, int (...); NaN for an index outside 0..K-1. torch: IndexError."""
        rows, padding = self.num_embeddings, self.padding_idx
        if padding is not None and not -rows <= padding < rows:
            raise ValueError(f"padding_idx={padding} is none of {rows} rows")
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(f"x of type {x.dtype} holds no indices")

        def initial(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
            weight = jax.random.normal(key, shape)
            return weight if padding is None else weight.at[padding].set(0)

        weight = self.param("embedding", initial, (rows, self.embedding_dim))
        if padding is not None:
            weight = weight.at[padding].set(jax.lax.stop_gradient(weight[padding]))
        return weight.at[x].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
