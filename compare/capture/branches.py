"""Branches imposed on a float64 run: the sides of a kink that another run took.

Where float32 rounds a value across a kink, its result is right for the other branch. The float64
reference is therefore given the judged run's own branches, and how many differ is counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Flips:
    """Branches that the imposed run would have taken otherwise.

    Args:
      count: how many elements.
      farthest: the largest distance of one from its kink, in the float64 run.
      error: the largest difference of the two runs' inputs to the function.
      scale: the largest magnitude among them.
    """

    count: int
    farthest: float
    error: float
    scale: float


def _kinks(name: str, args: tuple, kwargs: Mapping[str, Any]) -> list[float]:
    if name == "relu6":
        return [0.0, 6.0]
    if name == "hard_tanh":
        given = dict(zip(("min_val", "max_val"), args, strict=False)) | dict(kwargs)
        return [given.get("min_val", -1.0), given.get("max_val", 1.0)]
    return [0.0]


def imposed(
    name: str,
    func: Callable,
    x: torch.Tensor,
    theirs: torch.Tensor,
    args: tuple,
    kwargs: Mapping[str, Any],
) -> tuple[Any, Flips]:
    """`func(x)` on the branches that it takes at `theirs`, and the flips between the two."""
    plain = x.detach()
    error = float((plain - theirs).abs().max()) if x.numel() else 0.0
    scale = float(plain.abs().max()) if x.numel() else 0.0
    if name == "max_pool":
        return _pool(func, x, theirs, args, kwargs, error, scale)
    kinks = _kinks(name, args, kwargs)
    output, flipped, distance = None, torch.zeros_like(x, dtype=torch.bool), torch.zeros_like(x)
    for kink in kinks:
        differs = (x > kink) != (theirs > kink)
        flipped |= differs
        distance = torch.where(differs, (x - kink).abs().detach(), distance)
    if name in ("relu", "leaky_relu"):
        slope = 0.0
        if name == "leaky_relu":
            slope = args[0] if args else kwargs.get("negative_slope", 0.01)
        output = torch.where(theirs > 0, x, slope * x if slope else torch.zeros_like(x))
    else:
        low, high = kinks
        output = torch.where((theirs > low) & (theirs < high), x, theirs.clamp(low, high))
    farthest = float(distance.max()) if x.numel() else 0.0
    return output, Flips(int(flipped.sum()), farthest, error, scale)


def _pool(
    func: Callable,
    x: torch.Tensor,
    theirs: torch.Tensor,
    args: tuple,
    kwargs: Mapping[str, Any],
    error: float,
    scale: float,
) -> tuple[Any, Flips]:
    wanted = bool(kwargs.get("return_indices"))
    kwargs = {k: v for k, v in kwargs.items() if k != "return_indices"}
    rank = int(re.search(r"\d", func.__name__).group())  # type: ignore[union-attr]
    pool = getattr(torch.nn.functional, f"max_pool{rank}d")
    own, _ = pool(x, *args, **kwargs, return_indices=True)
    _, indices = pool(theirs, *args, **kwargs, return_indices=True)
    start = x.ndim - rank
    flat = x.flatten(start).gather(start, indices.flatten(start))
    output = flat.reshape(own.shape)
    gap = (own - output).detach()
    count = int((gap != 0).sum())
    flips = Flips(count, float(gap.max()) if gap.numel() else 0.0, error, scale)
    return ((output, indices) if wanted else output), flips
