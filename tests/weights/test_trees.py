"""The trees in which people keep weights: flat with dots, boxed, stacked for a scan."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from compare import Array, Twin, find
from compare.errors import DiptychError
from compare.ladder.pair import Pair

INPUTS = {"x": Array((2, 4))}


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.b(self.a(x).relu())


def flat(swapped: bool) -> Any:
    """A port with parameters under PyTorch's own dotted names."""
    first, second = "ba" if swapped else "ab"

    def apply(params, x):
        def linear(name, x):
            return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]

        return linear(second, jax.nn.relu(linear(first, x)))

    return apply


@pytest.mark.parametrize(("swapped", "verdict"), [(False, "SAME"), (True, "DIVERGED")])
@pytest.mark.parametrize("own", [False, True])
def test_keys_with_dots_are_paths(swapped: bool, verdict: str, own: bool):
    torch.manual_seed(0)
    model = Two()
    made = {k: jnp.asarray(v.detach().numpy()) for k, v in model.state_dict().items()}
    params = made if own else jax.tree.map(jnp.zeros_like, made)
    assert find(Twin(torch=model, jax=(flat(swapped), params), inputs=INPUTS)).verdict == verdict


def test_two_leaves_of_one_path_are_refused():
    params = {"a.weight": jnp.zeros(3), "a": {"weight": jnp.zeros(3)}}
    twin = Twin(torch=Two, jax=(flat(False), params), inputs=INPUTS)
    with pytest.raises(DiptychError, match="two leaves are params/a/weight"):
        _ = Pair(twin).weights


class Partitioned(fnn.Module):
    bias: float = 0.0

    @fnn.compact
    def __call__(self, x):
        init = fnn.with_partitioning(fnn.initializers.lecun_normal(), ("embed", "mlp"))
        x = fnn.relu(fnn.Dense(4, name="a", kernel_init=init)(x) + self.bias)
        return fnn.Dense(4, name="b", kernel_init=init)(x)


@pytest.mark.parametrize(("bias", "verdict"), [(0.0, "SAME"), (0.1, "DIVERGED")])
def test_boxed_leaves(bias: float, verdict: str):
    assert find(Twin(torch=Two, jax=Partitioned(bias), inputs=INPUTS)).verdict == verdict


@pytest.mark.parametrize("boxed", ["sharding metadata", "variables of NNX"])
def test_boxes_are_given_back_as_they_were(boxed: str):
    torch.manual_seed(0)
    model = Two()
    state = {k: jnp.asarray(v.detach().numpy()) for k, v in model.state_dict().items()}
    if boxed == "sharding metadata":
        wrap: Any = lambda x: fnn.Partitioned(x, names=(None,) * x.ndim)  # noqa: E731
        read: Any = lambda x: x.value  # noqa: E731
    else:
        wrap, read = nnx.Param, lambda x: x.get_value()
    params = {
        name: {"kernel": wrap(state[f"{name}.weight"].T), "bias": wrap(state[f"{name}.bias"])}
        for name in "ab"
    }

    def apply(params, x):
        def linear(name, x):
            return x @ read(params[name]["kernel"]) + read(params[name]["bias"])

        return linear("b", jax.nn.relu(linear("a", x)))

    pair = Pair(Twin(torch=model, jax=(apply, params), inputs=INPUTS))
    assert pair.own is not None
    assert not pair.weights.differences
    assert not pair.given.slips
    assert find(pair.twin).verdict == "SAME"


class List(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x).relu()
        return x


class Body(fnn.Module):
    @fnn.compact
    def __call__(self, x, _):
        return x + fnn.relu(fnn.Dense(4, name="fc")(x)), None


class Scanned(fnn.Module):
    axis: int = 0
    reverse: bool = False

    @fnn.compact
    def __call__(self, x):
        layers = fnn.scan(
            Body,
            variable_axes={"params": self.axis},
            split_rngs={"params": True},
            length=3,
            reverse=self.reverse,
        )
        return layers(name="layers")(x, None)[0]


@pytest.mark.parametrize(
    ("model", "verdict"),
    [(Scanned(), "SAME"), (Scanned(axis=1), "SAME"), (Scanned(reverse=True), "DIVERGED")],
    ids=["in front", "inside", "backwards"],
)
def test_layers_stacked_on_an_axis(model: Scanned, verdict: str):
    twin = Twin(torch=List, jax=model, inputs=INPUTS, rename={r"^layers\.(\d+)": r"layers.\1.fc"})
    pair = Pair(twin)
    state = pair.given.state
    leaf = pair.weights.to_jax(state)["params", "layers", "fc", "kernel"]
    stacked = np.stack([state[f"layers.{i}.weight"].T for i in range(3)], model.axis)
    np.testing.assert_array_equal(leaf, stacked)
    assert find(twin).verdict == verdict


def test_leaves_of_16_bits_are_known_by_their_values():
    """Under names that pair nothing; that they are rounded is said, and what else is wrong."""
    torch.manual_seed(0)
    layers = nn.Linear(4, 4), nn.Linear(4, 4)
    model = nn.Sequential(*layers)

    def params(first: int) -> Any:
        made = [
            {
                "w": jnp.asarray(layer.weight.detach().numpy().T, jnp.bfloat16),
                "b": jnp.asarray(layer.bias.detach().numpy(), jnp.bfloat16),
            }
            for layer in (layers[first], layers[1])
        ]
        return {"layers": made}

    def apply(params, x):
        for layer in params["layers"]:
            x = x @ layer["w"] + layer["b"]
        return x

    right = Pair(Twin(torch=model, jax=(apply, params(0)), inputs=INPUTS))
    assert not right.weights.differences
    assert {str(slip.relation and slip.relation.kind) for slip in right.given.slips} == {"rounded"}
    wrong = Pair(Twin(torch=model, jax=(apply, params(1)), inputs=INPUTS))
    _ = wrong.weights
    assert any("never loaded" in s.line or "1." in s.line for s in wrong.given.slips)
