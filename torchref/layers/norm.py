"""Normalisation: torch's own.

`BatchNorm` is the one for images, (N, C, H, W); `BatchNorm1d` and `BatchNorm3d` do the same to
other ranks, and jaxnn's single class, whose channels come last, does all three. Buffers:
`running_mean`, `running_var` (unbiased, although the batch is normalised by the biased variance)
and `num_batches_tracked`.
"""

from torch.nn import BatchNorm2d as BatchNorm

__all__ = ["BatchNorm"]
