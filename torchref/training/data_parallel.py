"""Data-parallel training: a process for each device, each with a share of every batch.

A step on several devices is the step of one device on the whole batch, if three things hold: the
shares make up the batch, the gradients are those of its mean, and what batch norm averages over is
the batch, too. `torchrun --nproc-per-node 2 program.py` starts the processes; each of them does

    dist.init_process_group("gloo")  # "nccl" between GPUs
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("data",))
    model = replicated(model, mesh)  # or sharded(model, mesh)
    optimizer = sgd(model.parameters(), lr=0.1)  # of what the wrapper has made of them
    (x, labels), weight = share((x, labels), mesh)
    loss = train_step(model, optimizer, (x,), (labels, weight), mean_cross_entropy)
    del model  # before its process group: the other way round, a process can hang
    dist.destroy_process_group()

jax: one program for all devices, which sees whole batches; where they lie says their sharding.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

__all__ = ["share", "mean_loss", "GlobalBatchNorm", "replicated", "sharded", "train_step"]


def share(
    batch: tuple[torch.Tensor, ...], mesh: DeviceMesh
) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """The rows of a batch that are this process's, and what each of them weighs.

    The batch is that of all devices, drawn alike by all processes (from one seed); where examples
    are costly to load, it is that of their indices. The first device gets the first rows, and so
    on, ceil(B / devices) each; the last of them may get fewer, or none. `DistributedSampler` deals
    out rows in turn instead, and fills up a short share with examples that others have, too, which
    moves the mean; it shuffles anew only if told the epoch. jax: the whole batch, filled up with
    rows of zeros that weigh nothing, as all devices get as many.

    Args:
      batch: arrays (B, ...).
      mesh: the devices, of one axis.

    Returns:
      (arrays (b, ...), weight): weight, float64 (b,), is 1/B, so that those of all devices add up
      to 1. jax: B filled up to a multiple of the devices, of the default float.

    Raises:
      ValueError: if the arrays are not equally long, or empty.
    """
    count = len(batch[0])
    if not count or any(len(rows) != count for rows in batch):
        raise ValueError(f"a batch needs equally many rows, not {[len(rows) for rows in batch]}")
    size = -(-count // mesh.size())
    start = mesh.get_local_rank() * size
    mine = tuple(rows[start : start + size] for rows in batch)
    return mine, torch.full((len(mine[0]),), 1 / count, dtype=torch.float64)


def mean_loss(losses: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """This device's part of the mean over the batch of all: sum of weight * loss.

    The parts of all devices add up to the mean. A mean of the devices' means is another number
    wherever one has fewer rows. jax: the sum is over all devices.

    Args:
      losses: of each row, float (b,).
      weight: of `share`, float (b,).

    Returns: float (), of the losses' dtype.
    """
    return (weight.to(losses.dtype) * losses).sum()


class Total(torch.autograd.Function):
    """The sum over all devices. Each device's loss depends on what each has added, so the gradient
    is a sum over all devices, too; `dist.all_reduce` itself has none."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        if dist.is_initialized():
            dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, grad):
        return Total.apply(grad)


class GlobalBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the batch of all devices, on any device.

    mean = total(x) / n and var = total((x - mean)^2) / n, with n the values of a channel on all
    devices together, so that shares may differ in size; the running variance is unbiased over n.
    `nn.SyncBatchNorm` is the same where it runs: it refuses the CPU. In a single process, and in
    evaluation, it is `nn.BatchNorm2d`. jax: an average over the batch, which is that of all.

    Args:
      num_features: C.
      eps: added to the variance before the root.
      momentum: weight of the new statistics in the running ones.

    Raises:
      ValueError: on one value per channel in training.

    Reference:
      Ioffe and Szegedy, Batch Normalization, 2015, https://arxiv.org/abs/1502.03167
    """

    momentum: float
    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_features, eps, momentum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalises x, float (N, C, H, W); N may be 0 on some of the devices. jax: takes the
        rows' weights, too, as rows that fill up a batch are none of its values."""
        if not self.training:
            return super().forward(x)
        n = Total.apply(torch.tensor(x.numel() / self.num_features, dtype=x.dtype))
        if n == 1:
            raise ValueError(f"one value per channel in training, from an input of {x.shape}")
        mean = Total.apply(x.sum((0, 2, 3))) / n
        centred = x - mean[:, None, None]
        # two passes: no difference of large squares
        var = Total.apply(centred.square().sum((0, 2, 3))) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1), self.momentum)
        rate = self.weight * torch.rsqrt(var + self.eps)
        return centred * rate[:, None, None] + self.bias[:, None, None]


def replicated(model: nn.Module, mesh: DeviceMesh) -> DistributedDataParallel:
    """Every device holds the whole model; a backward pass averages the gradients of all.

    The parameters begin as those of the first process. The wrapper's names begin with `module.`;
    the model itself is `.module`. jax: the same state, with one copy on each device.
    """
    return DistributedDataParallel(model, process_group=mesh.get_group())


def sharded(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Every device holds a part of each parameter (FSDP2, ZeRO-3), and of its optimizer state.

    Parameters become `DTensor`s, split on their first axis, unevenly if need be. Each child is put
    together before it is used and dropped after; a backward pass leaves the averaged gradient of
    the own part. The model changes in place; make the optimizer after it. Buffers stay whole. jax:
    the last axis, which is the same one, where the devices divide it; elsewhere a copy each.

    Reference:
      Rajbhandari et al., ZeRO, 2019, https://arxiv.org/abs/1910.02054
    """
    for child in model.children():
        if any(True for _ in child.parameters()):
            fully_shard(child, mesh=mesh)
    fully_shard(model, mesh=mesh)  # what the children leave, and the root of all
    return model


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, inputs: tuple, targets: tuple, loss
) -> torch.Tensor:
    """`steps.train_step` of a share: all devices make the step of the whole batch.

    Args:
      model: of `replicated` or `sharded`.
      optimizer: holds the optimizer state of the model's parameters.
      inputs: what the model takes, in call order, of this device's rows.
      targets: what the loss takes after the outputs.
      loss: loss(outputs, *targets) -> scalar, this device's part of the mean (`mean_loss`).

    Returns:
      The loss of the whole batch before the step, float (). jax: (new state, loss).
    """
    model.train()
    optimizer.zero_grad()
    value = loss(model(*inputs), *targets)
    # The wrappers divide by the number of devices, as if each loss were a mean: these are parts.
    (value * dist.get_world_size()).backward()
    optimizer.step()
    return Total.apply(value.detach())
