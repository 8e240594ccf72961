"""Series of numbers: yearly sunspots, monthly carbon dioxide; windows of them, and gaps in them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from compare.data.batches import epochs, require

__all__ = ["gaps", "series", "standardised", "windows"]


@cache
def series(name: str) -> np.ndarray:
    """A whole series in its own units, float64 (N,), of the data that statsmodels ships.

    Args:
      name: "sunspots" for the yearly sunspot numbers, 1700 to 2008; "co2" for the carbon dioxide
        over Mauna Loa in parts per million, weekly measurements averaged by month, March 1958 to
        December 2001; the months without any are interpolated linearly.

    Raises: ValueError for another name; DiptychError without statsmodels.
    """
    if name not in ("sunspots", "co2"):
        raise ValueError(f"name must be 'sunspots' or 'co2', not {name!r}")
    data = require(f"statsmodels.datasets.{name}").load_pandas().data
    if name == "sunspots":
        values = data["SUNACTIVITY"].to_numpy(np.float64)
    else:
        weeks = data["co2"].to_numpy(np.float64)
        months = data.index.to_numpy().astype("datetime64[M]").astype(np.int64)
        months -= months[0]
        known = np.isfinite(weeks)
        count = np.bincount(months[known], minlength=months[-1] + 1)
        total = np.bincount(months[known], weeks[known], minlength=months[-1] + 1)
        measured = np.flatnonzero(count)
        values = np.interp(np.arange(len(count)), measured, total[measured] / count[measured])
    values.setflags(write=False)
    return values


@cache
def standardised(name: str) -> np.ndarray:
    """A series of zero mean and unit variance, float32 (N,); name and errors as in `series`."""
    values = series(name)
    values = ((values - values.mean()) / values.std()).astype(np.float32)
    values.setflags(write=False)
    return values


def windows(values: np.ndarray, length: int, horizon: int = 1) -> dict[str, np.ndarray]:
    """All windows of a series, each one step after the one before, and what follows each.

    Args:
      values: the series, (N,).
      length: L, values in a window.
      horizon: H, values that follow.

    Returns: {"x": (M, L, 1), "y": (M, H)} of the dtype of `values`, M = N - L - H + 1.
    Raises: ValueError where the series is shorter than one window and its horizon.
    """
    if length < 1 or horizon < 1 or length + horizon > len(values):
        raise ValueError(f"length and horizon must be positive and fit {len(values)} values")
    whole = np.lib.stride_tricks.sliding_window_view(values, length + horizon)
    return {"x": whole[:, :length, None].copy(), "y": whole[:, length:].copy()}


def gaps(
    rng: np.random.Generator, *, batch: int, length: int, share: float = 0.3, name: str = "sunspots"
) -> Iterator[dict[str, np.ndarray]]:
    """Endless shuffled batches of windows with values missing, which both sides of a gap tell of.

    Args:
      rng: orders the windows, draws lengths and gaps.
      batch: B, windows in a batch.
      length: L, steps of the longest window; each is cut to a random length, at least half of it.
      share: of the values, missing.
      name: as in `series`; it is standardised.

    Returns: an iterator of {"x": float32 (B, L, 2), the value, or 0 where it is missing, and 1, or
      0 where it is missing; "lengths": int64 (B,); "y": float32 (B, L, 1), the values}. Beyond a
      length all are 0.
    Raises: as `series`, and ValueError for a length or a batch beyond the data.
    """
    values = standardised(name)
    if not 1 <= length <= len(values):
        raise ValueError(f"length must lie in 1..{len(values)}, not {length}")
    whole = np.lib.stride_tricks.sliding_window_view(values, length)

    def draw(index: np.ndarray) -> dict[str, np.ndarray]:
        lengths = rng.integers((length + 1) // 2, length, size=batch, endpoint=True)
        inside = np.arange(length) < lengths[:, None]
        seen = inside & (rng.random((batch, length)) >= share)
        y = np.where(inside, whole[index], np.float32(0))
        x = np.stack([np.where(seen, y, np.float32(0)), seen.astype(np.float32)], axis=-1)
        return {"x": x, "lengths": lengths, "y": y[..., None]}

    return map(draw, epochs(rng, len(whole), batch))
