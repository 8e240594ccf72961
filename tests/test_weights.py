"""The weight map: a bijection that says how it resolved what shapes alone leave open."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as fnn
import numpy as np
import pytest
from torch import nn
from toys import climb, trouble

from compare import Array, DiptychError, Twin
from compare.capture.jax_model import shapes as jax_shapes
from compare.capture.torch_model import specification, values
from compare.weights.build import build
from compare.weights.link import Leaf
from compare.weights.map import WeightMap


def leaf(*shape: int, layer: str = "", dtype: str = "float32") -> Leaf:
    return Leaf(shape, dtype, layer)


def mapped(
    leaves: Mapping[str, Leaf],
    shapes: Mapping[str, tuple[int, ...]],
    rename: Mapping[str, str] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> WeightMap:
    """The map of slashed JAX names under params, or under the collection before a colon."""
    flat: dict[tuple[str, ...], tuple[int, ...]] = {}
    for name, shape in shapes.items():
        collection, _, rest = name.rpartition(":")
        flat[(collection or "params", *rest.split("/"))] = shape
    return build(leaves, flat, rename or {}, aliases)


def filled(leaves: Mapping[str, Leaf], seed: int = 0) -> dict[str, np.ndarray]:
    """Values that are all different, so that nothing can be confused."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.permutation(np.arange(np.prod(x.shape, dtype=int)))
        .reshape(x.shape)
        .astype(x.dtype)
        for name, x in leaves.items()
    }


def same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert a[name].shape == b[name].shape
        assert a[name].tobytes() == b[name].tobytes(), name


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
    same(weights.to_torch(ours), state)


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


# What does not fit is a difference, and is named.

DENSE = {"a.weight": leaf(5, 3, layer="Linear"), "a.bias": leaf(5)}
GOOD = {"a/kernel": (3, 5), "a/bias": (5,)}
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
    same(weights.to_torch(weights.to_jax(state)), state)
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
}


@pytest.mark.parametrize("name", RENAMES)
def test_rename(name: str):
    module, path, rename = RENAMES[name]
    leaves = {f"{module}.weight": leaf(4, 2, layer="Linear"), f"{module}.bias": leaf(4)}
    shapes = {f"{path}/kernel".lstrip("/"): (2, 4), f"{path}/bias".lstrip("/"): (4,)}
    weights = mapped(leaves, shapes, rename)
    assert not weights.differences
    state = filled(leaves)
    same(weights.to_torch(weights.to_jax(state)), state)


DTYPES = ["float16", "float32", "float64", "int64", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_is_bit_exact(dtype: str):
    leaves = {"w.weight": leaf(3, 5, layer="Linear", dtype=dtype)}
    leaves |= {"c.weight": leaf(2, 3, 4, 5, layer="Conv2d", dtype=dtype)}
    leaves |= {"s": leaf(dtype=dtype), "e.weight": leaf(0, 3, layer="Linear", dtype=dtype)}
    shapes = {"w/kernel": (5, 3), "c/kernel": (4, 5, 3, 2), "s": (), "e/kernel": (3, 0)}
    weights = mapped(leaves, shapes)
    assert not weights.differences
    rng = np.random.default_rng(0)
    state = {}
    for name, x in leaves.items():
        count = int(np.prod(x.shape, dtype=int)) * np.dtype(dtype).itemsize
        raw = rng.integers(0, 2 if dtype == "bool" else 256, count).astype(np.uint8)
        state[name] = raw.view(dtype).reshape(x.shape)  # NaN with payloads, denormals, all of it
    same(weights.to_torch(weights.to_jax(state)), state)


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
    same({n: back[n] for n in whole}, {n: state[n] for n in whole})
    assert all(f"gate {link.jax[-2][1]}" in link.how for link in weights.links)


@pytest.mark.parametrize("name", CELLS)
def test_biases_that_meet_are_named(name: str):
    """Flax's cells have one bias where torch has two, but for the GRU's new gate."""
    layer, cell, _ = CELLS[name]
    _, weights = recurrent(layer(3, 4), Recurrent(cell))
    assert any("bias_ih_l0" in d and "bias_hh_l0" in d for d in weights.differences)


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


def test_storages_that_are_shared_are_aliases_too():
    a, b = nn.Linear(3, 4), nn.Linear(3, 4)
    b.weight.data = a.weight.data
    leaves, aliases = specification(nn.ModuleDict({"a": a, "b": b}))
    assert aliases == {"b.weight": "a.weight"}
    assert "b.weight" not in leaves


def test_foreign_states_are_refused_by_name():
    weights = mapped(DENSE, GOOD)
    good = filled(DENSE)
    weights.check_state(good, "file")
    weights.check_leaves(weights.to_jax(good), "file")
    bad = [{"a.weight": good["a.weight"]}, good | {"z": good["a.bias"]}]
    bad.append(good | {"a.weight": good["a.weight"].T})
    for state, culprit in zip(bad, ["a.bias", "z", "a.weight"], strict=True):
        with pytest.raises(DiptychError, match=culprit):
            weights.check_state(state, "file")
    leaves = weights.to_jax(good)
    wrong = leaves | {("params", "a", "kernel"): leaves["params", "a", "kernel"].T}
    for state in (
        wrong,
        dict(list(leaves.items())[:1]),
        leaves | {("params", "q"): good["a.bias"]},
    ):
        with pytest.raises(DiptychError):
            weights.check_leaves(state, "file")


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
