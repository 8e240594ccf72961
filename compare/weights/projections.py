"""Query, key and value: packed in one layer, or a layer each, under whatever names people give."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from compare.weights.link import Leaf, Link, Path, fitted, place_of, renamed

_ONE = re.compile(r"(?:w|to|lin)?_?(q|k|v|query|key|value)(?:_?(?:proj|projection|lin|linear))?")
# Not query_key_value: who calls a layer so has the three side by side in each head.
_PACKED = re.compile(r"(?:w|to|c|in)?_?(qkv|kqv|kv)(?:_?(?:proj|projection|lin|linear))?")
_PLAIN = ("c_attn", "in_proj", "attn_in_proj")  # packed, in the order q, k, v
_OWN = re.compile(r"(in|q|k|v)_proj_(weight|bias)")  # nn.MultiheadAttention's own tensors
ASSUMED = ", in the order of its name"  # ends `Link.how` where only a forward pass can prove it
_NAMES = {"q": "query", "k": "key", "v": "value"}


class _Held(NamedTuple):
    """What a tensor or leaf holds: the place of its attention, "weight" or "bias", and roles."""

    place: str
    kind: str
    roles: str


def projections(
    lacking: Collection[str],
    leaves: Mapping[str, Leaf],
    shapes: Mapping[Path, tuple[int, ...]],
    met: Collection[Path],
    rename: Mapping[str, str],
    kinds: Mapping[Path, str],
) -> list[Link]:
    """Links of query, key and value where one place of both sides has them, split or packed.

    Packed rows are taken for contiguous, in the order that the name says.
    """
    ours: dict[tuple[str, str], dict[str, str]] = {}
    theirs: dict[tuple[str, str], dict[Path, str]] = {}
    for name in lacking:
        if held := _of_torch(name, leaves[name], rename):
            ours.setdefault(held[:2], {})[name] = held.roles
    for path in shapes:
        if path not in met and (held := _of_jax(path)):
            theirs.setdefault(held[:2], {})[path] = held.roles
    found: list[Link] = []
    for place in ours.keys() & theirs.keys():
        mine, other = "".join(ours[place].values()), "".join(theirs[place].values())
        once = len(set(mine)) == len(mine) and len(set(other)) == len(other)
        if once and set(other) <= set(mine):
            for name, roles in ours[place].items():
                links = list(_links(name, roles, leaves, theirs[place], shapes, kinds))
                found += [link for link in links if link is not None] if all(links) else []
    return found


def _of_torch(name: str, leaf: Leaf, rename: Mapping[str, str]) -> _Held | None:
    module, attribute = place_of(name)
    module = renamed(module, rename)
    if own := _OWN.fullmatch(attribute):
        return _Held(module, own[2], own[1].replace("in", "qkv"))
    place, _, layer = module.rpartition("/")
    roles = _roles(layer)
    return _Held(place, attribute, roles) if roles and attribute in ("weight", "bias") else None


def _of_jax(path: Path) -> _Held | None:
    roles = _roles(path[-2]) if len(path) > 2 else ""
    kind = {"kernel": "weight", "weight": "weight", "bias": "bias"}.get(path[-1])
    return _Held("/".join(path[1:-2]), kind, roles) if roles and kind else None


def _roles(layer: str) -> str:
    """ "q", "k" or "v" of a layer that has one, "qkv" say of one that has several; else ""."""
    layer = layer.lower()
    if layer in _PLAIN:
        return "qkv"
    if one := _ONE.fullmatch(layer):
        return one[1][0]
    packed = _PACKED.fullmatch(layer)
    return packed[1] if packed else ""


def _links(
    name: str,
    roles: str,
    leaves: Mapping[str, Leaf],
    theirs: Mapping[Path, str],
    shapes: Mapping[Path, tuple[int, ...]],
    kinds: Mapping[Path, str],
) -> Iterator[Link | None]:
    """The links of one tensor, None for one that does not fit."""
    leaf = leaves[name]
    out = 1 if leaf.layer == "Conv1D" and len(leaf.shape) == 2 else 0
    into = leaf.shape[1 - out] if len(leaf.shape) == 2 else 1
    for path, other in theirs.items():
        if other == roles:  # one each, or packed alike
            yield fitted(name, leaf, path, shapes[path], kinds.get(path, ""))
            return
    widths: dict[str, int] = {}  # of each role, in the tensor
    homes: dict[str, tuple[Path, tuple[int, int, int] | None, tuple[int, ...]]] = {}
    for path, other in theirs.items():
        for at, role in enumerate(other):
            if role not in roles:
                continue
            part = _part(path, shapes[path], at, len(other))
            if part is None and len(other) > 1:
                yield None
                return
            homes[role] = (path, *part) if part else (path, None, shapes[path])
            widths[role] = math.prod(homes[role][2]) // into
    spare = leaf.shape[out] - sum(widths.values())
    missing = [role for role in roles if role not in widths]
    widths |= {role: spare // len(missing) for role in missing}
    if sum(widths.values()) != leaf.shape[out]:
        yield None
        return
    start = 0
    for role in roles:
        stop = start + widths[role]
        if role in homes:
            path, part, shape = homes[role]
            block = [widths[role] if axis == out else n for axis, n in enumerate(leaf.shape)]
            link = fitted(name, replace(leaf, shape=tuple(block)), path, shape, kinds.get(path, ""))
            if link is not None:
                rows = (start, stop) if len(roles) > 1 else None
                how = f"{_NAMES[role]} of {name if rows else '/'.join(path[1:])}"
                if (rows or part) and leaf.layer != "MultiheadAttention":
                    how += ASSUMED
                link = replace(link, rows=rows, along=out if rows else 0, part=part, how=how)
            yield link
        start = stop


def _part(
    path: Path, shape: tuple[int, ...], at: int, count: int
) -> tuple[tuple[int, int, int], tuple[int, ...]] | None:
    """What of a packed leaf is one of its parts, and the shape of that; None where it is open."""
    if count == 1:
        return None
    inward = int(path[-1] == "kernel")  # a kernel's first axis is what comes in
    stacked = [axis for axis in range(inward, len(shape)) if shape[axis] == count]
    if len(shape) > 1 + inward and len(stacked) == 1 and (path[-1] != "weight" or len(shape) > 2):
        axis = stacked[0]
        return (axis, at, at + 1), shape[:axis] + shape[axis + 1 :]
    if len(shape) <= 2 and shape[inward if len(shape) == 2 else 0] % count == 0:
        axis = inward if len(shape) == 2 else 0
        wide = shape[axis] // count
        return (axis, at * wide, (at + 1) * wide), (*shape[:axis], wide, *shape[axis + 1 :])
    return None
