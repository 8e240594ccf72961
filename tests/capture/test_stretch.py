"""The smallest stretch of a program that compiled gives something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare.capture.compiler import REMEDY
from compare.capture.stretch import Stretch, Uncompiled
from tests.capture.test_compiler import WRONG
from tests.miscompiled import betrayed, squares


def stretch(function: Callable, *arrays: Any, dtype: Any = jnp.float64) -> Stretch | None:
    with jax.enable_x64(True):
        given = [jnp.asarray(a, dtype) for a in arrays]
        return Uncompiled(jax.make_jaxpr(function)(*given), given).smallest(REMEDY)


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


def looped(wrong: Callable) -> Callable:
    def model(x):
        _, rows = jax.lax.scan(lambda c, v: (jnp.tanh(c + wrong(v)), c * 2), x[0], x, reverse=True)
        return rows.sum(1)

    return model


CONTROLLED = {
    "scan": looped,
    "cond": lambda wrong: lambda x: jax.lax.cond(x.sum() < 1e9, wrong, jnp.sin, x) * 2,
    "while": lambda wrong: (
        lambda x: jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, wrong(c[1])), (0, x))[
            1
        ]
    ),
}


@pytest.mark.parametrize("name", CONTROLLED)
def test_inside_of_loops_and_branches(name: str, normal):
    x = normal(0, 5, 4)
    found = stretch(CONTROLLED[name](betrayed(f"in_{name}")), x)
    assert found is not None
    assert found.operations == (name,)
    assert stretch(CONTROLLED[name](jnp.sin), x) is None


@pytest.mark.parametrize("name", CONTROLLED)
def test_loops_and_branches_uncompiled_are_those_of_jax(name: str, normal):
    model = CONTROLLED[name](jnp.sin)
    with jax.enable_x64(True):
        x = jnp.asarray(normal(0, 5, 4))
        (out,) = Uncompiled(jax.make_jaxpr(model)(x), [x]).outputs
        np.testing.assert_allclose(np.asarray(out), np.asarray(model(x)), rtol=1e-14)


def test_equal_infinities_and_nan_are_no_fault(normal):
    x = normal(0, 6, 4)
    assert stretch(lambda x: jnp.where(x > 0, x @ x.T @ x, -jnp.inf), x) is None
    assert stretch(jnp.sqrt, x) is None
    found = stretch(lambda x: jnp.where(x > 0, betrayed("masked")(x), -jnp.inf), x)
    assert found is not None
    assert found.operations == ("betrayed_masked",)


def test_a_narrow_type_is_no_fault(normal):
    def model(x):
        half = x.astype(jnp.bfloat16)
        return ((half @ half.T) / 3).astype(x.dtype)

    assert stretch(model, normal(0, 40, 30), dtype=jnp.float32) is None


def test_outputs_that_nothing_computes(normal):
    wrong = betrayed("beside")
    found = stretch(lambda x: (x, 2.0, wrong(x)), normal(0, 6, 4))
    assert found is not None
    assert found.operations == ("betrayed_beside",)


def test_what_cannot_be_compiled_is_a_fault(normal):
    with jax.enable_x64(True):
        x = jnp.asarray(normal(0, 6, 4))
        found = Uncompiled(jax.make_jaxpr(betrayed("refused"))(x), [x])
        blamed = found.smallest({"xla_cpu_there_is_no_such_option": ""})
    assert blamed is not None
    assert blamed.after == float("inf")
