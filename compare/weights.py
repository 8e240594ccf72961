"""The weight map: which PyTorch tensor, or slice of one, is which Flax leaf.

It is a bijection: every storage of either side is used exactly once, and whatever is left over is
a difference. What has no name in common is paired by type, shape and order of execution, and says
so; where two candidates fit equally, nothing is paired. The same links carry gradients and
optimizer state.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from compare.errors import DiptychError

Path = tuple[str, ...]

# PyTorch's leaf -> Flax's leaves that may stand for it.
LEAVES = {
    "weight": ("kernel", "scale", "embedding", "weight"),
    "running_mean": ("mean", "running_mean"),
    "running_var": ("var", "running_var"),
    # weight_norm and spectral_norm, as parametrisations and as the older hooks
    "weight.original0": ("g", "weight_g"),
    "weight.original1": ("kernel", "weight", "v", "weight_v"),
    "weight.original": ("kernel", "weight"),
    "weight.0._u": ("u", "weight_u"),
    "weight.0._v": ("v", "weight_v"),
    "weight_g": ("g",),
    "weight_orig": ("kernel", "weight"),
    "weight_u": ("u",),
    "weight_v": ("v",),
}
PARAMETRISED = re.compile(r"((?:.*\.)?)parametrizations\.(\w+\.(?:original[01]?|0\._[uv]))")
GATES = {"LSTM": "ifgo", "GRU": "rzn"}
# torch's packed projections of attention, in its order -> their names elsewhere.
HEADS = (("query", "query_proj"), ("key", "key_proj"), ("value", "value_proj"))
HEAD_NAMES = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
OUT = ("out", "output_proj")
# Transposed convolutions that slide their window unflipped, where torch flips it.
UNFLIPPED = frozenset(
    ["Linen ConvTranspose", "NNX ConvTranspose"]
    + [f"Equinox ConvTranspose{rank}" for rank in ("", "1d", "2d", "3d")]
)
# Layers of the same type, under each library's name.
TYPES = {
    "Dense": "Linear",
    "DenseGeneral": "Linear",
    "LinearGeneral": "Linear",
    "NonDynamicallyQuantizableLinear": "Linear",
    "Embed": "Embedding",
}


@dataclass(frozen=True)
class Leaf:
    """A tensor of the PyTorch model: its shape, dtype, the type of the layer that owns it.

    Args:
      trains: whether it is a parameter.
      persistent: whether a state dict holds it.
    """

    shape: tuple[int, ...]
    dtype: str
    layer: str = ""
    trains: bool = True
    persistent: bool = True


@dataclass(frozen=True)
class Link:
    """`jax = flip(torch[rows]).transpose(perm).reshape(shape)`: a slice that is one Flax leaf."""

    torch: str
    jax: Path
    shape: tuple[int, ...]
    perm: tuple[int, ...] = ()
    rows: tuple[int, int] | None = None
    how: str = "as it is"
    flip: tuple[int, ...] = ()

    def forward(self, tensor: np.ndarray) -> np.ndarray:
        part = tensor[slice(*self.rows)] if self.rows else tensor
        part = np.flip(part, self.flip) if self.flip else part
        return (part.transpose(self.perm) if self.perm else part).reshape(self.shape)

    def backward(self, leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        rows = (self.rows[1] - self.rows[0], *shape[1:]) if self.rows else shape
        if not self.perm:
            return leaf.reshape(rows)
        permuted = leaf.reshape([rows[axis] for axis in self.perm])
        part = permuted.transpose(np.argsort(self.perm))
        return np.flip(part, self.flip) if self.flip else part


@dataclass(frozen=True)
class Order:
    """What is known of the order of execution, for what no name pairs.

    Args:
      torch: the modules in the order of their first calls.
      jax: the leaves in the order of their first use.
      before: those that each leaf's first use depends on, beside itself.
    """

    torch: list[str]
    jax: list[Path]
    before: Mapping[Path, frozenset[Path]]


@dataclass
class WeightMap:
    """The audited bijection between a PyTorch state dict and Flax variables.

    Args:
      links: one slice, one leaf.
      leaves: PyTorch's tensors by name.
      aliases: tied names -> the name that carries the tensor.
      differences: what has no counterpart, a line each.
      uncounted: what need not have one.
      by_order: PyTorch's names that were paired by type, shape and order of execution.
      unfilled: JAX's leaves without a counterpart.
    """

    links: list[Link]
    leaves: Mapping[str, Leaf]
    aliases: Mapping[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)
    by_order: list[str] = field(default_factory=list)
    unfilled: list[Path] = field(default_factory=list)

    @property
    def modules(self) -> dict[str, str]:
        """PyTorch's modules whose tensors were all paired by order -> JAX's, with slashes."""
        found: dict[str, set[str]] = {}
        for link in self.links:
            module = _place(link.torch)[0]
            found.setdefault(module, set()).add("/".join(link.jax[1:-1]))
        ordered = {_place(name)[0] for name in self.by_order}
        return {m: min(p) for m, p in found.items() if m in ordered and len(p) == 1}

    @property
    def named(self) -> list[str]:
        """The PyTorch names that have a counterpart, in order."""
        return list(dict.fromkeys(link.torch for link in self.links))

    def jax_name(self, name: str) -> str:
        paths = ["/".join(link.jax[1:]) for link in self.links if link.torch == name]
        return ", ".join(paths)

    def to_jax(self, state: Mapping[str, np.ndarray]) -> dict[Path, np.ndarray]:
        """Flax leaves by path from PyTorch tensors by name; names not in `state` are skipped."""
        return {
            link.jax: np.asarray(link.forward(state[link.torch]), order="C")
            for link in self.links
            if link.torch in state
        }

    def to_torch(self, leaves: Mapping[Path, np.ndarray]) -> dict[str, np.ndarray]:
        """The way back; a tensor made of several leaves is put together again."""
        state: dict[str, np.ndarray] = {}
        for link in self.links:
            if link.jax not in leaves:
                continue
            shape = self.leaves[link.torch].shape
            part = link.backward(np.asarray(leaves[link.jax]), shape)
            if link.rows is None:
                state[link.torch] = part
            else:
                whole = state.setdefault(link.torch, np.empty(shape, part.dtype))
                whole[slice(*link.rows)] = part
        return state

    def check_state(self, state: Mapping[str, np.ndarray], source: str) -> None:
        """Refuses a state dict whose names or shapes are not the model's.

        Raises:
          DiptychError: with the first names that are missing, surplus or misshapen.
        """
        _refuse(source, "lacks", [n for n in self.named if n not in state])
        known = set(self.leaves) | set(self.aliases)
        _refuse(source, "has unknown", [n for n in state if n not in known])
        for name in self.named:
            if tuple(state[name].shape) != self.leaves[name].shape:
                raise DiptychError(
                    f"{source}: {name} has shape {tuple(state[name].shape)},"
                    f" the model needs {self.leaves[name].shape}"
                )

    def check_leaves(self, leaves: Mapping[Path, np.ndarray], source: str) -> None:
        """The same for Flax variables."""
        wanted = {link.jax: link.shape for link in self.links}
        _refuse(source, "lacks", ["/".join(p) for p in wanted if p not in leaves])
        _refuse(source, "has unknown", ["/".join(p) for p in leaves if p not in wanted])
        for path, shape in wanted.items():
            if tuple(np.shape(leaves[path])) != shape:
                raise DiptychError(
                    f"{source}: {'/'.join(path)} has shape {np.shape(leaves[path])},"
                    f" the model needs {shape}"
                )


def _refuse(source: str, verb: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise DiptychError(f"{source} {verb} {', '.join(names[:3])}{more}")


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
        own, attribute = _place(name)
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
        link = _fitted(name, leaf, found, shapes[found], kinds.get(found, ""))
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
        homes = {(_place(link.torch)[0], link.jax[1:-1]) for link in links}
        ordered, unclear = _by_order(ours, theirs, kinds, homes, order())
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
    by_order = [name for name in leaves if name in paired]
    unfilled = [path for path in shapes if path not in met]
    return WeightMap(links, leaves, aliases or {}, differences, uncounted, by_order, unfilled)


def _place(name: str) -> tuple[str, str]:
    """A tensor's module and its name there; what parametrises a weight belongs to its layer."""
    if found := PARAMETRISED.fullmatch(name):
        return found[1].rstrip("."), found[2]
    module, _, attribute = name.rpartition(".")
    return module, attribute


