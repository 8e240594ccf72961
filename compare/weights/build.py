"""The weight map built: by name, by gate and head, and what is left over by order of execution."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np

from compare.weights import by_value
from compare.weights.alike import beside
from compare.weights.by_order import by_order
from compare.weights.cells import GATES, Homes, cell
from compare.weights.link import (
    LEAVES,
    Leaf,
    Link,
    Path,
    either,
    fitted,
    place_of,
    renamed,
    slashed,
    uncertain,
    untold,
)
from compare.weights.map import Order, WeightMap
from compare.weights.own import Own
from compare.weights.projections import projections

OUT = ("out", "output_proj")


def build(
    leaves: Mapping[str, Leaf],
    shapes: Mapping[Path, tuple[int, ...]],
    rename: Mapping[str, str],
    aliases: Mapping[str, str] | None = None,
    kinds: Mapping[Path, str] | None = None,
    order: Callable[[], Order] | None = None,
    bare: bool = False,
    own: Own | None = None,
) -> WeightMap:
    """Links every PyTorch tensor with the Flax leaves of its name.

    Args:
      leaves: PyTorch's tensors by dotted name.
      shapes: shapes of the Flax leaves by path, the collection first.
      rename: as of `Twin`.
      aliases: tied names -> the name that carries the tensor.
      kinds: "library layer" of the leaves whose layer is known.
      order: asked where names leave something over on both sides; without it nothing is paired by
        order.
      bare: the leaves come from a tree that does not tell parameters from buffers: PyTorch does.
      own: the weights that the porter gives; what names leave open is then told by values.
    """
    kinds = kinds or {}
    links: list[Link] = []
    differences: list[str] = []
    uncounted: list[str] = []
    lacking: dict[str, str] = {}
    homes: Homes = {}
    misfits: set[Path] = set()
    by_module: dict[str, dict[str, Path]] = {}
    for path in shapes:
        by_module.setdefault("/".join(path[1:-1]), {})[path[-1]] = path
    by_path = {"/".join(path): path for path in shapes}
    by_path |= {"/".join(path[1:]): path for path in reversed(list(shapes))}
    exacts: list[str] = []
    meant = {pattern.replace("\\", "").strip("^$") for pattern in rename}  # not by a wildcard

    for name, leaf in leaves.items():
        module, attribute = place_of(name)
        module = renamed(module, rename)
        candidates = (attribute, *LEAVES.get(attribute, ()))
        if attribute == "weight_v" and len(leaf.shape) > 1:  # weight_norm's, not spectral_norm's
            candidates += ("kernel", "weight")
        places = [module, f"{module}/layer"]  # Equinox's WeightNorm holds the layer
        if leaf.layer in GATES:
            candidates = (*candidates, attribute.removesuffix("_l0"))
            places.append(f"{module}/cell".lstrip("/"))
        if leaf.layer == "NonDynamicallyQuantizableLinear":
            around = module.rpartition("/")[0]
            places += [f"{around}/{out}".lstrip("/") for out in OUT]
        wanted = renamed(name, rename)
        found = by_path.get(wanted) if name in meant or wanted != slashed(name) else None
        exact = found is not None
        if found is None and name in meant:
            text = f"JAX lacks the leaf {wanted}, which Twin(rename=...) names"
            differences.append(f"{name} {leaf.shape} has no counterpart: {text}")
            continue
        if found is None:
            here = (by_module.get(place, {}) for place in places)
            found = next((h[c] for h in here for c in candidates if c in h), None)
        if found is None and attribute in ("weight.original0", "weight_g"):
            end = f"{module.rpartition('/')[2]}/kernel/scale"  # Linen's WeightNorm
            ends = [path for path in shapes if path[-1] == end]
            found = ends[0] if len(ends) == 1 else None
        if found is None:
            if packed := cell(name, attribute, leaf, module, shapes, homes):
                links += packed
                differences += _uncovered(packed, leaves)
                continue
            if attribute == "num_batches_tracked":
                uncounted.append(f"{name}: a counter that Flax's own BatchNorm has not")
                continue
            if not leaf.persistent:
                uncounted.append(f"{name}: a buffer that is not persistent, a constant in JAX")
                continue
            where = f"a {' or '.join(dict.fromkeys(candidates))} at {module or 'the root'}"
            lacking[name] = f"{name} {leaf.shape} has no counterpart: JAX lacks {where}"
            continue
        link = fitted(name, leaf, found, shapes[found], kinds.get(found, ""))
        free = exact and untold(name, found)
        ways = either(name, leaf, found, shapes[found]) if free else []
        ways = own.related(ways) if own else ways
        link = ways[0] if ways else link
        if own and (free or not own.laid) and (seen := own.layout(name, found)):
            link = seen
        elif len(ways) > 1 and attribute in LEAVES:
            misfits.add(found)
            differences.append(uncertain(name, leaf, found))
            continue
        if link is None:
            misfits.add(found)
            differences.append(
                f"{name} {leaf.shape} does not fit {'/'.join(found[1:])} {shapes[found]}"
            )
            continue
        links.append(link)
        exacts += [name] * exact

    met = {link.jax: link.torch for link in links if not link.adds}
    for link in list(links):
        if not link.adds and met[link.jax] != link.torch:
            shared = "/".join(link.jax[1:])
            differences.append(f"{met[link.jax]} and {link.torch} meet in {shared}")
            links.remove(link)
    for link in _stacked(lacking, leaves, shapes, met, rename, kinds):
        links.append(link)
        met[link.jax] = link.torch
        lacking.pop(link.torch)

    def projected() -> None:
        packed = projections(lacking, leaves, shapes, met, rename, kinds)
        links.extend(packed)
        differences.extend(_uncovered(packed, leaves))
        met.update({link.jax: link.torch for link in packed})
        for link in packed:
            lacking.pop(link.torch, None)

    if not own or own.laid:  # elsewhere values tell more than names
        projected()
    if own and lacking:
        told = by_value.pairs(
            {name: own.values[name] for name in lacking},
            {path: own.given[path] for path in shapes if path in own.given and path not in met},
        )
        if own.laid:
            told = [_laid(link, leaves[link.torch], kinds) for link in told]
        left = {path: own.given[path] for path in shapes if path in own.given}
        taken = {*met, *(link.jax for link in told)}
        told += beside(
            links + told,
            {n: own.values[n] for n in lacking if n not in {link.torch for link in told}},
            {path: leaf for path, leaf in left.items() if path not in taken},
        )
        links += told
        met |= {link.jax: link.torch for link in told}
        differences += _uncovered(told, leaves)
        for link in told:
            lacking.pop(link.torch, None)
        projected()
    over = [path for path in shapes if path not in met and path not in misfits]
    ordered: list[Link] = []
    unclear: list[str] = []
    # What the porter's values allow; and then what they do not, as a value may be wrong.
    for allowed in (own.alike, own.related) if own else (list,):
        paired = {link.torch for link in ordered} | {link.jax for link in ordered}
        ours = {name: leaves[name] for name in lacking if name not in paired}
        theirs = {path: shapes[path] for path in over if path not in paired}
        if order and ours and theirs:
            met_at = {(place_of(link.torch)[0], link.jax[1:-1]) for link in (*links, *ordered)}
            found, unclear = by_order(ours, theirs, kinds, met_at, order(), allowed)
            ordered += found
    unlike = bool(differences)  # by what is known
    differences += unclear
    paired = {link.torch for link in ordered}
    links += ordered
    met |= {link.jax: link.torch for link in ordered}
    unpaired = 0  # elements, PyTorch's less JAX's
    for name, line in lacking.items():
        if name in paired:
            continue
        if leaves[name].trains or place_of(name)[1] in LEAVES:
            differences.append(line)
            unpaired += math.prod(leaves[name].shape)
        else:  # what it holds, the forward passes show
            uncounted.append(f"{name}: a buffer that no layer of a library has, a constant in JAX")
    for path in shapes:
        if path not in met:
            differences.append(f"{'/'.join(path[1:])} {shapes[path]} has no counterpart in PyTorch")
            unpaired -= math.prod(shapes[path])
    if bare:
        links = [
            link if leaves[link.torch].trains else replace(link, jax=("buffers", *link.jax[1:]))
            for link in links
        ]
    rank = {name: index for index, name in enumerate(leaves)}
    links.sort(key=lambda link: rank[link.torch])
    ordered_names = [name for name in leaves if name in paired]
    unfilled = [path for path in shapes if path not in met]
    parted = {
        link.jax: shapes.get(link.jax) or shapes["params", *link.jax[1:]]
        for link in links
        if link.part
    }
    return WeightMap(
        links,
        leaves,
        aliases or {},
        differences,
        uncounted,
        ordered_names,
        unfilled,
        parted,
        exact=exacts,
        lacking=_lacking(leaves, links, uncounted),
        undecided=bool(differences) and not unlike and not unpaired,
    )


def _lacking(leaves: Iterable[str], links: Iterable[Link], uncounted: Iterable[str]) -> list[str]:
    """PyTorch's names that have no counterpart and need one."""
    known = {link.torch for link in links} | {line.partition(":")[0] for line in uncounted}
    return [name for name in leaves if name not in known]


