"""Arrays as the tests draw, weigh, move and compare them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch


def normal(seed: int, *shape: int) -> np.ndarray:
    """Generic numbers, the same for the same seed and shape whatever was drawn before."""
    return np.random.default_rng(seed).standard_normal(shape)


def weigh(y: Any) -> Any:
    """A number in which every element of y counts, and differently, in both frameworks."""
    weights = np.cos(np.arange(np.prod(y.shape))).reshape(y.shape)
    return (y * (torch.as_tensor(weights) if isinstance(y, torch.Tensor) else weights)).sum()


def last(array: np.ndarray) -> np.ndarray:
    """Images with their channels last: (N, C, H, W) -> (N, H, W, C); the rest as it is."""
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def kernel(weight: np.ndarray) -> np.ndarray:
    """torch's weight (out, in, ...) as JAX's kernel (..., in, out)."""
    return np.moveaxis(weight, (0, 1), (-1, -2))


def gradient(tensor: torch.Tensor) -> np.ndarray:
    assert tensor.grad is not None
    return tensor.grad.numpy()


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, as a part of the first's largest element."""
    assert one.shape == other.shape
    return float(np.abs(one - other).max() / (np.abs(one).max() or 1))


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    """To 1e-11: the same computed twice."""
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13)


def assert_same(found: Iterable, wanted: Iterable, what: object = "") -> None:
    """Each finite value to 1e-12 (cancellation leaves less), NaN and infinities exactly."""
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=str(what))
