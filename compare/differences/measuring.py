"""What the measurements share: generic float64 input, and the gap between two results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from compare.differences.shared.frameworks import jax, torch
from compare.share import to_jax, to_numpy
from compare.twin import generator


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Any:
    """A float64 torch tensor of standard normal values."""
    return torch.from_numpy(scale * generator(seed, "measure", *shape).standard_normal(shape))


def grid(low: float, high: float, count: int = 401) -> Any:
    """Evenly spaced float64 values, both ends included."""
    return torch.linspace(low, high, count, dtype=torch.float64)


def jax64(function: Callable, *arrays: Any) -> Any:
    """`function` of the arrays, run by JAX in float64; arrays come back as NumPy's."""
    with jax.enable_x64(True):
        given = [to_jax(to_numpy(a)) if hasattr(a, "shape") else a for a in arrays]
        return jax.tree.map(to_numpy, function(*given))


def flax64(module: Any, params: Any, *inputs: Any, **keywords: Any) -> Any:
    """A Linen module's result with these parameters, in float64."""

    def run(*given: Any) -> Any:
        leaves = jax.tree.map(lambda leaf: to_jax(to_numpy(leaf)), params)
        return module.apply({"params": leaves}, *given, **keywords)

    return jax64(run, *inputs)


def last(x: Any) -> Any:
    """(N, C, H, W) -> (N, H, W, C)."""
    return x.movedim(1, -1)


def first(x: np.ndarray) -> np.ndarray:
    """(N, H, W, C) -> (N, C, H, W)."""
    return np.moveaxis(x, -1, 1)


def gap(ours: Any, theirs: Any) -> float:
    """The largest absolute difference; infinite where shapes or NaNs do not match."""
    t, j = to_numpy(ours), to_numpy(theirs)
    if t.shape != j.shape or (np.isnan(t) != np.isnan(j)).any():
        return float("inf")
    with np.errstate(invalid="ignore"):
        difference = np.where((t == j) | np.isnan(t), 0.0, np.abs(t - j))
    return float(difference.max(initial=0.0))


def gaps(ours: Any, naive: Any, mended: Any) -> tuple[float, float]:
    """What a measurement gives: the gaps to JAX's naive result and to the mended one."""
    return gap(ours, naive), gap(ours, mended)


def against(ours: Any, naive: Callable, mended: Callable, *arrays: Any) -> tuple[float, float]:
    """The gaps to two JAX functions of the same arrays."""
    return gaps(ours, jax64(naive, *arrays), jax64(mended, *arrays))


def torch_gradient(function: Callable, x: Any) -> Any:
    """The gradient of the sum of a torch function's values."""
    leaf = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf)
    return gradient


def jax_gradient(function: Callable, x: Any) -> np.ndarray:
    """The gradient of the sum of a JAX function's values."""
    return jax64(jax.grad(lambda v: function(v).sum()), x)
