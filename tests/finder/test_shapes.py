"""Shapes that differ are said as such, with the layer where they part; a crash says whose it is."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax.numpy as jnp
import pytest
import torch
from torch import nn

from compare import Array, Image, Twin, check, find
from compare.discover import told


class Torch(nn.Module):
    def __init__(self, padding: int = 1, mean: bool = True):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, stride=2, padding=padding)
        self.fc = nn.Linear(4, 5) if mean else None

    def forward(self, x):
        x = self.b(self.a(x).relu())
        return self.fc(x.mean((2, 3))) if self.fc else x


class Jax(fnn.Module):
    padding: Any = ((1, 1), (1, 1))
    mean: bool = True

    @fnn.compact
    def __call__(self, x):
        x = fnn.relu(fnn.Conv(4, (3, 3), padding=1, name="a")(x))
        x = fnn.Conv(4, (3, 3), 2, padding=self.padding, name="b")(x)
        return fnn.Dense(5, name="fc")(x.mean((1, 2))) if self.mean else x


def twin(ours: Any, theirs: Any) -> Twin:
    return Twin(torch=ours, jax=theirs, inputs={"x": Image(2, 3, 8, 8)})


@pytest.mark.parametrize("mean", [False, True], ids=["the output", "inside"])
def test_a_padding_that_changes_the_shape_is_found_with_its_layer(mean: bool):
    report = find(twin(lambda: Torch(mean=mean), Jax("VALID", mean)), steps=2)
    assert report.verdict == "DIVERGED"
    assert (report.origin["stage"], report.origin["torch"]) == ("forward", "b")
    assert report.origin["shapes"] == [[2, 4, 4, 4], [2, 4, 3, 3]]
    assert report.cause["code"] == "CONV-06"
    assert find(twin(lambda: Torch(0, mean), Jax("VALID", mean)), steps=2).verdict == "SAME"


def test_both_shapes_of_an_output_are_said():
    report = check(twin(lambda: Torch(mean=False), Jax("VALID", mean=False)), steps=2)
    stages = {stage["name"]: stage for stage in report.twins[0]["stages"]}
    line = "eval/out: (2, 4, 4, 4) in PyTorch, (2, 3, 3, 4) in JAX"
    assert line in stages["forward"]["findings"]
    assert [stages[n]["verdict"] for n in ("gradients", "step", "trajectory")] == ["n/a"] * 3


@pytest.mark.parametrize(
    "model", [lambda x: x.sum(-1, keepdims=True), lambda x: x.sum(-1)[None]], ids=["more", "before"]
)
def test_an_axis_of_one_that_is_not_squeezed_is_found(model: Any):
    pair = Twin(torch=lambda x: x.sum(-1), jax=model, inputs={"x": Array((3, 4))})
    assert find(pair).verdict == "DIVERGED"


def crash(x):
    raise ValueError("too short")


def torch_loss(outputs):
    return crash(outputs)


def jax_loss(outputs):
    return jnp.dot(outputs, jnp.ones(7))


CRASHES = {
    "PyTorch's model: ValueError: too short": {"torch": crash},
    "JAX's model: ValueError: too short": {"jax": crash},
    "PyTorch's loss: ValueError: too short": {"loss": (torch_loss, jax_loss)},
    "JAX's loss: TypeError: ": {"loss": (torch.sum, jax_loss)},
}


@pytest.mark.parametrize("line", CRASHES)
def test_a_crash_says_whose_it_is(line: str):
    fields: dict[str, Any] = {"torch": torch.sin, "jax": jnp.sin, **CRASHES[line]}
    with pytest.raises((ValueError, TypeError)) as caught:
        find(Twin(**fields, inputs={"x": Array((3, 4))}))
    assert told(caught.value).startswith(line)
    assert "test_shapes.py:" in told(caught.value)
