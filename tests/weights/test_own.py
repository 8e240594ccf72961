"""The porter's own weights: paired by their values, held to PyTorch's, leaf by leaf."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from compare.weights.build import build
from compare.weights.by_value import common, layout, pairs
from compare.weights.link import Leaf, Path
from compare.weights.map import WeightMap
from compare.weights.own import Own, slips
from tests.arrays import normal

LINEAR, SQUARE = normal(0, 6, 4).astype("f"), normal(1, 5, 5).astype("f")
KERNEL, PACKED = normal(2, 4, 3, 3, 3).astype("f"), normal(3, 12, 5).astype("f")
BIAS = normal(4, 6).astype("f")


@pytest.mark.parametrize(
    ("tensor", "leaf"),
    [
        (LINEAR, LINEAR.T),
        (LINEAR, LINEAR),
        (SQUARE, SQUARE.T),
        (LINEAR, LINEAR.T.reshape(4, 2, 3)),
        (KERNEL, KERNEL.transpose(2, 3, 1, 0)),
        (KERNEL, KERNEL[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)),
        (PACKED, PACKED.reshape(3, 4, 5)[[0, 2, 1]].reshape(12, 5).T),
        (LINEAR, LINEAR.astype(ml_dtypes.bfloat16).T),
    ],
)
def test_a_layout_goes_both_ways(tensor: np.ndarray, leaf: np.ndarray):
    link = layout("w", tensor, ("params", "k"), leaf)
    assert link is not None
    there = link.forward(tensor)
    np.testing.assert_array_equal(there.astype(leaf.dtype), leaf)
    np.testing.assert_array_equal(link.backward(there, tensor.shape), tensor)


def test_other_numbers_have_no_layout():
    wrong = LINEAR.T.copy()
    wrong[0, 0] += 1e-4
    assert layout("w", LINEAR, ("params", "k"), wrong) is None
    assert layout("w", np.ones((3, 3)), ("params", "k"), np.ones((3, 3))) is None


def leaves(values: dict[str, np.ndarray]) -> dict[str, Leaf]:
    return {name: Leaf(value.shape, "float32") for name, value in values.items()}


def mapped(values: dict[str, np.ndarray], given: dict[str, np.ndarray]) -> tuple[WeightMap, Own]:
    own = Own(values, {("params", *name.split("/")): leaf for name, leaf in given.items()}, False)
    shapes = {path: leaf.shape for path, leaf in own.given.items()}
    return build(leaves(values), shapes, {}, own=own), own


PROJECTIONS = {f"{name}.weight": normal(i, 4, 4).astype("f") for i, name in enumerate("qkv")}
BLOCKS = {f"{i}.fc.weight": normal(i, 5, 4).astype("f") for i in range(12)}


@pytest.mark.parametrize(
    ("values", "given"),
    [
        ({"a.weight": LINEAR, "a.bias": BIAS}, {"w": LINEAR.T, "b": BIAS}),
        (PROJECTIONS, {"qkv": np.concatenate([w.T for w in PROJECTIONS.values()], 1)}),
        (PROJECTIONS, {"qkv": np.stack([w.T for w in PROJECTIONS.values()])}),
        (PROJECTIONS, {"qkv": np.stack([w.T for w in PROJECTIONS.values()], 1)}),
        ({"in_proj": PACKED}, {n: PACKED[4 * i : 4 * i + 4].T for i, n in enumerate("qkv")}),
        (BLOCKS, {"kernels": np.stack([w.T for w in BLOCKS.values()])}),
    ],
    ids=["names", "in a row", "stacked", "stacked inside", "split", "twelve"],
)
def test_equal_values_are_paired_and_carried(values: dict, given: dict):
    weights, own = mapped(values, given)
    assert not weights.differences
    assert not list(slips(weights, own))
    for path, leaf in weights.to_jax(values).items():
        np.testing.assert_array_equal(leaf, own.given[path])
    back = weights.to_torch(own.given)
    for name, value in values.items():
        np.testing.assert_array_equal(back[name], value)


def test_a_part_that_is_left_out_is_told():
    weights, _ = mapped({"in_proj": PACKED}, {"q": PACKED[:4].T, "k": PACKED[4:8].T})
    assert any("4 of 12 rows have no counterpart" in text for text in weights.differences)


def test_numbers_in_common():
    values = {"w": LINEAR, "p": PACKED}
    assert common(values, {("params", "k"): LINEAR.T})
    assert common(values, {("params", "k"): PACKED[:4]})
    assert common(values, {("params", "k"): LINEAR.astype(np.float16)})
    assert not common(values, {("params", "k"): normal(9, 4, 6)})
    assert not common(values, {("params", "k"): np.zeros((4, 6))})
    assert not common({"w": np.ones(6)}, {("params", "k"): np.ones(6)})


def test_one_tensor_is_not_taken_twice():
    found = pairs({"w": LINEAR}, {("params", "a"): LINEAR.T, ("params", "b"): LINEAR.T})
    assert len(found) == 1


VALUES = {"a.weight": LINEAR, "a.bias": BIAS, "c.weight": SQUARE}
RIGHT: dict[str, np.ndarray] = {"a/kernel": LINEAR.T, "a/bias": BIAS, "c/kernel": SQUARE.T}
SLIPS: dict[str, dict[str, np.ndarray]] = {
    "a/kernel is a.weight, times 0.5": {"a/kernel": 0.5 * LINEAR.T},
    "a/bias is all 0: never loaded": {"a/bias": 0 * BIAS},
    "a/kernel is a.weight, rounded to bfloat16": {"a/kernel": LINEAR.T.astype(ml_dtypes.bfloat16)},
    "a/bias is a.bias, plus 1": {"a/bias": BIAS + 1},
    "c/kernel is c.weight, transposed": {"c/kernel": SQUARE},
    "a/kernel is not a.weight, nor made from it: never loaded?": {"a/kernel": normal(7, 4, 6)},
}


@pytest.mark.parametrize("text", SLIPS)
def test_a_slip_of_a_library_layer_is_named(text: str):
    given: dict[Path, np.ndarray] = {
        ("params", *name.split("/")): leaf for name, leaf in (RIGHT | SLIPS[text]).items()
    }
    own = Own(VALUES, given, True)
    weights = build(leaves(VALUES), {path: leaf.shape for path, leaf in given.items()}, {}, own=own)
    (slip,) = slips(weights, own)
    assert slip.line == text
    carried = weights.to_jax(VALUES)
    slip.into(carried)
    for path, leaf in carried.items():
        np.testing.assert_array_equal(leaf, given[path])
