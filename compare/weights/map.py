"""The weight map: which PyTorch tensor, or slice of one, is which Flax leaf.

It is a bijection: every storage of either side is used exactly once, and whatever is left over is
a difference. What has no name in common is paired by type, shape and order of execution, and says
so; where two candidates fit equally, nothing is paired. The same links carry gradients and
optimizer state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compare.errors import DiptychError
from compare.weights.link import Leaf, Link, Path, place_of


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
      parted: the shapes of JAX's leaves that several tensors make.
      ignored: what is left out: PyTorch's names, and JAX's leaves with their shapes.
      lacking: PyTorch's names that have no counterpart and need one.
      undecided: whether what has no counterpart is as many numbers on both sides, so that it may
        be only the names that differ.
      exact: PyTorch's names whose leaves `Twin(rename=...)` names.
      keys: where the user's own tree has a leaf, by its path without the collection; a path that
        is not among them is where it says.
    """

    links: list[Link]
    leaves: Mapping[str, Leaf]
    aliases: Mapping[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)
    by_order: list[str] = field(default_factory=list)
    unfilled: list[Path] = field(default_factory=list)
    parted: Mapping[Path, tuple[int, ...]] = field(default_factory=dict)
    ignored: dict[Any, tuple[int, ...]] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)
    exact: list[str] = field(default_factory=list)
    undecided: bool = False
    keys: Mapping[Path, Path] = field(default_factory=dict)

    @property
    def modules(self) -> dict[str, str]:
        """PyTorch's modules whose tensors were all paired, some by order or each by a name of its
        own -> JAX's, with slashes.
        """
        found: dict[str, set[str]] = {}
        for link in self.links:
            module = place_of(link.torch)[0]
            found.setdefault(module, set()).add("/".join(link.jax[1:-1]))
        ordered = {place_of(name)[0] for name in (*self.by_order, *self.exact)}
        return {m: min(p) for m, p in found.items() if m in ordered and len(p) == 1}

    @property
    def summed(self) -> dict[str, list[str]]:
        """JAX's leaves that are sums -> the tensors that meet there, of which none comes back."""
        added = {link.jax for link in self.links if link.adds}
        found: dict[str, list[str]] = {}
        for link in self.links:
            if link.jax in added:
                found.setdefault("/".join(link.jax[1:]), []).append(link.torch)
        return found

    @property
    def named(self) -> list[str]:
        """The PyTorch names that have a counterpart, in order."""
        return list(dict.fromkeys(link.torch for link in self.links))

    @property
    def tensors(self) -> dict[Path, list[str]]:
        """JAX's leaves without their collection -> the PyTorch tensors that make each."""
        found: dict[Path, list[str]] = {}
        for link in self.links:
            found.setdefault(link.jax[1:], []).append(link.torch)
        return found

    def jax_name(self, name: str) -> str:
        return ", ".join(map(shown, (link for link in self.links if link.torch == name)))

    def to_jax(self, state: Mapping[str, np.ndarray]) -> dict[Path, np.ndarray]:
        """Flax leaves by path from PyTorch tensors by name; names not in `state` are skipped."""
        leaves: dict[Path, np.ndarray] = {}
        for link in sorted(self.links, key=lambda link: link.adds):
            if link.torch not in state:
                continue
            value, path = link.forward(state[link.torch]), link.jax
            if link.part is None and path not in leaves:
                leaves[path] = np.asarray(value, order="C")
            elif link.adds:  # in float64, or the sum would be rounded
                leaves[path] = leaves[path].astype(np.float64)
                here = link.of(leaves[path])
                np.add(here, value, out=here, where=value != 0)  # -0 stays -0
            else:
                if path not in leaves:
                    leaves[path] = np.zeros(self.parted[path], value.dtype)
                link.of(leaves[path])[...] = value
        return leaves

    def to_torch(self, leaves: Mapping[Path, np.ndarray]) -> dict[str, np.ndarray]:
        """The way back; a tensor made of several leaves is put together again."""
        state: dict[str, np.ndarray] = {}
        for link in self.links:
            if link.jax not in leaves:
                continue
            shape = self.leaves[link.torch].shape
            part = link.backward(link.of(np.asarray(leaves[link.jax])), shape)
            if link.rows is None:
                state[link.torch] = part
            else:
                whole = state.setdefault(link.torch, np.empty(shape, part.dtype))
                link.taken(whole)[...] = part
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
        wanted = {link.jax: self.parted.get(link.jax, link.shape) for link in self.links}
        _refuse(source, "lacks", ["/".join(p) for p in wanted if p not in leaves])
        _refuse(source, "has unknown", ["/".join(p) for p in leaves if p not in wanted])
        for path, shape in wanted.items():
            if tuple(np.shape(leaves[path])) != shape:
                raise DiptychError(
                    f"{source}: {'/'.join(path)} has shape {np.shape(leaves[path])},"
                    f" the model needs {shape}"
                )


def shown(link: Link) -> str:
    """A leaf, or its part, for people: "fc/kernel", "blocks/fc/kernel[:, 0:8]"."""
    name = "/".join(link.jax[1:])
    if link.part is None:
        return name
    axis, start, stop = link.part
    return f"{name}[{':, ' * axis}{start if stop - start == 1 else f'{start}:{stop}'}]"


def _refuse(source: str, verb: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise DiptychError(f"{source} {verb} {', '.join(names[:3])}{more}")
