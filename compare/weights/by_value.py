"""What the porter's own weights tell of the map: which leaf is which tensor, in which layout."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from compare.weights.link import Link, Path
from compare.weights.relation import FEW, MOST, named, reordered, same, telling

BLOCKS = 16  # parts of one tensor that are leaves of their own: gates, query, key and value
HOW = "by its values"

Key = tuple[int, float, float]
# A key -> the tensors, or their slices along an axis, that have it.
Index = dict[Key, list[tuple[str, tuple[int, int] | None, int]]]


def common(values: Mapping[str, np.ndarray], given: Mapping[Path, np.ndarray]) -> bool:
    """Whether some leaf holds the numbers of some tensor, so that one was made from the other."""
    leaves = _told(given)
    whole = _index(values, given, blocks=False)
    if any(_key(leaf) in whole for leaf in leaves.values()):
        return True
    index = _index(values, given)
    return any(
        _link(Link("", path, leaf.shape), leaf, index, values) or _split(path, leaf, index, values)
        for path, leaf in leaves.items()
    )


def _tells(array: np.ndarray) -> bool:
    """Whether no other array is likely to hold just these numbers: they are equal or are not."""
    if array.size > FEW:
        return telling(array)
    real = array.size > 1 and array.dtype.kind in "fV"
    return real and bool(np.any(array != array.flat[0]) and np.any(array != np.round(array)))


def layout(name: str, tensor: np.ndarray, path: Path, leaf: np.ndarray) -> Link | None:
    """How a tensor lies in a leaf that holds just its numbers; None if it does not."""
    if not _tells(leaf) or _key(_cast(tensor, leaf)) != _key(leaf):
        return None
    return next(layouts(Link(name, path, leaf.shape), tensor, leaf), None)


def pairs(values: Mapping[str, np.ndarray], given: Mapping[Path, np.ndarray]) -> list[Link]:
    """The links of leaves and tensors that hold the same numbers, whole or in part."""
    types = {leaf.dtype for leaf in given.values() if leaf.dtype.itemsize == 2}
    if len(types) == 1 and all(leaf.dtype in types for leaf in _told(given).values()):
        values = {
            name: tensor.astype(next(iter(types))) for name, tensor in values.items()
        }  # once for all
    index, links = _index(values, given), []
    for path, leaf in _told(given).items():
        whole = _link(Link("", path, leaf.shape), leaf, index, values)
        links += [whole] if whole else _split(path, leaf, index, values)
    links, twice = _once(_likely(links), values)
    links += _left_over(links, twice, values)
    linked = {link.torch for link in links} | {link.jax for link in links}
    left = {name: value for name, value in values.items() if name not in linked}
    index = _index(left, given, blocks=False) if left else {}
    for path, leaf in _told(given).items() if left else ():
        if path not in linked:
            along = (_Along(path, leaf, axis, index, left) for axis in range(leaf.ndim))
            found = next((found for each in along if (found := each.partly())), [])
            links += found
            left = {name: v for name, v in left.items() if name not in {x.torch for x in found}}
    return links


def _told(given: Mapping[Path, np.ndarray]) -> dict[Path, np.ndarray]:
    return {path: leaf for path, leaf in given.items() if _tells(leaf)}


def _key(array: np.ndarray) -> Key:
    """What two arrays have in common that hold the same numbers in whatever order."""
    return array.size, float(array.min()), float(array.max())


def _cast(tensor: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """A tensor in the type of a leaf, if that is one of 16 bits."""
    return tensor.astype(leaf.dtype, copy=False) if leaf.dtype.itemsize == 2 else tensor


def _index(
    values: Mapping[str, np.ndarray], given: Mapping[Path, np.ndarray], blocks: bool = True
) -> Index:
    """The tensors and their blocks along each axis, also in the types of 16 bits of the leaves."""
    index: Index = {}
    types = {leaf.dtype: leaf for leaf in given.values() if leaf.dtype.itemsize == 2}
    for name, tensor in values.items():
        if not _tells(tensor):
            continue
        casts = (_cast(tensor, leaf) for leaf in types.values() if leaf.dtype != tensor.dtype)
        for each in (tensor, *casts):
            index.setdefault(_key(each), []).append((name, None, 0))
            for along, length in enumerate(each.shape if blocks else ()):
                spans = _Spans(each, along)
                for count in _counts(length):
                    wide = length // count
                    for start in range(0, length, wide):
                        rows = start, start + wide
                        if _tells(spans.of(*rows)):
                            index.setdefault(spans.key(*rows), []).append((name, rows, along))
    return index


class _Spans:
    """The keys of an array's pieces along an axis, from one look at its elements."""

    def __init__(self, array: np.ndarray, axis: int):
        others = tuple(a for a in range(array.ndim) if a != axis)
        self.array, self.axis = array, axis
        self.each = array.size // array.shape[axis]  # elements of a slice
        self.least, self.most = array.min(others), array.max(others)

    def of(self, start: int, stop: int) -> np.ndarray:
        return self.array[(slice(None),) * self.axis + (slice(start, stop),)]

    def key(self, start: int, stop: int) -> Key:
        least, most = self.least[start:stop].min(), self.most[start:stop].max()
        return (stop - start) * self.each, float(least), float(most)


