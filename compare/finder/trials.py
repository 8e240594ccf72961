"""The porter's weights read otherwise, until the forward passes agree.

Where plain functions hold the weights, no name says in which layout a leaf is wanted: only what the
program does with it. So where the outputs differ, each leaf is tried in the other layouts that its
values may have, and in the place of those of its shape; the program is compiled once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from compare.finder.replay import compared
from compare.ladder.pair import REFERENCE, Pair
from compare.layout import align
from compare.weights.by_value import layouts
from compare.weights.link import Link, Path
from compare.weights.own import Slip
from compare.weights.relation import Relation, named, relation

MOST = 400  # trials

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
    """One leaf in another layout; then two leaves, or parts of some, in each other's place."""
    links = [link for link in pair.weights.links if link.jax in leaves]
    for link in links:
        value, tensor = link.of(leaves[link.jax]), pair.given.state[link.torch]
        bare = replace(link, perm=(), order=None, flip=(), split=())
        for right, how in _layouts(link, value):
            found = relation(right, value) or Relation("reordered", how, value)
            wanted = next(layouts(bare, link.taken(tensor), right), link)
            yield [Slip(wanted, right, value, found)]
    by_shape: dict[tuple[int, ...], list[Link]] = {}
    for link in links:
        by_shape.setdefault(link.shape, []).append(link)
    near = [
        (abs(i - j), one, two)
        for group in by_shape.values()
        for (i, one), (j, two) in itertools.combinations(enumerate(group), 2)
    ]
    for _, one, two in sorted(near, key=lambda pair: pair[0]):
        yield [_taken(one, two, leaves), _taken(two, one, leaves)]


def _layouts(link: Link, value: np.ndarray) -> Iterator[tuple[np.ndarray, str]]:
    """The numbers of a leaf in other orders of the same shape."""
    if link.order:
        plain = replace(link, order=None)
        tensor = np.take(_tensor(link, value), np.argsort(link.order[1]), link.order[0])
        yield plain.forward(tensor), named(np.asarray(link.order[1]))
    for perm in itertools.permutations(range(value.ndim)):
        if perm != tuple(range(value.ndim)) and value.transpose(perm).shape == value.shape:
            yield value.transpose(perm), f"axes {perm}"
    for axis in range(value.ndim - 2):
        yield np.flip(value, axis), f"reversed along axis {axis}"
    for axis, length in enumerate(value.shape):
        for blocks in (2, 3, 4):
            if length % blocks == 0 and length > blocks:
                moved = np.moveaxis(value, axis, 0)
                parts = moved.reshape(blocks, -1, *moved.shape[1:])
                for turned in (parts.swapaxes(0, 1), *_orders(parts)):
                    yield np.moveaxis(turned.reshape(moved.shape), 0, axis), f"{blocks} blocks"


def _orders(parts: np.ndarray) -> Iterator[np.ndarray]:
    for order in itertools.permutations(range(len(parts))):
        if order != tuple(range(len(parts))):
            yield parts[list(order)]


def _tensor(link: Link, value: np.ndarray) -> np.ndarray:
    """The tensor's elements as they lie before a link takes their axes in another order."""
    axes = link.perm or tuple(range(value.ndim))
    return value.transpose(np.argsort(axes))


def _taken(one: Link, two: Link, leaves: Leaves) -> Slip:
    """A leaf that holds what belongs into it only after another has taken its place."""
    right, value = two.of(leaves[two.jax]), one.of(leaves[one.jax])
    wanted = replace(two, jax=one.jax, part=one.part)
    return Slip(wanted, right, value, Relation("another", one.expression, value))
