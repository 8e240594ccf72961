"""How one array of weights was made from another: transposed, permuted, scaled, rounded, in part.

Nothing is guessed: a relation is named where the one array, changed so, is the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

CLOSE = 2.0**-20  # relative: further apart is no rounding of float32
GLANCE = 64  # elements that are compared before all are
SAMPLE = 1 << 12  # elements that are looked at for a relation before all of many are
FEW = 4  # so few numbers fit any line
MOST = 5  # axes whose orders are all tried
GATES = 4  # blocks whose order is their name before any other pattern's
EXCHANGED = "its halves exchanged"
ELEMENTWISE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "its square root": np.sqrt,
    "its square": np.square,
    "its reciprocal": np.reciprocal,
    "1 over its square root": lambda x: 1 / np.sqrt(x),
    "its logarithm": np.log,
    "its exponential": np.exp,
}


@dataclass(frozen=True)
class Relation:
    """What was done to one array so that it is another.

    Args:
      kind: "transposed", "flipped", "reshaped", "reordered", "rounded", "scaled", "shifted",
        "elementwise", "constant" or "part".
      text: in words: "transposed", "times 0.5".
      value: the one array with that done to it.
    """

    kind: str
    text: str
    value: np.ndarray


def same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two arrays are one but for a rounding of float32."""
    if ours.shape != theirs.shape:
        return False
    if ours.size > GLANCE and not same(ours.flat[:GLANCE], theirs.flat[:GLANCE]):
        return False
    one, two = ours.astype(np.float64), theirs.astype(np.float64)
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        return bool(np.array_equal(one, two, equal_nan=True))
    return bool(np.all(np.abs(one - two) <= CLOSE * np.abs(one)))


