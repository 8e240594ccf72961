"""The weight map: a bijection, bit for bit, that refuses what is not its own."""

from __future__ import annotations

import numpy as np
import pytest

from compare import DiptychError
from tests.weights.leaves import DENSE, GOOD, assert_same_bits, filled, leaf, mapped

DTYPES = ["float16", "float32", "float64", "int64", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_is_bit_exact(dtype: str):
    leaves = {"w.weight": leaf(3, 5, layer="Linear", dtype=dtype)}
    leaves |= {"c.weight": leaf(2, 3, 4, 5, layer="Conv2d", dtype=dtype)}
    leaves |= {"s": leaf(dtype=dtype), "e.weight": leaf(0, 3, layer="Linear", dtype=dtype)}
    shapes = {"w/kernel": (5, 3), "c/kernel": (4, 5, 3, 2), "s": (), "e/kernel": (3, 0)}
    weights = mapped(leaves, shapes)
    assert not weights.differences
    rng = np.random.default_rng(0)
    state = {}
    for name, x in leaves.items():
        count = int(np.prod(x.shape, dtype=int)) * np.dtype(dtype).itemsize
        raw = rng.integers(0, 2 if dtype == "bool" else 256, count).astype(np.uint8)
        state[name] = raw.view(dtype).reshape(x.shape)  # NaN with payloads, denormals, all of it
    assert_same_bits(weights.to_torch(weights.to_jax(state)), state)


def test_foreign_states_are_refused_by_name():
    weights = mapped(DENSE, GOOD)
    good = filled(DENSE)
    weights.check_state(good, "file")
    weights.check_leaves(weights.to_jax(good), "file")
    bad = [{"a.weight": good["a.weight"]}, good | {"z": good["a.bias"]}]
    bad.append(good | {"a.weight": good["a.weight"].T})
    for state, culprit in zip(bad, ["a.bias", "z", "a.weight"], strict=True):
        with pytest.raises(DiptychError, match=culprit):
            weights.check_state(state, "file")
    leaves = weights.to_jax(good)
    wrong = leaves | {("params", "a", "kernel"): leaves["params", "a", "kernel"].T}
    for state in (
        wrong,
        dict(list(leaves.items())[:1]),
        leaves | {("params", "q"): good["a.bias"]},
    ):
        with pytest.raises(DiptychError):
            weights.check_leaves(state, "file")
