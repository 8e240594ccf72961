"""Names that differ: layers are paired by order where that is certain, and only there."""

from __future__ import annotations

import flax.linen as fnn
import jax.numpy as jnp
import pytest
import torch
from flax import nnx

from compare import Array, Twin
from compare.ladder.verdict import SAME
from compare.ladder.weight_map import weight_map
from compare.report.entries import twin_dict
from tests.planted import net
from tests.toys import TorchMlp, climb, origin, paired, trouble


class Renamed(fnn.Module):
    """TorchMlp's layers under Flax's automatic names."""

    widths: tuple[int, ...] = (3, 5, 4, 2)
    eps: float = 0.0

    @fnn.compact
    def __call__(self, x):
        for width in self.widths[1:-1]:
            x = jnp.tanh(fnn.Dense(width)(x) * (1 + self.eps))
        return fnn.Dense(self.widths[-1])(x)


@pytest.mark.parametrize("widths", [(3, 5, 4, 2), (3, 4, 4, 4, 4)])
def test_names_that_differ(widths: tuple[int, ...]):
    """Squares, too, where each is used on what the one before has made."""
    twin = Twin(torch=TorchMlp(widths), jax=Renamed(widths), inputs={"x": Array((4, 3))})
    result = climb(twin)
    count = len(widths) - 1
    assert result.verdict == SAME, trouble(result)
    assert result.stages["weights"].compared == f"{2 * count} tensors, {2 * count} by order"
    assert paired(result) == (count, count, 0)
    report = twin_dict(result)
    assert {row["paired"] for row in report["layers"]} == {"order"}
    assert report["coverage"]["by_order"][0] == "layers.0.weight = Dense_0/kernel"


def test_names_that_differ_and_a_fault():
    twin = Twin(
        torch=TorchMlp((3, 4, 4, 4)), jax=Renamed((3, 4, 4, 4), 1e-6), inputs={"x": Array((4, 3))}
    )
    assert origin(climb(twin)) == "layers.1"


def test_parallel_squares_stay_unpaired():
    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
            self.last = torch.nn.Linear(4, 3)

        def forward(self, x):
            return self.last(torch.sin(self.q(x)) * self.k(x))

    class Jax(fnn.Module):
        names: tuple[str, str] = ("left", "right")

        @fnn.compact
        def __call__(self, x):
            q, k = (fnn.Dense(4, name=name) for name in self.names)
            return fnn.Dense(3, name="end")(jnp.sin(q(x)) * k(x))

    inputs = {"x": Array((5, 4))}
    result = climb(Twin(torch=Torch, jax=Jax(), inputs=inputs, name="parallel"))
    found = trouble(result)["weights"]
    assert any(line.startswith("q, k: left, right fit equally") for line in found), found
    assert not any("end" in line for line in found)
    renamed = Twin(torch=Torch, jax=Jax(), inputs=inputs, rename={"^q$": "left", "^k$": "right"})
    result = climb(renamed)
    assert result.verdict == SAME, trouble(result)
    assert result.stages["weights"].compared == "6 tensors, 2 by order"


def test_nnx_names_that_differ():
    """A Sequential: NNX puts its layers into a list, and blocks hold them under other names."""

    class Block(torch.nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.net = torch.nn.Sequential(
                torch.nn.Linear(a, b), torch.nn.LayerNorm(b), torch.nn.ReLU(), torch.nn.Dropout(0.0)
            )

        def forward(self, x):
            return self.net(x)

    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList([Block(3, 4), Block(4, 4), Block(4, 4)])

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    class NnxBlock(nnx.Module):
        def __init__(self, a, b, eps, rngs):
            self.lin = nnx.Linear(a, b, rngs=rngs)
            self.norm = nnx.LayerNorm(b, epsilon=eps, rngs=rngs)
            self.drop = nnx.Dropout(0.0, rngs=rngs)

        def __call__(self, x):
            return self.drop(nnx.relu(self.norm(self.lin(x))))

    class Net(nnx.Module):
        def __init__(self, *eps: float):
            sizes, rngs = ((3, 4), (4, 4), (4, 4)), nnx.Rngs(0)
            self.stages = nnx.Sequential(
                *(NnxBlock(*s, e, rngs) for s, e in zip(sizes, eps, strict=True))
            )

        def __call__(self, x):
            return self.stages(x)

    inputs = {"x": Array((5, 3))}
    result = climb(Twin(torch=Torch, jax=Net(1e-5, 1e-5, 1e-5), inputs=inputs, name="blocks"))
    assert result.verdict == SAME, trouble(result)
    assert result.stages["weights"].compared == "12 tensors, 12 by order"
    pairs = result.pairing["train"].pairs
    assert pairs["blocks.1.net.1"] == "stages/layers/1/norm"
    assert pairs["blocks.1.net.2"] == "stages/layers/1/relu"
    # Two nested modules of PyTorch hold what one of NNX's does: nobody says which is which.
    assert result.pairing["train"].jax_only[0] == "stages/layers/0"
    assert {"blocks.0", "blocks.0.net"} <= set(result.pairing["train"].torch_only)
    faulty = Twin(torch=Torch, jax=Net(1e-5, 1e-6, 1e-5), inputs=inputs, name="blocks")
    assert origin(climb(faulty)) == "blocks.1.net.1"


def test_one_missing_name_is_paired_by_order():
    twin = net(square=lambda name: fnn.Dense(4, name="fc_2"))
    result = climb(twin)
    assert result.verdict == SAME, trouble(result)
    assert result.stages["weights"].compared.endswith(", 2 by order")
    assert "fc2" in result.pairing["train"].by_order


def test_conversion_knows_the_names_that_differ():
    twin = Twin(torch=TorchMlp, jax=Renamed(), inputs={"x": Array((4, 3))}, name="mlp")
    found = weight_map(twin)
    assert not found.differences
    assert all("not by name" in link.how for link in found.links)
