"""Leaves of few numbers, or of one throughout: paired by what lies beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from compare.weights.link import Link, Path, place_of
from compare.weights.relation import same, telling

HOW = "as the weights beside it"


def beside(
    links: list[Link],
    values: Mapping[str, np.ndarray],
    given: Mapping[Path, np.ndarray],
) -> list[Link]:
    """Biases packed or split as their weights are, and lists of layers stacked on an axis.

    Args:
      links: what is known.
      values: PyTorch's tensors that have no counterpart yet.
      given: JAX's leaves that have none.

    Returns:
      Links of tensors and leaves of equal numbers, where no other pairing is possible.
    """
    ours = {name: value for name, value in values.items() if _mute(value)}
    theirs = {path: leaf for path, leaf in given.items() if _mute(leaf)}
    found: list[Link] = []
    for way in (_split, _packed, _stacked):
        made = way(links, ours, theirs)
        found += made
        done = {link.torch for link in made} | {link.jax for link in made}
        ours = {name: value for name, value in ours.items() if name not in done}
        theirs = {path: leaf for path, leaf in theirs.items() if path not in done}
    return found


def _mute(array: np.ndarray) -> bool:
    """Whether an array's numbers are too few, or all alike."""
    return array.size > 0 and array.ndim > 0 and not telling(array)


def _split(
    links: list[Link], ours: Mapping[str, np.ndarray], theirs: Mapping[Path, np.ndarray]
) -> list[Link]:
    """One tensor of PyTorch's, of whose layer the weight is several leaves."""
    found: list[Link] = []
    for name, value in ours.items():
        here = [x for x in links if place_of(x.torch)[0] == place_of(name)[0] and x.part is None]
        made = [
            Link(name, path, leaf.shape, rows=link.rows, how=HOW)
            for link in here
            if link.rows and not link.along
            for path, leaf in theirs.items()
            if path[:-1] == link.jax[:-1] and same(value[slice(*link.rows)].ravel(), leaf.ravel())
        ]
        rows = [link.rows for link in here]
        if made and [link.rows for link in made] == rows and len(set(rows)) == len(rows):
            found += made
    return found


def _packed(
    links: list[Link], ours: Mapping[str, np.ndarray], theirs: Mapping[Path, np.ndarray]
) -> list[Link]:
    """Several tensors of PyTorch's, whose layers' weights lie in one leaf."""
    weights: dict[Path, list[Link]] = {}
    for link in links:
        if link.part and not link.rows:
            weights.setdefault(link.jax, []).append(link)
    ways: dict[Path, list[list[Link]]] = {}
    for path, leaf in theirs.items():
        for weight, parts in weights.items():
            made = [
                Link(name, path, value.shape, how=HOW, part=(0, start, stop))
                for link in parts
                for _, start, stop in [link.part or (0, 0, 0)]
                for name, value in ours.items()
                if place_of(name)[0] == place_of(link.torch)[0]
                and same(value.ravel(), leaf[start:stop].ravel())
            ]
            ends = max(link.part[2] for link in parts if link.part)
            if weight[:-1] == path[:-1] and len(made) == len(parts) and len(leaf) == ends:
                ways.setdefault(path, []).append(made)
    sole = [made[0] for made in ways.values() if len(made) == 1]
    names = [link.torch for made in sole for link in made]
    return [link for made in sole for link in made] if len(set(names)) == len(names) else []


def _stacked(
    links: list[Link], ours: Mapping[str, np.ndarray], theirs: Mapping[Path, np.ndarray]
) -> list[Link]:
    """A list's tensors in one leaf that has an axis more in front."""
    lists: dict[tuple[str, str], dict[int, str]] = {}
    for name in ours:
        for number in re.finditer(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)", name):
            around = name[: number.start()], name[number.end() :]
            lists.setdefault(around, {})[int(number[0])] = name
    kinds: dict[tuple[tuple[int, ...], float], list[list[str]]] = {}
    for items in lists.values():
        names = [items[number] for number in sorted(items)]
        alike = {(ours[name].shape, float(x)) for name in names for x in ours[name].flat}
        if len(names) > 1 and len(alike) == 1:
            shape, number = alike.pop()
            kinds.setdefault(((len(names), *shape), number), []).append(names)
    leaves: dict[tuple[tuple[int, ...], float], list[Path]] = {}
    for path, leaf in theirs.items():
        if np.all(leaf == leaf.flat[0]):
            leaves.setdefault((leaf.shape, float(leaf.flat[0])), []).append(path)
    return [
        Link(name, leaves[kind][0], kind[0][1:], how=HOW, part=(0, at, at + 1))
        for kind, found in kinds.items()
        if len(found) == len(leaves.get(kind, ())) == 1
        for at, name in enumerate(found[0])
    ]
