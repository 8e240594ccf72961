"""Digits: batches are of the whole, and a split is one."""

import numpy as np
import pytest

from compare.data.digits import digits, every_digit, split_digits


def test_every_digit_is_what_batches_are_drawn_from():
    whole = every_digit(flat=True, classes=(3, 8))
    batch = next(digits(np.random.default_rng(0), batch=7, flat=True, classes=(3, 8)))
    for x, label in zip(batch["x"], batch["labels"], strict=True):
        found = np.flatnonzero((whole["x"] == x).all(1))
        assert len(found)
        assert (whole["labels"][found] == label).all()


def test_digits_are_split_into_what_is_trained_on_and_what_is_not():
    x, labels, held_x, held = split_digits(np.random.default_rng(0), share=0.1, flat=True)
    assert (x.shape, labels.shape, held_x.shape, held.shape) == (
        (1617, 64),
        (1617,),
        (180, 64),
        (180,),
    )
    assert x.dtype == np.float64
    whole = every_digit(flat=True)
    rows = sorted(map(tuple, np.c_[np.r_[x, held_x], np.r_[labels, held]]))
    assert rows == sorted(map(tuple, np.c_[whole["x"].astype(float), whole["labels"]]))
    with pytest.raises(ValueError, match="share"):
        split_digits(np.random.default_rng(0), share=1.0)
