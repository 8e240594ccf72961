"""Slips of conversion: what a port's weights become where its author has erred in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx

from compare import Twin
from tests.ports import Values

Change = Callable[[Values], np.ndarray]


@dataclass(frozen=True)
class Slip:
    """A right port with some leaves made wrongly.

    Args:
      port: its name.
      name: what was done, in a few words.
      leaves: by name, what makes each from the right leaves.
      says: what the report says of each leaf, and of no other.
      code: of the cause; None where what a leaf is instead cannot be known.
    """

    port: str
    name: str
    leaves: Mapping[str, Change]
    says: tuple[str, ...]
    code: str | None


def planted(twin: Twin, leaves: Mapping[str, Change]) -> Twin:
    """A port with other leaves: of its tree, of its Linen variables, or of its module."""

    def changed(tree: Any) -> Any:
        flat, structure = jax.tree_util.tree_flatten_with_path(tree)
        named = {_named(path): np.asarray(leaf) for path, leaf in flat}
        new = named | {name: change(named) for name, change in leaves.items()}
        assert new.keys() == named.keys(), (list(leaves), list(named))
        for name, change in leaves.items():
            assert new[name].shape == named[name].shape, (name, change)
        return jax.tree.unflatten(structure, [jnp.asarray(value) for value in new.values()])

    if twin.variables is not None:
        return replace(twin, variables=changed(twin.variables))
    if isinstance(twin.jax, tuple):
        apply, variables = twin.jax
        return replace(twin, jax=(apply, changed(variables)))
    if isinstance(twin.jax, nnx.Module):
        graph, state = nnx.split(twin.jax)
        return replace(twin, jax=nnx.merge(graph, changed(state)))
    arrays, static = eqx.partition(twin.jax, eqx.is_array)
    return replace(twin, jax=eqx.combine(changed(arrays), static))


def _named(path: tuple[Any, ...]) -> str:
    keys = [str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path]
    name = "/".join(keys).removeprefix("params/").removeprefix("batch_stats/")
    return name.removesuffix("/value")  # NNX's


def of(leaf: str, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, Change]:
    """One leaf, changed."""
    return {leaf: lambda leaves: change(leaves[leaf])}


def exchanged(one: str, two: str) -> dict[str, Change]:
    """Each of two leaves in the place of the other."""
    return {one: lambda leaves: leaves[two], two: lambda leaves: leaves[one]}


def in_order(order: str, axis: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """Equal blocks along an axis in another order: "1032"."""

    def change(array: np.ndarray) -> np.ndarray:
        blocks = np.split(array, len(order), axis)
        return np.concatenate([blocks[int(number)] for number in order], axis)

    return change


def in_turns(blocks: int, wide: int = 1, axis: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """Blocks taken in turns, some at a time."""

    def change(array: np.ndarray) -> np.ndarray:
        moved = np.moveaxis(array, axis, 0)
        turned = moved.reshape(blocks, -1, wide, *moved.shape[1:]).swapaxes(0, 1)
        return np.moveaxis(turned.reshape(moved.shape), 0, axis)

    return change


def turned(array: np.ndarray) -> np.ndarray:
    """The last two axes exchanged."""
    return array.swapaxes(-1, -2)


def reshaped(array: np.ndarray) -> np.ndarray:
    """Reshaped to where it should have been transposed."""
    return array.T.reshape(array.shape)


def rounded(array: np.ndarray) -> np.ndarray:
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


def flipped(array: np.ndarray) -> np.ndarray:
    return array[::-1, ::-1]


def initial(array: np.ndarray) -> np.ndarray:
    """What was there before anything was loaded."""
    return 0.3 * np.random.default_rng(3).standard_normal(array.shape).astype(np.float32)


def part(index: Any, change: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """A part of a leaf, changed."""

    def changed(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[index] = change(array[index])
        return array

    return changed
