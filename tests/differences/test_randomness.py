"""Dropout: wrong masks and scales of JAX's are recognised."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from compare.share import to_jax, to_numpy
from tests.differences.places import X, Y, check, place


@pytest.mark.parametrize("wrong", [lambda x, m: x * m, lambda x, m: x, lambda x, m: x * m / 0.3])
def test_wrong_dropout_is_recognised(wrong: Callable):
    mask = (Y > -0.5).double()
    site = place("Dropout", nn.Dropout(0.3).eval(), lambda x: wrong(x, to_jax(to_numpy(mask))), X)
    site.ours = to_numpy(X * mask / 0.7)
    check("DROP-01", site)
