"""Yearly sunspot numbers, 1700 to 2008 (SIDC, shipped with statsmodels)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compare.data.batches import epochs
from compare.data.series import standardised

__all__ = ["sunspots"]


def sunspots(
    rng: np.random.Generator, *, batch: int, length: int, horizon: int = 1, ragged: bool = False
) -> Iterator[dict[str, np.ndarray]]:
    """Endless shuffled batches of windows: a stretch of years, and the years that follow it.

    Args:
      rng: orders the windows, and draws the lengths.
      batch: B, windows in a batch.
      length: L, years in a window.
      horizon: H, years to predict.
      ragged: cut each window to a random length in 1..L and fill the rest with zeros; the years to
        predict are the ones after the cut.

    Returns: an iterator of {"x": float32 (B, L, 1), "y": float32 (B, H)}, with "lengths": int64
      (B,) where ragged. The series of 309 years is standardised to zero mean and unit variance.
    Raises: ValueError where the series is too short for the windows or the batch;
      DiptychError without statsmodels.
    """
    series = standardised("sunspots")
    if length < 1 or horizon < 1 or length + horizon > len(series):
        raise ValueError(f"length and horizon must be positive and fit {len(series)} years")
    windows = np.lib.stride_tricks.sliding_window_view(series, length + horizon)

    def draw(index):
        window = windows[index]
        if not ragged:
            return {"x": window[:, :length, None].copy(), "y": window[:, length:].copy()}
        lengths = rng.integers(1, length, size=batch, endpoint=True)
        inside = np.arange(length) < lengths[:, None]
        x = np.where(inside, window[:, :length], np.float32(0))[..., None]
        y = np.take_along_axis(window, lengths[:, None] + np.arange(horizon), axis=1)
        return {"x": x, "lengths": lengths, "y": y}

    return map(draw, epochs(rng, len(windows), batch))