def _counts(length: int) -> Iterator[int]:
    return (count for count in range(2, min(length, BLOCKS) + 1) if length % count == 0)


def _link(
    link: Link, leaf: np.ndarray, index: Index, values: Mapping[str, np.ndarray]
) -> Link | None:
    """The link of what a leaf, or a part of one, holds."""
    for name, rows, along in index.get(_key(leaf), ()):
        if name not in values:
            continue
        of = replace(link, torch=name, rows=rows, along=along)
        if found := next(layouts(of, of.taken(values[name]), leaf), None):
            return found
    return None


def layouts(link: Link, tensor: np.ndarray, leaf: np.ndarray) -> Iterator[Link]:
    """The ways in which a tensor, or a block of its rows, becomes a leaf; the plainest first."""
    tensor, axes = _cast(tensor, leaf), tuple(range(tensor.ndim))
    perms = list(itertools.permutations(axes)) if tensor.ndim <= MOST else [axes]
    for perm in perms:
        if same(tensor.transpose(perm).reshape(leaf.shape), leaf):
            how = f"axes {perm}, {HOW}" if perm != axes else f"as it is, {HOW}"
            yield replace(link, perm=perm if perm != axes else (), how=how)
    finer = leaf.ndim > tensor.ndim and leaf.ndim <= MOST
    for turn in itertools.permutations(range(leaf.ndim)) if finer else ():
        turned = leaf.transpose(turn)
        if same(tensor, turned.reshape(tensor.shape)):
            perm = tuple(map(int, np.argsort(turn)))
            how = f"split to {turned.shape}, axes {perm}, {HOW}"
            yield replace(link, split=turned.shape, perm=perm, how=how)
    window = axes[2:]
    for perm in perms if window else ():
        if same(np.flip(tensor, window).transpose(perm).reshape(leaf.shape), leaf):
            yield replace(link, perm=perm, flip=window, how=f"axes {perm}, flipped, {HOW}")
    for perm in perms:
        moved = tensor.transpose(perm)
        for axis in axes:
            order = reordered(moved, leaf.reshape(moved.shape), axis)
            if order is not None:
                taken = (perm[axis], tuple(map(int, order)))
                kept = perm if perm != axes else ()
                how = f"axes {perm}, {named(np.asarray(order))}, {HOW}"
                yield replace(link, perm=kept, order=taken, how=how)


