"""Normalisation within one example: layer, group and root-mean-square norm; nothing is kept.

Half precision is computed in float32 and rounded once, as torch does it.
"""

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["LayerNorm", "GroupNorm", "RMSNorm"]


class LayerNorm(nn.Module):
    """Normalises the last axes of every example, with the semantics of `torch.nn.LayerNorm`.

    y = (x - mean) / sqrt(var + eps) * scale + bias, with mean and the biased var over the axes of
    `normalized_shape`. A row of equal values gives the bias. torch's (C, H, W) of an image is
    (H, W, C) here, and so are the scale and the bias.

    Flax's own `nn.LayerNorm` differs in its eps (1e-6), in its axes (the last one unless told
    otherwise) and in its variance, E[x^2] - E[x]^2 unless told otherwise.

    Variables: params `scale` and `bias` of `normalized_shape`, as far as they are asked for.

    Args:
      normalized_shape: sizes of the last axes; a number for one axis.
      eps: added to the variance before the root.
      elementwise_affine: learn a scale, and a bias.
      bias: learn a bias beside the scale.

    Raises:
      ValueError: if normalized_shape has no axis. torch: RuntimeError.

    Reference:
      Ba et al., Layer Normalization, 2016, https://arxiv.org/abs/1607.06450
    """

    normalized_shape: int | Sequence[int]
    eps: float = 1e-5
    elementwise_affine: bool = True
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x, (..., *normalized_shape), float; the result has its shape."""
        shape, axes = _last(x, self.normalized_shape)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean, var = jnp.mean(wide, axes, keepdims=True), jnp.var(wide, axes, keepdims=True)
        y = (wide - mean) * jax.lax.rsqrt(var + self.eps)
        if self.elementwise_affine:
            y = y * self.param("scale", nn.initializers.ones, shape)
            if self.bias:
                y = y + self.param("bias", nn.initializers.zeros, shape)
        return y.astype(x.dtype)


class GroupNorm(nn.Module):
    """Normalises groups of neighbouring channels of every example, as `torch.nn.GroupNorm`.

    y = (x - mean) / sqrt(var + eps) * scale + bias, with mean and the biased var over all positions
    of a group's channels; the scale and the bias belong to channels. One group is all of an
    example, C groups are instance norm. A group of one value gives the bias. torch: ValueError
    where the batch is of one example, too.

    Flax's own `nn.GroupNorm` differs in its eps (1e-6), in its 32 groups unless told otherwise,
    and in its variance, E[x^2] - E[x]^2 unless told otherwise.

    Variables: params `scale`, `bias`, both (C,), if `affine`.

    Args:
      num_groups: G.
      num_channels: C, the size of the last axis, a multiple of G.
      eps: added to the variance before the root.
      affine: learn a scale and a bias.

    Raises:
      ValueError: if num_groups does not divide num_channels.

    Reference:
      Wu and He, Group Normalization, 2018, https://arxiv.org/abs/1803.08494
    """

    num_groups: int
    num_channels: int
    eps: float = 1e-5
    affine: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x, (N, ..., C), float; the result has its shape."""
        if self.num_channels % self.num_groups:
            raise ValueError(f"num_groups={self.num_groups} does not divide {self.num_channels}")
        chex.assert_axis_dimension(x, -1, self.num_channels)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        groups = wide.reshape(*x.shape[:-1], self.num_groups, -1)
        axes = (*range(1, x.ndim - 1), x.ndim)
        mean, var = jnp.mean(groups, axes, keepdims=True), jnp.var(groups, axes, keepdims=True)
        y = ((groups - mean) * jax.lax.rsqrt(var + self.eps)).reshape(x.shape)
        if self.affine:
            y = y * self.param("scale", nn.initializers.ones, (self.num_channels,))
            y = y + self.param("bias", nn.initializers.zeros, (self.num_channels,))
        return y.astype(x.dtype)


class RMSNorm(nn.Module):
    """Divides the last axes of every example by their root mean square, as `torch.nn.RMSNorm`.

    y = x / sqrt(mean(x^2) + eps) * scale: neither a mean is taken off nor a bias added. A row of
    zeros gives zeros, with the gradient scale / sqrt(eps).

    Flax's own `nn.RMSNorm` has eps 1e-6 in every dtype.

    Variables: params `scale` of `normalized_shape`, if `elementwise_affine`.

    Args:
      normalized_shape: sizes of the last axes; a number for one axis.
      eps: added to the mean square before the root; None is the distance from 1 to the next
        number, 2.2e-16 in float64, 1.2e-7 in float32 and in half precision.
      elementwise_affine: learn a scale.

    Raises:
      ValueError: if normalized_shape has no axis. torch: RuntimeError.

    Reference:
      Zhang and Sennrich, Root Mean Square Layer Normalization, 2019,
      https://arxiv.org/abs/1910.07467
    """

    normalized_shape: int | Sequence[int]
    eps: float | None = None
    elementwise_affine: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Scales x, (..., *normalized_shape), float; the result has its shape."""
        shape, axes = _last(x, self.normalized_shape)
        eps = min(jnp.finfo(x.dtype).eps, 2.0**-23) if self.eps is None else self.eps
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        y = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axes, keepdims=True) + eps)
        if self.elementwise_affine:
            y = y * self.param("scale", nn.initializers.ones, shape)
        return y.astype(x.dtype)


def _last(x, normalized_shape):
    """The shape that is normalised, and its axes, the last ones of x."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape:
        raise ValueError("normalized_shape=() has no axis to normalise")
    chex.assert_shape(x, (..., *shape))
    return shape, tuple(range(-len(shape), 0))
