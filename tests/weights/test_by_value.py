"""What the values of a port's leaves tell of their tensors: which, which part, in which layout."""

from __future__ import annotations

import numpy as np
import pytest

from compare.weights.alike import beside
from compare.weights.by_value import common, pairs
from compare.weights.link import Leaf, Path
from compare.weights.map import WeightMap
from tests.arrays import normal

Q, K, V = (normal(seed, rows, 12).astype(np.float32) for seed, rows in ((0, 12), (1, 4), (2, 4)))
KERNEL = normal(3, 6, 4, 3).astype(np.float32)
FEW = [normal(seed, 2).astype(np.float32) for seed in (4, 5, 6)]
LAYERS: dict[str, np.ndarray] = {
    f"layers.{i}.weight": normal(7 + i, 5, 4).astype(np.float32) for i in range(3)
}


def stack(*order: int) -> np.ndarray:
    return np.stack([LAYERS[f"layers.{i}.weight"].T for i in order])


# What a port may make of tensors: all of it is found, and found again on the way back.
MADE: dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = {
    "parts of several widths": (
        {"q": Q, "k": K, "v": V},
        {"qkv": np.concatenate([Q.T, K.T, V.T], 1)},
    ),
    "parts of two tensors beside each other": (
        {"ih": Q[:, :5], "hh": Q[:, 5:]},
        {"w": np.concatenate([Q[:, :5].T, Q[:, 5:].T])},
    ),
    "the window's places apart": (
        {"w": KERNEL},
        {f"tap{i}": KERNEL[:, :, i].T for i in range(3)},
    ),
    "two inputs apart": ({"w": Q}, {"of_x": Q[:, :6].T, "of_y": Q[:, 6:].T}),
    "heads split off, in front": ({"w": Q}, {"w3": Q.T.reshape(12, 3, 4).swapaxes(0, 1)}),
    "heads split off, interleaved": ({"w": Q}, {"w3": Q.T.reshape(12, 4, 3).swapaxes(1, 2)}),
    "few numbers": (
        {str(i): few for i, few in enumerate(FEW)},
        {"b": np.concatenate(FEW)},
    ),
    "heads in turns": (
        {"q": Q, "k": Q + 9},
        {"qk": np.stack([Q.reshape(3, 4, 12), Q.reshape(3, 4, 12) + 9], 1).reshape(24, 12).T},
    ),
    "a stack": (LAYERS, {"w": stack(0, 1, 2)}),
}


def paths(leaves: dict[str, np.ndarray]) -> dict[Path, np.ndarray]:
    return {("params", name): np.array(leaf) for name, leaf in leaves.items()}


@pytest.mark.parametrize("name", MADE)
def test_what_was_made_of_tensors(name: str):
    values, leaves = MADE[name]
    given = paths(leaves)
    links = pairs(values, given)
    specification = {name: Leaf(value.shape, "float32") for name, value in values.items()}
    parted = {link.jax: given[link.jax].shape for link in links if link.part}
    weights = WeightMap(links, specification, parted=parted)
    assert common(values, given)
    forth, back = weights.to_jax(values), weights.to_torch(given)
    assert forth.keys() == given.keys()
    assert back.keys() == values.keys()
    for path, leaf in given.items():
        np.testing.assert_array_equal(forth[path], leaf)
    for tensor, value in values.items():
        np.testing.assert_array_equal(back[tensor], value)


@pytest.mark.parametrize("name", MADE)
def test_other_numbers_are_of_no_tensor(name: str):
    values, leaves = MADE[name]
    others = paths({key: leaf + np.float32(0.01) for key, leaf in leaves.items()})
    assert pairs(values, others) == []
    assert not common(values, others)


def test_a_part_that_was_changed_is_known_by_what_lies_beside_it():
    wrong = stack(0, 1, 2)
    wrong[1] = 0
    found = {link.torch: link.part for link in pairs(LAYERS, paths({"w": wrong}))}
    assert found == {f"layers.{i}.weight": (0, i, i + 1) for i in range(3)}


def test_of_two_leaves_with_the_numbers_of_one_tensor_the_other_is_that_of_no_leaf():
    found = {link.torch: link.part for link in pairs(LAYERS, paths({"w": stack(0, 0, 2)}))}
    assert found["layers.1.weight"] == (0, 1, 2)


def test_leaves_alike_throughout_are_packed_as_their_weights():
    weights = {f"{n}.weight": value for n, value in zip("qkv", (Q, K, V), strict=True)}
    biases = {f"{n}.bias": np.zeros(len(v)) for n, v in zip("qkv", (Q, K, V), strict=True)}
    links = pairs(weights, paths({"qkv": np.concatenate([Q.T, K.T, V.T], 1)}))
    found = beside(links, biases, paths({"b": np.zeros(20)}))
    assert {link.torch: link.part for link in found} == {
        "q.bias": (0, 0, 12),
        "k.bias": (0, 12, 16),
        "v.bias": (0, 16, 20),
    }
    # Another number, another size, two that fit: nothing is said.
    assert beside(links, biases, paths({"b": np.ones(20)})) == []
    assert beside(links, biases, paths({"b": np.zeros(19)})) == []
    assert beside(links, biases, paths({"b": np.zeros(20), "c": np.zeros(20)})) == []


def test_lists_alike_throughout_are_stacked_where_only_one_fits():
    scales = {f"layers.{i}.norm.weight": np.ones(6) for i in range(3)}
    offsets = {f"layers.{i}.norm.bias": np.zeros(6) for i in range(3)}
    given = paths({"g": np.ones((3, 6)), "b": np.zeros((3, 6))})
    found = beside([], scales | offsets, given)
    assert {(x.torch, x.jax[-1]) for x in found} == {
        *((name, "g") for name in scales),
        *((name, "b") for name in offsets),
    }
    second = {f"layers.{i}.norm2.bias": np.zeros(6) for i in range(3)}
    assert {x.jax[-1] for x in beside([], scales | offsets | second, given)} == {"g"}
