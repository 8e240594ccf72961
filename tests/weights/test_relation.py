"""How one array of weights was made from another: what is named is true, and nothing is guessed."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from compare.weights.relation import named, relation, same
from tests.arrays import normal

MATRIX, GATES = normal(0, 8, 8).astype(np.float32), normal(1, 16, 5).astype(np.float32)
KERNEL = normal(2, 3, 3, 4, 4).astype(np.float32)
POSITIVE = np.abs(MATRIX) + 0.1

CHANGED = {
    "transposed": (MATRIX, MATRIX.T),
    "its axes in the order (0, 1, 3, 2)": (KERNEL, KERNEL.transpose(0, 1, 3, 2)),
    "reversed along axes 0, 1": (KERNEL, KERNEL[::-1, ::-1]),
    "reversed along axis 2": (KERNEL, KERNEL[:, :, ::-1]),
    "reshaped from (16, 5) to (5, 16)": (GATES, GATES.reshape(5, 16)),
    "its axes in the order (1, 0), and then reshaped": (GATES, GATES.T.reshape(16, 5)),
    "its 4 blocks in the order 0, 2, 1, 3 along axis 0": (
        GATES,
        GATES.reshape(4, 4, 5)[[0, 2, 1, 3]].reshape(16, 5),
    ),
    "its halves exchanged along axis 0": (GATES, np.roll(GATES, 8, 0)),
    "rolled by 1 along axis 0": (GATES, np.roll(GATES, 1, 0)),
    "interleaved, 2 blocks of 8 taken in turns along axis 0": (
        GATES,
        GATES.reshape(2, 8, 5).swapaxes(0, 1).reshape(16, 5),
    ),
    "interleaved, 2 blocks of 4 taken in turns, 2 at a time, in each of 2 groups along axis 0": (
        GATES,
        GATES.reshape(2, 2, 2, 2, 5).swapaxes(1, 2).reshape(16, 5),
    ),
    "1 and 2 exchanged along axis 0": (MATRIX, MATRIX[[0, 2, 1, 3, 4, 5, 6, 7]]),
    "rounded to bfloat16": (MATRIX, MATRIX.astype(ml_dtypes.bfloat16)),
    "rounded to float16": (MATRIX, MATRIX.astype(np.float16)),
    "times 0.353553": (MATRIX, MATRIX * np.float32(8**-0.5)),
    "with the other sign": (MATRIX, -MATRIX),
    "plus 1": (MATRIX, MATRIX + 1),
    "its square root": (POSITIVE, np.sqrt(POSITIVE)),
    "its square root of few": (POSITIVE[0, :4], np.sqrt(POSITIVE[0, :4])),
    "1 over its square root": (POSITIVE, 1 / np.sqrt(POSITIVE)),
    "its logarithm": (POSITIVE, np.log(POSITIVE)),
    "all 0: never loaded": (MATRIX, np.zeros_like(MATRIX)),
    "but for 8 of 64 elements, row 0": (MATRIX, np.concatenate([0 * MATRIX[:1], MATRIX[1:]])),
}


@pytest.mark.parametrize("text", CHANGED)
def test_what_was_done_is_named(text: str):
    ours, theirs = CHANGED[text]
    found = relation(ours, theirs)
    assert found is not None
    assert found.text == text.removesuffix(" of few")
    assert same(found.value, theirs)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_said_of_other_numbers(seed: int):
    assert relation(MATRIX, normal(seed + 10, 8, 8)) is None
    assert relation(KERNEL, normal(seed + 10, 3, 3, 4, 4)) is None


def test_few_numbers_fit_anything_and_prove_nothing():
    assert relation(np.array([1.0, 2.0]), np.array([3.0, 5.0])) is None


def test_nearly_scaled_is_not_scaled():
    wrong = 0.5 * MATRIX
    wrong[3, 4] *= 1.001
    found = relation(MATRIX, wrong)
    assert found is None or found.kind != "scaled"


def test_an_order_without_a_name_is_counted():
    order = np.array([3, 0, 4, 1, 5, 2, 6])
    assert named(order) == "in another order, 6 of 7 moved"