def _stacked(
    lacking: Collection[str],
    leaves: Mapping[str, Leaf],
    shapes: Mapping[Path, tuple[int, ...]],
    met: Collection[Path],
    rename: Mapping[str, str],
    kinds: Mapping[Path, str],
) -> list[Link]:
    """A list of modules as JAX's scan wants them: a leaf that has all on one axis more."""
    lists: dict[tuple[Path, str], dict[int, str]] = {}
    for name in lacking:
        module, attribute = place_of(name)
        parts = tuple(part for part in renamed(module, rename).split("/") if part)
        for at in (i for i, part in enumerate(parts) if part.isdigit()):
            around = parts[:at] + parts[at + 1 :], attribute
            lists.setdefault(around, {})[int(parts[at])] = name
    links: list[Link] = []
    taken = set(met)
    for (place, attribute), items in lists.items():
        names = [items[index] for index in sorted(items)]
        alike = {(leaves[name].shape, leaves[name].layer) for name in names}
        if sorted(items) != list(range(len(items))) or len(alike) > 1:
            continue
        for path, shape in shapes.items():
            last = (attribute, *LEAVES.get(attribute, ()))
            if path in taken or path[1:-1] != place or path[-1] not in last:
                continue
            for axis in (a for a, length in enumerate(shape) if length == len(names)):
                one, leaf = shape[:axis] + shape[axis + 1 :], leaves[names[0]]
                if fitted(names[0], leaf, path, one, kinds.get(path, "")) is None:
                    continue
                taken.add(path)
                for index, name in enumerate(names):
                    link = fitted(name, leaf, path, one, kinds.get(path, ""))
                    assert link is not None
                    how = f"{link.how}; {index} of the {len(names)} stacked on axis {axis}"
                    links.append(replace(link, part=(axis, index, index + 1), how=how))
                break
    return links


def _laid(link: Link, leaf: Leaf, kinds: Mapping[Path, str]) -> Link:
    """A link that values told, with the axes that the library's layer has for that leaf."""
    kind = kinds.get(link.jax, "")
    if link.order or link.split or not (kind or link.jax[-1] == "kernel"):
        return link
    block = replace(leaf, shape=link.taken(np.broadcast_to(0, leaf.shape)).shape)
    found = fitted(link.torch, block, link.jax, link.shape, kind)
    if found is None:
        return link
    how = f"{found.how}, {by_value.HOW}"
    return replace(link, perm=found.perm, flip=found.flip, how=how)


def _uncovered(links: Iterable[Link], leaves: Mapping[str, Leaf]) -> list[str]:
    """A line for each tensor of which some rows are in no leaf."""
    rows: dict[tuple[str, int], int] = {}
    for link in links:
        if link.rows:
            name, along = link.torch, link.along
            rows[name, along] = rows.get((name, along), 0) + link.rows[1] - link.rows[0]
    return [
        f"{name}: {whole - count} of {whole} {f'places of axis {along}' if along else 'rows'}"
        " have no counterpart"
        for (name, along), count in rows.items()
        if count != (whole := leaves[name].shape[along])
    ]
