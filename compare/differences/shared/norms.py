"""What the normalisations share: their kinds, their formula, and flax's layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from compare.differences.catalogue import Edit, Site
from compare.differences.measuring import flax64
from compare.differences.shared.frameworks import fnn, torch
from compare.differences.shared.layers import layer, settings

NAMES = {
    "batch": "running_mean running_var weight bias training momentum eps",
    "layer": "normalized_shape weight bias eps",
    "group": "num_groups weight bias eps",
    "instance": "running_mean running_var weight bias use_input_stats momentum eps",
    "rms": "normalized_shape weight eps",
}
BATCH = r"BatchNorm[123]d|SyncBatchNorm|batch_norm"
LAYER = "LayerNorm|layer_norm"
GROUP = "GroupNorm|group_norm"
INSTANCE = r"InstanceNorm[123]d|instance_norm"
RMS = "RMSNorm|rms_norm"
KINDS = f"{LAYER}|{GROUP}|{INSTANCE}|{BATCH}|{RMS}"
EPSILONS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 2.0**-23, 2.0**-52, 0.0)


def family_of(site: Site) -> str:
    name = site.kind.lower()
    return next(family for family in NAMES if family in name)


def channels(x: Any, value: Any, axis: int = 1) -> Any:
    return value.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


def affine(y: Any, s: Any, family: str, axis: int = 1) -> Any:
    trailing = family in ("layer", "rms")
    if s.weight is not None:
        y = y * (s.weight if trailing else channels(y, s.weight, axis))
    if getattr(s, "bias", None) is not None:
        y = y + (s.bias if trailing else channels(y, s.bias, axis))
    return y


def axes_of(x: Any, s: Any, family: str) -> tuple[int, ...]:
    if family in ("layer", "rms"):
        return tuple(range(x.ndim - len(tuple(s.normalized_shape)), x.ndim))
    return (0, *range(2, x.ndim)) if family == "batch" else tuple(range(2, x.ndim))


def standard(
    x: Any,
    axes: tuple[int, ...],
    eps: float,
    correction: int = 0,
    outside: bool = False,
    centred: bool = True,
    stop: str = "",
) -> Any:
    """(x - mean) / sqrt(var + eps), or one of its misreadings; `stop`: what gets no gradient."""
    mean = x.mean(axes, keepdim=True)
    spread = x - (mean.detach() if "mean" in stop else mean)
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    if centred:
        square = (spread**2).sum(axes, keepdim=True) / (count - correction)
    else:
        spread, square = x, (x**2).mean(axes, keepdim=True)
    square = square.detach() if "variance" in stop else square
    return spread / (square.sqrt() + eps if outside else (square + eps).sqrt())


def normalised(x: Any, s: Any, family: str, **how: Any) -> Any:
    """The layer from its formula."""
    eps = 2.0**-52 if s.eps is None else s.eps
    how.setdefault("centred", family != "rms")
    if family == "group":
        split = x.unflatten(1, (s.num_groups, -1))
        y = standard(split, tuple(range(2, split.ndim)), eps, **how).flatten(1, 2)
    else:
        y = standard(x, axes_of(x, s, family), eps, **how)
    return affine(y, s, family)


def stopped(site: Site) -> Iterator[Edit]:
    """Edits that end the gradient on its way back through the statistics."""
    family = family_of(site)
    if family == "batch" and not settings(site, NAMES[family]).training:
        return
    for what in ("mean and variance", "variance", "mean"):
        yield Edit(
            "no stop_gradient of the statistics",
            f"{what} detached",
            layer(site, NAMES[family], lambda x, s, w=what: normalised(x, s, family, stop=w)),
        )


def flax_norm(name: str, x: Any, axis: int = 1, **options: Any) -> Any:
    """flax.linen's normalisation without parameters, channels last."""
    if name != "RMSNorm":
        options |= {"use_bias": False}
    module = getattr(fnn, name)(use_scale=False, **options)
    keywords = {"use_running_average": False} if name == "BatchNorm" else {}
    state = {"mutable": ["batch_stats"]} if name == "BatchNorm" else {}
    y = flax64(module, {}, x.movedim(axis, -1), **keywords, **state)
    return np.moveaxis(y[0] if state else y, -1, axis)


def far() -> Any:
    """Rows of two values far from zero: their mean is exact in float64, their squares are not."""
    middle = 2.0**27 + torch.arange(1, 9, dtype=torch.float64)
    half = torch.arange(3, 11, dtype=torch.float64)
    return torch.stack([middle - half, middle + half], dim=1)
