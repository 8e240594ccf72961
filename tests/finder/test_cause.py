"""Causes: confirmed by an edit, or called unknown."""

import jax.numpy as jnp

from compare.api import find as find_twin
from compare.ladder.verdict import DIVERGED
from tests.planted import net
from tests.toys import found


def test_the_cause_is_confirmed():
    cause = found(net(exact=False)).cause
    assert cause is not None
    assert cause.difference.code == "ACT-01"
    assert cause.before > 1e-6
    assert cause.after < 1e-12


def test_an_unknown_cause_is_called_unknown():
    twin = net(middle=lambda x: x + 0.01 * jnp.sin(x))
    report = find_twin(twin, steps=1)
    assert report.verdict == DIVERGED
    assert report.cause is not None
    assert not report.cause["confirmed"]
    assert report.origin is not None
    assert report.origin["between"] == ["fc2", "fc3"]
