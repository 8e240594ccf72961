"""Folds are those of scikit-learn, and do not overlap."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from compare.data.folds import hold_out, k_fold


@given(st.integers(2, 12), st.integers(2, 12), st.one_of(st.none(), st.integers(0, 9)))
def test_folds_are_those_of_scikit_learn(count, folds, seed):
    assume(folds <= count)
    rng: Any = None if seed is None else np.random.RandomState(seed)
    wanted = KFold(folds, shuffle=seed is not None, random_state=seed).split(np.zeros(count))
    found = list(k_fold(count, folds, rng))
    for (train, held), (train_k, held_k) in zip(found, wanted, strict=True):
        assert np.array_equal(train, train_k)
        assert np.array_equal(held, held_k)


def test_shuffled_folds():
    """Other folds than those of neighbours, the same ones again for the same seed."""
    first, again = (
        np.concatenate([held for _, held in k_fold(20, 4, np.random.default_rng(1))])
        for _ in range(2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, np.arange(20))
    assert np.array_equal(np.sort(first), np.arange(20))


@pytest.mark.parametrize("folds", [1, 6])
def test_folds_that_do_not_fit(folds):
    with pytest.raises(ValueError, match="folds"):
        k_fold(5, folds)


def test_a_held_out_share():
    train, held = hold_out(10, 0.25, np.random.default_rng(0))
    assert len(held) == 2
    assert sorted([*train, *held]) == list(range(10))
    with pytest.raises(ValueError, match="share"):
        hold_out(10, 0.01, np.random.default_rng(0))
