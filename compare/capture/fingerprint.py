"""Values known by their fingerprints: a few sums that do not depend on the order of the elements.

In float64, with equal inputs and weights, a value of PyTorch's occurs in JAX's program too, under
some layout. Its fingerprint is what is left of it when the layout is forgotten; equal ones are the
same value, or one that was rearranged. Elements enter by their logarithm, and those that are as
large as a mask by their number, so that they do not hide the scores beside them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

LIKE = 1e-9  # as of a verdict: what float64 noise grows to stays below, no fault does
NOISE = 1e-15  # per element: zero but for rounding
LARGE = 1e8  # and above: a mask, whichever large number was taken for infinity
PART = 1 << 15  # elements that are looked at together: they and what is made of them stay cached
ODD = (1.0, 2**0.5, 3**0.5)  # what NaN, large and -large ones count: no sum is another's


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a value.

    Args:
      size: the number of its elements; a complex one is two.
      odd: how many are NaN, infinite or as large as a mask, each kind with a weight of its own.
      total, length, square, cube: sums of y, |y|, y², y³, where y is the logarithm of 1 + |x| with
        the sign of x, over the other elements.
      least, largest: of y.
    """

    size: int
    odd: float
    total: float
    length: float
    square: float
    cube: float
    least: float
    largest: float

    @property
    def trivial(self) -> bool:
        """Whether equal values prove nothing: constants, counts, masks of zeros and ones."""
        if self.size == 0 or self.length <= 1e3 * NOISE * self.size:
            return True
        if self.largest - self.least <= LIKE * self.peak:
            x = float(np.expm1(min(self.peak, 50.0)))
            return self.size > 1 or abs(x - round(x)) <= LIKE * x
        one = float(np.log(2.0))
        return self.peak <= one * (1 + LIKE) and abs(self.square - one * self.length) <= (
            LIKE * self.square
        )

    @property
    def peak(self) -> float:
        return max(abs(self.least), abs(self.largest))


def _logarithm(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The elements of a float64 array as they are summed, and what the others count."""
    usual = np.abs(x) < LARGE
    y = np.where(usual, np.sign(x) * np.log1p(np.abs(np.where(usual, x, 0.0))), 0.0)
    large = np.where(x > 0, ODD[1], ODD[2])
    return y, np.where(usual, 0.0, np.where(np.isnan(x), ODD[0], large))


def fingerprint(x: np.ndarray) -> Fingerprint:
    """The fingerprint of an array of any dtype and shape."""
    x = np.ravel(x)
    x = x.view(x.real.dtype) if x.dtype.kind == "c" else x
    if not x.size:
        return Fingerprint(0, *np.zeros(7).tolist())
    sums = np.array([_sums(x[at : at + PART]) for at in range(0, x.size, PART)])
    ends = sums[:, 5].min(), sums[:, 6].max()
    return Fingerprint(x.size, *(float(value) for value in (*sums[:, :5].sum(0), *ends)))


def _sums(x: np.ndarray) -> list[float]:
    """What a fingerprint is made of, of some of the elements."""
    y, odd = _logarithm(x.astype(np.float64))
    square = y * y
    return [odd.sum(), y.sum(), np.abs(y).sum(), square.sum(), (square * y).sum(), y.min(), y.max()]


def alike(a: Fingerprint, b: Fingerprint) -> bool:
    """Whether two values are the same, but for rounding and for the order of their elements."""
    floor, peak = NOISE * a.size, max(a.peak, b.peak)
    limits = (
        (a.odd, b.odd, LIKE),
        (a.total, b.total, LIKE * a.length + floor),
        (a.length, b.length, LIKE * a.length + floor),
        (a.square, b.square, LIKE * 2 * a.square + floor * peak),
        (a.cube, b.cube, LIKE * 3 * a.square * peak + floor * peak**2),
        (a.least, b.least, LIKE * peak + floor),
        (a.largest, b.largest, LIKE * peak + floor),
    )
    return a.size == b.size and all(abs(x - y) <= limit for x, y, limit in limits)


def ordered(x: np.ndarray, axis: int) -> float:
    """A sum that tells in which order the elements stand along an axis, and along no other."""
    along = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]).sum(0)
    return float(along @ np.cos(np.arange(1.0, len(along) + 1)))


class Index:
    """Fingerprints, to be looked up.

    Args:
      prints: by number; None is found by nobody.
    """

    def __init__(self, prints: Sequence[Fingerprint | None]):
        self._prints = prints
        self._lengths: dict[int, list[tuple[float, int]]] = {}
        for number, print_ in enumerate(prints):
            if print_ is not None:
                self._lengths.setdefault(print_.size, []).append((print_.length, number))
        for lengths in self._lengths.values():
            lengths.sort()

    def alike(self, wanted: Fingerprint) -> Iterator[int]:
        """The numbers of those that are alike, in order of length."""
        lengths = self._lengths.get(wanted.size, [])
        off = 2 * (LIKE * wanted.length + NOISE * wanted.size)
        first = bisect_left(lengths, (wanted.length - off, -1))
        last = bisect_right(lengths, (wanted.length + off, len(self._prints)))
        for _, number in lengths[first:last]:
            found = self._prints[number]
            assert found is not None
            if alike(wanted, found):
                yield number
