"""A tensor of PyTorch's, or a slice of one, as one leaf of JAX's: axes, gates, flips."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from compare.layout import refines

Path = tuple[str, ...]


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
    """`jax[part] = flip(torch[rows][order].reshape(split)).transpose(perm).reshape(shape)`.

    A slice of a tensor, a leaf or a part of one.

    Args:
      shape: of the leaf, or of its part.
      rows: the slice of one of the tensor's axes; None for all of it.
      along: that axis.
      split: the tensor's axes, some of them split, as into heads; () for its own.
      part: the axis and the slice of the leaf; None for all of it.
      order: an axis of the tensor, and the order in which its elements are taken.
      how: what was done, and by what that was known.
      adds: it is added to what another tensor gives there: right for the forward pass and the
        gradients; in a step the sum of two moves twice as far as the one.
    """

    torch: str
    jax: Path
    shape: tuple[int, ...]
    perm: tuple[int, ...] = ()
    rows: tuple[int, int] | None = None
    how: str = "as it is"
    flip: tuple[int, ...] = ()
    part: tuple[int, int, int] | None = None
    order: tuple[int, tuple[int, ...]] | None = None
    adds: bool = False
    along: int = 0
    split: tuple[int, ...] = ()

    @property
    def place(self) -> tuple[Path, tuple[int, int, int] | None]:
        """What of JAX's it is: one place meets one tensor."""
        return self.jax, self.part

    @property
    def source(self) -> str:
        """What of PyTorch's it is, for people: "fc.weight", "rnn.weight_ih_l0[0:6]"."""
        if self.rows is None:
            return self.torch
        return f"{self.torch}[{':, ' * self.along}{self.rows[0]}:{self.rows[1]}]"

    @property
    def expression(self) -> str:
        """The line that makes it: "fc.weight.T", "rnn.weight_ih_l0[0:6].T"."""
        text = self.source
        text += f".reshape{self.split}" if self.split else ""
        if self.order:
            text += f".take(order, {self.order[0]})"
        text = f"flip({text}, {self.flip})" if self.flip else text
        if self.perm:
            text += ".T" if self.perm == (1, 0) else f".transpose{self.perm}"
        return text

    def taken(self, tensor: np.ndarray) -> np.ndarray:
        """What of a tensor it is, a view."""
        return tensor[(slice(None),) * self.along + (slice(*self.rows),)] if self.rows else tensor

    def forward(self, tensor: np.ndarray) -> np.ndarray:
        part = self.taken(tensor)
        if self.order:
            part = np.take(part, self.order[1], self.order[0])
        part = part.reshape(self.split) if self.split else part
        part = np.flip(part, self.flip) if self.flip else part
        return (part.transpose(self.perm) if self.perm else part).reshape(self.shape)

    def backward(self, leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        rows = list(shape)
        if self.rows:
            rows[self.along] = self.rows[1] - self.rows[0]
        split = self.split or rows
        perm = self.perm or tuple(range(len(split)))
        permuted = leaf.reshape([split[axis] for axis in perm])
        part = permuted.transpose(np.argsort(perm))
        part = np.flip(part, self.flip) if self.flip else part
        part = part.reshape(rows)
        return np.take(part, np.argsort(self.order[1]), self.order[0]) if self.order else part

    def of(self, leaf: np.ndarray) -> np.ndarray:
        """What of a leaf it is, a view."""
        if self.part is None:
            return leaf
        axis, start, stop = self.part
        return leaf[(slice(None),) * axis + (slice(start, stop),)].reshape(self.shape)


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


# Transposed convolutions that slide their window unflipped, where torch flips it.
UNFLIPPED = frozenset(
    ["Linen ConvTranspose", "NNX ConvTranspose"]
    + [f"Equinox ConvTranspose{rank}" for rank in ("", "1d", "2d", "3d")]
)


def place_of(name: str) -> tuple[str, str]:
    """A tensor's module and its name there; what parametrises a weight belongs to its layer."""
    if found := PARAMETRISED.fullmatch(name):
        return found[1].rstrip("."), found[2]
    module, _, attribute = name.rpartition(".")
    return module, attribute


def renamed(name: str, rename: Mapping[str, str], idle: set[str] | None = None) -> str:
    """A dotted name of PyTorch's as JAX's, with slashes: see `Twin(rename=...)`.

    Args:
      idle: patterns; those that match are taken out.
    """
    for pattern, replacement in rename.items():
        whole = rf"(?:(?<![^.])|(?=\.))(?:{pattern})(?:(?![^.])|(?<=\.))"
        name, count = re.subn(whole, replacement, name)
        if count and idle:
            idle.discard(pattern)
    return slashed(name)


def slashed(name: str) -> str:
    """A dotted name with slashes."""
    return "/".join(part for part in name.replace(".", "/").split("/") if part)


def either(name: str, leaf: Leaf, path: Path, shape: tuple[int, ...]) -> list[Link]:
    """The ways in which a tensor may be a leaf whose name says nothing: as it is, or transposed."""
    rank = len(leaf.shape)
    perms = [()] if rank < 2 else [(), (*range(2, rank), 1, 0)]
    return [
        Link(name, path, shape, perm, how=f"axes {perm}, by the shape" if perm else "as it is")
        for perm in perms
        if tuple(leaf.shape[axis] for axis in perm or range(rank)) == shape
    ]


def untold(name: str, path: Path) -> bool:
    """Whether the name of a leaf does not say how a tensor lies in it."""
    return path[-1] not in (place_of(name)[1], "bias", *LEAVES["weight"])


def uncertain(name: str, leaf: Leaf, path: Path) -> str:
    """What to say of a leaf that a tensor may be as it is or transposed."""
    return (
        f"{name} {leaf.shape} may be {'/'.join(path[1:])} as it is or transposed: call"
        " that leaf kernel if it is (in, out), weight if it is (out, in)"
    )


def fitted(
    name: str, leaf: Leaf, path: Path, shape: tuple[int, ...], kind: str = ""
) -> Link | None:
    """The link of a tensor and a leaf, where the shapes allow it."""
    link = _link(name, leaf, path, shape, kind)
    permuted = tuple(leaf.shape[axis] for axis in link.perm) if link.perm else leaf.shape
    if permuted != shape:
        link = replace(link, how=f"{link.how}; axes {permuted} split or merged to {shape}")
    fits = refines(permuted, shape) or refines(shape, permuted)
    return link if fits else None


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
    if leaf.layer == "Conv1D" and rank == 2:  # that of transformers: a matrix (in, out)
        return Link(name, path, shape, how="Conv1D -> kernel, as it is")
    perm = (*range(2, rank), 1, 0)
    kind = leaf.layer or ("Linear" if rank == 2 else f"Conv{rank - 2}d")
    how = f"{kind} -> kernel, axes {perm}"
    if leaf.shape == tuple(leaf.shape[axis] for axis in perm):
        how += "; the shapes alone would not tell: resolved by the layer's type"
    return Link(name, path, shape, perm, how=how)
