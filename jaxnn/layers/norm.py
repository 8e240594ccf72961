"""Normalisation of channels by statistics that are kept: batch, synchronised and instance norm.

Channels come last, and one class serves every rank: torch has one for each. Half precision is
computed in float32 and rounded once, as torch does it.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["BatchNorm", "SyncBatchNorm", "InstanceNorm"]


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
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))

        if train:
            mean, var, n = self._moments(wide)
            if n == 1:
                raise ValueError(f"one value per channel in training, from an input of {x.shape}")
            if not self.is_initializing():
                count = tracked.value + 1
                weight = 1 / count.astype(wide.dtype) if self.momentum is None else self.momentum
                unbiased = var * (n / (n - 1))
                tracked.value = count
                for running, new in ((running_mean, mean), (running_var, unbiased)):
                    kept = (1 - weight) * running.value + weight * new
                    running.value = kept.astype(running.value.dtype)
        else:
            mean, var = running_mean.value, running_var.value

        y = (wide - mean) * (jax.lax.rsqrt(var + self.eps) * scale) + bias
        return y.astype(x.dtype)

    def _moments(self, x):
        """Mean and biased variance (C,) of a channel, and the number of its values."""
        axes = tuple(range(x.ndim - 1))
        return jnp.mean(x, axes), jnp.var(x, axes), x.size // self.num_features  # var: two passes


class SyncBatchNorm(BatchNorm):
    """Batch normalisation by the batch of all devices: `BatchNorm` of their concatenation.

    mean = average of the devices' means, var = average of their variances + (their means - mean)^2;
    n, which makes the running variance unbiased, counts the values of all. It runs inside
    `jax.shard_map` or `jax.vmap` over `axis_name`, whose shares are of equal size. torch: one
    process for each device, whose shares may differ in size; without processes, `BatchNorm`.

    Args:
      num_features, eps, momentum, scale_init: as in `BatchNorm`.
      axis_name: name of the axis of devices; None for one device, as in `BatchNorm`. torch:
        `process_group`.

    Raises:
      ValueError: as `BatchNorm`; NameError where nothing maps over `axis_name`.
    """

    axis_name: str | None = None

    def _moments(self, x):
        mean, var, n = super()._moments(x)
        if self.axis_name is None or self.is_initializing():
            return mean, var, n
        total = jax.lax.pmean(mean, self.axis_name)
        # Var[x] = E[Var[x | device]] + Var[E[x | device]]: no difference of large squares
        var = jax.lax.pmean(var + jnp.square(mean - total), self.axis_name)
        return total, var, n * jax.lax.axis_size(self.axis_name)


class InstanceNorm(nn.Module):
    """Normalises every channel of every example by itself, as `torch.nn.InstanceNorm2d`.

    y = (x - mean) / sqrt(var + eps) [* scale + bias], with mean and var over the positions of one
    channel of one example, in training and in evaluation; with `track_running_stats` evaluation
    takes the running ones, running <- (1 - momentum) * running + momentum * (mean over the batch
    of the means, and of the unbiased variances).

    Flax's own `nn.InstanceNorm` has eps 1e-6, a scale and a bias, and no running statistics.

    Variables: params `scale`, `bias`, both (C,), if `affine`; batch_stats `mean`, `var`, both (C,),
    and `num_batches_tracked`, which stays 0 in torch too, if `track_running_stats`.

    Args:
      num_features: C, the size of the last axis.
      eps: added to the variance before the root.
      momentum: weight of the new statistics in the running ones; None leaves them as they are.
      affine: learn a scale and a bias.
      track_running_stats: keep running statistics for evaluation.

    Raises:
      ValueError: on an input without positions, or with a single one where its own variance,
        which is zero, would be used.

    Reference:
      Ulyanov et al., Instance Normalization, 2016, https://arxiv.org/abs/1607.08022
    """

    num_features: int
    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = False
    track_running_stats: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Normalises x, (N, ..., C), float; the result has its shape."""
        chex.assert_axis_dimension(x, -1, self.num_features)
        shape, axes = (self.num_features,), tuple(range(1, x.ndim - 1))
        n = x[0, ..., 0].size
        if not axes or (n == 1 and (train or not self.track_running_stats)):
            raise ValueError(f"one position per channel, from an input of {x.shape}")
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean, var = jnp.mean(wide, axes, keepdims=True), jnp.var(wide, axes, keepdims=True)
        if self.track_running_stats:
            running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
            running_var = self.variable("batch_stats", "var", jnp.ones, shape)
            self.variable("batch_stats", "num_batches_tracked", jnp.zeros, (), jnp.int32)
            if not train:
                mean, var = running_mean.value, running_var.value
            elif not self.is_initializing():
                weight = 0.0 if self.momentum is None else self.momentum
                new_mean = jnp.mean(mean, (0, *axes))
                new_var = jnp.mean(var, (0, *axes)) * (n / (n - 1))
                for running, new in ((running_mean, new_mean), (running_var, new_var)):
                    kept = (1 - weight) * running.value + weight * new
                    running.value = kept.astype(running.value.dtype)
        y = (wide - mean) * jax.lax.rsqrt(var + self.eps)
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, shape)
            y = y * scale + self.param("bias", nn.initializers.zeros, shape)
        return y.astype(x.dtype)