def _fitted(
    name: str, leaf: Leaf, path: Path, shape: tuple[int, ...], kind: str = ""
) -> Link | None:
    """The link of a tensor and a leaf, where the shapes allow it."""
    link = _link(name, leaf, path, shape, kind)
    permuted = tuple(leaf.shape[axis] for axis in link.perm) if link.perm else leaf.shape
    if permuted != shape:
        link = replace(link, how=f"{link.how}; axes {permuted} split or merged to {shape}")
    fits = _refines(permuted, shape) or _refines(shape, permuted)
    return link if fits else None


def _by_order(
    leaves: Mapping[str, Leaf],
    shapes: Mapping[Path, tuple[int, ...]],
    kinds: Mapping[Path, str],
    homes: set[tuple[str, Path]],
    order: Order,
) -> tuple[list[Link], list[str]]:
    """Layer by layer, then tensor by tensor: what fits one alone, or several in a row.

    Args:
      homes: modules of both sides that share tensors already; neither shares with a third.

    Returns:
      The links, and a line for each group that fits equally and has no order.
    """
    links: list[Link] = []
    unclear: list[str] = []
    stuck: set[str] = set()
    for whole in (True, False):
        homes = homes | {(_place(link.torch)[0], link.jax[1:-1]) for link in links}
        taken = {link.torch for link in links} | {link.jax for link in links} | stuck
        ours: dict[str, dict[str, Leaf]] = {}
        for name, leaf in leaves.items():
            if name not in taken:
                ours.setdefault(_place(name)[0] if whole else name, {})[name] = leaf
        theirs: dict[Path, dict[Path, tuple[int, ...]]] = {}
        for path, shape in shapes.items():
            if path not in taken:
                theirs.setdefault(path[1:-1] if whole else path, {})[path] = shape
        fits: dict[tuple[str, Path], list[Link]] = {}
        for name, unit in ours.items():
            for path, other in theirs.items():
                home = _place(next(iter(unit)))[0], next(iter(other))[1:-1]
                met = {pair for pair in homes if pair[0] == home[0] or pair[1] == home[1]}
                if (not met or home in met) and (found := _layers(unit, other, kinds)):
                    fits[name, path] = found
        candidates = {name: tuple(p for n, p in fits if n == name) for name in ours}
        for group in dict.fromkeys(candidates.values()):
            names = [name for name, found in candidates.items() if found == group]
            others = {n for n, p in fits if p in group}
            if not group:
                continue
            if len(names) == len(group) == len(others):
                if len(group) > 1:
                    names = _sorted_names(names, order) or []
                    group = _chain([tuple(theirs[path]) for path in group], group, order)
                if len(names) == len(group):
                    how = "type and shape" if len(group) == 1 else "type, shape and order"
                    for name, path in zip(names, group, strict=True):
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
            said = path[-1] in (_place(name)[1], "bias", *LEAVES["weight"])
            if not (said or {name, path} & taken) and len(_either(name, leaf, path, shape)) > 1:
                unclear.append(
                    f"{name} {leaf.shape} may be {'/'.join(path[1:])} as it is or transposed: call"
                    " that leaf kernel if it is (in, out), weight if it is (out, in)"
                )
    return links, unclear


