"""Crops of two photographs, a temple and a flower, 427x640 pixels (shipped with scikit-learn)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from compare.data.batches import require

__all__ = ["photographs"]
BANDS = 5


def photographs(
    rng: np.random.Generator, *, batch: int, size: int, scale: str = "standard"
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches of square crops, to be told apart by photograph and by place.

    Args:
      rng: places the crops.
      batch: B, crops in a batch.
      size: S, height and width in pixels, at most 427; crops below that are taken from a window
        twice as large where it fits, every other pixel, so that they show more than texture.
      scale: "standard" for zero mean and unit variance per colour, "unit" for [0, 1].

    Returns: an iterator of {"x": float32 (B, 3, S, S), "labels": int64 (B,) in 0..9}: five bands of
      the temple from left to right, then five of the flower.
    Raises: ValueError for a size beyond the photographs or an unknown scale;
      DiptychError without scikit-learn or pillow.
    """
    images = _load()
    height, width = images.shape[2:]
    if not 1 <= size <= height:
        raise ValueError(f"size must lie in 1..{height}, the height of the photographs, not {size}")
    if scale not in ("standard", "unit"):
        raise ValueError(f"scale must be 'standard' or 'unit', not {scale!r}")
    if scale == "standard":
        spread = images.std(axis=(0, 2, 3), keepdims=True)
        images = (images - images.mean(axis=(0, 2, 3), keepdims=True)) / spread
    stride = 2 if 2 * size <= height else 1
    reach = stride * size

    def crop() -> tuple[np.ndarray, int]:
        which = rng.integers(len(images))
        top, left = rng.integers(height - reach + 1), rng.integers(width - reach + 1)
        band = int(left) * BANDS // (width - reach + 1)
        window = images[which, :, top : top + reach : stride, left : left + reach : stride]
        return window, int(which) * BANDS + band

    while True:
        crops = [crop() for _ in range(batch)]
        yield {
            "x": np.stack([image for image, _ in crops]).astype(np.float32),
            "labels": np.array([label for _, label in crops]),
        }


@cache
def _load() -> np.ndarray:
    """Images (2, 3, 427, 640) in [0, 1]."""
    require("PIL")  # scikit-learn reads its photographs with it
    images = require("sklearn.datasets").load_sample_images().images
    return np.stack(images).transpose(0, 3, 1, 2) / 255
