"""Weights that are computed from other parameters: torch's own parametrisations.

`WeightNorm` and `SpectralNorm` are functions: they change the layer that they are given, and hand
it back. jax: modules around a layer.

  WeightNorm    w = g v / ||v||: g is `parametrizations.weight.original0`, with one length for each
                index of axis `dim` (0; None for one in all), v is `original1`.
  SpectralNorm  w = W / (u' W v): W is `parametrizations.weight.original`, u and v the buffers
                `parametrizations.weight.0._u` and `_v`. Every use of the weight in training
                iterates, not every call of the layer.

The axis of output features is 0, but 1 in transposed convolutions: spectral norm knows, weight norm
wants dim=1. jax: the last, always.
"""

from torch.nn.utils.parametrizations import spectral_norm as SpectralNorm
from torch.nn.utils.parametrizations import weight_norm as WeightNorm

__all__ = ["WeightNorm", "SpectralNorm"]
