"""Normalisation of channels by statistics that are kept: torch's own.

`BatchNorm` and `InstanceNorm` are those for images, (N, C, H, W); `BatchNorm1d`, `InstanceNorm3d`
and so on do the same to other ranks, and jaxnn's classes, whose channels come last, do all of them.

  BatchNorm      buffers `running_mean`, `running_var` (unbiased, although the batch is normalised
                 by the biased variance) and `num_batches_tracked`.
  SyncBatchNorm  needs a process group of GPUs in training; without one it is `BatchNorm`, for any
                 rank. jax: a named axis of devices, `axis_name`.
  InstanceNorm   learns and keeps nothing unless told to; momentum=None keeps the buffers as they
                 are, where BatchNorm averages over all batches.
"""

from torch.nn import BatchNorm2d as BatchNorm
from torch.nn import InstanceNorm2d as InstanceNorm
from torch.nn import SyncBatchNorm

__all__ = ["BatchNorm", "SyncBatchNorm", "InstanceNorm"]