def telling(array: np.ndarray) -> bool:
    """Whether an array's values tell it from others: enough of them, and not all alike."""
    if array.size <= FEW or array.dtype.kind not in "fiuV":
        return False
    return any(len(np.unique(some)) > FEW // 2 for some in (array.flat[: 4 * FEW], array))


def relation(ours: np.ndarray, theirs: np.ndarray) -> Relation | None:
    """How `theirs` was made from `ours`, of as many elements; None for no way that is known.

    Args:
      ours: the right values, finite.
      theirs: others.
    """
    if found := moved(ours, theirs):
        return found
    if not ours.size or ours.shape != theirs.shape:
        return None
    if ours.size > 16 * SAMPLE:  # what all have to each other, some have
        some = np.random.default_rng(0).integers(ours.size, size=SAMPLE)
        at = np.unravel_index(some, ours.shape)
        if relation(ours[at], theirs[at]) is None:
            return None
    return next(_valued(ours.astype(np.float64), theirs.astype(np.float64)), None)


def moved(ours: np.ndarray, theirs: np.ndarray) -> Relation | None:
    """The same of numbers that were only moved."""
    if not ours.size or not alike(ours, theirs):
        return None
    return next(_moved(ours.astype(np.float64), theirs.astype(np.float64)), None)


def alike(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two arrays hold the same numbers in some order."""
    if ours.size != theirs.size or not ours.size:
        return ours.size == theirs.size
    if not (same(ours.min(), theirs.min()) and same(ours.max(), theirs.max())):
        return False
    return same(np.sort(ours, axis=None), np.sort(theirs, axis=None))


def _moved(one: np.ndarray, two: np.ndarray) -> Iterator[Relation]:
    """The same numbers, elsewhere."""
    axes = tuple(range(one.ndim))
    if one.ndim <= MOST:
        for perm in itertools.permutations(axes):
            if perm == axes or tuple(one.shape[a] for a in perm) != two.shape:
                continue
            if same(one.transpose(perm), two):
                text = "transposed" if one.ndim == 2 else f"its axes in the order {perm}"
                yield Relation("transposed", text, one.transpose(perm))
    if one.shape != two.shape:
        if same(one.reshape(two.shape), two):
            text = f"reshaped from {one.shape} to {two.shape}"
            yield Relation("reshaped", text, one.reshape(two.shape))
        return
    for count in range(1, one.ndim + 1):
        for flipped in itertools.combinations(axes, count):
            if all(one.shape[a] > 2 for a in flipped) and same(np.flip(one, flipped), two):
                text = f"reversed along {_axes(flipped)}"
                yield Relation("flipped", text, np.flip(one, flipped))
    for perm in itertools.permutations(axes) if one.ndim <= MOST else ():
        moved = one.transpose(perm)
        if moved.shape != one.shape and same(moved.reshape(one.shape), two):
            text = f"its axes in the order {perm}, and then reshaped"
            yield Relation("reshaped", text, moved.reshape(one.shape))
    for axis in axes:
        order = reordered(one, two, axis)
        if order is not None:
            text = f"{named(order)} along {_axes((axis,))}"
            yield Relation("reordered", text, np.take(one, order, axis))


def reordered(one: np.ndarray, two: np.ndarray, axis: int) -> np.ndarray | None:
    """The order in which the slices of one array along an axis are those of the other."""
    if one.shape != two.shape:
        return None
    first = tuple(slice(None) if a == axis else 0 for a in range(one.ndim))
    if not same(np.sort(one[first]), np.sort(two[first])):
        return None
    a, b = (np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for x in (one, two))
    first, second = _sorted(a), _sorted(b)
    order = np.empty(len(a), int)
    order[second] = first
    return order if same(a[order], b) else None


def _sorted(rows: np.ndarray) -> np.ndarray:
    """The order of rows by their first element, and by the others where that is not enough."""
    if len(np.unique(rows[:, 0])) < len(rows):
        return np.lexsort(rows.T[::-1])
    return np.argsort(rows[:, 0])


def named(order: np.ndarray) -> str:
    """An order of n things in words: reversed, rolled, halves exchanged, interleaved, …"""
    n, plain = len(order), np.arange(len(order))
    if np.array_equal(order, plain[::-1]):
        return "in reverse order"
    if few := _blocks(order, GATES):
        return few
    for shift in range(1, n):
        if np.array_equal(order, np.roll(plain, shift)):
            return f"rolled by {shift}"
    for groups, blocks, turns, wide in _factors(n):
        taken = plain.reshape(groups, blocks, turns, wide).swapaxes(1, 2).ravel()
        if np.array_equal(order, taken):
            text = f"interleaved, {blocks} blocks of {turns * wide} taken in turns"
            text += f", {wide} at a time" if wide > 1 else ""
            return text + (f", in each of {groups} groups" if groups > 1 else "")
    if many := _blocks(order, n // 2):
        return many
    moved = int(np.count_nonzero(order != plain))
    if moved == 2:
        one, two = map(int, np.flatnonzero(order != plain))
        return f"{one} and {two} exchanged"
    return f"in another order, {moved} of {n} moved"


def _blocks(order: np.ndarray, most: int) -> str:
    """Whole blocks in another order, the fewest that it takes."""
    n = len(order)
    for count in (k for k in range(2, most + 1) if n % k == 0 and n > k):
        wide, blocks = n // count, order.reshape(count, -1)
        first = blocks[:, :1]
        if np.all(blocks - first == np.arange(wide)) and np.all(first % wide == 0):
            places = ", ".join(str(int(place) // wide) for place in first.ravel())
            return f"its {count} blocks in the order {places}" if count > 2 else EXCHANGED
    return ""


def _factors(n: int) -> Iterator[tuple[int, int, int, int]]:
    """n = groups x blocks x turns x wide, the fewest groups first; blocks and turns above 1."""
    divisors = [k for k in range(1, n + 1) if n % k == 0]
    for groups in divisors:
        for wide in divisors:
            rest, none = divmod(n, groups * wide)
            if not none:
                for blocks in (k for k in divisors if 1 < k < rest and rest % k == 0):
                    yield groups, blocks, rest // blocks, wide


def _valued(one: np.ndarray, two: np.ndarray) -> Iterator[Relation]:
    """Other numbers in the same places."""
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        return
    for name, bits in (("bfloat16", 8), ("float16", 11)):
        if _rounded(one, two, bits):
            yield Relation("rounded", f"rounded to {name}", two.astype(np.float32))
            break
    if np.ptp(two) == 0:
        yield Relation("constant", f"all {two.flat[0] + 0.0:.6g}: never loaded", two)
        return
    if one.size > 2 and np.ptp(one):
        size = float(np.vdot(one, one))
        factor = float(np.vdot(one, two)) / size
        if factor and same(factor * one, two):
            text = "with the other sign" if np.isclose(factor, -1) else f"times {factor:.6g}"
            yield Relation("scaled", text, factor * one)
        offset = float(np.mean(two - one))
        if _near(one + offset, two):
            yield Relation("shifted", f"plus {offset:.6g}", one + offset)
        with np.errstate(all="ignore"):
            for text, function in ELEMENTWISE.items():
                value = function(one)
                if np.isfinite(value).all() and _near(value, two):
                    yield Relation("elementwise", text, value)
    apart = ~np.isclose(one, two, rtol=CLOSE, atol=0)
    if apart.sum() * 2 < one.size:
        text = f"but for {int(apart.sum())} of {one.size} elements{_where(apart)}"
        yield Relation("part", text, two)


def _near(one: np.ndarray, two: np.ndarray) -> bool:
    """Equal up to what rounding of the largest element makes of each."""
    return bool(np.max(np.abs(one - two)) <= CLOSE * max(np.max(np.abs(one)), np.max(np.abs(two))))


def _rounded(one: np.ndarray, two: np.ndarray, bits: int) -> bool:
    """Whether `two` is `one` with so many bits of the mantissa, and no more than that were kept."""
    mantissa, _ = np.frexp(two)
    kept = np.ldexp(mantissa, bits)
    near = np.abs(one - two) <= 2.0**-bits * np.abs(one)
    return bool(np.all(kept == np.round(kept)) and near.all())


def _axes(axes: tuple[int, ...]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"


def _where(apart: np.ndarray) -> str:
    """The slice that holds all that differ, if it is one."""
    for axis in range(apart.ndim):
        held = np.flatnonzero(apart.any(axis=tuple(a for a in range(apart.ndim) if a != axis)))
        few = 0 < len(held) <= apart.shape[axis] // 2
        if few and held[-1] - held[0] == len(held) - 1:
            span = f"{held[0]}" if len(held) == 1 else f"{held[0]}:{held[-1] + 1}"
            return f", {'row' if axis == 0 else f'axis {axis},'} {span}"
    return ""
