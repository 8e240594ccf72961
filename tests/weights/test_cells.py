"""The stock cells of Linen, NNX and Equinox beside PyTorch's two biases: alike but for training."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import flax.linen as fnn
import jax
import numpy as np
import pytest
from flax import nnx
from torch import nn

from compare import Array, Twin, find
from compare.ladder.pair import Pair
from compare.weights.convert import to_flax, to_torch

SHAPE = (2, 4, 3)


class Torch(nn.Module):
    def __init__(self, layer: str):
        super().__init__()
        self.rnn = getattr(nn, layer)(3, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


class Linen(fnn.Module):
    cell: Any

    def setup(self):
        self.rnn, self.head = fnn.RNN(self.cell(5)), fnn.Dense(2)

    def __call__(self, x):
        return self.head(self.rnn(x))


class Beside(fnn.Module):
    """The cell is made outside of the RNN that has the name: its weights lie beside that."""

    cell: Any

    @fnn.compact
    def __call__(self, x):
        cell = self.cell(5)
        return fnn.Dense(2, name="head")(fnn.RNN(cell, name="rnn")(x))


class Nnx(nnx.Module):
    def __init__(self, cell: Any):
        rngs = nnx.Rngs(0)
        self.rnn = nnx.RNN(cell(3, 5, rngs=rngs))
        self.head = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x))


class Equinox(eqx.Module):
    rnn: Any
    head: eqx.nn.Linear

    def __init__(self, cell: Any):
        self.rnn = cell(3, 5, key=jax.random.key(0))
        self.head = eqx.nn.Linear(5, 2, key=jax.random.key(1))

    def __call__(self, x):
        def step(carry, xt):
            carry = self.rnn(xt, carry)
            return carry, carry[0] if isinstance(carry, tuple) else carry

        zero = np.zeros(5)
        start = (zero, zero) if isinstance(self.rnn, eqx.nn.LSTMCell) else zero
        start = jax.tree.map(lambda z: jax.numpy.asarray(z, x.dtype), start)
        return jax.vmap(self.head)(jax.lax.scan(step, start, x)[1])


def single(model: Any, x: Any, train: bool) -> Any:
    return jax.vmap(model)(x)


CELLS = {
    "Linen LSTM": ("LSTM", Linen(fnn.LSTMCell)),
    "Linen optimized LSTM": ("LSTM", Linen(fnn.OptimizedLSTMCell)),
    "Linen LSTM beside": ("LSTM", Beside(fnn.OptimizedLSTMCell)),
    "Linen GRU": ("GRU", Linen(fnn.GRUCell)),
    "Linen simple": ("RNN", Linen(fnn.SimpleCell)),
    "NNX LSTM": ("LSTM", Nnx(nnx.LSTMCell)),
    "NNX optimized LSTM": ("LSTM", Nnx(nnx.OptimizedLSTMCell)),
    "NNX simple": ("RNN", Nnx(nnx.SimpleCell)),
    "Equinox LSTM": ("LSTM", Equinox(eqx.nn.LSTMCell)),
    "Equinox GRU": ("GRU", Equinox(eqx.nn.GRUCell)),
}


def twin(name: str) -> Twin:
    layer, model = CELLS[name]
    call = single if isinstance(model, Equinox) else None
    return Twin(torch=lambda: Torch(layer), jax=model, inputs={"x": Array(SHAPE)}, jax_call=call)


@pytest.mark.parametrize("name", CELLS)
def test_one_bias_is_the_sum_and_moves_half_as_far(name: str):
    report = find(twin(name))
    stages = {stage["name"]: stage["verdict"] for stage in report.twins[0]["stages"]}
    assert (stages["forward"], stages["gradients"]) == ("SAME", "SAME")
    assert report.verdict == "DIVERGED"
    assert report.cause is not None
    assert report.cause["code"] == "RNN-04"
    assert report.cause["before"] > 1e-2
    assert report.cause["after"] < 1e-12


def test_a_cell_that_is_wrong_besides_is_no_matter_of_biases():
    report = find(
        Twin(
            torch=lambda: Torch("RNN"),
            jax=Linen(lambda size: fnn.SimpleCell(size, activation_fn=fnn.relu)),
            inputs={"x": Array(SHAPE)},
        )
    )
    assert report.cause is None or report.cause["code"] != "RNN-04"


@pytest.mark.parametrize("name", ["Linen LSTM", "Linen GRU", "Equinox GRU"])
def test_converted_and_back_the_sum_stays(name: str):
    pair = Pair(twin(name))
    weights, state, notes = pair.weights, pair.given.state, []
    leaves = to_flax(weights, state, "here", notes)
    assert {leaf.dtype for leaf in leaves.values()} == {np.dtype(np.float32)}
    assert any("bias_ih_l0" in note and "bias_hh_l0" in note for note in notes)
    back = to_torch(weights, leaves, "here", notes)
    shared = slice(0, 10 if "GRU" in name else None)
    ours, theirs = (s["rnn.bias_ih_l0"] + s["rnn.bias_hh_l0"] for s in (state, back))
    np.testing.assert_allclose(theirs[shared], ours[shared], rtol=1e-6, atol=1e-7)
    again = to_flax(weights, back, "here", notes)
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(again[path], leaf)