class _Along:
    """What tensors lie in one leaf along an axis, looked up piece by piece."""

    def __init__(
        self,
        path: Path,
        leaf: np.ndarray,
        axis: int,
        index: Index,
        values: Mapping[str, np.ndarray],
    ):
        self.path, self.leaf, self.axis, self.index, self.values = path, leaf, axis, index, values
        self.spans = _Spans(leaf, axis)
        each = self.spans.each
        sizes = {key[0] for key in index if key[0] % each == 0 and key[0] < leaf.size}
        self.widths = sorted((size // each for size in sizes), reverse=True)
        self.found: dict[tuple[int, int], Link | None] = {}

    def piece(self, start: int, stop: int) -> Link:
        """The link of a piece, its tensor open."""
        block = self.spans.of(start, stop)
        shape = block.squeeze(self.axis).shape if stop - start == 1 else block.shape
        return Link("", self.path, shape, part=(self.axis, start, stop))

    def link(self, start: int, stop: int) -> Link | None:
        if (start, stop) not in self.found:
            piece, link = self.piece(start, stop), None
            if self.spans.key(start, stop) in self.index:
                link = _link(piece, piece.of(self.leaf), self.index, self.values)
            self.found[start, stop] = link
        return self.found[start, stop]

    def whole(self) -> list[Link]:
        """The links of pieces that make up the leaf; none if nothing does."""
        cuts = _cut(self.leaf.shape[self.axis], self.widths, self.link)
        links = [self.link(*span) for span in itertools.pairwise(cuts)] if len(cuts) > 2 else []
        return [link for link in links if link]

    def partly(self) -> list[Link]:
        """The same, where some pieces are known and tensors of their shape fill the gaps."""
        links: list[Link] = []
        gaps: list[tuple[int, int]] = []
        at, length = 0, self.leaf.shape[self.axis]
        while at < length:
            fits = (wide for wide in self.widths if at + wide <= length)
            found = next((link for wide in fits if (link := self.link(at, at + wide))), None)
            if found and found.part:
                links.append(found)
                at = found.part[2]
            else:
                start = gaps.pop()[0] if gaps and gaps[-1][1] == at else at
                at += 1
                gaps.append((start, at))
        if not links:
            return []
        known = {link.torch for link in links}
        fits = [n for n, v in self.values.items() if n not in known and v.ndim == self._ndim(links)]
        for start, stop in gaps:
            size = (stop - start) * self.spans.each
            count = next((c for c in range(1, stop - start + 1) if (stop - start) % c == 0 and any(
                self.values[name].size * c == size for name in fits)), 0)  # fmt: skip
            wide = (stop - start) // count if count else 0
            for begin in range(start, stop, wide) if wide else ():
                here = [n for n in fits if self.values[n].size == wide * self.spans.each]
                if not here:
                    return []
                name = max(here, key=lambda name: sum(_ends(name, links[0].torch)))
                fits.remove(name)
                piece = self.piece(begin, begin + wide)
                links.append(replace(links[0], torch=name, shape=piece.shape, part=piece.part))
        covered = sum(link.part[2] - link.part[1] for link in links if link.part)
        return links if covered == length else []

    def _ndim(self, links: list[Link]) -> int:
        return self.values[links[0].torch].ndim


def _split(
    path: Path, leaf: np.ndarray, index: Index, values: Mapping[str, np.ndarray]
) -> list[Link]:
    """Links of the tensors that lie in one leaf: stacked on an axis, or in a row, of any widths."""
    along = (_Along(path, leaf, axis, index, values) for axis in range(leaf.ndim))
    return next((found for each in along if (found := each.whole())), [])


def _cut(length: int, widths: list[int], held: Callable[[int, int], object]) -> list[int]:
    """Where to cut a length so that every piece is held, the widest first; [] for nowhere."""
    cuts, tried = [0], [iter(widths)]
    while tried:
        wide = next(tried[-1], None)
        if wide is None:
            cuts.pop()
            tried.pop()
        elif cuts[-1] + wide <= length and held(cuts[-1], cuts[-1] + wide):
            cuts.append(cuts[-1] + wide)
            if cuts[-1] == length:
                return cuts
            tried.append(iter(widths))
    return []


def _likely(links: list[Link]) -> list[Link]:
    """Links so that of several leaves with one tensor's numbers the likeliest comes first."""

    def likeness(link: Link) -> float:
        beside = [x for x in links if x.jax[:-1] == link.jax[:-1] and x.jax != link.jax]
        near = sum(sum(_ends(x.torch, link.torch)) for x in beside) / (len(beside) or 1)
        return near + _ends("/".join(link.jax), link.torch)[1]

    place = {id(link): number for number, link in enumerate(links)}
    alone = {name for name, often in Counter(x.torch for x in links).items() if often == 1}
    return sorted(links, key=lambda x: (0.0 if x.torch in alone else -likeness(x), place[id(x)]))


def _ends(one: str, two: str) -> tuple[int, int]:
    """How many letters two names begin, and end, alike with."""

    def alike(one: Iterable[str], two: Iterable[str]) -> int:
        both = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False))
        return sum(1 for _ in both)

    return alike(one, two), alike(reversed(one), reversed(two))


def _once(links: Iterable[Link], values: Mapping[str, np.ndarray]) -> tuple[list[Link], list[Link]]:
    """Links of which none has a tensor's elements that another has; and the others."""
    taken: dict[str, np.ndarray] = {}
    kept, twice = [], []
    for link in links:
        used = link.taken(taken.setdefault(link.torch, np.zeros(values[link.torch].shape, bool)))
        (twice if used.any() else kept).append(link)
        used[...] = True
    return kept, twice


def _left_over(
    links: list[Link], twice: list[Link], values: Mapping[str, np.ndarray]
) -> list[Link]:
    """Where a leaf holds what another has, the tensor of that shape that is in no leaf."""
    missing = [name for name in values if name not in {link.torch for link in links}]
    found = []
    for link in twice:
        shape = values[link.torch].shape
        fits = [name for name in missing if values[name].shape == shape and not link.rows]
        if fits:
            name = max(fits, key=lambda name: sum(_ends(name, link.torch)))
            missing.remove(name)
            found.append(replace(link, torch=name, how=f"{link.how}; in no other leaf"))
    return found
