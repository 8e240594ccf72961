"""Power: a pass counts only where the comparison could have failed."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax.numpy as jnp
import pytest
from torch import nn

from compare import Array, Twin
from compare.ladder import verdict as V
from tests.toys import climb, trouble


class TorchLinear(nn.Module):
    """A layer, with another that reaches nothing."""

    def __init__(self, idle: bool = False):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        if idle:
            self.idle = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x)


class JaxLinear(fnn.Module):
    idle: bool = False

    @fnn.compact
    def __call__(self, x):
        if self.idle:
            fnn.Dense(2, name="idle")(x)
        return fnn.Dense(2, name="fc")(x)


def linear(**options: Any) -> Twin:
    settings: dict[str, Any] = {
        "torch": TorchLinear,
        "jax": JaxLinear,
        "inputs": {"x": Array((4, 3))},
    }
    return Twin(name="linear", **{**settings, **options})


def test_a_plain_layer_is_the_same():
    result = climb(linear(), numerics=True)
    assert result.verdict == V.SAME, trouble(result)
    assert (result.moved, result.leaves) == (2, 2)


def test_an_idle_parameter_is_inconclusive():
    result = climb(linear(config={"idle": True}))
    assert result.verdict == V.INCONCLUSIVE, trouble(result)
    assert (result.moved, result.leaves) == (2, 4)
    texts = [text for _, text in result.stages["gradients"].findings]
    assert {text.split()[0] for text in texts} == {"idle.weight", "idle.bias"}


@pytest.mark.parametrize("rate", [0.0, 1e-9])
def test_a_trajectory_that_stands_still_is_inconclusive(rate: float):
    result = climb(linear(optimizer=("sgd", {"lr": rate})))
    assert result.stages["trajectory"].verdict == V.INCONCLUSIVE
    assert result.verdict == V.INCONCLUSIVE, trouble(result)


class TorchNan(TorchLinear):
    def forward(self, x):
        return self.fc(x) * float("nan")


class JaxNan(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        return fnn.Dense(2, name="fc")(x) * jnp.nan


def test_nothing_but_nan_is_inconclusive():
    result = climb(linear(torch=TorchNan, jax=JaxNan), numerics=True)
    assert result.verdict == V.INCONCLUSIVE, trouble(result)
    assert result.stages["forward"].verdict == V.INCONCLUSIVE


def test_nan_on_one_side_is_a_difference():
    assert climb(linear(jax=JaxNan)).verdict == V.DIVERGED
