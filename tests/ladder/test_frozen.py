"""Parameters that PyTorch freezes: JAX stops their gradient, or its optimizer leaves them alone."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as fnn
import jax
import jax.numpy as jnp
import torch
from torch import nn

from compare import Array, Twin
from tests.toys import climb, found, trouble


class Torch(nn.Module):
    def __init__(self, positions: bool = False, layer: bool = True):
        super().__init__()
        self.pos, self.fc = nn.Embedding(6, 4), nn.Linear(4, 4)
        self.pos.requires_grad_(positions)
        self.fc.requires_grad_(layer)

    def forward(self, x):
        return self.fc(x + self.pos(torch.arange(6)))


class Jax(fnn.Module):
    stop: bool = True
    scale: float = 1.0

    @fnn.compact
    def __call__(self, x):
        positions = self.scale * fnn.Embed(6, 4, name="pos")(jnp.arange(6))
        positions = jax.lax.stop_gradient(positions) if self.stop else positions
        return fnn.Dense(4, name="fc")(x + positions)


def twin(ours: Callable, theirs: fnn.Module) -> Twin:
    return Twin(torch=ours, jax=theirs, inputs={"x": Array((2, 6, 4))})


def test_a_parameter_that_neither_side_trains():
    result = climb(twin(Torch, Jax()))
    assert result.verdict == "SAME", trouble(result)
    assert not result.notes
    assert (result.leaves, result.moved) == (3, 3)
    assert climb(twin(Torch, Jax(scale=1 + 1e-7))).stages["forward"].verdict == "DIVERGED"


def test_a_parameter_that_the_optimizer_of_jax_has_to_freeze_is_noted():
    result = climb(twin(Torch, Jax(stop=False)))
    assert result.verdict == "SAME", trouble(result)
    assert result.notes == [
        "pos.weight: frozen in PyTorch, but not in JAX: its optimizer has to leave it alone"
    ]


def test_a_parameter_that_only_pytorch_trains_is_found():
    what = found(twin(lambda: Torch(positions=True), Jax()))
    assert what.result.stages["gradients"].verdict == "DIVERGED"
    assert what.origin is not None
    assert what.origin.torch.startswith("pos")


def test_where_all_are_frozen_there_is_no_training():
    result = climb(twin(lambda: Torch(layer=False), Jax()))
    assert result.verdict == "SAME", trouble(result)
    assert [result.stages[n].verdict for n in ("step", "trajectory")] == ["n/a", "n/a"]
    wrong = climb(twin(lambda: Torch(layer=False), Jax(scale=1 + 1e-7)))
    assert wrong.verdict == "DIVERGED"
