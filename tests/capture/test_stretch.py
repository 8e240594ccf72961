"""The smallest stretch of a program that compiled gives something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from compare.capture.compiler import UNFUSED
from compare.capture.stretch import Stretch, smallest
from tests.capture.test_compiler import WRONG
from tests.miscompiled import betrayed, squares


def stretch(function: Callable, *arrays: Any, dtype: Any = jnp.float64) -> Stretch | None:
    with jax.enable_x64(True):
        given = [jnp.asarray(a, dtype) for a in arrays]
        return smallest(jax.make_jaxpr(function)(*given), given, UNFUSED)


def layers(wrong: Callable) -> Callable:
    def model(x):
        x = jnp.tanh(x @ x.T)
        x = jax.nn.softmax(jax.jit(lambda v: wrong(jnp.sin(v)) + 1)(x))
        return (jax.nn.gelu(x) ** 2).mean(0)

    return model


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_one_operation_among_many(dtype: Any, normal):
    found = stretch(layers(betrayed("one")), normal(0, 6, 4), dtype=dtype)
    assert found is not None
    assert found.operations == ("betrayed_one",)
    assert found.source.startswith("tests/capture/test_stretch.py:")
    assert found.before == pytest.approx(1e-3, rel=1e-2)
    assert found.after == found.before  # the option has nothing to do with it


def test_of_two_the_later_is_named(normal):
    early, late = betrayed("early"), betrayed("late")
    found = stretch(lambda x: late(jnp.exp(early(x))) + 1, normal(0, 6, 4))
    assert found is not None
    assert found.operations == ("betrayed_late",)


def test_rounding_is_nobodys_fault(normal):
    x = normal(0, 50, 40)
    for dtype in (jnp.float64, jnp.float32):
        assert stretch(layers(lambda v: v), x, dtype=dtype) is None
        # what is left of a difference of large numbers
        assert stretch(lambda x: ((x + 1e5) - 1e5).var(1) / 1e-3, x, dtype=dtype) is None


def test_a_fault_that_no_output_shows(normal):
    assert stretch(lambda x: (0 * betrayed("hidden")(x)).sum(), normal(0, 6, 4)) is None


@pytest.mark.skipif(not WRONG, reason="the pinned jaxlib alone compiles this wrongly")
def test_the_mistake_of_the_pinned_version(normal):
    found = stretch(
        lambda m, x: jnp.exp(-jnp.tanh(squares(m, x + 1))), normal(0, 3, 3), normal(1, 20_000, 3)
    )
    assert found is not None
    assert found.operations == ("dot_general", "integer_pow", "reduce_sum")
    assert found.source.startswith("tests/miscompiled.py:")
    assert found.before > 1e-3
    assert found.after == 0
