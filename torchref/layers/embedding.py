"""Embedding: torch's own.

`padding_idx` makes one row zero at the start, and keeps the gradient from it. flax: none. An index
outside 0..K-1 is an IndexError, -1 too. jax: a row of NaN, since compiled code does not raise.
(`flax.linen.Embed` takes the last row for -1.)
"""

from torch.nn import Embedding

__all__ = ["Embedding"]
