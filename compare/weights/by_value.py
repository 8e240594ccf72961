"""What the porter's own weights tell of the map: which leaf is which tensor, in which layout."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from compare.weights.link import Link, Path
from compare.weights.relation import MOST, named, reordered, same, telling

BLOCKS = 8  # parts of one tensor that are leaves of their own: gates, query, key and value
HOW = "by its values"

Key = tuple[int, float, float]
Index = dict[Key, list[tuple[str, tuple[int, int] | None]]]


def common(values: Mapping[str, np.ndarray], given: Mapping[Path, np.ndarray]) -> bool:
    """Whether some leaf holds the numbers of some tensor, so that one was made from the other."""
    index = _index(values, given)
    return any(_key(leaf) in index or _in_parts(leaf, index) for leaf in _told(given).values())


def layout(name: str, tensor: np.ndarray, path: Path, leaf: np.ndarray) -> Link | None:
    """How a tensor lies in a leaf that holds just its numbers; None if it does not."""
    if not telling(leaf) or _key(_cast(tensor, leaf)) != _key(leaf):
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
    return {path: leaf for path, leaf in given.items() if telling(leaf)}


def _key(array: np.ndarray) -> Key:
    """What two arrays have in common that hold the same numbers in whatever order."""
    return array.size, float(array.min()), float(array.max())


def _cast(tensor: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """A tensor in the type of a leaf, if that is one of 16 bits."""
    return tensor.astype(leaf.dtype) if leaf.dtype.itemsize == 2 else tensor


def _index(values: Mapping[str, np.ndarray], given: Mapping[Path, np.ndarray]) -> Index:
    """The tensors and their blocks of rows, also in the types of 16 bits that leaves have."""
    index: Index = {}
    types = {leaf.dtype: leaf for leaf in given.values() if leaf.dtype.itemsize == 2}
    for name, tensor in values.items():
        if not telling(tensor):
            continue
        for each in (tensor, *(_cast(tensor, leaf) for leaf in types.values())):
            index.setdefault(_key(each), []).append((name, None))
            for count in _counts(len(each)):
                wide = len(each) // count
                for start in range(0, len(each), wide):
                    rows = start, start + wide
                    if telling(block := each[slice(*rows)]):
                        index.setdefault(_key(block), []).append((name, rows))
    return index


def _counts(length: int, most: int = BLOCKS) -> Iterator[int]:
    return (count for count in range(2, min(length, most) + 1) if length % count == 0)


def _link(
    link: Link, leaf: np.ndarray, index: Index, values: Mapping[str, np.ndarray]
) -> Link | None:
    """The link of what a leaf, or a part of one, holds."""
    for name, rows in index.get(_key(leaf), ()):
        tensor = values[name] if rows is None else values[name][slice(*rows)]
        of = replace(link, torch=name, rows=rows)
        if found := next(layouts(of, tensor, leaf), None):
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


def _parts(leaf: np.ndarray) -> Iterator[list[tuple[tuple[int, int, int], np.ndarray]]]:
    """The ways in which several tensors may lie in one leaf: stacked on an axis, or in a row."""
    for axis, length in enumerate(leaf.shape):
        for count in _counts(length, length):
            wide = length // count
            spans = [(axis, start, start + wide) for start in range(0, length, wide)]
            blocks = np.split(leaf, count, axis)
            yield [
                (span, block.squeeze(axis) if wide == 1 else block)
                for span, block in zip(spans, blocks, strict=True)
            ]


def _in_parts(leaf: np.ndarray, index: Index) -> bool:
    return any(
        all(telling(block) and _key(block) in index for _, block in parts) for parts in _parts(leaf)
    )


def _split(
    path: Path, leaf: np.ndarray, index: Index, values: Mapping[str, np.ndarray]
) -> list[Link]:
    for parts in _parts(leaf):
        if not all(telling(block) and _key(block) in index for _, block in parts):
            continue
        found = [
            _link(Link("", path, block.shape, part=span), block, index, values)
            for span, block in parts
        ]
        if all(found):
            return [link for link in found if link]
    return []


def _once(links: Iterable[Link], values: Mapping[str, np.ndarray]) -> list[Link]:
    """Of links whose tensor, or some of its rows, has been taken, none."""
    taken: dict[str, np.ndarray] = {}
    kept = []
    for link in links:
        rows = slice(*(link.rows or (0, len(values[link.torch]))))
        used = taken.setdefault(link.torch, np.zeros(len(values[link.torch]), bool))
        if not used[rows].any():
            used[rows] = True
            kept.append(link)
    return kept
