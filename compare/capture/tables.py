"""Tables rounded to float32: held so by one side, computed by the other, whose formula is lifted.

In float32 the two sides have the same numbers; in float64 the table would be the difference. It
counts as the same where it is as near to the other side's values as float32 takes that formula: the
limit of tier 2, for each element. Then those values are taken in its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

UNIT = 2.0**-24
WITHIN = 4.0  # times the error of the formula in float32, or 4 units of an element
LOOSE = 1e-3  # beyond it a value is another one


@dataclass(frozen=True)
class Value:
    """Floating numbers that one side holds or makes, whatever it is given.

    Args:
      name: of a buffer, or the "file:line" that makes it; "" where unknown.
      array: in float64.
      held: as they are, not computed.
    """

    name: str
    array: np.ndarray
    held: bool = False


@dataclass(frozen=True)
class Table:
    """What one side rounds: where it stands, its numbers, and the other side's in their place."""

    name: str
    rounded: np.ndarray
    exact: np.ndarray
    source: str

    @property
    def error(self) -> float:
        """The largest difference, relative to the largest number."""
        return float(np.abs(self.rounded - self.exact).max() / np.abs(self.exact).max())

    def line(self, side: str, other: str) -> str:
        """For people: what it is, how large, and what it is held to."""
        count = f"{self.rounded.size} number{'' if self.rounded.size == 1 else 's'}"
        what = f"{side} {self.name}" if self.name else f"{side}, a constant"
        where = f" at {self.source}" if self.source else ""
        return f"{what}: {count}, off by {self.error:.1e} from {other}'s{where}"


def is_rounded(array: np.ndarray) -> bool:
    """Whether all numbers are float32's, and some need its digits: not whole, nor a half."""
    if not array.size or not np.isfinite(array).all():
        return False
    with np.errstate(over="ignore"):
        held = (array.astype(np.float32) == array).all()
    mantissa = np.ldexp(np.frexp(array)[0], 12)
    return bool(held and ((mantissa != np.rint(mantissa)) & (array != np.rint(array))).any())


def covering(table: np.ndarray, value: np.ndarray) -> np.ndarray | None:
    """The part of a table that a value may be: all of it, or its first rows; None if neither."""
    size = value.size
    rows = table.ndim > 1 and size < table.size and size % table.shape[-1] == 0
    if not size or (size != table.size and not rows):
        return None
    part = table.ravel()[:size]
    gap = np.abs(part - value.ravel())
    near = gap <= LOOSE * np.maximum(np.abs(part), LOOSE * np.abs(part).max())
    return part if near.mean() > 0.9 and gap.max() <= LOOSE * np.abs(part).max() else None


def unrounded(
    tables: Iterable[Value], made: list[Value], in_float32: list[np.ndarray]
) -> list[Table]:
    """The tables of one side that the other side has unrounded.

    Args:
      made: what the other side holds or makes, in float64.
      in_float32: the same where it runs in float32, in any order.
    """
    found = []
    for table in tables:
        # of what there is the largest part, and the nearest
        fitting = [(v, p) for v in made if (p := covering(table.array, v.array)) is not None]
        if not fitting:
            continue
        value, part = min(
            fitting, key=lambda f: (-f[1].size, np.abs(f[1] - f[0].array.ravel()).max())
        )
        exact = value.array.ravel()
        gap = np.abs(part - exact)
        if not gap.any() or (gap > _allowed(exact, in_float32)).any():
            continue
        whole = table.array.ravel().copy()
        whole[: exact.size] = exact
        whole = whole.reshape(table.array.shape)
        found.append(Table(table.name, table.array, whole, value.name))
    return found


def _allowed(exact: np.ndarray, in_float32: list[np.ndarray]) -> np.ndarray:
    """How far a table may be off, by element: what rounding the formula to float32 does, and no
    more where all of its numbers are as exact as float32 can be.
    """
    size = np.abs(exact)
    least = WITHIN * 4 * UNIT * size
    errors = [np.abs(a.ravel() - exact) for a in in_float32 if a.size == exact.size]
    error = min(errors, key=np.max, default=None)
    if error is None or error.max() > LOOSE * size.max():
        return least
    relative = np.divide(error, size, out=np.zeros_like(size), where=size > 0).max()
    return np.maximum(least, WITHIN * np.minimum(error.max(), relative * size))