def _layers(
    ours: Mapping[str, Leaf], theirs: Mapping[Path, tuple[int, ...]], kinds: Mapping[Path, str]
) -> list[Link]:
    """The links of two layers, if every tensor of each has exactly one counterpart in the other."""
    if len(ours) != len(theirs):
        return []
    found: list[Link] = []
    for name, leaf in ours.items():
        attribute = _place(name)[1]
        named = [p for p in theirs if p[-1] in (attribute, *LEAVES.get(attribute, ()))]
        known = {p[-1] for p in theirs} & {"bias", *LEAVES["weight"]}
        fitting = []
        for path in named or ([] if known else theirs):
            layer = (*kinds.get(path, "").split(), "", "")[1]
            if layer and leaf.layer and not _same_type(leaf.layer, layer):
                continue
            if named:
                fitting.append(_fitted(name, leaf, path, theirs[path], kinds.get(path, "")))
            else:
                fitting += _either(name, leaf, path, theirs[path])
        fitting = [link for link in fitting if link]
        if len(fitting) != 1:
            return []
        found += fitting
    return found if len({link.jax for link in found}) == len(found) else []


def _either(name: str, leaf: Leaf, path: Path, shape: tuple[int, ...]) -> list[Link]:
    """The ways in which a tensor may be a leaf whose name says nothing: as it is, or transposed."""
    rank = len(leaf.shape)
    perms = [()] if rank < 2 else [(), (*range(2, rank), 1, 0)]
    return [
        Link(name, path, shape, perm, how=f"axes {perm}, by the shape" if perm else "as it is")
        for perm in perms
        if tuple(leaf.shape[axis] for axis in perm or range(rank)) == shape
    ]


