"""The weight map built: by name, by gate and head, and what is left over by order of execution."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from compare.weights.by_order import by_order
from compare.weights.link import LEAVES, Leaf, Link, Path, fitted, place_of
from compare.weights.map import Order, WeightMap

GATES = {"LSTM": "ifgo", "GRU": "rzn"}
# torch's packed projections of attention, in its order -> their names elsewhere.
HEADS = (("query", "query_proj"), ("key", "key_proj"), ("value", "value_proj"))
HEAD_NAMES = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
OUT = ("out", "output_proj")


def build(
    leaves: Mapping[str, Leaf],
    shapes: Mapping[Path, tuple[int, ...]],
    rename: Mapping[str, str],
    aliases: Mapping[str, str] | None = None,
    kinds: Mapping[Path, str] | None = None,
    order: Callable[[], Order] | None = None,
    bare: bool = False,
) -> WeightMap:
    """Links every PyTorch tensor with the Flax leaves of its name.

    Args:
      leaves: PyTorch's tensors by dotted name.
      shapes: shapes of the Flax leaves by path, the collection first.
      rename: regular expressions on the dotted module names -> Flax's.
      aliases: tied names -> the name that carries the tensor.
      kinds: "library layer" of the leaves whose layer is known.
      order: asked where names leave something over on both sides; without it nothing is paired by
        order.
      bare: the leaves come from a tree that does not tell parameters from buffers: PyTorch does.
    """
    kinds = kinds or {}
    links: list[Link] = []
    differences: list[str] = []
    uncounted: list[str] = []
    lacking: dict[str, str] = {}
    misfits: set[Path] = set()
    by_module: dict[str, dict[str, Path]] = {}
    for path in shapes:
        by_module.setdefault("/".join(path[1:-1]), {})[path[-1]] = path

    for name, leaf in leaves.items():
        own, attribute = place_of(name)
        module = own
        for pattern, replacement in rename.items():
            module = re.sub(pattern, replacement, module)
        module = module.replace(".", "/")
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
        here = (by_module.get(place, {}) for place in places)
        found = next((h[c] for h in here for c in candidates if c in h), None)
        if found is None and attribute in ("weight.original0", "weight_g"):
            end = f"{module.rpartition('/')[2]}/kernel/scale"  # Linen's WeightNorm
            ends = [path for path in shapes if path[-1] == end]
            found = ends[0] if len(ends) == 1 else None
        if found is None:
            packed = list(_gates(name, attribute, leaf, module, shapes))
            packed = packed or list(_heads(name, attribute, leaf, module, shapes))
            if packed:
                links += packed
                rows = sum(link.rows[1] - link.rows[0] for link in packed if link.rows)
                if rows != leaf.shape[0] and packed[0].rows:
                    share = f"{leaf.shape[0] - rows} of {leaf.shape[0]} rows"
                    differences.append(f"{name}: {share} have no counterpart")
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
        if link is None:
            misfits.add(found)
            differences.append(
                f"{name} {leaf.shape} does not fit {'/'.join(found[1:])} {shapes[found]}"
            )
            continue
        links.append(link)

    met: dict[Path, str] = {}
    for link in list(links):
        if link.jax in met:
            differences.append(
                f"{met[link.jax]} and {link.torch} meet in {'/'.join(link.jax[1:])}: two tensors of"
                " PyTorch, one of JAX; their sum is right for the forward pass, not for training"
            )
            links.remove(link)
        met.setdefault(link.jax, link.torch)
    over = [path for path in shapes if path not in met and path not in misfits]
    ordered: list[Link] = []
    if order and lacking and over:
        ours = {name: leaves[name] for name in lacking}
        theirs = {path: shapes[path] for path in over}
        homes = {(place_of(link.torch)[0], link.jax[1:-1]) for link in links}
        ordered, unclear = by_order(ours, theirs, kinds, homes, order())
        differences += unclear
    paired = {link.torch for link in ordered}
    links += ordered
    met |= {link.jax: link.torch for link in ordered}
    differences += [line for name, line in lacking.items() if name not in paired]
    for path in shapes:
        if path not in met:
            differences.append(f"{'/'.join(path[1:])} {shapes[path]} has no counterpart in PyTorch")
    if bare:
        links = [
            link if leaves[link.torch].trains else replace(link, jax=("buffers", *link.jax[1:]))
            for link in links
        ]
    rank = {name: index for index, name in enumerate(leaves)}
    links.sort(key=lambda link: rank[link.torch])
    ordered_names = [name for name in leaves if name in paired]
    unfilled = [path for path in shapes if path not in met]
    return WeightMap(links, leaves, aliases or {}, differences, uncounted, ordered_names, unfilled)


def _heads(
    name: str, attribute: str, leaf: Leaf, module: str, shapes: Mapping[Path, tuple[int, ...]]
) -> Iterable[Link]:
    """torch's packed projections of attention as a layer each for query, key and value."""
    if leaf.layer != "MultiheadAttention":
        return
    packed = attribute in ("in_proj_weight", "in_proj_bias")
    if not packed and attribute not in HEAD_NAMES:
        return
    wide = leaf.shape[0] // 3
    for index, names in enumerate(HEADS):
        if not packed and attribute != HEAD_NAMES[index]:
            continue
        rows = (index * wide, (index + 1) * wide) if packed else None
        for head in names:
            layer = ("params", *module.split("/"), head) if module else ("params", head)
            last = ("bias",) if attribute == "in_proj_bias" else ("kernel", "weight")
            path = next(((*layer, end) for end in last if (*layer, end) in shapes), None)
            if path:
                perm = (1, 0) if path[-1] == "kernel" else ()
                yield Link(name, path, shapes[path], perm, rows, f"{names[0]} of {name}, by head")
                break


def _gates(
    name: str, attribute: str, leaf: Leaf, module: str, shapes: Mapping[Path, tuple[int, ...]]
) -> Iterable[Link]:
    """torch's packed recurrent weights as the per-gate Dense layers of a Flax cell."""
    found = re.fullmatch(r"(weight|bias)_(ih|hh)(?:_l0)?", attribute)
    gates = GATES.get(leaf.layer)
    if not found or not gates:
        return
    what, source = found.groups()
    hidden = leaf.shape[0] // len(gates)
    for index, gate in enumerate(gates):
        for cell in (
            module,
            f"{module}/cell",
            f"{module}/OptimizedLSTMCell_0",
            f"{module}/GRUCell_0",
        ):
            kernel = "kernel" if what == "weight" else "bias"
            dense = f"{source[0]}{gate}"
            inside = tuple(p for p in cell.split("/") if p)
            if ("params", *inside, f"{dense}_", kernel) in shapes:  # NNX's if_
                dense += "_"
            path = ("params", *inside, dense, kernel)
            if (
                what == "bias" and path not in shapes
            ):  # Flax's cells have one bias where torch has two
                path = (*path[:-2], ("h" if leaf.layer == "LSTM" else "i") + gate, kernel)
            if path in shapes:
                rows = (index * hidden, (index + 1) * hidden)
                perm = (1, 0) if what == "weight" else ()
                yield Link(
                    name, path, shapes[path], perm, rows, f"gate {gate} of the packed {name}"
                )
                break
