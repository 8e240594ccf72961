"""Activations: torch's own, but for one that torch lacks and one that it rounds.

They act on every element alone, except `softmax`, `log_softmax`, `logsumexp` and `glu`, which act
along `dim`. jax: `axis`, which is the last one where nothing is said.

  leaky_relu   the gradient at 0 is the slope, 0.01. jax.nn: 1.
  prelu        one slope for each channel on axis 1. jax: channels last.
  softplus     is x itself above 20. jax.nn: the logarithm everywhere.
  gelu         exact; `approximate="tanh"` is what jax.nn takes by default.
  hardtanh     the gradient at the bounds is 0. jax.nn: 1.
  hardsigmoid  is written out: the gradient of torch's own is 1/6 in float32, even in float64.
"""

import torch
from torch import logsumexp, sigmoid, tanh
from torch.nn.functional import (
    celu,
    elu,
    gelu,
    glu,
    hardswish,
    hardtanh,
    leaky_relu,
    log_softmax,
    mish,
    prelu,
    relu,
    selu,
    silu,
    softmax,
    softplus,
    softsign,
)

__all__ = [
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "celu",
    "softplus",
    "silu",
    "swish",
    "gelu",
    "mish",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "softmax",
    "log_softmax",
    "logsumexp",
    "softsign",
    "glu",
]


def swish(x: torch.Tensor, beta: torch.Tensor | float = 1.0) -> torch.Tensor:
    """x sigmoid(beta x): silu at beta = 1, half of x at 0, relu in the limit; beta may be learned.

    Args:
      x: any shape.
      beta: a number, or a tensor that broadcasts against x.

    Reference:
      Ramachandran et al., Searching for Activation Functions, 2017,
      https://arxiv.org/abs/1710.05941
    """
    return x * sigmoid(beta * x)


def hardsigmoid(x: torch.Tensor) -> torch.Tensor:
    """(x + 3) / 6 between 0 and 1: a line from -3 to 3; the gradient at both ends is 0.

    Args:
      x: any shape.
    """
    return hardtanh(x + 3, 0.0, 6.0) / 6
