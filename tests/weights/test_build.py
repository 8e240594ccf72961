"""The weight map built: it says how it resolved what shapes alone leave open."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from compare import Array, Image, Twin
from compare.capture.bring import structs
from compare.capture.jax_model import shapes as jax_shapes
from compare.capture.torch_model import specification, values
from compare.ladder.pair import Pair
from compare.ladder.verdict import DIVERGED, SAME
from compare.ladder.weight_map import weight_map
from compare.weights.build import build
from tests.toys import climb, origin, trouble
from tests.weights.leaves import DENSE, GOOD, assert_same_bits, filled, leaf, mapped

# What each layer's weight becomes, by its own axes: (out, in, …) -> (…, in, out).
LAYERS = {
    "Linear": (nn.Linear(3, 5), {"kernel": (3, 5), "bias": (5,)}),
    "square Linear": (nn.Linear(4, 4), {"kernel": (4, 4), "bias": (4,)}),
    "Linear without bias": (nn.Linear(3, 5, bias=False), {"kernel": (3, 5)}),
    "Conv1d": (nn.Conv1d(3, 5, 2), {"kernel": (2, 3, 5), "bias": (5,)}),
    "Conv2d": (nn.Conv2d(3, 5, (2, 4)), {"kernel": (2, 4, 3, 5), "bias": (5,)}),
    "square Conv2d": (nn.Conv2d(3, 3, 3), {"kernel": (3, 3, 3, 3), "bias": (3,)}),
    "grouped Conv2d": (nn.Conv2d(4, 6, 3, groups=2), {"kernel": (3, 3, 2, 6), "bias": (6,)}),
    "Conv3d": (nn.Conv3d(2, 3, 2), {"kernel": (2, 2, 2, 2, 3), "bias": (3,)}),
    "ConvTranspose2d": (nn.ConvTranspose2d(3, 5, (2, 4)), {"kernel": (2, 4, 5, 3), "bias": (5,)}),
    "Embedding": (nn.Embedding(7, 4), {"embedding": (7, 4)}),
    "square Embedding": (nn.Embedding(4, 4), {"embedding": (4, 4)}),
    "LayerNorm": (nn.LayerNorm(6), {"scale": (6,), "bias": (6,)}),
    "GroupNorm": (nn.GroupNorm(2, 6), {"scale": (6,), "bias": (6,)}),
}
TRANSPOSED = ("Linear", "Conv")


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str):
    module, shapes = LAYERS[name]
    leaves, _ = specification(nn.ModuleDict({"x": module}))
    weights = mapped(leaves, {f"x/{k}": s for k, s in shapes.items()})
    assert not weights.differences
    assert len(weights.links) == len(shapes)
    state = filled(leaves)
    ours = weights.to_jax(state)
    w = state["x.weight"]
    if any(kind in name for kind in TRANSPOSED):
        w = np.moveaxis(np.swapaxes(w, 0, 1), (0, 1), (-2, -1))
    (key,) = (p for p in ours if p[-1] != "bias")
    np.testing.assert_array_equal(ours[key], w)
    assert ours[key].flags.c_contiguous
    assert_same_bits(weights.to_torch(ours), state)


@pytest.mark.parametrize("name", [n for n in LAYERS if "square" in n])
def test_what_shapes_leave_open_is_said(name: str):
    module, shapes = LAYERS[name]
    leaves, _ = specification(nn.ModuleDict({"x": module}))
    weights = mapped(leaves, {f"x/{k}": s for k, s in shapes.items()})
    (link,) = (link for link in weights.links if link.torch == "x.weight")
    assert type(module).__name__ in link.how


def test_normalisation_with_statistics():
    leaves, _ = specification(nn.ModuleDict({"bn": nn.BatchNorm2d(3)}))
    shapes = {"bn/scale": (3,), "bn/bias": (3,), "batch_stats:bn/mean": (3,)}
    weights = mapped(leaves, shapes | {"batch_stats:bn/var": (3,)})
    assert not weights.differences
    assert {link.torch: "/".join(link.jax) for link in weights.links} == {
        "bn.weight": "params/bn/scale",
        "bn.bias": "params/bn/bias",
        "bn.running_mean": "batch_stats/bn/mean",
        "bn.running_var": "batch_stats/bn/var",
    }
    (uncounted,) = weights.uncounted
    assert uncounted.startswith("bn.num_batches_tracked")
    assert any("running_var" in text for text in mapped(leaves, shapes).differences)


WRONG = {
    "missing on JAX's side": (DENSE, {"a/kernel": (3, 5)}, "a.bias"),
    "extra on JAX's side": (DENSE, GOOD | {"b/scale": (5,)}, "b/scale"),
    "extra in another collection": (DENSE, GOOD | {"stats:a/mean": (5,)}, "a/mean"),
    "missing module": (DENSE, {"b/kernel": (3, 5), "b/bias": (5,)}, "a.weight"),
    "another size": (DENSE, GOOD | {"a/kernel": (3, 6)}, "a.weight"),
    "not transposed": (DENSE, GOOD | {"a/kernel": (5, 3)}, "a.weight"),
    "of another rank and order": (
        {"a.weight": leaf(6, 4, layer="Linear")},
        {"a/kernel": (6, 2, 2)},
        "a.weight",
    ),
    "axes swapped": ({"a.table": leaf(2, 6)}, {"a/table": (6, 2)}, "a.table"),
    "transposed by another convention": (
        {"a.weight": leaf(3, 5, 2, 2, layer="ConvTranspose2d")},
        {"a/kernel": (2, 2, 3, 5)},
        "a.weight",
    ),
    "everything": ({}, GOOD, "a/kernel"),
    "nothing on JAX's side": (DENSE, {}, "a.weight"),
}


@pytest.mark.parametrize("name", WRONG)
def test_misfits_are_differences(name: str):
    leaves, shapes, culprit = WRONG[name]
    assert any(culprit in text for text in mapped(leaves, shapes).differences)


@pytest.mark.parametrize(
    ("torch_shape", "jax_shape"),
    [((6, 4), (4, 2, 3)), ((6, 4), (2, 2, 6))],
    ids=["heads of the output", "heads of the input"],
)
def test_split_axes_are_said(torch_shape: tuple[int, ...], jax_shape: tuple[int, ...]):
    """Attention's Dense layers split an axis; that keeps the order, and the map names it."""
    leaves = {"q.weight": leaf(*torch_shape, layer="Linear")}
    weights = mapped(leaves, {"q/kernel": jax_shape})
    assert not weights.differences
    state = filled(leaves)
    (ours,) = weights.to_jax(state).values()
    np.testing.assert_array_equal(ours, state["q.weight"].T.reshape(jax_shape))
    assert_same_bits(weights.to_torch(weights.to_jax(state)), state)
    assert str(jax_shape) in weights.links[0].how


