"""Initial weights with the distributions of torch.nn.init, as functions of standard draws.

Noise is an input: the same draws give the same weights on both sides, in each side's layout, and
those of torch.nn.init's functions, from the same seed (but for `trunc_normal`).
`initialiser` makes of such a function one that fills a tensor in place.

`zeros`, `ones`, `constant` (torch.full) and `calculate_gain` are torch's.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import full as constant
from torch import ones, zeros
from torch.nn.init import calculate_gain
from torch.special import ndtri

__all__ = [
    "zeros",
    "ones",
    "constant",
    "fans",
    "calculate_gain",
    "initialiser",
    "uniform",
    "normal",
    "trunc_normal",
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, ...): its inputs and outputs, times its pixels.

    Raises:
      ValueError: if shape has fewer than two axes.
    """
    if len(shape) < 2:
        raise ValueError(f"shape={tuple(shape)} has fewer than two axes")
    pixels = math.prod(shape[2:])
    return shape[1] * pixels, shape[0] * pixels


def initialiser(weights: Callable, *noise: str, **options) -> Callable:
    """An initialiser like torch.nn.init's, which draws the noise. jax: one of a key and a shape.

    Example: `initialiser(xavier_uniform, "uniform", gain=2.0)`.

    Args:
      weights: a function of standard draws, as those below.
      noise: "uniform" or "normal" for each of its draws.
      options: what else it takes.

    Returns: init(tensor, generator) -> the tensor, filled in place.

    Raises:
      ValueError: if noise is anything else.
    """
    if not noise or set(noise) - {"uniform", "normal"}:
        raise ValueError(f"noise={noise} is not of 'uniform' and 'normal'")

    @torch.no_grad()
    def init(tensor: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        fresh = [torch.empty_like(tensor) for _ in noise]
        draws = [
            getattr(x, f"{n}_")(generator=generator) for n, x in zip(noise, fresh, strict=True)
        ]
        return tensor.copy_(weights(*draws, **options))

    return init


def uniform(draw: torch.Tensor, a: float = 0.0, b: float = 1.0) -> torch.Tensor:
    """Uniform between a and b, of draws between 0 and 1."""
    return a + (b - a) * draw


def normal(draw: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
    """Normal with a mean and a standard deviation, of standard normal draws."""
    return mean + std * draw


def trunc_normal(
    draw: torch.Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> torch.Tensor:
    """Normal between a and b, of uniform draws: the inverse of the distribution function.

    a and b are absolute: at std = 0.02 they cut nothing off.
    `trunc_normal_` draws normals again until they fit: the same distribution.
    """
    below, above = (math.erfc((mean - bound) / std / math.sqrt(2)) / 2 for bound in (a, b))
    return mean + std * ndtri(below + (above - below) * draw)


def xavier_uniform(draw: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out)), of uniform draws.

    Reference: Glorot and Bengio, Understanding the difficulty of training deep networks, 2010.
    """
    bound = gain * math.sqrt(6 / sum(fans(draw.shape)))
    return uniform(draw, -bound, bound)


def xavier_normal(draw: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
    """Normal with std = gain sqrt(2 / (fan_in + fan_out)), of normal draws."""
    return gain * math.sqrt(2 / sum(fans(draw.shape))) * draw


def kaiming_uniform(
    draw: torch.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> torch.Tensor:
    """Uniform with the variance of `kaiming_normal`, of uniform draws."""
    bound = math.sqrt(3) * _kaiming(draw.shape, a, mode, nonlinearity)
    return uniform(draw, -bound, bound)


def kaiming_normal(
    draw: torch.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> torch.Tensor:
    """Normal with std = gain / sqrt(fan), of normal draws.

    Args:
      draw: standard normal, of the weight's shape.
      a: the negative slope of a leaky ReLU.
      mode: "fan_in" keeps the variance forward, "fan_out" backward.
      nonlinearity: whose `calculate_gain` is taken.

    Raises:
      ValueError: if mode is neither or the nonlinearity is unknown.

    Reference: He et al., Delving Deep into Rectifiers, 2015, https://arxiv.org/abs/1502.01852
    """
    return _kaiming(draw.shape, a, mode, nonlinearity) * draw


def _kaiming(shape: tuple[int, ...], a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode={mode!r} is neither 'fan_in' nor 'fan_out'")
    fan = fans(shape)[mode == "fan_out"]
    return calculate_gain(cast(Any, nonlinearity), a) / math.sqrt(fan)
