"""Alignment by value: a fault is placed where it is, and a right port has no frontier."""

from __future__ import annotations

import linecache

import pytest

from compare import Twin
from compare.finder.alignment import Frontier, Side, align
from compare.ladder.pair import Pair
from tests.free import PORTS, port
from tests.toys import found


def passes(twin: Twin) -> list:
    pair = Pair(twin, steps=2)
    return [pair.run(backend).operations(None) for backend in ("torch:cpu", "xla:cpu")]


def line(source: str) -> str:
    name, _, number = source.rpartition(":")
    return linecache.getline(name, int(number)).strip() if number else ""


# The port, and its fault -> where it is, PyTorch's operation, what stands on PyTorch's line and on
# JAX's.
FAULTS: dict[tuple[str, str], tuple[str, str, str, str]] = {
    ("transformer", "eps"): (
        "blocks.1.ln1", "native_layer_norm", "self.ln1(x)", "x - mean",
    ),
    ("transformer", "interleaved"): (
        "between blocks.1.qkv and blocks.1.softmax", "unbind", "unbind(0)", "jnp.moveaxis",
    ),
    ("transformer", "scale"): (
        "between blocks.1.qkv and blocks.1.softmax", "div", "scores / ", "jnp.where",
    ),
    ("transformer", "mask"): (
        "between blocks.1.qkv and blocks.1.softmax", "masked_fill", "masked_fill", "softmax",
    ),
    ("transformer", "axis"): ("blocks.1.softmax", "_softmax", "softmax(-1)", "axis=-2"),
    ("transformer", "merged"): (
        "between blocks.1.softmax and blocks.1.proj", "addmm", "self.proj", "p[\"kernel\"]",
    ),
    ("transformer", "residual"): (
        "between blocks.1.proj and blocks.1.ln2", "add", "x + self.proj", "stream + dense",
    ),
    ("transformer", "gelu"): ("blocks.1.gelu", "gelu", "F.gelu", "jax.nn.gelu"),
    ("lstm", "forget"): ("lstm", "sigmoid", "self.lstm", "f + 1.0"),
    ("lstm", "cell"): ("lstm", "tanh", "self.lstm", "jax.nn.sigmoid(i) * g"),
    ("lstm", "output"): ("lstm", "tanh", "self.lstm", "jax.nn.sigmoid(o)"),
    ("lstm", "state"): ("between lstm and head", "addmm", "self.head", "p[\"kernel\"]"),
    ("gru", "reset"): ("gru", "mul", "self.gru", "jnp.tanh(an"),
    ("gru", "update"): ("gru", "sub", "self.gru", "(1 - z) * h"),
    ("conv", "padding"): ("conv1", "convolution", "self.conv1", "conv_general_dilated"),
    ("conv", "eps"): ("bn1", "native_batch_norm", "self.bn1", "norm[\"mean\"]"),
    ("conv", "relu"): ("relu#1", "relu", "torch.relu", "reduce_window"),
    ("conv", "mean"): ("pool", "max_pool2d_with_indices", "self.pool", "reduce_window"),
    ("conv", "flatten"): ("between pool and fc", "addmm", "self.fc", "p[\"kernel\"]"),
}  # fmt: skip


def frontier(name: str, fault: str = "") -> Frontier | None:
    return align(*passes(port(name, fault)))


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_a_fault_is_placed(name: str, fault: str):
    where, operation, ours, theirs = FAULTS[name, fault]
    front = frontier(name, fault)
    assert front is not None
    assert (front.where, front.torch.name) == (where, operation)
    assert ours in line(front.torch.source)
    assert any(theirs in line(op.source) for op in front.jax), front.operations


@pytest.mark.parametrize("name", PORTS)
def test_a_right_port_has_no_frontier_and_its_values_are_known(name: str):
    ours, theirs = passes(port(name))
    assert align(ours, theirs) is None
    torch_side, jax_side = Side(ours, theirs), Side(theirs, ours)
    torch_side.meet(jax_side)
    assert sum(torch_side.known) > 0.85 * len(torch_side.known)


@pytest.mark.parametrize(
    ("name", "fault", "place", "between"),
    [
        ("lstm", "forget", "lstm", None),  # where replay has: between the input and the output
        ("lstm", "state", "head", ("lstm", "head")),
        ("transformer", "eps", "blocks.1.ln1", None),
        ("transformer", "interleaved", "blocks.1.softmax", ("blocks.1.qkv", "blocks.1.softmax")),
    ],
)
def test_the_finder_names_it_where_nothing_is_paired(
    name: str, fault: str, place: str, between: tuple[str, str] | None
):
    origin = found(port(name, fault)).origin
    assert origin is not None
    assert (origin.stage, origin.torch, origin.between) == ("forward", place, between)
    assert origin.torch_source.startswith("tests/free.py:")
    assert origin.jax_source.startswith("tests/free.py:")
    assert "has no counterpart" in origin.note


def test_a_mask_of_another_large_number_is_no_difference():
    """-1e30 for -inf before the first softmax, and the fault behind it."""
    result = found(port("transformer", "axis"))
    assert result.origin is not None
    assert (result.origin.torch, result.origin.between) == ("blocks.1.softmax", None)
    wrong = (row.torch for row in result.rows if row.verdict == "ORIGIN")
    assert next(wrong) == "blocks.1.softmax"
