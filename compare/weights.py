"""The weight map: which PyTorch tensor, or slice of one, is which Flax leaf.

It is a bijection: every storage of either side is used exactly once, whatever is left over is a
difference, and nothing is paired by shape alone. The same links carry gradients and optimizer
state.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from compare.errors import DiptychError

Path = tuple[str, ...]

# PyTorch's leaf -> Flax's leaves that may stand for it.
LEAVES = {
    "weight": ("kernel", "scale", "embedding", "weight"),
    "running_mean": ("mean", "running_mean"),
    "running_var": ("var", "running_var"),
}
GATES = {"LSTM": "ifgo", "GRU": "rzn"}


@dataclass(frozen=True)
class Leaf:
    """A tensor of the PyTorch model: its shape, dtype, the type of the layer that owns it."""

    shape: tuple[int, ...]
    dtype: str
    layer: str = ""
    trains: bool = True


@dataclass(frozen=True)
class Link:
    """`jax = torch[rows].transpose(perm).reshape(shape)`: one slice that is one Flax leaf."""

    torch: str
    jax: Path
    shape: tuple[int, ...]
    perm: tuple[int, ...] = ()
    rows: tuple[int, int] | None = None
    how: str = "as it is"

    def forward(self, tensor: np.ndarray) -> np.ndarray:
        part = tensor[slice(*self.rows)] if self.rows else tensor
        return (part.transpose(self.perm) if self.perm else part).reshape(self.shape)

    def backward(self, leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        rows = (self.rows[1] - self.rows[0], *shape[1:]) if self.rows else shape
        if not self.perm:
            return leaf.reshape(rows)
        permuted = leaf.reshape([rows[axis] for axis in self.perm])
        return permuted.transpose(np.argsort(self.perm))


@dataclass
class WeightMap:
    """The audited bijection between a PyTorch state dict and Flax variables."""

    links: list[Link]
    leaves: Mapping[str, Leaf]
    aliases: Mapping[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)

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
) -> WeightMap:
    """Links every PyTorch tensor with the Flax leaves of its name.

    Args:
      leaves: PyTorch's tensors by dotted name.
      shapes: shapes of the Flax leaves by path, the collection first.
      rename: regular expressions on the dotted module names -> Flax's.
      aliases: tied names -> the name that carries the tensor.
    """
    links: list[Link] = []
    differences: list[str] = []
    uncounted: list[str] = []
    by_module: dict[str, dict[str, Path]] = {}
    for path in shapes:
        by_module.setdefault("/".join(path[1:-1]), {})[path[-1]] = path

    for name, leaf in leaves.items():
        module, _, attribute = name.rpartition(".")
        for pattern, replacement in rename.items():
            module = re.sub(pattern, replacement, module)
        module = module.replace(".", "/")
        here = by_module.get(module, {})
        candidates = (attribute, *LEAVES.get(attribute, ()))
        found = next((here[c] for c in candidates if c in here), None)
        if found is None:
            packed = list(_gates(name, attribute, leaf, module, shapes))
            rows = sum(link.rows[1] - link.rows[0] for link in packed if link.rows)
            if packed:
                links += packed
                if rows != leaf.shape[0]:
                    lacking = f"{leaf.shape[0] - rows} of {leaf.shape[0]} rows"
                    differences.append(f"{name}: {lacking} have no counterpart")
                continue
            if attribute == "num_batches_tracked":
                uncounted.append(f"{name}: a counter that Flax's own BatchNorm has not")
                continue
            where = f"a {' or '.join(dict.fromkeys(candidates))} at {module or 'the root'}"
            differences.append(f"{name} {leaf.shape} has no counterpart: JAX lacks {where}")
            continue
        link = _link(name, leaf, found, shapes[found])
        permuted = tuple(leaf.shape[axis] for axis in link.perm) if link.perm else leaf.shape
        if permuted != link.shape:
            link = replace(link, how=f"{link.how}; axes {permuted} split or merged to {link.shape}")
        if not (_refines(permuted, link.shape) or _refines(link.shape, permuted)):
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
    for path in shapes:
        if path not in met:
            differences.append(f"{'/'.join(path[1:])} {shapes[path]} has no counterpart in PyTorch")
    return WeightMap(links, leaves, aliases or {}, differences, uncounted)


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


def _link(name: str, leaf: Leaf, path: Path, shape: tuple[int, ...]) -> Link:
    rank = len(leaf.shape)
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


def _gates(
    name: str, attribute: str, leaf: Leaf, module: str, shapes: Mapping[Path, tuple[int, ...]]
) -> Iterable[Link]:
    """torch's packed recurrent weights as the per-gate Dense layers of a Flax cell."""
    found = re.fullmatch(r"(weight|bias)_(ih|hh)_l0", attribute)
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
            path = ("params", *[p for p in cell.split("/") if p], dense, kernel)
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
