"""Handwritten digits: 1797 grey images of 8x8 pixels (UCI, shipped with scikit-learn)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from compare.data.batches import epochs, require
from compare.data.folds import hold_out

__all__ = ["binary_digits", "digits", "every_digit", "split_digits"]


def digits(
    rng: np.random.Generator,
    *,
    batch: int,
    size: int = 8,
    channels: int = 1,
    flat: bool = False,
    scale: str = "standard",
    classes: Sequence[int] = range(10),
) -> Iterator[dict[str, np.ndarray]]:
    """Endless shuffled batches of digits.

    Args:
      rng: orders the examples; the same generator state gives the same batches.
      batch: B, examples in a batch.
      size, channels, flat, scale, classes: as in `every_digit`.

    Returns: an iterator of {"x": float32 (B, C, S, S) or (B, C*S*S), "labels": int64 (B,)}.
    Raises: as `every_digit`, and ValueError for a batch beyond the data.
    """
    count, draw = _drawing(size, channels, flat, scale, classes)
    return map(draw, epochs(rng, count, batch))


def every_digit(
    *,
    size: int = 8,
    channels: int = 1,
    flat: bool = False,
    scale: str = "standard",
    classes: Sequence[int] = range(10),
) -> dict[str, np.ndarray]:
    """All digits at once, in the order of the file; `compare.data.folds` splits them.

    Args:
      size: S, height and width in pixels, 8 or more; larger images are bilinear enlargements
        (half-pixel centres: torch's `align_corners=False`).
      channels: C, copies of the grey channel.
      flat: vectors (N, C*S*S) in place of images (N, C, S, S).
      scale: range of the pixels: "unit" for [0, 1], "signed" for [-1, 1], "standard" for zero mean
        and unit variance over the pixels of the ten classes.
      classes: digits to keep; a label is the position of its digit in `classes`.

    Returns: {"x": float32 (N, C, S, S) or (N, C*S*S), "labels": int64 (N,)}; N is 1797 with all
      classes.
    Raises: ValueError for an unknown scale or a size below 8; DiptychError without
      scikit-learn.
    """
    count, draw = _drawing(size, channels, flat, scale, classes)
    return draw(np.arange(count))


def split_digits(
    rng: np.random.Generator, *, share: float = 0.25, **how: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All digits, shuffled: some to train on, and some that are held out.

    Args:
      rng: shuffles.
      share: of the digits held out, between 0 and 1.
      how: size, channels, flat, scale, classes, as in `every_digit`.

    Returns: x float64 (N, C, S, S) or (N, C*S*S), labels int64 (N,), and the same of the M held
      out; N + M is 1797 with all classes.
    Raises: as `every_digit`, and ValueError for a share that leaves none.
    """
    every = every_digit(**how)
    x, labels = every["x"].astype(np.float64), every["labels"]
    kept, held_out = hold_out(len(x), share, rng)
    return x[kept], labels[kept], x[held_out], labels[held_out]


def binary_digits(
    rng: np.random.Generator, *, batch: int, classes: tuple[int, int] = (0, 1)
) -> Iterator[dict[str, np.ndarray]]:
    """Endless shuffled batches of two digits, for a perceptron: 0 against 1 is linearly separable.

    Args:
      rng: orders the examples.
      batch: B, examples in a batch.
      classes: the digit labelled -1 and the digit labelled +1.

    Returns: an iterator of {"x": float32 (B, 64), standardised, "labels": int64 (B,) in {-1, +1}}.
    Raises: as `digits`.
    """
    batches = digits(rng, batch=batch, flat=True, classes=classes)
    return ({"x": each["x"], "labels": 2 * each["labels"] - 1} for each in batches)


def _drawing(
    size: int, channels: int, flat: bool, scale: str, classes: Sequence[int]
) -> tuple[int, Callable[[np.ndarray], dict[str, np.ndarray]]]:
    """How many digits are kept, and what makes a batch of some of them."""
    images, targets = _load()
    centres = {
        "unit": (0.0, 1.0),
        "signed": (0.5, 0.5),
        "standard": (images.mean(), images.std()),
    }
    if scale not in centres:
        raise ValueError(f"scale must be one of {', '.join(centres)}, not {scale!r}")
    centre, spread = centres[scale]
    enlarge = _bilinear(8, size)
    kept = np.flatnonzero(np.isin(targets, classes))
    labels = np.argmax(targets[kept, None] == np.asarray(classes), axis=1)

    def draw(index: np.ndarray) -> dict[str, np.ndarray]:
        x = enlarge @ ((images[kept[index]] - centre) / spread) @ enlarge.T
        x = np.repeat(x[:, None].astype(np.float32), channels, axis=1)
        return {"x": x.reshape(len(index), -1) if flat else x, "labels": labels[index]}

    return len(kept), draw


@cache
def _load() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8) in [0, 1] and their digits (1797,)."""
    data = require("sklearn.datasets").load_digits()
    return data.images / 16, data.target


def _bilinear(old: int, new: int) -> np.ndarray:
    """Matrix (new, old) that enlarges one axis: each row holds two weights that sum to one."""
    if new < old:
        raise ValueError(f"size must be at least {old}, not {new}")
    position = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
    return np.maximum(0, 1 - abs(position[:, None] - np.arange(old)))
