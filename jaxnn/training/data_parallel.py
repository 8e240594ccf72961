"""Data-parallel training: one program for all devices, which sees whole batches.

Nothing is said of messages between devices. Arrays have a sharding, which says where they lie;
`jax.jit` splits the program accordingly and puts in the sums over devices that it needs. So the
step is that of one device, and so are the loss and batch norm: what is averaged over is the batch.

    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    state = replicated(state, mesh)  # or sharded(state, mesh)
    where = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = jax.jit(train_step, static_argnames="loss", out_shardings=(where, None))
    (x, labels), weight = share((x, labels), mesh)
    state, loss = step(state, (x, weight), (labels, weight), mean_cross_entropy)

`out_shardings` keeps the state where it was, which the compiler is free to change otherwise.
`train_step` is `steps.train_step`. torch: a process for each device, each with a share of every
batch; gradients, losses and statistics are summed over them by name.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnn.training.steps import TrainState, train_step

__all__ = ["share", "mean_loss", "GlobalBatchNorm", "replicated", "sharded", "train_step"]


def share(batch: tuple[np.ndarray, ...], mesh: Mesh) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """A batch whose rows lie on the devices of a mesh, and what each of them weighs.

    The first device gets the first rows, and so on, ceil(B / devices) each. All must get as many:
    rows of zeros that weigh nothing fill the batch up. (Without them a batch that the devices do
    not divide has to lie whole on each.) With several hosts all draw the same batch, and each is
    asked for the rows of its own devices alone. torch: the rows of the own process, not filled up.

    Args:
      batch: NumPy arrays (B, ...).
      mesh: the devices, of one axis.

    Returns:
      (arrays (R, ...), weight): R is B filled up to a multiple of the devices; weight, float (R,),
      is 1/B, and 0 for what fills up. torch: float64, and no zeros.

    Raises:
      ValueError: if the arrays are not equally long, or empty.
    """
    count = len(batch[0])
    if not count or any(len(rows) != count for rows in batch):
        raise ValueError(f"a batch needs equally many rows, not {[len(rows) for rows in batch]}")
    sharding = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))

    def place(rows):
        filled = np.zeros((-(-count // mesh.size) * mesh.size, *rows.shape[1:]), rows.dtype)
        filled[:count] = rows
        return jax.make_array_from_callback(filled.shape, sharding, lambda own: filled[own])

    return tuple(place(rows) for rows in batch), place(np.full(count, 1 / count))


def mean_loss(losses: jax.Array, weight: jax.Array) -> jax.Array:
    """The mean over the batch: sum of weight * loss.

    The mean of all R rows would count those that fill up. torch: the sum is over the rows of one
    device, and the parts of all devices add up to the mean.

    Args:
      losses: of each row, float (R,).
      weight: of `share`, float (R,).

    Returns: float (), of the losses' dtype.
    """
    return jnp.sum(weight.astype(losses.dtype) * losses)


class GlobalBatchNorm(nn.Module):
    """Batch normalisation by the batch of all devices.

    mean = sum of w x and var = sum of w (x - mean)^2, with w what a row weighs over its number of
    positions; the running variance is unbiased over n, the values of a channel in rows that weigh
    anything. On whole batches it is `layers.norm.BatchNorm`. As the program sees all rows it needs
    no axis of devices, unlike `layers.norm.SyncBatchNorm`, which runs inside `jax.shard_map`.
    torch: sums over the processes.

    Variables: params `scale`, `bias`, both (C,); batch_stats `mean`, `var`, both (C,), and
    `num_batches_tracked`, an integer scalar.

    Args:
      num_features: C.
      eps: added to the variance before the root.
      momentum: weight of the new statistics in the running ones.

    Raises:
      ValueError: on one value per channel in training, without weights.

    Reference:
      Ioffe and Szegedy, Batch Normalization, 2015, https://arxiv.org/abs/1502.03167
    """

    num_features: int
    eps: float = 1e-5
    momentum: float = 0.1

    @nn.compact
    def __call__(
        self, x: jax.Array, weight: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Normalises x, float (R, H, W, C); `weight` as of `share`, float (R,), or None: all rows
        weigh the same."""
        chex.assert_axis_dimension(x, -1, self.num_features)
        shape = (self.num_features,)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        tracked = self.variable("batch_stats", "num_batches_tracked", jnp.zeros, (), jnp.int32)

        if train:
            axes, positions = tuple(range(x.ndim - 1)), x[0, ..., 0].size
            if weight is None:
                if len(x) * positions == 1:
                    raise ValueError(f"one value per channel in training, from {x.shape}")
                weight = jnp.full(len(x), 1 / len(x))
            w = jnp.expand_dims(weight.astype(x.dtype) / positions, range(1, x.ndim))
            mean = jnp.sum(w * x, axes)
            var = jnp.sum(w * jnp.square(x - mean), axes)
            if not self.is_initializing():
                n = jnp.sum(weight > 0, dtype=x.dtype) * positions
                unbiased = var * (n / (n - 1))
                tracked.value += 1
                running_mean.value += self.momentum * (mean - running_mean.value)
                running_var.value += self.momentum * (unbiased - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value
        return (x - mean) * (jax.lax.rsqrt(var + self.eps) * scale) + bias


def replicated(state: TrainState, mesh: Mesh) -> TrainState:
    """Every device holds a copy of the whole state.

    torch: the model is wrapped; its backward pass averages the gradients of all processes.
    """
    return jax.device_put(state, NamedSharding(mesh, PartitionSpec()))


def sharded(state: TrainState, mesh: Mesh) -> TrainState:
    """Every device holds a part of each parameter (ZeRO-3), and of its optimizer state.

    Leaves are split on their last axis where the devices divide it; of others each device has a
    copy, and so of the running statistics. The compiled step puts parameters together where it
    needs them whole. torch: the first axis, which is the same one, unevenly if need be.

    Reference:
      Rajbhandari et al., ZeRO, 2019, https://arxiv.org/abs/1910.02054
    """

    def place(leaf):
        parts = leaf.ndim and leaf.shape[-1] % mesh.size == 0
        axes = (None,) * (leaf.ndim - 1) + mesh.axis_names if parts else ()
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*axes)))

    params, opt_state = jax.tree.map(place, (state.params, state.opt_state))
    return replicated(state, mesh).replace(params=params, opt_state=opt_state)
