"""Dropout's masks: drawn once in PyTorch's layout, given to both sides, paired by execution.

What is drawn are uniform numbers; each side compares them with its own probability, as its own
sampler would. They lie half-way between multiples of 2^-16, so that the rounding of a probability
turns no element round. Two draws that a side makes from one state of its generator (PyTorch's
recomputed checkpoint, JAX's key that is used twice) are one draw here, too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compare.twin import generator

GRID = 2**16
SIDES = ("PyTorch", "JAX")
ROUNDING = 1e-6  # of a probability, where one side has it in float32
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """One Bernoulli draw of a run.

    Args:
      shape: of the mask.
      keep: its probability, None where it varies by element.
      source: "file:line" of the call, where known.
    """

    shape: Shape
    keep: float | None
    source: str = ""


@dataclass(frozen=True)
class Site:
    """A place in a traced program that draws.

    Args:
      shape: of one draw.
      place: its position in the program, one number a level of scans.
      lengths: of the scans around it, outermost first, negative for one that runs backwards.
      source: as in `Draw`.
    """

    shape: Shape
    place: tuple[int, ...]
    lengths: tuple[int, ...] = ()
    source: str = ""


def uniform(seed: int, mode: str, step: int, index: int, shape: Shape) -> np.ndarray:
    """The numbers behind one mask; exact in float32."""
    rng = generator(seed, "dropout", mode, step, index)
    return (rng.integers(0, GRID, shape) + 0.5) / GRID


@dataclass(frozen=True)
class Fit:
    """How a mask of PyTorch's becomes one of JAX's.

    Args:
      split: PyTorch's shape with merged axes taken apart.
      order: its axes in JAX's order.
      padded: JAX's shape at PyTorch's rank.
      shape: JAX's shape.
      drawn: PyTorch's shape, with 1 where either side shares its mask over an axis.
      ambiguous: whether the axes could be ordered in another way.
    """

    split: Shape
    order: tuple[int, ...]
    padded: Shape
    shape: Shape
    drawn: Shape
    ambiguous: bool = False

    @property
    def moved(self) -> Shape:
        """PyTorch's shape in JAX's order."""
        return tuple(self.split[axis] for axis in self.order)

    def shared(self) -> tuple[list[int], list[int]]:
        """The axes over which PyTorch alone shares its mask, and those over which JAX does."""
        pairs = list(enumerate(zip(self.moved, self.padded, strict=True)))
        ours = [axis for axis, (a, b) in pairs if a == 1 < b]
        return ours, [axis for axis, (a, b) in pairs if b == 1 < a]

    def __call__(self, array: np.ndarray) -> np.ndarray:
        array = array.reshape(self.split).transpose(self.order)
        for axis, size in enumerate(self.padded):
            if size == 1:
                array = array.take([0], axis)
        return np.broadcast_to(array, self.padded).reshape(self.shape)


def fit(ours: Shape, theirs: Shape, images: bool, layout: str) -> Fit | None:
    """Arranges a mask of PyTorch's for JAX; None where the shapes are of different things.

    Args:
      images: whether the models take images: axes are then moved before they are left alone.
      layout: as in `Twin`.
    """
    rank = len(ours)
    same = tuple(range(rank))
    last = (0, *range(2, rank), 1) if rank > 2 and layout != "same" else same
    swapped = (1, 0, *range(2, rank)) if rank > 2 else same  # time before batch
    first = (last, same) if images and rank > 3 else (same, last)
    channels = images and rank > 3 and set(ours[2:]) == {1}  # dropped whole: no other order fits
    orders = [last] if channels else list(dict.fromkeys((*first, swapped)))
    exact = [order for order in orders if tuple(ours[a] for a in order) == theirs]
    if exact:
        return Fit(ours, exact[0], theirs, theirs, ours, len(exact) > 1)
    if _merged(ours, theirs) or _merged(theirs, ours):
        return Fit(theirs, tuple(range(len(theirs))), theirs, theirs, ours)
    if rank == 2 and len(theirs) > 2 and math.prod(ours) == math.prod(theirs):
        split = (theirs[0], theirs[-1], *theirs[1:-1]) if layout != "same" else theirs
        order = (0, *range(2, len(theirs)), 1) if layout != "same" else tuple(range(len(theirs)))
        return Fit(split, order, theirs, theirs, ours) if ours[0] == theirs[0] else None
    if len(theirs) == 2 < rank and (ours[0], math.prod(ours)) == (theirs[0], math.prod(theirs)):
        return Fit(ours, same, ours, theirs, ours)  # flattened before it drops, as PyTorch after it
    padded = theirs
    while len(padded) > rank and padded[0] == 1:
        padded = padded[1:]
    padded = (1,) * (rank - len(padded)) + padded
    if len(padded) != rank:
        return None
    for order in orders:
        pairs = zip((ours[axis] for axis in order), padded, strict=True)
        if all(a == b or 1 in (a, b) for a, b in pairs):
            drawn = list(ours)
            for axis, size in zip(order, padded, strict=True):
                drawn[axis] = min(drawn[axis], size)
            return Fit(ours, order, padded, theirs, tuple(drawn))
    return None


def _merged(few: Shape, many: Shape) -> bool:
    """Whether `few` is `many` with its first axes made one."""
    rest = len(few) - 1
    return (
        0 < rest + 1 < len(many)
        and math.prod(few) == math.prod(many)
        and few[1:] == many[len(many) - rest :]
    )


@dataclass
class Plan:
    """What one traced program of JAX's is given, beside what PyTorch draws in that mode.

    Args:
      mode: "eval", "train" or "train.<phase>".
      ours, theirs: the distinct draws of PyTorch and JAX, in order of execution.
      fits: per draw of JAX's, how it is made from PyTorch's.
      sites: where JAX draws.
      numbers: per site, the number of its draw: one an iteration, or one for all of them.
      noise: sources of random numbers that are no masks.
    """

    mode: str
    ours: Sequence[Draw] = ()
    theirs: list[Draw] = field(default_factory=list)
    fits: list[Fit | None] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    numbers: list[Any] = field(default_factory=list)
    noise: dict[str, None] = field(default_factory=dict)

    def shared(self) -> dict[tuple[str, int], Shape]:
        """The shapes in which masks are drawn that one side shares over more axes."""
        return {
            (self.mode, index): found.drawn
            for index, found in enumerate(self.fits)
            if found is not None and found.drawn != self.ours[index].shape
        }

    def arrays(self, draw: Callable[[int, Shape], np.ndarray]) -> list[np.ndarray]:
        """The numbers of every site, stacked over the scans around it.

        Args:
          draw: gives those of one draw, by its number and its shape in PyTorch.
        """
        drawn = [self._arranged(index, draw) for index in range(len(self.theirs))]
        arrays = []
        for site, numbers in zip(self.sites, self.numbers, strict=True):
            if np.ndim(numbers) < len(site.lengths):
                arrays.append(drawn[numbers])
                continue
            lengths = tuple(abs(n) for n in site.lengths)
            stacked = [drawn[number] for number in np.ravel(numbers)]
            arrays.append(np.stack(stacked).reshape(lengths + site.shape))
        return arrays

    def _arranged(self, index: int, draw: Callable[[int, Shape], np.ndarray]) -> np.ndarray:
        found = self.fits[index]
        if found is None:
            return draw(index, self.theirs[index].shape)
        ours = self.ours[index]
        array = found(draw(index, ours.shape))
        return 1 - array if self.inverted(index) else array

    def inverted(self, index: int) -> bool:
        """Whether one side's mask says what is dropped, by its probability."""
        t, j = self.ours[index].keep, self.theirs[index].keep
        return differ(t, j) and not differ(t, None if j is None else 1 - j)