def test_one_leaf_is_never_used_twice():
    leaves = {"a.weight": leaf(3), "b.weight": leaf(3)}
    weights = mapped(leaves, {"c/scale": (3,)}, {"^[ab]$": "c"})
    assert any("a.weight" in d and "b.weight" in d for d in weights.differences)
    assert len({link.jax for link in weights.links}) == len(weights.links)


RENAMES = {
    "none": ("layer1.0.conv1", "layer1/0/conv1", {}),
    "numbered": ("blocks.11.fc", "blocks_11/fc", {r"blocks\.(\d+)": r"blocks_\1"}),
    "removed": ("module.fc", "fc", {r"^module\.": ""}),
    "to the root": ("fc", "", {"^fc$": ""}),
    "deeper": ("fc", "head/out", {"^fc$": "head.out"}),
    "in turn": ("a.b", "c/d", {"a": "x", "x": "c", r"\.b": ".d"}),
    "not inside a name": ("fc1.subfc.fc", "fc1/subfc/dense", {"fc": "dense", "sub": "x", "f": "y"}),
    "a name and what is below": ("a.b.fc", "A/fc", {r"a\.b": "A", "a": "B"}),
    "a component for nothing": ("net.fc", "fc", {"net": ""}),
    "exchanged": ("a.b", "b/a", {"a": "/b", "b": "/a"}),
    "a slash is the end": ("a.fc", "b/fc/fc", {"a": "b/fc", r"fc/fc": "x", "^fc": "y"}),
    "tensors": ("fc", "head/out", {r"fc\.weight": "head/out/kernel", "fc.bias": "head/out/bias"}),
}


