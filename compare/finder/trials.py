"""The porter's weights read otherwise, until the forward passes agree.

Where values alone tell what a leaf is, as in plain functions, nothing says in which layout it is
wanted: only what the program does with it. So where the outputs differ, each leaf is tried in the
other layouts that its values may have, and in the place of those of its shape; the program is
compiled once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from compare.finder.replay import compared
from compare.ladder.pair import REFERENCE, Pair
from compare.layout import align
from compare.weights.by_value import HOW, layouts
from compare.weights.link import Link, Path, place_of
from compare.weights.own import Slip
from compare.weights.relation import MOST as AXES
from compare.weights.relation import Relation, named, relation

MOST = 1000  # trials
ORDERED = 4  # gates, heads or projections whose orders are all tried

Leaves = dict[Path, np.ndarray]


def trial(pair: Pair, progress: Callable[[str], None]) -> tuple[list[Slip], tuple[float, float]]:
    """What has to be otherwise in the porter's weights so that the outputs are PyTorch's.

    Returns:
      The slips, none if nothing was found; and how far the outputs are apart, relative, with them
      and with what should be there.
    """
    progress("the weights in other layouts")
    ours = pair.run(REFERENCE).alone(None)
    outputs = [name for name, value in ours.items() if _is_output(name, value)]
    run = pair.run("xla:cpu")
    leaves = run.leaves()

    def apart(changed: Leaves) -> tuple[float, bool]:
        theirs = run.evaluated(leaves | changed)
        found = []
        for name in outputs:
            j = align(theirs[name], ours[name].shape, pair.twin.layout)
            found.append((float("inf"), False) if j is None else compared(ours[name], j))
        return max((d for d, _ in found), default=0.0), all(same for _, same in found)

    before, same = apart({})
    if same or not outputs:
        return [], (before, before)
    for slips in itertools.islice(_otherwise(pair, leaves), MOST):
        changed: Leaves = {}
        for slip in slips:
            _put(slip, changed, leaves)
        after, same = apart(changed)
        if same:
            return slips, (before, after)
    return [], (before, before)


def _is_output(name: str, value: np.ndarray) -> bool:
    return name.startswith("eval/out") and value.dtype.kind == "f"


def _put(slip: Slip, changed: Leaves, leaves: Leaves) -> None:
    path = slip.link.jax
    changed[path] = changed.get(path, leaves[path]).copy()
    slip.link.of(changed[path])[...] = slip.right


def _otherwise(pair: Pair, leaves: Leaves) -> Iterator[list[Slip]]:
    """One leaf in another layout; leaves in each other's place; a layer's leaves in one order."""
    links = [link for link in pair.weights.links if link.jax in leaves and HOW in link.how]
    state = pair.given.state

    def slip(link: Link, right: np.ndarray, kind: str, how: str) -> Slip:
        value = link.of(leaves[link.jax])
        # Heads are split off an axis: what was done is said of it whole.
        merged = ((len(value), -1), (-1, *value.shape[-1:])) if kind != "flipped" else ()
        shapes = (value.shape, *merged)
        found = (relation(right.reshape(shape), value.reshape(shape)) for shape in shapes)
        found = next(filter(None, found), None) or Relation(kind, how, value)
        bare = replace(link, perm=(), order=None, flip=(), split=())
        wanted = next(layouts(bare, link.taken(state[link.torch]), right), link)
        return Slip(wanted, right, value, replace(found, value=value))

    for link in links:
        value = link.of(leaves[link.jax])
        for right, kind, how in _layouts(link.taken(state[link.torch]), value):
            if kind != "reordered" or not _plain([link]):
                yield [slip(link, right, kind, how)]
    by_shape: dict[tuple[int, ...], list[Link]] = {}
    for link in links:
        by_shape.setdefault(link.shape, []).append(link)
    for group in by_shape.values():
        places = sorted(group, key=lambda link: _counted(link.jax))
        if moved := [_taken(two, one, leaves) for one, two in zip(group, places, strict=True)
                     if one is not two]:  # fmt: skip
            yield moved
    near = [
        (abs(i - j), one, two)
        for group in by_shape.values()
        for (i, one), (j, two) in itertools.combinations(enumerate(group), 2)
    ]
    for _, one, two in sorted(near, key=lambda pair: pair[0]):
        yield [_taken(one, two, leaves), _taken(two, one, leaves)]
    layers: dict[tuple[str, int], list[Link]] = {}
    for link in links:
        if not (link.rows or link.split or (link.order and link.order[0])):
            name, rows = place_of(link.torch)[0], len(state[link.torch])
            layers.setdefault((name, rows), []).append(link)
    for (_, rows), group in layers.items():
        for order in _orders(rows) if not _plain(group) else ():
            wanted = [replace(link, order=(0, tuple(map(int, order)))) for link in group]
            yield [slip(link, link.forward(state[link.torch]), "reordered", named(order))
                   for link in wanted]  # fmt: skip
    yield from _joined(links, leaves)
    for link in links:
        value = link.of(leaves[link.jax])
        for axis, length in enumerate(value.shape if not _plain([link]) else ()):
            for order in _orders(length):
                yield [slip(link, np.take(value, order, axis), "reordered", named(order))]


def _plain(links: list[Link]) -> bool:
    """Whether leaves hold their tensors in PyTorch's own order: a program that wants another is
    itself what differs.
    """
    return not any(link.order for link in links)


def _joined(links: list[Link], leaves: Leaves) -> Iterator[list[Slip]]:
    """A leaf that several tensors make, its slices in another order."""
    parts: dict[Path, list[Link]] = {}
    for link in links:
        if link.part:
            parts.setdefault(link.jax, []).append(link)
    for path, group in parts.items():
        value, axis = leaves[path], group[0].part[0] if group[0].part else 0
        names = list(dict.fromkeys(link.torch for link in group))
        whole = replace(group[0], shape=value.shape, part=None, rows=None, order=None, split=())
        for order in _orders(value.shape[axis]):
            right = np.take(value, order, axis)
            how = f"{', '.join(names)} in a row, {named(np.argsort(order))} along axis {axis}"
            made = f"concatenate([{', '.join(names)}]), its axis {axis} in PyTorch's order"
            yield [Slip(whole, right, value, Relation("joined", how, value), made)]


def _layouts(tensor: np.ndarray, value: np.ndarray) -> Iterator[tuple[np.ndarray, str, str]]:
    """The numbers of a tensor as they may lie in a leaf; the plainest first."""
    for perm in itertools.permutations(range(tensor.ndim)) if tensor.ndim <= AXES else ():
        yield tensor.transpose(perm).reshape(value.shape), "reshaped", f"axes {perm}"
    for perm in itertools.permutations(range(value.ndim)) if value.ndim <= AXES else ():
        if value.transpose(perm).shape == value.shape:
            yield value.transpose(perm), "transposed", f"axes {perm}"
    windows = range(max(value.ndim - 2, 0))
    for count in range(len(windows), 0, -1):
        for axes in itertools.combinations(windows, count):
            yield np.flip(value, axes), "flipped", f"reversed along axes {axes}"
    for axis in range(value.ndim):
        for shift in (1, -1):
            yield np.roll(value, shift, axis), "reordered", f"rolled along axis {axis}"


def _orders(length: int) -> Iterator[np.ndarray]:
    """Orders of so many rows that a port may want: blocks exchanged, or taken in turns."""
    rows = np.arange(length)
    counts = [count for count in range(2, length) if length % count == 0]
    for wide in (1, *counts):
        for count in (c for c in counts if length % (c * wide) == 0 and c * wide < length):
            yield rows.reshape(count, -1, wide).swapaxes(0, 1).ravel()
    for count in (c for c in counts if c <= ORDERED):
        for order in itertools.permutations(range(count)):
            yield rows.reshape(count, -1)[list(order)].ravel()
            wide = length // count
            if wide % 2 == 0:  # halves of each head, or pairs in it
                yield rows.reshape(count, 2, -1)[list(order)].swapaxes(1, 2).ravel()


def _counted(path: Path) -> list[tuple[int, str]]:
    """A path as it is sorted with its numbers as numbers: 2 before 10."""
    parts = re.split(r"(\d+)", "/".join(path))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _taken(one: Link, two: Link, leaves: Leaves) -> Slip:
    """A leaf that holds what belongs into it only after another has taken its place."""
    right, value = two.of(leaves[two.jax]), one.of(leaves[one.jax])
    wanted = replace(two, jax=one.jax, part=one.part)
    kind = "rows" if one.torch == two.torch else "another"
    return Slip(wanted, right, value, Relation(kind, one.expression, value))
