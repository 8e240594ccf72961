"""What could not be paired: the `rename` that is suggested pairs it."""

from __future__ import annotations

import ast

import flax.linen as linen
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from compare import Array, Twin
from compare.ladder.ladder import Ladder
from compare.ladder.pair import Pair
from compare.ladder.pairing import Leftovers
from compare.ladder.unpaired import leftovers
from compare.ladder.verdict import SAME

WIDE = 6
INPUTS = {"x": Array((3, WIDE))}


class Heads(nn.Module):
    """Layers of one shape beside one another: no order of execution tells which is which."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDE)
        self.alpha, self.beta, self.gamma = (nn.Linear(WIDE, WIDE) for _ in range(3))

    def forward(self, x):
        x = self.norm(x)
        return self.alpha(x) * self.beta(x).tanh() + self.gamma(x).sin()


class Torch(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Heads() for _ in range(3))
        self.head = nn.Linear(WIDE, 2)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        for i in range(3):
            x = LinenHeads(name=f"block_{i}")(x)
        return linen.Dense(2, name="head")(x)


class LinenHeads(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.LayerNorm(epsilon=1e-5, name="norm")(x)
        q, k, v = (linen.Dense(WIDE, name=n)(x) for n in ("alpha_proj", "beta_proj", "gamma_proj"))
        return q * jnp.tanh(k) + jnp.sin(v)


class NnxHeads(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(WIDE, epsilon=1e-5, rngs=rngs)
        self.alpha_proj, self.beta_proj, self.gamma_proj = (
            nnx.Linear(WIDE, WIDE, rngs=rngs) for _ in range(3)
        )

    def __call__(self, x):
        x = self.norm(x)
        return self.alpha_proj(x) * jnp.tanh(self.beta_proj(x)) + jnp.sin(self.gamma_proj(x))


class Nnx(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([NnxHeads(rngs) for _ in range(3)])
        self.head = nnx.Linear(WIDE, 2, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def plain():
    """A function and its parameters, with names of its own."""
    square = {"w": np.zeros((WIDE, WIDE + 1)), "b": np.zeros(WIDE + 1)}
    tree = {f"layer{i}": {k: dict(square) for k in ("wq", "wk", "wv")} for i in range(3)}

    def apply(params, x):
        for i in range(3):
            layer = params[f"layer{i}"]
            q, k, v = (x @ layer[n]["w"] + layer[n]["b"] for n in ("wq", "wk", "wv"))
            x = (q * jnp.tanh(k) + jnp.sin(v))[:, :WIDE]
        return x

    return apply, tree


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        layers = ({n: nn.Linear(WIDE, WIDE + 1) for n in "qkv"} for _ in range(3))
        self.h = nn.ModuleList(nn.ModuleDict(layer) for layer in layers)

    def forward(self, x):
        for layer in self.h:
            q, k, v = (part(x) for part in layer.children())
            x = (q * k.tanh() + v.sin())[:, :WIDE]
        return x


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = (nn.LSTM(WIDE, WIDE, batch_first=True) for _ in range(2))

    def forward(self, x):
        return self.two(self.one(x)[0])[0]


class LinenRecurrent(linen.Module):
    @linen.compact
    def __call__(self, x):
        for name in ("first", "second"):
            x = linen.RNN(linen.LSTMCell(WIDE, name=name))(x)  # pyrefly: ignore[bad-argument-type]
        return x


class Exchanged(nn.Module):
    """The port has the two names the other way round, and their shapes show it."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(WIDE, 2), nn.Linear(2, 3)

    def forward(self, x):
        return self.b(self.a(x))


class LinenExchanged(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3, name="a")(linen.Dense(2, name="b")(x))


class Table(nn.Module):
    """Parameters of its own, one of two in a layer that is paired otherwise."""

    def __init__(self):
        super().__init__()
        self.one, self.two = (nn.Parameter(torch.randn(WIDE)) for _ in range(2))
        self.norm = nn.LayerNorm(WIDE)

    def forward(self, x):
        return self.norm(x * self.one + x.sin() * self.two)


class LinenTable(linen.Module):
    @linen.compact
    def __call__(self, x):
        first, second = (self.param(n, linen.initializers.ones, (WIDE,)) for n in ("p1", "p2"))
        return linen.LayerNorm(epsilon=1e-5, name="norm")(x * first + jnp.sin(x) * second)


SEQUENCE = {"x": Array((2, 4, WIDE))}
KINDS = {
    "Linen": (Torch, Linen, INPUTS, r"blocks\.(\d+)\.alpha", r"block_\1/alpha_proj"),
    "NNX": (Torch, Nnx, INPUTS, r"blocks\.(\d+)\.alpha", r"layers/\1/alpha_proj"),
    "functions": (Plain, plain, INPUTS, r"h\.(\d+)\.q\.weight", r"layer\1/wq/w"),
    "recurrent": (Recurrent, LinenRecurrent, SEQUENCE, "one", "first"),
    "exchanged": (Exchanged, LinenExchanged, INPUTS, "a", "/b"),
    "parameters": (Table, LinenTable, INPUTS, "one", "p1"),
}


