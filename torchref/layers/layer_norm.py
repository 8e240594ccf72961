"""Normalisation within one example: torch's own, which keeps nothing.

LayerNorm  over as many last axes as `normalized_shape` has, eps 1e-5. jax: (H, W, C) for
           torch's (C, H, W) of an image. flax: the last axis alone, eps 1e-6.
GroupNorm  over neighbouring channels and all positions; raises where the whole batch has one
           value for each group. jax: gives the bias. flax: 32 groups, eps 1e-6.
RMSNorm    eps=None is the input's own rounding, float32's for half precision. flax: 1e-6.
"""

from torch.nn import GroupNorm, LayerNorm, RMSNorm

__all__ = ["LayerNorm", "GroupNorm", "RMSNorm"]
