"""Where the axes stand: NCHW in PyTorch, NHWC in JAX; permuted here, at the edges."""

from __future__ import annotations

from typing import Any

import numpy as np


def channels_last(array: np.ndarray) -> np.ndarray:
    """(N, C, …) -> (N, …, C), as a view."""
    return np.moveaxis(array, 1, -1)


def channels_first(array: np.ndarray) -> np.ndarray:
    """(N, …, C) -> (N, C, …), as a view."""
    return np.moveaxis(array, -1, 1)


def align(array: np.ndarray, shape: tuple[int, ...], layout: str) -> np.ndarray | None:
    """JAX's `array` with PyTorch's axes, or None where it does not have PyTorch's `shape`.

    Images (rank 4 and 5) are taken for channels-last, sequences (rank 3) as they are, if that fits.
    """
    as_it_is = array if array.shape == shape else None
    if layout == "same" or array.ndim < 3:
        return as_it_is
    moved = channels_first(array)
    moved = moved if moved.shape == shape else None
    first, second = (as_it_is, moved) if array.ndim == 3 else (moved, as_it_is)
    return second if first is None else first


def arrange(array: Any, shape: tuple[int, ...], layout: str) -> Any | None:
    """PyTorch's `array` with the axes of JAX's value of `shape`: the way back from `align`."""
    as_it_is = array if array.shape == shape else None
    if layout == "same" or array.ndim < 3:
        return as_it_is
    moved = channels_last(array)
    moved = moved if moved.shape == shape else None
    first, second = (as_it_is, moved) if array.ndim == 3 else (moved, as_it_is)
    return second if first is None else first