@pytest.mark.parametrize("name", RENAMES)
def test_rename(name: str):
    module, path, rename = RENAMES[name]
    leaves = {f"{module}.weight": leaf(4, 2, layer="Linear"), f"{module}.bias": leaf(4)}
    shapes = {f"{path}/kernel".lstrip("/"): (2, 4), f"{path}/bias".lstrip("/"): (4,)}
    weights = mapped(leaves, shapes, rename)
    assert not weights.differences
    state = filled(leaves)
    assert_same_bits(weights.to_torch(weights.to_jax(state)), state)


LEAVES = {"tok.weight": leaf(7, 4, layer="Embedding"), "fc.weight": leaf(4, 4, layer="Linear")}
TABLES = {"tok/table": (7, 4), "fc/kernel": (4, 4)}


def test_a_tensor_is_named_with_its_leaf():
    """A leaf whose name says nothing: the shape tells how the tensor lies in it."""
    assert len(mapped(LEAVES, TABLES).differences) == 2
    for turned, shape in enumerate([(7, 4), (4, 7)]):
        for leaf_name in ("tok/table", "params/tok/table"):
            found = mapped(LEAVES, TABLES | {"tok/table": shape}, {"tok.weight": leaf_name})
            assert not found.differences
            assert found.links[0].perm == ((1, 0) if turned else ())
            assert found.modules == {"tok": "tok"}


@pytest.mark.parametrize(
    ("rename", "shape", "said"),
    [
        ({"tok.weight": "tok/tabel"}, (7, 4), "tok.weight (7, 4) has no counterpart: JAX lacks"),
        ({"tok.weight": "tok/tabel"}, (7, 4), "the leaf tok/tabel, which Twin(rename=...) names"),
        ({"tok.weight": "tok/table"}, (7, 5), "tok.weight (7, 4) does not fit tok/table (7, 5)"),
        ({"tok.weight": "fc/kernel"}, (7, 4), "tok.weight (7, 4) does not fit fc/kernel (4, 4)"),
        ({"fc.weight": "tok/table"}, (4, 4), "may be tok/table as it is or transposed"),
        ({"tok.weight": "fc/kernel", "x": ""}, (4, 4), "fc.weight and tok.weight meet in fc/ker"),
    ],
)
def test_a_tensor_that_is_named_wrongly(rename, shape, said: str):
    leaves = LEAVES | ({"tok.weight": leaf(4, 4, layer="Linear")} if "x" in rename else {})
    found = mapped(leaves, TABLES | {"tok/table": shape}, rename)
    assert any(said in line for line in found.differences), found.differences


# Recurrent layers.


def recurrent(module: nn.Module, model: fnn.Module, rename: Mapping[str, str] | None = None):
    twin = Twin(torch=module, jax=model, inputs={"x": Array((2, 3, 3))})
    shapes = jax_shapes(twin, model, {"x": np.zeros((2, 3, 3), np.float32)})
    holder = nn.ModuleDict({"rnn": module})
    leaves, aliases = specification(holder)
    return holder, build(leaves, shapes, rename or {}, aliases)


class Recurrent(fnn.Module):
    cell: type

    @fnn.compact
    def __call__(self, x):
        return fnn.RNN(self.cell(4, parent=None), name="rnn")(x)


CELLS = {
    "LSTM": (nn.LSTM, fnn.LSTMCell, "ifgo"),
    "optimized LSTM": (nn.LSTM, fnn.OptimizedLSTMCell, "ifgo"),
    "GRU": (nn.GRU, fnn.GRUCell, "rzn"),
}


@pytest.mark.parametrize("name", CELLS)
def test_gates_are_split(name: str):
    layer, cell, gates = CELLS[name]
    holder, weights = recurrent(layer(3, 4), Recurrent(cell))
    state = values(holder)
    ours = weights.to_jax(state)
    for source, packed in (("i", "rnn.weight_ih_l0"), ("h", "rnn.weight_hh_l0")):
        for index, gate in enumerate(gates):
            (path,) = (p for p in ours if p[-2:] == (f"{source}{gate}", "kernel"))
            rows = state[packed][4 * index : 4 * index + 4]
            np.testing.assert_array_equal(ours[path], rows.T)
    whole = {link.torch for link in weights.links if "weight" in link.torch}
    back = weights.to_torch(ours)
    assert_same_bits({n: back[n] for n in whole}, {n: state[n] for n in whole})
    assert all(f"gate {link.jax[-2][1]}" in link.how for link in weights.links)


