"""What the harness compiles is right, also where the compiler is not."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxlib import version

from compare import Array, Twin
from compare.capture import compiler
from compare.ladder.pair import Pair
from tests.miscompiled import betrayed, squares, torch_squares

WRONG = version.__version__ == "0.10.2"  # the version that the constraints pin
ROWS = {"float64": 16_385, "float32": 32_769}


@pytest.mark.parametrize("dtype", ROWS)
def test_a_program_that_the_pinned_version_gets_wrong(dtype: str):
    inputs = {"matrix": Array((3, 3)), "rows": Array((ROWS[dtype], 3))}
    pair = Pair(Twin(torch=torch_squares, jax=squares, inputs=inputs))
    matrix, rows = (pair.given.batch[name].astype(dtype) for name in inputs)
    wanted = ((rows.astype(np.float64) @ matrix.T.astype(np.float64)) ** 2).sum(1)
    with jax.enable_x64(dtype == "float64"):
        plain = np.asarray(jax.jit(squares)(matrix.copy(), rows.copy()))
        ours = np.asarray(compiler.jit(squares)(matrix.copy(), rows.copy()))
    limit = 1e-12 if dtype == "float64" else 1e-4
    assert (np.abs(plain / wanted - 1).max() > 1e-3) == WRONG
    assert np.abs(ours / wanted - 1).max() < limit
    if dtype == "float64":  # in float32 the harness compiles as users do
        harness = next(iter(pair.run("xla:cpu", dtype).sections(False))).tensors["eval/out"]
        assert np.abs(harness / wanted - 1).max() < limit


def test_the_harness_needs_the_option_where_the_canary_fails(monkeypatch):
    compiler.options.cache_clear()
    assert compiler.options() == (compiler.UNFUSED if WRONG else None)
    sound = compiler.Canary("sound", lambda x: (x * x).sum(1), ((40, 3),))
    for canary, wanted in ((BETRAYED, compiler.UNFUSED), (sound, None)):
        compiler.options.cache_clear()
        monkeypatch.setattr(compiler, "CANARIES", (canary,))
        assert compiler.options() == wanted
    compiler.options.cache_clear()


BETRAYED = compiler.Canary("betrayed", lambda x: betrayed("canary")(x), ((40, 3),))
BY = compiler.Canary("hardly", lambda x: betrayed("hardly", by=1e-6)(x), ((40, 3),))


def test_canaries_that_fail_are_told_apart(monkeypatch):
    monkeypatch.setattr(compiler, "CANARIES", (*compiler.CANARIES[1:], BETRAYED, BY))
    found = {(canary.name, dtype): apart for canary, dtype, apart in compiler.failing()}
    assert list(found) == [("betrayed", "float64"), ("betrayed", "float32"), ("hardly", "float64")]
    assert found["betrayed", "float64"] == pytest.approx(1e-3)


def test_with_the_option_every_canary_lives():
    assert list(compiler.failing(compiler.UNFUSED)) == []


def test_a_canary_that_cannot_be_compiled_fails():
    canary = compiler.Canary("refused", lambda x: x * 2, ((3,),))
    assert canary.apart("float32", {"xla_cpu_there_is_no_such_option": ""}) == float("inf")
    assert canary.apart("float32") == 0


def test_what_the_harness_compiles_has_the_option(monkeypatch):
    given = []

    def jit(function, compiler_options):
        given.append(compiler_options)

    monkeypatch.setattr(jax, "jit", jit)
    monkeypatch.setattr(compiler, "options", lambda: compiler.UNFUSED)
    compiler.jit(jnp.sin)
    compiler.jit(jnp.sin, jax.devices("cpu")[0])
    compiler.jit(jnp.sin, SimpleNamespace(platform="gpu"))
    assert given == [compiler.UNFUSED, compiler.UNFUSED, None]
