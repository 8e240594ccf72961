"""Normalisation with torch's semantics."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["BatchNorm"]


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with the semantics of `torch.nn.BatchNorm2d`.

    y = (x - mean) / sqrt(var + eps) * scale + bias, with mean and var of the batch in training and
    the running ones in evaluation; running <- (1 - momentum) * running + momentum * batch.

    Flax's own `nn.BatchNorm` differs in four ways: its momentum weighs the old value (default
    0.99), its running variance is the biased one, its variance is E[x^2] - E[x]^2 unless told
    otherwise, and a single value per channel in training silently gives zeros.

    Variables: params `scale`, `bias`, both (C,); batch_stats `mean`, `var`, both (C,), and
    `num_batches_tracked`, an integer scalar.

    Args:
      num_features: C, the size of the last axis.
      eps: added to the variance before the root.
      momentum: weight of the new statistics in the running ones; None averages over all batches.
      scale_init: initialiser of `scale`; torch overwrites the parameter instead.

    Raises:
      ValueError: on one value per channel in training, whose variance is zero.

    Reference:
      Ioffe and Szegedy, Batch Normalization, 2015, https://arxiv.org/abs/1502.03167
    """

    num_features: int
    eps: float = 1e-5
    momentum: float | None = 0.1
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Normalises x, (N, C) or (N, ..., C), float; the result has its shape."""
        chex.assert_axis_dimension(x, -1, self.num_features)
        shape = (self.num_features,)
        scale = self.param("scale", self.scale_init, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        tracked = self.variable("batch_stats", "num_batches_tracked", jnp.zeros, (), jnp.int32)

        if train:
            n = x.size // self.num_features
            if n == 1:
                raise ValueError(f"one value per channel in training, from an input of {x.shape}")
            axes = tuple(range(x.ndim - 1))
            mean, var = jnp.mean(x, axes), jnp.var(x, axes)  # jnp.var takes two passes
            if not self.is_initializing():
                count = tracked.value + 1
                weight = 1 / count.astype(x.dtype) if self.momentum is None else self.momentum
                unbiased = var * (n / (n - 1))
                tracked.value = count
                running_mean.value = (1 - weight) * running_mean.value + weight * mean
                running_var.value = (1 - weight) * running_var.value + weight * unbiased
        else:
            mean, var = running_mean.value, running_var.value

        return (x - mean) * (jax.lax.rsqrt(var + self.eps) * scale) + bias
