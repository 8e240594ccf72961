"""An embedding's row of padding has values of its own, and no gradient, wherever it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch import nn

from compare import Array, Twin
from compare.capture.given import jittered
from compare.weights.link import Leaf
from tests.toys import climb, trouble

IDS = np.array([[2, 3, 4, 1], [5, 2, 1, 1]])
stop = jax.lax.stop_gradient


class Torch(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.fc = nn.Embedding(6, 4, padding_idx=1), nn.Linear(4, 4)

    def forward(self, ids):
        return self.fc(self.emb(ids))


class Jax(fnn.Module):
    after: Callable

    @fnn.compact
    def __call__(self, ids):
        x = fnn.Embed(6, 4, name="emb")(ids)
        return fnn.Dense(4, name="fc")(self.after((ids == 1)[..., None], x))


class Table(fnn.Module):
    """The table's row is stopped, before it is looked up."""

    @fnn.compact
    def __call__(self, ids):
        table = self.param("embedding", fnn.initializers.normal(), (6, 4))
        return table.at[1].set(stop(table[1]))[ids]


class JaxTable(fnn.Module):
    @fnn.compact
    def __call__(self, ids):
        return fnn.Dense(4, name="fc")(Table(name="emb")(ids))


def judged(theirs: Any):
    return climb(Twin(torch=Torch, jax=theirs, inputs={"ids": IDS}))


def test_padding_that_is_stopped_after_the_layer_or_in_it_is_the_same():
    inside = judged(JaxTable())
    assert inside.verdict == "SAME", trouble(inside)
    assert not inside.notes
    after = judged(Jax(lambda pad, x: jnp.where(pad, stop(x), x)))
    assert after.verdict == "SAME", trouble(after)
    (note,) = after.notes
    assert note.startswith("train/gradient/layer/emb: differs by")


def test_padding_that_is_set_to_zero_is_found():
    zero = judged(Jax(lambda pad, x: jnp.where(pad, 0, x)))
    assert zero.stages["forward"].verdict == "DIVERGED"


def test_padding_that_is_trained_is_found():
    assert judged(Jax(lambda pad, x: x)).stages["gradients"].verdict == "DIVERGED"


@pytest.mark.parametrize("where", ["row", "column", "all"])
def test_what_is_constant_gets_generic_values(where: str):
    value = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    slices = {"row": np.s_[1], "column": np.s_[:, 2], "all": np.s_[:]}[where]
    value[slices] = 0
    leaves = {"emb.weight": Leaf((6, 4), "float32")}
    moved = jittered({"emb.weight": value}, leaves, 0)["emb.weight"]
    assert np.ptp(moved[slices]) > 0
    kept = np.ones(value.shape, bool)
    kept[slices] = False
    assert (moved[kept] == value[kept]).all()


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act = nn.Linear(4, 4), nn.Tanh()

    def forward(self, x):
        return self.act(self.fc(x))


def test_an_inner_gradient_alone_is_no_verdict_but_a_parameter_s_is():
    """JAX computes the layer's value once more, and goes on with that."""

    class Jax(fnn.Module):
        rest: float

        @fnn.compact
        def __call__(self, x):
            layer = fnn.Dense(4, name="fc")
            y = layer(x)
            kernel, bias = layer.variables["params"]["kernel"], layer.variables["params"]["bias"]
            around = x @ kernel + bias
            return jnp.tanh(self.rest * around + (1 - self.rest) * stop(y))

    twin = Twin(torch=Inner, jax=Jax(1.0), inputs={"x": Array((3, 4))})
    result = climb(twin)
    assert result.verdict == "SAME", trouble(result)
    assert [note.partition(":")[0] for note in result.notes] == ["train/gradient/layer/fc"]
    half = climb(replace(twin, jax=Jax(0.5)))
    assert half.stages["gradients"].verdict == "DIVERGED"
    assert not half.notes
