"""Attention with torch's semantics: masks of both kinds, causal rows, several heads.

Flax's `nn.dot_product_attention` and `nn.MultiHeadDotProductAttention` do the same mathematics, but
have the heads' axis after the length, kernels of their own for query, key and value in place of one
packed matrix, masks in which True always attends, one dropout mask for all of a batch, and give the
mean of the values to a query that may attend to nothing. `jax.nn.dot_product_attention` computes
its softmax in float32, also where the input is float64.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["scaled_dot_product_attention", "MultiheadAttention"]


def scaled_dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    attn_mask: jax.Array | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> jax.Array:
    """softmax(scale Q K^T + mask) V, the softmax over the keys.

    A query whose keys are all masked gets 0, without a gradient.

    Args:
      query: float (..., L, D); heads are an axis before the length.
      key: float (..., S, D).
      value: float (..., S, E).
      attn_mask: broadcasts to (..., L, S); boolean, True where a key is attended, or float, added.
      is_causal: row i attends to the keys 0 to i, also where there are more keys than rows.
      scale: of the logits; None for 1 / sqrt(D).
      enable_gqa: each head of key and value, axis -3, serves several neighbouring heads of query.

    Returns: float (..., L, E).
    Raises:
      ValueError: if both attn_mask and is_causal are given (torch: RuntimeError, or both apply,
        depending on the kernel), or the mask is neither boolean nor float.

    torch: has dropout_p before is_causal, and draws the mask itself.

    Reference: Vaswani et al., Attention is all you need, 2017, https://arxiv.org/abs/1706.03762
    """
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (jnp.repeat(x, repeats, axis=-3) for x in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = scale * query @ key.mT
    if is_causal:
        if attn_mask is not None:
            raise ValueError("attn_mask and is_causal are given: combine them in one mask")
        attn_mask = jnp.tri(*logits.shape[-2:], dtype=bool)
    if attn_mask is not None:
        hidden = ~attn_mask if attn_mask.dtype == bool else attn_mask
        logits = logits + _added("attn_mask", hidden, logits.dtype)
    return _weights(logits) @ value


class MultiheadAttention(nn.Module):
    """Attention of several heads, each with its D = E/H rows of the projections.

    head_h = softmax(Q_h K_h^T / sqrt(D) + mask) V_h, and y = W_o [head_1; ...; head_H] + b_o.

    Parameters, under torch's names: `in_proj_weight` (3E, E), the rows of query, key and value in
    this order, or, where kdim or vdim is another than E, `q_proj_weight` (E, E), `k_proj_weight`
    (E, kdim), `v_proj_weight` (E, vdim); `in_proj_bias` (3E,); `bias_k`, `bias_v` (1, 1, E); and
    the layer `out_proj`, which starts uniform in +-1/sqrt(E), the others from Xavier's
    distribution; biases start from 0.

    Args:
      embed_dim: E, features of the query and of the output.
      num_heads: H.
      dropout: rate at which weights are dropped in training, each on its own; the mask comes from
        the rng "dropout".
      bias: whether the projections have biases.
      add_bias_kv: a key and a value that are learned join those that are given.
      add_zero_attn: a key and a value of zeros join them, too.
      kdim, vdim: features of key and value; None for E.
      batch_first: batch axis before the length. Flax: always.

    Raises:
      ValueError: in the call, if num_heads does not divide embed_dim. torch: AssertionError.
    """

    embed_dim: int
    num_heads: int
    dropout: float = 0.0
    bias: bool = True
    add_bias_kv: bool = False
    add_zero_attn: bool = False
    kdim: int | None = None
    vdim: int | None = None
    batch_first: bool = False

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        key_padding_mask: jax.Array | None = None,
        need_weights: bool = True,
        attn_mask: jax.Array | None = None,
        average_attn_weights: bool = True,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Attends, in a batch. torch: takes a single example (L, E) too, and `is_causal`, a hint.

        Args:
          query: float (L, N, E), or (N, L, E) with batch_first; so key and value, S long.
          key_padding_mask: (N, S); boolean, True where a key is hidden, or float, added.
          need_weights: whether to return the weights. A query that may attend to nothing gives NaN
            if so, as torch's softmax does, otherwise out_proj's bias, as from a head of 0.
          attn_mask: (L, S) or (N*H, L, S), as key_padding_mask.
          average_attn_weights: over the heads.

        Returns: the output, as query; and the weights (N, L, S'), or (N, H, L, S') of each head,
          behind dropout, with S' counting the keys that joined; or None.
        """
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} does not divide {self.embed_dim}")
        if not self.batch_first:
            query, key, value = (x.swapaxes(0, 1) for x in (query, key, value))
        query, key, value = self._projected(query, key, value)
        n, keys = key.shape[:2]
        mask = jnp.zeros((1, 1, 1, keys), query.dtype)
        if key_padding_mask is not None:
            padding = _added("key_padding_mask", key_padding_mask, query.dtype)
            mask = mask + padding.reshape(n, 1, 1, keys)
        if attn_mask is not None:
            shape = (-1, self.num_heads) if attn_mask.ndim == 3 else (1, 1)
            added = _added("attn_mask", attn_mask, query.dtype)
            mask = mask + added.reshape(*shape, *attn_mask.shape[-2:])
        shape, joining = (1, 1, self.embed_dim), []
        if self.add_bias_kv:
            normal = nn.initializers.xavier_normal(in_axis=1, out_axis=0)
            joining.append([self.param(f"bias_{x}", normal, shape) for x in "kv"])
        if self.add_zero_attn:
            joining.append([jnp.zeros(shape, key.dtype)] * 2)
        for k, v in joining:
            k, v = (jnp.broadcast_to(x, (n, *shape[1:])) for x in (k, v))
            key, value = jnp.concatenate([key, k], axis=1), jnp.concatenate([value, v], axis=1)
        mask = jnp.pad(mask, [(0, 0)] * 3 + [(0, len(joining))])  # they are seen by every query

        query, key, value = (self._heads(x) for x in (query, key, value))
        logits = query @ key.mT * query.shape[-1] ** -0.5 + mask
        weights = nn.softmax(logits) if need_weights else _weights(logits)
        if self.dropout:
            weights = nn.Dropout(self.dropout)(weights, deterministic=not train)
        y = (weights @ value).swapaxes(1, 2)
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        out_proj = nn.Dense(self.embed_dim, self.bias, kernel_init=uniform, name="out_proj")
        y = out_proj(y.reshape(*y.shape[:2], self.embed_dim))
        y = y if self.batch_first else y.swapaxes(0, 1)
        if not need_weights:
            return y, None
        return y, weights.mean(1) if average_attn_weights else weights

    def _projected(self, *inputs):
        """query, key and value (N, length, features) -> the same, (N, length, E) each."""
        size = self.embed_dim
        widths = [size, self.kdim or size, self.vdim or size]
        xavier = nn.initializers.xavier_uniform(in_axis=1, out_axis=0)
        if widths == [size] * 3:
            weights = jnp.split(self.param("in_proj_weight", xavier, (3 * size, size)), 3)
        else:
            names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
            pairs = zip(names, widths, strict=True)
            weights = [self.param(name, xavier, (size, width)) for name, width in pairs]
        biases = [0.0] * 3
        if self.bias:
            biases = jnp.split(self.param("in_proj_bias", nn.initializers.zeros, (3 * size,)), 3)
        return [x @ w.T + b for x, w, b in zip(inputs, weights, biases, strict=True)]

    def _heads(self, x):
        """(N, length, E) -> (N, H, length, D)."""
        return x.reshape(*x.shape[:2], self.num_heads, -1).swapaxes(1, 2)


def _added(name, mask, dtype):
    """What is added to the logits: -inf where a boolean mask is True, a float mask as it is."""
    if mask.dtype == bool:
        return jnp.where(mask, -jnp.inf, 0).astype(dtype)
    if not jnp.issubdtype(mask.dtype, jnp.floating):
        raise ValueError(f"{name} of dtype {mask.dtype} is neither boolean nor float")
    return mask


def _weights(logits):
    """softmax over the last axis, in float32 at least; 0 where every logit is -inf."""
    empty = jnp.all(logits == -jnp.inf, axis=-1, keepdims=True)
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    # -inf goes before the softmax: behind it alone, the gradient would be NaN.
    return jnp.where(empty, 0, nn.softmax(jnp.where(empty, 0, wide))).astype(logits.dtype)
