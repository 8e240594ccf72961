"""Attention: torch's own.

`scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, *, scale,
enable_gqa)` is softmax(scale Q K^T + mask) V of query (..., L, D), key (..., S, D) and value
(..., S, E). A boolean mask is True where a key is attended; a float mask is added; a query whose
keys are all masked gets 0. Its heads are an axis before the length. jax: behind it.

`MultiheadAttention` packs the projections of query, key and value in `in_proj_weight` (3E, E); its
boolean masks are True where a key is hidden; a query that may attend to nothing gives NaN, or, with
need_weights=False, out_proj's bias. It drops each weight on its own. Flax's layer has masks of the
other polarity, three kernels, and drops the same weights for all of a batch. `out_proj` starts
uniform in +-1/sqrt(E), the others from Xavier's distribution.
"""

from torch.nn import MultiheadAttention
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["scaled_dot_product_attention", "MultiheadAttention"]
