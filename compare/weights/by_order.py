"""What no name pairs: by layer, in the order of execution, where type and shape fit one alone."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from compare.weights.link import (
    LEAVES,
    Leaf,
    Link,
    Path,
    either,
    fitted,
    place_of,
    uncertain,
    untold,
)
from compare.weights.map import Order

# Layers of the same type, under each library's name.
TYPES = {
    "Dense": "Linear",
    "DenseGeneral": "Linear",
    "LinearGeneral": "Linear",
    "NonDynamicallyQuantizableLinear": "Linear",
    "Embed": "Embedding",
}


PLAIN = ["weight", "bias"]  # of a layer that multiplies first and then adds


def by_order(
    leaves: Mapping[str, Leaf],
    shapes: Mapping[Path, tuple[int, ...]],
    kinds: Mapping[Path, str],
    homes: set[tuple[str, Path]],
    order: Order,
    allowed: Callable[[list[Link]], list[Link]] = list,
) -> tuple[list[Link], list[str]]:
    """Layer by layer, then tensor by tensor: what fits one alone, or several in a row.

    Args:
      homes: modules of both sides that share tensors already; neither shares with a third, but for
        a JAX tree that holds several modules' leaves side by side.
      allowed: of the links that a tensor and a leaf may have, those that their values allow.

    Returns:
      The links, and a line for each group that fits equally and has no order.
    """
    links: list[Link] = []
    unclear: list[str] = []
    stuck: set[str] = set()
    for whole in (True, False):
        homes = homes | {(place_of(link.torch)[0], link.jax[1:-1]) for link in links}
        often = Counter(path for _, path in homes)
        homes = {(name, path) for name, path in homes if path and often[path] == 1}
        taken = {link.torch for link in links} | {link.jax for link in links} | stuck
        ours: dict[str, dict[str, Leaf]] = {}
        for name, leaf in leaves.items():
            if name not in taken:
                ours.setdefault(place_of(name)[0] if whole else name, {})[name] = leaf
        theirs: dict[Path, dict[Path, tuple[int, ...]]] = {}
        for path, shape in shapes.items():
            if path not in taken:
                theirs.setdefault(path[1:-1] if whole else path, {})[path] = shape
        fits: dict[tuple[str, Path], list[Link]] = {}
        for name, unit in ours.items():
            for path, other in theirs.items():
                home = place_of(next(iter(unit)))[0], next(iter(other))[1:-1]
                met = {pair for pair in homes if home[0] == pair[0] or home[1] == pair[1]}
                found = layers(unit, other, kinds, allowed) if not met or home in met else []
                if found:
                    fits[name, path] = found
        candidates = {name: tuple(p for n, p in fits if n == name) for name in ours}
        for group in dict.fromkeys(candidates.values()):
            names = [name for name, found in candidates.items() if found == group]
            others = {n for n, p in fits if p in group}
            if not group:
                continue
            if len(names) == len(group) == len(others):
                ranked, chain = names, group
                if len(group) > 1:
                    ranked = _sorted_names(names, order, list(leaves)) or []
                    chain = _chain([tuple(theirs[path]) for path in group], group, order)
                if len(ranked) == len(chain):
                    how = "type and shape" if len(group) == 1 else "type, shape and order"
                    for name, path in zip(ranked, chain, strict=True):
                        links += [
                            replace(link, how=f"{link.how}; paired by {how}, not by name")
                            for link in fits[name, path]
                        ]
                    continue
            shown = ", ".join("/".join(path[0 if whole else 1 :]) for path in candidates[names[0]])
            stuck |= {leaf for name in names for leaf in ours[name]}
            unclear.append(
                f"{', '.join(names)}: {shown} fit equally, and no order of execution tells which"
                " is which; name them in Twin(rename=...)"
            )
    taken = {link.torch for link in links} | {link.jax for link in links}
    for name, leaf in leaves.items():
        for path, shape in shapes.items():
            ways = allowed(either(name, leaf, path, shape))
            if untold(name, path) and not {name, path} & taken and len(ways) > 1:
                unclear.append(uncertain(name, leaf, path))
    return links, unclear


def layers(
    ours: Mapping[str, Leaf],
    theirs: Mapping[Path, tuple[int, ...]],
    kinds: Mapping[Path, str],
    allowed: Callable[[list[Link]], list[Link]],
) -> list[Link]:
    """The links of two layers, if every tensor of each has exactly one counterpart in the other."""
    if len(ours) != len(theirs):
        return []
    found: list[Link] = []
    for name, leaf in ours.items():
        attribute = place_of(name)[1]
        named = [p for p in theirs if p[-1] in (attribute, *LEAVES.get(attribute, ()))]
        known = {p[-1] for p in theirs} & {"bias", *LEAVES["weight"]}
        fitting = []
        for path in named or ([] if known else theirs):
            layer = (*kinds.get(path, "").split(), "", "")[1]
            if layer and leaf.layer and not same_type(leaf.layer, layer):
                continue
            if named:
                ways = [fitted(name, leaf, path, theirs[path], kinds.get(path, ""))]
            else:
                ways = either(name, leaf, path, theirs[path])
            fitting += allowed([link for link in ways if link])
        if len(fitting) != 1:
            return []
        found += fitting
    return found if len({link.jax for link in found}) == len(found) else []


def same_type(ours: str, theirs: str) -> bool:
    def plain(layer: str) -> str:
        return re.sub(r"[123]d$", "", TYPES.get(layer, layer))

    known = {"Linear", "Embedding", "Conv", "ConvTranspose", "LayerNorm", "GroupNorm", "BatchNorm"}
    pair = {plain(ours), plain(theirs)}
    return len(pair) == 1 or not pair <= known


def _sorted_names(names: list[str], order: Order, leaves: list[str]) -> list[str] | None:
    """Tensors or modules in the order of execution, if all are known to be executed.

    In one layer a weight comes before its bias, as a layer lists them.
    """
    rank = {module: index for index, module in enumerate(order.torch)}
    places = [rank.get(name, rank.get(place_of(name)[0])) for name in names]
    if None in places:
        return None
    listed = [leaves.index(name) if name in leaves else 0 for name in names]
    attributes: dict[Any, list[str]] = {}
    for name, place in zip(names, places, strict=True):
        attributes.setdefault(place, []).append(place_of(name)[1] if name in leaves else "")
    if any(len(found) > 1 and found != PLAIN for found in attributes.values()):
        return None
    return [name for *_, name in sorted(zip(places, listed, names, strict=True))]


def _chain(
    units: list[tuple[Path, ...]], group: tuple[Path, ...], order: Order
) -> tuple[Path, ...]:
    """The group in the order of execution, if each depends on the one before; else nothing."""
    rank = {path: index for index, path in enumerate(order.jax)}
    first = [min((rank[path] for path in unit if path in rank), default=-1) for unit in units]
    if -1 in first:
        return ()
    found = sorted(range(len(units)), key=first.__getitem__)
    for one, other in itertools.pairwise(found):
        if not order.before[order.jax[first[other]]] & set(units[one]):
            return ()
    return tuple(group[index] for index in found)
