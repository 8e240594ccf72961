"""How far two arrays are apart, whatever they hold: very large, very small, infinite, NaN."""

from __future__ import annotations

import numpy as np

HUGE = 1e8  # what a mask fills in, not what a network computes
BLOCK = 2**18  # elements that are compared at a time


def norm(x: np.ndarray) -> float:
    """The Euclidean norm, scaled by the largest element so that nothing over- or underflows."""
    x = np.ravel(x)
    x = (x.view(x.real.dtype) if x.dtype.kind == "c" else x).astype(np.float64, copy=False)
    if not x.size:
        return 0.0
    square = float(np.einsum("i,i->", x, x))
    if 1e-200 < square < 1e200:
        return float(np.sqrt(square))
    largest = float(np.max(np.abs(x)))
    if largest == 0 or not np.isfinite(largest):
        return largest
    scaled = x / largest
    return largest * float(np.sqrt(np.einsum("i,i->", scaled, scaled)))


def finite_norm(x: np.ndarray) -> float:
    """The norm of what is finite."""
    size = norm(x)
    return size if np.isfinite(size) else norm(np.where(np.isfinite(x), x, 0))


def parts(t: np.ndarray, j: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Two arrays as they are, or the moderate and the huge elements of `t` by themselves, zeros in
    place of the others: beside a mask's -1e38 no difference of the scores would be seen.

    Returns: with each, what it was divided by; huge numbers are, so that their norm is a number.
    """
    if t.dtype.kind != "f" or t.shape != j.shape or not t.size:
        return [(t, j, 1.0)]
    with np.errstate(invalid="ignore"):
        size = np.abs(t)
        huge = (size >= HUGE) & np.isfinite(t)
    if huge.all() or not huge.any():
        return [(t, j, 1.0)]
    scale = max(1.0, float(size[huge].max()) / HUGE)
    moderate = np.where(huge, 0, t), np.where(huge, 0, j), 1.0
    return [moderate, (np.where(huge, t, 0) / scale, np.where(huge, j, 0) / scale, scale)]


def rearranged(t: np.ndarray, j: np.ndarray, relative: float) -> bool:
    """Whether two arrays of different shapes hold the same numbers, in whatever order."""
    if t.size != j.size or not t.size or "c" in (t.dtype.kind, j.dtype.kind):
        return False
    ours, theirs = np.sort(t, axis=None), np.sort(j, axis=None)
    return distance(ours, theirs) <= relative * finite_norm(ours)


def distance(t: np.ndarray, j: np.ndarray) -> float:
    """||t - j||; equal infinities match, other non-finite values on one side are infinitely far."""
    rows = len(t) * BLOCK // t.size if t.size > BLOCK else 0
    if rows:  # by parts: no third array of that size
        starts = range(0, len(t), rows)
        return norm(np.array([distance(t[i : i + rows], j[i : i + rows]) for i in starts]))
    if "c" in (t.dtype.kind, j.dtype.kind):
        t, j = (np.stack([x.real, x.imag]) for x in (t, j))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = norm(np.subtract(t, j, dtype=np.float64))
    if np.isfinite(difference):
        return difference
    finite = np.isfinite(t) & np.isfinite(j)
    matching = finite | (t == j) | (np.isnan(t) & np.isnan(j))
    if not matching.all():
        return float("inf")
    return norm(np.where(finite, t, 0).astype(np.float64) - np.where(finite, j, 0))
