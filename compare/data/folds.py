"""Indices of examples to train on and of examples held out: one split, or k folds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["hold_out", "k_fold"]


def hold_out(count: int, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shuffles examples and sets a share of them aside.

    Args:
      count: N, examples.
      share: of the examples held out, between 0 and 1; rounded to whole examples.
      rng: shuffles.

    Returns: indices to train on and indices held out, int64, at least one each.
    Raises: ValueError where either would be empty.
    """
    held_out = round(count * share)
    if not 0 < held_out < count:
        raise ValueError(f"share must leave some of {count} examples on both sides, not {share}")
    order = rng.permutation(count)
    return order[held_out:], order[:held_out]


def k_fold(
    count: int, folds: int, rng: np.random.Generator | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Splits examples into folds, each of which is held out once.

    Every example is held out exactly once; the first `count % folds` folds have one more.

    Args:
      count: N, examples.
      folds: k in 2..N.
      rng: shuffles the examples before; None takes neighbours together.

    Returns: an iterator of (indices to train on, indices held out), int64, both ascending;
      scikit-learn's KFold(k).
    Raises: ValueError where `folds` is not in 2..count.
    """
    if not 2 <= folds <= count:
        raise ValueError(f"folds must lie in 2..{count}, the number of examples, not {folds}")
    order = np.arange(count) if rng is None else rng.permutation(count)

    def split(held_out):
        outside = np.ones(count, bool)
        outside[held_out] = False
        return np.flatnonzero(outside), np.flatnonzero(~outside)

    return map(split, np.array_split(order, folds))