def differ(a: float | None, b: float | None) -> bool:
    """Whether two probabilities are known to be different."""
    return a is not None and b is not None and abs(a - b) > ROUNDING


def plan(
    mode: str,
    ours: Sequence[Draw],
    sites: list[Site],
    seen: Sequence[tuple[np.ndarray, np.ndarray]],
    images: bool,
    layout: str,
) -> Plan:
    """Pairs what JAX draws with what PyTorch draws, the n-th with the n-th.

    Where that fits and an order of single draws does not, all draws of one place in a scan are
    one: an LSTM layer of PyTorch's drops its whole sequence at once.

    Args:
      seen: per site, the data of its key and its probability, stacked over the scans around it.
    """
    events = sorted(
        (event for number, site in enumerate(sites) for event in _events(number, site)),
        key=lambda event: event[0],
    )
    numbers: list[Any] = [np.zeros([abs(n) for n in site.lengths], int) for site in sites]
    known: dict[Any, int] = {}
    theirs: list[Draw] = []
    for _, number, index in events:
        site, (keys, keep) = sites[number], seen[number]
        identity = (site.shape, keys[index].tobytes())
        if identity not in known:
            known[identity] = len(theirs)
            theirs.append(Draw(site.shape, single(keep[index]), site.source))
        numbers[number][index] = known[identity]
    every = len(theirs) == len(events)
    if every and len(theirs) != len(ours) == len(sites) and any(s.lengths for s in sites):
        theirs, numbers = [], []
        for number, (site, (_, keep)) in enumerate(zip(sites, seen, strict=True)):
            shape = tuple(abs(n) for n in site.lengths) + site.shape
            theirs.append(Draw(shape, single(keep), site.source))
            numbers.append(number)
    fits = [
        fit(t.shape, j.shape, images, layout) if t is not None else None
        for t, j in zip(itertools.chain(ours, itertools.repeat(None)), theirs, strict=False)
    ]
    return Plan(mode, ours, theirs, fits, sites, numbers)


def single(keep: Any) -> float | None:
    """A probability as a number, None where it varies."""
    values = np.asarray(keep, np.float64)
    return float(values.flat[0]) if values.size and np.ptp(values) == 0 else None


def _events(number: int, site: Site) -> Iterator[tuple[tuple, int, tuple]]:
    """The draws of one site: their place in the order of execution, and their index."""
    for index in np.ndindex(*(abs(n) for n in site.lengths)):
        times = [i if n > 0 else -n - 1 - i for i, n in zip(index, site.lengths, strict=True)]
        order = itertools.chain(*zip(site.place, [*times, 0], strict=True))
        yield tuple(order), number, index
