"""Tensors that one side alone has: of no elements, or left out on purpose; used ones are seen."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import pytest
import torch
from torch import nn

from compare import Array, DiptychError, Twin
from tests.toys import climb, found, trouble


class Torch(nn.Module):
    def __init__(self, size: int | None = None, used: bool = False):
        super().__init__()
        self.fc, self.used = nn.Linear(4, 4), used
        self.extra = None if size is None else nn.Parameter(torch.randn(size))

    def forward(self, x):
        y = self.fc(x)
        return y + self.extra if self.used else y


class Jax(fnn.Module):
    size: int | None = None
    used: bool = False

    @fnn.compact
    def __call__(self, x):
        y = fnn.Dense(4, name="fc")(x)
        if self.size is not None:
            extra = self.param("masked", jax.nn.initializers.normal(), (self.size,))
            y = y + extra if self.used else y
        return y


def twin(ours: dict, theirs: dict, **fields: Any) -> Twin:
    inputs = {"x": Array((3, 4))}
    return Twin(torch=lambda: Torch(**ours), jax=Jax(**theirs), inputs=inputs, **fields)


EMPTY, SOME, USED = {"size": 0}, {"size": 4}, {"size": 4, "used": True}
LEFT_OUT = {
    "empty in PyTorch": (EMPTY, {}, (), "extra (0,): no elements"),
    "empty in JAX": ({}, EMPTY, (), "masked (0,): no elements"),
    "ignored in PyTorch": (SOME, {}, ["ext.*"], "extra (4,): ignored"),
    "ignored in JAX": ({}, SOME, {"masked"}, "masked (4,): ignored"),
    "ignored on both sides": (SOME, SOME, ["extra", "masked"], "extra (4,): ignored"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_counted(name: str):
    ours, theirs, ignore, line = LEFT_OUT[name]
    result = climb(twin(ours, theirs, ignore=ignore, optimizer=("adamw", {"lr": 0.1})))
    assert result.verdict == "SAME", trouble(result)
    assert result.skipped[0].startswith(line)
    assert (result.leaves, result.moved) == (2, 2)


@pytest.mark.parametrize(("ours", "theirs"), [(USED, {}), ({}, USED)])
def test_what_is_ignored_but_used_is_found(ours: dict, theirs: dict):
    result = climb(twin(ours, theirs, ignore=["extra" if ours else "masked"]))
    assert result.stages["forward"].verdict == "DIVERGED"


def test_an_expression_that_fits_nothing_is_refused():
    with pytest.raises(DiptychError, match="fits no tensor of either side: 'mask'"):
        climb(twin(SOME, {}, ignore=["extra", "mask"]))
    with pytest.raises(DiptychError, match="give a list"):
        twin(SOME, {}, ignore="extra")


def test_a_leftover_is_told_by_its_side():
    origin = found(twin({}, SOME)).origin
    assert origin is not None
    assert (origin.torch, origin.jax) == ("", "masked")
    origin = found(twin(SOME, {})).origin
    assert origin is not None
    assert (origin.torch, origin.jax) == ("extra", "")
