"""The linear layer: torch.nn's own.

`weight` is (out_features, in_features), and y = x W^T + b; both start uniform in
+-1/sqrt(in_features). jax: `kernel` is the transpose.
"""

from torch.nn import Linear

__all__ = ["Linear"]
