"""Gradients that part while the forward pass agrees: the operation and the line are named."""

from __future__ import annotations

import linecache

import flax.linen as fnn
import jax
import pytest
from torch import nn

from compare import Tokens, Twin
from compare.capture.operations import Operations
from compare.finder.alignment import Side
from compare.finder.pulled import align_back
from compare.ladder.pair import Pair
from tests import free, pulling
from tests.toys import found

INSIDE = ("up", "relu")  # nothing between them is a place of both sides

# The fault -> the place, the layers around it, what stands on PyTorch's line and on JAX's, what is
# said.
FAULTS: dict[str, tuple[str, tuple[str, str] | None, str, str, str]] = {
    "duplicates lost": (
        "embed.weight", None, "self.embed(tokens)", "looked_up(table", "gradient of embedding",
    ),
    "embedding cut": (
        "embed.weight", None, "self.embed(tokens)", "stop(table)[tokens]", "stop_gradient at",
    ),
    "norm cut": ("relu", INSIDE, "4 * h / size", "size = stop(size)", "stop_gradient at"),
    "halved": ("relu", INSIDE, "4 * h / size", "halved(h)", "gradient of div"),
    "not straight through": ("relu", INSIDE, "h.round()", "jnp.round(h)", "round at"),
    "ties": ("relu", None, "F.relu(rounded)", "jnp.maximum(rounded", "gradient of relu"),
    "gate not cut": ("gate", ("up", "gate"), "h.detach()", "@ p[\"kernel\"]", "detach at"),
    "factor": ("sigmoid", None, "torch.sigmoid", "sigmoid(still)", "gradient of sigmoid"),
    "gate cut": ("sigmoid", ("sigmoid", "down"), "active * gate", "stop(gate)", "stop_gradient"),
    "clamp": ("sigmoid", ("sigmoid", "down"), "torch.clamp", "active * gate", "gradient of clamp"),
    "sum": ("sigmoid", ("sigmoid", "down"), "x.clone()", "jnp.minimum(y", "gradient of clone"),
    "residual cut": (
        "the loss", ("embed", "the loss"), "x + self.down", "stop(x)", "gradient of add",
    ),
    "head cut": (
        "the loss", ("down", "the loss"), "embed.weight.T", "stop(table)", "stop_gradient at",
    ),
    "head halved": (
        "the loss", ("down", "the loss"), "embed.weight.T", "halved(table)", "with mul",
    ),
}  # fmt: skip


def line(source: str) -> str:
    name, _, number = source.rpartition(":")
    return linecache.getline(name, int(number)).strip() if number else ""


def passes(twin: Twin) -> tuple[Operations, Operations]:
    pair = Pair(twin, steps=2)
    phase = twin.updates[0]
    ours, theirs = (pair.run(b).operations(phase, True) for b in ("torch:cpu", "xla:cpu"))
    return ours, theirs


def ends(of: Operations) -> list[int]:
    return [value for name, value in of.ends.items() if name.startswith("gradient/")]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_placed(fault: str):
    place, between, ours, theirs, told = FAULTS[fault]
    origin = found(pulling.port(fault)).origin
    assert origin is not None
    assert origin.stage == "gradients"
    assert (origin.torch, origin.between) == (place, between), origin.note
    assert ours in line(origin.torch_source), origin.note
    assert theirs in line(origin.jax_source), origin.note
    assert told in origin.note


RIGHT = {
    "pulled": pulling.port(),
    **{name: free.port(name) for name in ("transformer", "lstm", "gru")},
}


@pytest.mark.parametrize("name", RIGHT)
def test_every_gradient_of_a_right_port_is_known(name: str):
    ours, theirs = passes(RIGHT[name])
    torch_side, jax_side = Side(ours, theirs), Side(theirs, ours)
    torch_side.meet(jax_side)
    jax_side.meet(torch_side)
    assert len(ends(ours)) > 4
    assert all(torch_side.known[value] for value in ends(ours))
    assert align_back(ours, theirs, [], []) is None


def test_operations_of_both_passes():
    """Each of PyTorch's that goes back is one of the forward pass, and stands on its line."""
    ours, theirs = passes(RIGHT["pulled"])
    back = [op for op in ours.operations if op.of is not None]
    assert len(back) > 20
    for op in back:
        of = ours.operations[op.of or 0]
        assert of.of is None
        assert (op.source, op.place) == (of.source, of.place)
    (relu,) = (op for op in back if op.name == "threshold_backward")
    assert "F.relu(rounded)" in line(relu.source)
    lines = {line(op.source) for op in theirs.operations if theirs.gradients[op.gives[0]]}
    assert any("jax.nn.relu(rounded)" in text for text in lines)


def test_a_run_without_gradients_is_the_forward_pass_alone():
    twin = pulling.port()
    run = Pair(twin, steps=2).run("torch:cpu")
    forward, both = (run.operations(twin.updates[0], back) for back in (False, True))
    assert forward.seed is None
    assert not any(forward.gradients)
    assert len(both.operations) > len(forward.operations)
    assert set(both.ends) - set(forward.ends) == {
        f"gradient/param/{name}" for name, _ in twin.torch.named_parameters()
    }


class TorchTied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.down = nn.Embedding(7, 8), nn.Linear(8, 8)

    def forward(self, tokens):
        return self.down(self.embed(tokens)) @ self.embed.weight.T


class JaxTied(fnn.Module):
    """Its head teaches the embedding nothing."""

    @fnn.compact
    def __call__(self, tokens):
        embed = fnn.Embed(7, 8, name="embed")
        x = fnn.Dense(8, name="down")(embed(tokens))
        return x @ jax.lax.stop_gradient(embed.embedding).T


def test_where_the_two_ways_disagree_it_is_said():
    """The layer that has the parameter is paired, and is not where its gradient is lost."""
    inputs = {"tokens": Tokens(3, 5, 7)}
    origin = found(Twin(torch=TorchTied, jax=JaxTied(), inputs=inputs, name="tied")).origin
    assert origin is not None
    assert (origin.torch, origin.what) == ("embed.weight", "param")
    assert origin.note.startswith("by value the first difference is between down and the loss: ")
    assert "stop_gradient at tests/finder/test_pulled.py" in origin.note
