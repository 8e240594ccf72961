"""A port that never trains is compared in eval mode alone, and the report says so."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import pytest
from torch import nn

from compare import Array, DiptychError, Twin, check, find
from tests.toys import climb, trouble


class Torch(nn.Module):
    def __init__(self, unused: bool = False):
        super().__init__()
        self.fc, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(4)
        self.unused = nn.Linear(4, 4) if unused else None

    def forward(self, x):
        return self.norm(self.drop(self.fc(x)))


class Jax(fnn.Module):
    """Inference as it is often ported: no dropout, no statistics that move, no gradient."""

    eps: float = 1e-5
    unused: bool = False

    @fnn.compact
    def __call__(self, x):
        x = fnn.Dense(4, name="fc")(jax.lax.stop_gradient(x))
        x = fnn.BatchNorm(True, epsilon=self.eps, name="norm")(x)
        return x + (0 * fnn.Dense(4, name="unused")(x) if self.unused else 0)


def twin(theirs: Any, modes: tuple[str, ...] = ("eval",), unused: bool = False) -> Twin:
    inputs = {"x": Array((6, 4))}
    return Twin(torch=lambda: Torch(unused), jax=theirs, inputs=inputs, modes=modes)


def test_a_port_that_never_trains_is_the_same_in_eval_mode():
    result = climb(twin(Jax()), numerics=True)
    assert result.verdict == "SAME", trouble(result)
    assert [result.stages[n].verdict for n in ("gradients", "step", "trajectory")] == ["n/a"] * 3
    assert "not compared" in result.notes[-1]
    assert (result.leaves, result.moved) == (4, 4)
    assert climb(twin(Jax(), ("eval", "train"))).verdict == "DIVERGED"


def test_a_fault_in_eval_mode_is_found_with_its_cause():
    report = find(twin(Jax(eps=1e-3)), steps=2)
    assert report.verdict == "DIVERGED"
    assert report.cause["code"] == "LN-01"


def test_a_parameter_that_moves_nothing_is_inconclusive():
    assert climb(twin(Jax(unused=True), unused=True)).verdict == "INCONCLUSIVE"


def test_the_report_says_that_nothing_else_was_compared():
    coverage = check(twin(Jax()), dtypes=()).twins[0]["coverage"]
    assert coverage["notes"] == [
        "Twin(modes=('eval',)): gradients, steps and training were not compared"
    ]


def test_other_modes_are_refused():
    with pytest.raises(DiptychError, match="it is"):
        twin(jnp.sin, ("train",))
