"""Weight maps of leaves that are given by their shapes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compare.weights.build import build
from compare.weights.link import Leaf
from compare.weights.map import WeightMap
from tests.arrays import same_bits


def leaf(*shape: int, layer: str = "", dtype: str = "float32") -> Leaf:
    return Leaf(shape, dtype, layer)


def mapped(
    leaves: Mapping[str, Leaf],
    shapes: Mapping[str, tuple[int, ...]],
    rename: Mapping[str, str] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> WeightMap:
    """The map of slashed JAX names under params, or under the collection before a colon."""
    flat: dict[tuple[str, ...], tuple[int, ...]] = {}
    for name, shape in shapes.items():
        collection, _, rest = name.rpartition(":")
        flat[(collection or "params", *rest.split("/"))] = shape
    return build(leaves, flat, rename or {}, aliases)


def filled(leaves: Mapping[str, Leaf], seed: int = 0) -> dict[str, np.ndarray]:
    """Values that are all different, so that nothing can be confused."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.permutation(np.arange(np.prod(x.shape, dtype=int)))
        .reshape(x.shape)
        .astype(x.dtype)
        for name, x in leaves.items()
    }


def assert_same_bits(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert same_bits(a[name], b[name]), name


DENSE = {"a.weight": leaf(5, 3, layer="Linear"), "a.bias": leaf(5)}
GOOD = {"a/kernel": (3, 5), "a/bias": (5,)}
