"""Outputs are paired by name, whatever order a side has them in; what has no name, by order."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as fnn
import flax.struct
import jax
import jax.numpy as jnp
import pytest
import torch
from torch import nn

from compare import Array, Twin
from tests.toys import climb, trouble


class Pair(NamedTuple):
    logits: Any
    hidden: Any


@dataclass
class Data:
    logits: Any
    hidden: Any


@flax.struct.dataclass
class Struct:
    logits: jax.Array
    hidden: jax.Array


class Fields(OrderedDict):
    """As Hugging Face's ModelOutput: a mapping in the order of its fields."""


def ours(make: Any, shrink: bool):
    return lambda x: make(logits=2 * x, hidden=x.exp().sum(-1) if shrink else x.exp())


def theirs(make: Any, shrink: bool, factor: float = 1.0):
    def model(x):
        hidden = factor * jnp.exp(x)
        return make(logits=2 * x, hidden=hidden.sum(-1) if shrink else hidden)

    return model


def judged(ours: Any, theirs: Any):
    return climb(Twin(torch=ours, jax=theirs, inputs={"x": Array((2, 3))}), steps=2)


@pytest.mark.parametrize("shrink", [False, True], ids=["one shape", "two shapes"])
@pytest.mark.parametrize("there", [dict, Pair, Struct])
@pytest.mark.parametrize("here", [dict, Fields, Pair, Data])
def test_outputs_of_one_name_are_one(here: Any, there: Any, shrink: bool):
    result = judged(ours(here, shrink), theirs(there, shrink))
    assert result.verdict == "SAME", trouble(result)
    assert not result.notes


@pytest.mark.parametrize("there", [dict, Pair, Struct])
def test_a_wrong_output_of_one_name_is_found(there: Any):
    result = judged(ours(dict, False), theirs(there, False, 1 + 1e-7))
    wrong = [j.name for j in result.stages["forward"].judged if j.verdict == "DIVERGED"]
    assert wrong == ["eval/out.hidden", "train/out.hidden", "train/loss"]


def test_names_that_change_places_are_found():
    result = judged(ours(dict, False), lambda x: Struct(logits=jnp.exp(x), hidden=2 * x))
    assert result.stages["forward"].verdict == "DIVERGED"


def test_other_keys_are_paired_by_order_and_said():
    def model(x):
        return {"scores": 2 * x, "states": jnp.exp(x)}

    result = judged(ours(dict, False), model)
    assert result.verdict == "SAME", trouble(result)
    assert result.notes[0] == (
        "eval: outputs paired by order: out.logits is out.scores in JAX,"
        " out.hidden is out.states in JAX"
    )
    swapped = judged(ours(dict, False), lambda x: {"scores": jnp.exp(x), "states": 2 * x})
    assert swapped.stages["forward"].verdict == "DIVERGED"


def test_a_tuple_beside_names_is_paired_by_order():
    result = judged(lambda x: (2 * x, x.exp()), theirs(Struct, False))
    assert result.verdict == "SAME", trouble(result)
    assert len(result.notes) == 2


def test_an_output_that_one_side_lacks_is_found():
    result = judged(ours(dict, False), lambda x: {"logits": 2 * x})
    assert result.stages["forward"].verdict == "DIVERGED"
    assert not result.stages["gradients"].applicable


SCORES = {"right": (0, 3, 1, 2), "transposed": (0, 3, 2, 1)}


@pytest.mark.parametrize("name", SCORES)
def test_an_output_of_rank_4_may_have_one_layout_on_both_sides(name: str):
    """Attention's scores (batch, heads, to, from) are no images."""

    class Torch(nn.Module):
        def forward(self, x):
            return torch.einsum("bqhd,bkhd->bhqk", x, x.cumsum(1))

    class Jax(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            scores = jnp.einsum("bqhd,bkhd->bqkh", x, jnp.cumsum(x, 1))
            return scores.transpose(SCORES[name])

    result = climb(Twin(torch=Torch, jax=Jax(), inputs={"x": Array((2, 3, 5, 4))}), steps=2)
    assert result.stages["forward"].verdict == ("SAME" if name == "right" else "DIVERGED")