def made(kind: str, rename=None) -> Pair:
    ours, other, inputs, *_ = KINDS[kind]
    return Pair(Twin(torch=ours, jax=other(), inputs=inputs, name="net", rename=rename or {}))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_suggested_pairs_everything(kind: str):
    *_, pattern, place = KINDS[kind]
    pair = made(kind)
    assert pair.weights.differences
    found = leftovers(pair)
    assert found.rename[pattern] == place, found
    assert all(row.torch and row.jax for row in found.rows)
    pasted = ast.literal_eval(found.line.removeprefix("rename="))
    assert pasted == found.rename
    mended = made(kind, pasted)
    assert not mended.weights.differences
    assert leftovers(mended) == Leftovers()


def test_the_twins_own_rename_is_kept():
    """What is suggested stands before it, and holds together with it."""
    rename = {r"blocks\.(\d+)": r"block_\1", "beta": "beta_proj"}
    found = leftovers(made("Linen", rename))
    assert found.rename == {
        r"blocks\.(\d+)\.alpha": r"block_\1/alpha_proj",
        r"blocks\.(\d+)\.gamma": r"block_\1/gamma_proj",
        **rename,
    }
    assert not made("Linen", found.rename).weights.differences


def test_what_has_no_counterpart():
    """Other shapes are no candidates, nor is another kind: they are listed, and nothing is said."""

    class Wide(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.LayerNorm(epsilon=1e-5, name="norm")(x)
            return (
                linen.Dense(WIDE, name="alpha_proj")(x)
                + linen.Dense(WIDE + 1, name="w")(x)[:, :WIDE]
            )

    found = leftovers(Pair(Twin(torch=Heads, jax=Wide(), inputs=INPUTS, name="net")))
    sides = [(row.torch, row.jax) for row in found.rows]
    assert ("", "w/kernel") in sides
    assert ("", "w/bias") in sides
    assert sum(bool(ours and theirs) for ours, theirs in sides) == 1
    assert sum(bool(ours and not theirs) for ours, theirs in sides) == 4


# Places.


class Gate(nn.Module):
    def forward(self, x):
        return x * x.sin()


class Gates(nn.Module):
    def __init__(self):
        super().__init__()
        self.gates = nn.ModuleList(Gate() for _ in range(2))
        self.one, self.two, self.fc = nn.ReLU(), nn.ReLU(), nn.Linear(WIDE, WIDE)

    def forward(self, x):
        for gate in self.gates:
            x = gate(x)
        return self.two(self.fc(self.one(x)))


class LinenGate(linen.Module):
    @linen.compact
    def __call__(self, x):
        return x * jnp.sin(x)


class LinenGates(linen.Module):
    @linen.compact
    def __call__(self, x):
        for i in range(2):
            x = LinenGate(name=f"gating_{i}")(x)
        x = linen.relu(linen.relu(x))  # the second changes nothing, and no order tells them apart
        return linen.relu(linen.Dense(WIDE, name="fc")(x))


def climbed(rename):
    twin = Twin(torch=Gates, jax=LinenGates(), inputs=INPUTS, name="net", rename=rename)
    (result,) = Ladder(Pair(twin), ["xla:cpu"]).run((), seeking=True)
    return result


def test_places_that_are_not_paired():
    result = climbed({})
    found = result.unpaired
    assert found.rename[r"gates\.(\d+)"] == r"gating_\1"
    pairs = {row.torch: row.jax for row in found.rows if row.torch}
    assert pairs.keys() == {"gates.0", "gates.1", "one", "two"}
    assert pairs["one"].startswith("relu")
    result = climbed(found.rename)
    assert result.verdict == SAME
    (eval_mode, _) = result.pairing.values()
    assert eval_mode.torch_only == ()
    assert [row.torch for row in result.unpaired.rows] == [""]
    assert {key: eval_mode.pairs[key] for key in pairs} == pairs


def test_a_place_is_not_named_at_the_cost_of_weights():
    """A layer inside JAX's cell is no counterpart of PyTorch's, whose tensors would lose theirs."""
    pair = made("recurrent", {"one": "first", "two": "second"})
    (result,) = Ladder(pair, ["xla:cpu"]).run((), seeking=True)
    assert result.unpaired.rows
    assert not {"one", "two"} & {row.torch for row in result.unpaired.rows if row.jax}
    rename = result.unpaired.rename or dict(pair.rename)
    assert not made("recurrent", rename).weights.differences