@pytest.mark.parametrize("name", CELLS)
def test_biases_that_meet_are_named(name: str):
    """Flax's cells have one bias where torch has two, but for the GRU's new gate."""
    layer, cell, gates = CELLS[name]
    _, weights = recurrent(layer(3, 4), Recurrent(cell))
    assert not weights.differences
    met = {
        gate: ["rnn.bias_hh_l0", "rnn.bias_ih_l0"] for gate in gates if (name, gate) != ("GRU", "n")
    }
    assert {leaf.split("/")[-2][1]: sorted(names) for leaf, names in weights.summed.items()} == met


@pytest.mark.parametrize("gate", ["ii", "hf", "hg", "io"])
def test_a_missing_gate_is_a_difference(gate: str):
    names = [f"{s}{g}" for s in "ih" for g in "ifgo"]
    shapes = {f"rnn/cell/{n}/kernel": (3 if n[0] == "i" else 4, 4) for n in names if n != gate}
    leaves = {"rnn.weight_ih_l0": leaf(16, 3, layer="LSTM")}
    leaves |= {"rnn.weight_hh_l0": leaf(16, 4, layer="LSTM")}
    found = mapped(leaves, shapes).differences
    assert any(f"weight_{gate[0]}h_l0" in text for text in found)


def test_tied_weights_are_aliases():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x):
            return self.head(x @ self.embed.weight)

    leaves, aliases = specification(Tied())
    assert list(leaves) == ["embed.weight"]
    assert aliases == {"head.weight": "embed.weight"}
    assert not mapped(leaves, {"embed/embedding": (5, 4)}, aliases=aliases).differences
    untied = mapped(leaves, {"embed/embedding": (5, 4), "head/kernel": (4, 5)}, aliases=aliases)
    assert any("head/kernel" in text for text in untied.differences)

    class Flax(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            embed = fnn.Embed(5, 4, name="embed")
            return embed.attend(x @ embed.embedding)

    result = climb(Twin(torch=Tied, jax=Flax, inputs={"x": Array((2, 5))}, name="tied"), steps=2)
    assert result.verdict == "SAME", trouble(result)


@pytest.mark.parametrize("transpose_kernel", [True, False])
def test_transposed_convolutions_against_torch(transpose_kernel: bool):
    """Flax's transpose_kernel has torch's axes; without it the map turns the window round."""

    class Flax(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            return fnn.ConvTranspose(
                3, (2, 2), (2, 2), padding="VALID", transpose_kernel=transpose_kernel, name="up"
            )(x)

    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(2, 3, 2, 2)

        def forward(self, x):
            return self.up(x)

    x = np.zeros((2, 2, 3, 3), np.float32)
    result = climb(Twin(torch=Torch, jax=Flax, inputs={"x": x + np.arange(3)}, name="up"), steps=2)
    assert result.verdict == "SAME", trouble(result)
    assert result.stages["weights"].compared == "2 tensors"


# Models that are brought, their weights packed on PyTorch's side.


def gate_free(cell: Any) -> Callable:
    """A recurrent cell of Equinox over time, (N, T, H)."""

    def run(module, x, train):
        def sequence(xs):
            hidden = jnp.zeros(4, xs.dtype)
            start = (hidden, hidden) if cell is eqx.nn.LSTMCell else hidden

            def step(state, x):
                state = module(x, state)
                return state, state[0] if isinstance(state, tuple) else state

            return jax.lax.scan(step, start, xs)[1]

        return jax.vmap(sequence)(x)

    return run


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_packed_recurrent_weights(kind: str):
    cell = getattr(eqx.nn, f"{kind}Cell")
    twin = Twin(
        torch=lambda: getattr(torch.nn, kind)(3, 4, bias=False, batch_first=True),
        jax=cell(3, 4, use_bias=False, key=jax.random.key(0)),
        torch_call=lambda module, x: module(x)[0],
        jax_call=gate_free(cell),
        inputs={"x": Array((2, 5, 3))},
        name="recurrent",
    )
    result = climb(twin)
    assert result.verdict == SAME, trouble(result)
    biased = dataclasses.replace(twin, jax=cell(3, 4, key=jax.random.key(0)))
    assert climb(biased).stages["weights"].verdict == DIVERGED


class TorchAttention(torch.nn.Module):
    def __init__(self, heads: int = 2):
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(4, heads, batch_first=True)
        self.fc = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.attn(x, x, x, need_weights=False)[0])


class LinenAttention(fnn.Module):
    heads: int = 2

    @fnn.compact
    def __call__(self, x):
        return fnn.Dense(3, name="fc")(fnn.MultiHeadDotProductAttention(self.heads, name="attn")(x))


class NnxAttention(nnx.Module):
    def __init__(self, heads: int = 2):
        rngs = nnx.Rngs(0)
        self.attn = nnx.MultiHeadAttention(heads, 4, decode=False, rngs=rngs)
        self.fc = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.fc(self.attn(x))


class EqxAttention(eqx.Module):
    attn: eqx.nn.MultiheadAttention
    fc: eqx.nn.Linear

    def __init__(self, heads: int = 2):
        bias = {f"use_{n}_bias": True for n in ("query", "key", "value", "output")}
        self.attn = eqx.nn.MultiheadAttention(heads, 4, **bias, key=jax.random.key(0))
        self.fc = eqx.nn.Linear(4, 3, key=jax.random.key(1))

    def __call__(self, x):
        return jax.vmap(self.fc)(self.attn(x, x, x))


@pytest.mark.parametrize("model", [LinenAttention, NnxAttention, EqxAttention])
def test_packed_attention(model: type):
    call: Any = {"jax_call": lambda module, x, train: jax.vmap(module)(x)}
    twin = Twin(
        torch=TorchAttention,
        jax=model(),
        inputs={"x": Array((2, 5, 4))},
        name="attention",
        **(call if model is EqxAttention else {}),
    )
    result = climb(twin)
    assert result.verdict == SAME, trouble(result)
    assert {"attn.0": "attn", "fc": "fc"}.items() <= result.pairing["train"].pairs.items()
    faulty = model(4) if model is EqxAttention else model(1)
    if model is EqxAttention:
        assert origin(climb(dataclasses.replace(twin, jax=faulty))) == "attn.0"
    else:  # the heads are an axis of Flax's kernels
        assert climb(dataclasses.replace(twin, jax=faulty)).verdict == DIVERGED


class LinenUp(fnn.Module):
    flipped: bool

    @fnn.compact
    def __call__(self, x):
        layer = functools.partial(fnn.ConvTranspose, transpose_kernel=self.flipped, name="up")
        return layer(3, (2, 2), (2, 2), padding="VALID")(x)


class NnxUp(nnx.Module):
    def __init__(self, flipped: bool):
        layer = functools.partial(nnx.ConvTranspose, transpose_kernel=flipped, rngs=nnx.Rngs(0))
        self.up = layer(3, 3, (2, 2), (2, 2), padding="VALID")

    def __call__(self, x):
        return self.up(x)


class TorchUp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.ConvTranspose2d(3, 3, 2, stride=2)

    def forward(self, x):
        return self.up(x)


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("model", [LinenUp, NnxUp])
def test_the_window_of_a_transposed_convolution(model: Any, flipped: bool):
    """As many channels in as out: the shapes cannot tell the layouts apart, the layer does."""
    inputs = {"x": Image(2, 3, 2, 2)}
    twin = Twin(torch=TorchUp, jax=model(flipped), inputs=inputs, name="up")
    result = climb(twin)
    assert result.verdict == SAME, trouble(result)
    how = next(link.how for link in Pair(twin).weights.links if link.torch == "up.weight")
    assert ("flipped" in how) is not flipped
    for written in (weight_map(twin), Pair(twin).weights):
        assert {link.how for link in written.links if link.torch == "up.weight"} == {how}


def test_the_gates_of_nnx():
    class Net(nnx.Module):
        def __init__(self):
            self.lstm = nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))

    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 4, bias=False)

        def forward(self, x):
            return self.lstm(x)[0]

    found = build(specification(Torch())[0], bring_shapes(Net()), {})
    assert len(found.links) == 8
    assert [d.split()[0] for d in found.differences] == [f"lstm/h{g}/bias" for g in "fgio"]


def bring_shapes(model: Any) -> dict:
    return {path: leaf.shape for path, leaf in structs(model).items()}
