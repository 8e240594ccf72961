"""The compiler is the cause where compiled JAX differs and the same uncompiled does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import torch

from compare import Array, Image, Twin, check, find
from compare.ladder.verdict import DIVERGED, SAME
from tests.capture.test_compiler import WRONG
from tests.miscompiled import betrayed, squares, torch_squares


def twin(wrong: Any) -> Twin:
    return Twin(
        torch=lambda x: torch.tanh(x).mean(1),
        jax=lambda x: jnp.tanh(wrong(x)).mean(1),
        inputs={"x": Array((6, 40))},
    )


def backwards() -> Any:
    """The identity, whose gradient is compiled wrongly."""
    wrong = betrayed("backwards")

    @jax.custom_vjp
    def identity(x):
        return x

    identity.defvjp(lambda x: (x, None), lambda _, g: (wrong(g),))
    return identity


def rows(count: int) -> Twin:
    inputs = {"matrix": Array((3, 3)), "rows": Array((count, 3))}
    return Twin(torch=torch_squares, jax=squares, inputs=inputs, name="rows")


@pytest.mark.parametrize("count", [40, pytest.param(40_000, id="40000")])
def test_a_right_port_that_the_pinned_version_compiles_wrongly(count: int, tmp_path):
    report = find(rows(count), folder=tmp_path / "evidence")
    if not WRONG or count == 40:
        assert report.verdict == SAME
        return
    assert report.verdict == DIVERGED
    entry, cause = report.twins[0], report.cause
    assert entry["class"] == "compiler"
    assert entry["origin"]["jax"] == "dot_general, integer_pow, reduce_sum"
    assert entry["origin"]["jax_source"].startswith("tests/miscompiled.py:")
    assert (cause["code"], cause["confirmed"], cause["after"]) == ("XLA-01", True, 0)
    assert 'compiler_options={"xla_cpu_experimental_ynn_fusion_type": ""}' in cause["fix"]
    assert "jaxlib 0.11.0 or newer" in cause["fix"]
    stages = {stage["name"]: stage["verdict"] for stage in entry["stages"]}
    assert stages["forward"] == DIVERGED
    assert stages["gradients"] == SAME
    assert (tmp_path / "evidence" / "repro.py").is_file()


def test_the_ladder_itself_is_compiled_rightly():
    assert check(rows(17_000)).verdict == SAME


def test_the_numerics_are_those_of_what_users_compile():
    """The pinned version's mistake is named as such, and the mathematics are not blamed."""
    (entry,) = check(rows(33_000)).twins
    assert entry["class"] == ("compiler" if WRONG else None)
    worst = [stage["worst"] for stage in entry["stages"] if stage["worst"] is not None]
    assert max(worst) < 1e-12


def test_any_other_mistake_of_a_compiler_is_found_by_running_without_it():
    report = find(twin(betrayed("ladder")))
    assert report.verdict == DIVERGED
    assert report.cause["code"] == "XLA-01"
    assert report.origin["jax"] == "betrayed_ladder"
    assert report.cause["fix"] == "run it without jax.jit, or with another jaxlib"
    assert report.cause["after"] < 1e-12


def test_a_mistake_in_the_gradient_alone():
    report = find(twin(backwards()))
    assert report.origin["stage"] == "gradients"
    assert report.cause["code"] == "XLA-01"
    assert report.cause["before"] == pytest.approx(1e-3, rel=1e-2)
    assert report.cause["after"] < 1e-12


def test_images_stand_as_in_pytorch_before_they_are_compared():
    wrong = betrayed("images", "float32")
    pair = Twin(torch=torch.tanh, jax=lambda x: wrong(jnp.tanh(x)), inputs={"x": Image(2, 3, 4, 5)})
    assert find(pair).cause["code"] == "XLA-01"
    assert find(dataclasses.replace(pair, jax=jnp.tanh)).verdict == SAME


def test_a_port_in_a_narrow_type_is_not_excused():
    """Its numbers are as far off uncompiled."""
    weight = Array((40, 40))

    def narrow(x, w):
        return (x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)).astype(x.dtype)

    pair = Twin(torch=lambda x, w: x @ w, jax=narrow, inputs={"x": Array((6, 40)), "w": weight})
    assert find(pair).verdict == SAME
    assert check(pair).twins[0]["class"] == "numerics"


def test_a_mistake_in_float32_alone():
    wrong = twin(betrayed("narrow", "float32"))
    report = find(wrong)
    assert report.cause["code"] == "XLA-01"
    assert "in float32" in report.first_line()
    checked = check(wrong)
    assert checked.twins[0]["class"] == "compiler"
    forward = next(s for s in checked.twins[0]["stages"] if s["name"] == "forward")
    assert any("the difference is the compiler's" in line for line in forward["findings"])


def test_a_wrong_port_is_not_excused():
    report = find(twin(lambda x: x * 1.001))
    assert report.verdict == DIVERGED
    assert report.cause["code"] != "XLA-01"
    numerics = check(twin(lambda x: (x.astype(jnp.bfloat16) if x.dtype == jnp.float32 else x) * 1))
    forward = next(s for s in numerics.twins[0]["stages"] if s["name"] == "forward")
    assert not any("compiler" in line for line in forward["findings"])


def test_a_clean_pair_is_the_same():
    assert find(twin(lambda x: x)).verdict == SAME