def _same_type(ours: str, theirs: str) -> bool:
    def plain(layer: str) -> str:
        return re.sub(r"[123]d$", "", TYPES.get(layer, layer))

    known = {"Linear", "Embedding", "Conv", "ConvTranspose", "LayerNorm", "GroupNorm", "BatchNorm"}
    pair = {plain(ours), plain(theirs)}
    return len(pair) == 1 or not pair <= known


def _sorted_names(names: list[str], order: Order) -> list[str] | None:
    """Tensors or modules in the order of execution, if all are known to be executed."""
    rank = {module: index for index, module in enumerate(order.torch)}
    places = [rank.get(name, rank.get(_place(name)[0])) for name in names]
    if None in places or len(set(places)) < len(places):
        return None
    return [name for _, name in sorted(zip(places, names, strict=True))]


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


def _refines(fine: tuple[int, ...], coarse: tuple[int, ...]) -> bool:
    """Whether splitting axes of `coarse`, in order, gives `fine`."""
    if fine == coarse:
        return True
    axes = list(fine)
    for size in coarse:
        product = 1
        while axes and product * axes[0] <= size and (product < size or axes[0] == 1):
            product *= axes.pop(0)
        if product != size:
            return False
    return not axes


def _link(name: str, leaf: Leaf, path: Path, shape: tuple[int, ...], layer: str = "") -> Link:
    rank = len(leaf.shape)
    if rank > 2 and layer in UNFLIPPED:
        perm = (1, 0, *range(2, rank)) if path[-1] == "weight" else (*range(2, rank), 0, 1)
        how = f"{layer} -> {path[-1]}, axes {perm}, the window flipped"
        return Link(name, path, shape, perm, how=how, flip=tuple(range(2, rank)))
    if path[-1] == "weight" and rank > 1 and layer:
        return Link(name, path, shape, how=f"{layer} -> weight, in PyTorch's own layout")
    if path[-1] == "embedding":
        return Link(name, path, shape, how=f"{leaf.layer or 'Embedding'} -> embedding, as it is")
    if path[-1] != "kernel" or rank < 2:
        return Link(name, path, shape)
    perm = (*range(2, rank), 1, 0)
    kind = leaf.layer or ("Linear" if rank == 2 else f"Conv{rank - 2}d")
    how = f"{kind} -> kernel, axes {perm}"
    if leaf.shape == tuple(leaf.shape[axis] for axis in perm):
        how += "; the shapes alone would not tell: resolved by the layer's type"
    return Link(name, path, shape, perm, how=how)


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
