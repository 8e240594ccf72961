"""What the porter's own weights tell of the map: which leaf is which tensor, in which layout."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from compare.weights.link import Link, Path
from compare.weights.relation import FEW, MOST, named, reordered, same, telling

BLOCKS = 8  # parts of one tensor that are leaves of their own: gates, query, key and value
HOW = "by its values"

Key = tuple[int, float, float]
# A key -> the tensors, or their slices along an axis, that have it.
Index = dict[Key, list[tuple[str, tuple[int, int] | None, int]]]


def common(values: Mapping[str, np.ndarray], given: Mapping[Path, np.ndarray]) -> bool:
    """Whether some leaf holds the numbers of some tensor, so that one was made from the other."""
    leaves = _told(given).values()
    whole = _index(values, given, blocks=False)
    if any(_key(leaf) in whole for leaf in leaves):
        return True
    index = _index(values, given)
    return any(_key(leaf) in index or _in_parts(leaf, index) for leaf in leaves)


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
    index, links = _index(values, given), []
    for path, leaf in _told(given).items():
        whole = _link(Link("", path, leaf.shape), leaf, index, values)
        links += [whole] if whole else _split(path, leaf, index, values)
    return _once(links, values)


def _told(given: Mapping[Path, np.ndarray]) -> dict[Path, np.ndarray]:
    return {path: leaf for path, leaf in given.items() if _tells(leaf)}


def _key(array: np.ndarray) -> Key:
    """What two arrays have in common that hold the same numbers in whatever order."""
    return array.size, float(array.min()), float(array.max())


def _cast(tensor: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """A tensor in the type of a leaf, if that is one of 16 bits."""
    return tensor.astype(leaf.dtype) if leaf.dtype.itemsize == 2 else tensor


def _index(
    values: Mapping[str, np.ndarray], given: Mapping[Path, np.ndarray], blocks: bool = True
) -> Index:
    """The tensors and their blocks along each axis, also in the types of 16 bits of the leaves."""
    index: Index = {}
    types = {leaf.dtype: leaf for leaf in given.values() if leaf.dtype.itemsize == 2}
    for name, tensor in values.items():
        if not _tells(tensor):
            continue
        for each in (tensor, *(_cast(tensor, leaf) for leaf in types.values())):
            index.setdefault(_key(each), []).append((name, None, 0))
            for along, length in enumerate(each.shape if blocks else ()):
                for count in _counts(length):
                    for number, block in enumerate(np.split(each, count, along)):
                        rows = number * length // count, (number + 1) * length // count
                        if _tells(block):
                            index.setdefault(_key(block), []).append((name, rows, along))
    return index


def _counts(length: int) -> Iterator[int]:
    return (count for count in range(2, min(length, BLOCKS) + 1) if length % count == 0)


def _link(
    link: Link, leaf: np.ndarray, index: Index, values: Mapping[str, np.ndarray]
) -> Link | None:
    """The link of what a leaf, or a part of one, holds."""
    for name, rows, along in index.get(_key(leaf), ()):
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
        if moved.shape != leaf.shape:
            continue
        for axis in axes:
            order = reordered(moved, leaf, axis)
            if order is not None:
                taken = (perm[axis], tuple(map(int, order)))
                kept = perm if perm != axes else ()
                how = f"axes {perm}, {named(np.asarray(order))}, {HOW}"
                yield replace(link, perm=kept, order=taken, how=how)


Part = tuple[tuple[int, int, int], np.ndarray]


def _parts(leaf: np.ndarray, index: Index) -> Iterator[list[Part]]:
    """The ways in which tensors lie in one leaf: stacked on an axis, or in a row, of any widths."""
    sizes = {key[0] for key in index}
    for axis, length in enumerate(leaf.shape):
        slices = np.moveaxis(leaf, axis, 0).reshape(length, -1)
        low, high, each = slices.min(1), slices.max(1), slices.shape[1]
        widths = sorted({s // each for s in sizes if s % each == 0 and s < leaf.size}, reverse=True)

        def held(start: int, stop: int, low=low, high=high, each=each) -> bool:
            part = slice(start, stop)
            return ((stop - start) * each, float(low[part].min()), float(high[part].max())) in index

        if cuts := _cut(length, widths, held):
            yield [
                ((axis, start, stop), block.squeeze(axis) if stop - start == 1 else block)
                for start, stop in itertools.pairwise(cuts)
                for block in (leaf[(slice(None),) * axis + (slice(start, stop),)],)
            ]


def _cut(length: int, widths: list[int], held: Callable[[int, int], bool]) -> list[int]:
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


def _in_parts(leaf: np.ndarray, index: Index) -> bool:
    return next(_parts(leaf, index), None) is not None


def _split(
    path: Path, leaf: np.ndarray, index: Index, values: Mapping[str, np.ndarray]
) -> list[Link]:
    for parts in _parts(leaf, index):
        found = [
            _link(Link("", path, block.shape, part=span), block, index, values)
            for span, block in parts
        ]
        if all(found):
            return [link for link in found if link]
    return []


def _once(links: Iterable[Link], values: Mapping[str, np.ndarray]) -> list[Link]:
    """Of links whose tensor, or some of its elements, has been taken, none."""
    taken: dict[str, np.ndarray] = {}
    kept = []
    for link in links:
        used = link.taken(taken.setdefault(link.torch, np.zeros(values[link.torch].shape, bool)))
        if not used.any():
            used[...] = True
            kept.append(link)
    return kept
