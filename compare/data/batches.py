"""What the datasets share: endless shuffled epochs, and a missing package named with its cure."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import numpy as np

from compare.errors import DiptychError, absent

__all__ = ["epochs", "require", "shuffled"]


def epochs(rng: np.random.Generator, count: int, batch: int) -> Iterator[np.ndarray]:
    """Indices of batches for ever: every epoch visits `count` examples in a new order.

    The examples left over at the end of an epoch are dropped, so that every batch has one shape.

    Returns: int64 arrays (batch,) of indices below `count`.
    Raises: ValueError where `batch` is not in 1..count.
    """
    if not 1 <= batch <= count:
        raise ValueError(f"batch must lie in 1..{count}, the number of examples, not {batch}")

    def forever():
        while True:
            order = rng.permutation(count)
            for start in range(0, count - batch + 1, batch):
                yield order[start : start + batch]

    return forever()


def shuffled(
    rng: np.random.Generator,
    inputs: tuple[np.ndarray, ...],
    targets: tuple[np.ndarray, ...],
    batch: int,
) -> Iterator[tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]]:
    """Batches of examples for ever, as `Networks.train` takes them, by `epochs`.

    Args:
      inputs, targets: arrays of one length, an example a row.

    Returns: ((input (batch, ...), ...), (target (batch, ...), ...)) each.
    Raises: ValueError as `epochs` does.
    """
    return (
        (tuple(x[index] for x in inputs), tuple(y[index] for y in targets))
        for index in epochs(rng, len(inputs[0]), batch)
    )


def require(module: str):
    """Imports an optional package.

    Raises: DiptychError where it is not installed: the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DiptychError(absent(module.partition(".")[0])) from error
