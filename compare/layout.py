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


def align_layer(array: np.ndarray, shape: tuple[int, ...], layout: str) -> np.ndarray | None:
    """The same of a layer's value, which one side may hold in other axes: split into heads, with an
    axis of one, for all examples at once.
    """
    aligned = align(array, shape, layout)
    if aligned is not None:
        return aligned
    if refines(array.shape, shape) or refines(shape, array.shape):
        return array.reshape(shape)
    if array.ndim == len(shape) and all(
        a in (1, b) for a, b in zip(array.shape, shape, strict=True)
    ):
        return np.broadcast_to(array, shape)
    return None


def arrange(array: Any, shape: tuple[int, ...], layout: str) -> Any | None:
    """PyTorch's `array` with the axes of JAX's value of `shape`: as `align_layer` the other way."""
    as_it_is = array if array.shape == shape else None
    if layout == "same" or array.ndim < 3:
        moved = None
    else:
        moved = channels_last(array)
        moved = moved if moved.shape == shape else None
    first, second = (as_it_is, moved) if array.ndim == 3 else (moved, as_it_is)
    found = second if first is None else first
    if found is None and (refines(array.shape, shape) or refines(shape, array.shape)):
        return array.reshape(shape)
    return found


def refines(fine: tuple[int, ...], coarse: tuple[int, ...]) -> bool:
    """Whether splitting axes of `coarse`, in order, gives `fine`."""
    if fine == coarse:
        return True
    axes = list(fine)
    for size in coarse:
        product = 1
        while axes and product * axes[0] <= size and (product < size or axes[0] == 1):
            product *= axes.pop(0)
        if product != size:
            return False
    return not axes
