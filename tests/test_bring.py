"""Whatever a porter brings: NNX, Equinox, plain pytrees; each the same, and each with a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
import torch
import torch.nn.functional as F
from flax import nnx
from toys import climb, trouble

from compare import Array, Image, Tokens, Twin
from compare.errors import DiptychError
from compare.judge import Result
from compare.report import twin_dict
from compare.verdict import DIVERGED, SAME


def paired(result: Result, mode: str = "train") -> tuple[int, int, int]:
    """How many layers were paired, by order, and how many were left over."""
    found = result.pairing[mode]
    return len(found.pairs), len(found.by_order), len(found.torch_only) + len(found.jax_only)


def origin(result: Result) -> str:
    assert result.stages["weights"].verdict == SAME, trouble(result)
    assert result.stages["forward"].verdict == DIVERGED, trouble(result) or "nothing was found"
    return twin_dict(result)["origin"]["torch"]


# NNX.


class TorchNet(torch.nn.Module):
    """Convolution, batch norm, a list, a dict, a Sequential, dropout, one layer called twice."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.bn = torch.nn.BatchNorm2d(3)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 4), torch.nn.Linear(4, 4)])
        self.heads = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 2), "b": torch.nn.Linear(4, 2)})
        self.ln = torch.nn.LayerNorm(4)
        self.drop = torch.nn.Dropout(0.0)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x))).mean((2, 3))
        x = self.drop(self.layers[0](x))
        x = self.ln(self.layers[1](torch.tanh(self.layers[1](x))))
        return {name: head(x) for name, head in self.heads.items()}


class NnxNorm(nnx.BatchNorm):
    """With PyTorch's unbiased running variance."""

    def __call__(self, x, **kwargs):
        before = self.var[...]
        y = super().__call__(x, **kwargs)
        n = x.size // x.shape[-1]
        old = self.momentum * before
        self.var[...] = old + (self.var[...] - old) * n / (n - 1)
        return y


class NnxNet(nnx.Module):
    """The same, with a place for each fault."""

    def __init__(
        self,
        eps: float = 1e-5,
        padding: Any = 1,
        wrap: Callable = lambda f: f,
        norm: type = NnxNorm,
    ):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(2, 3, (3, 3), strides=2, padding=padding, rngs=rngs)
        self.bn = norm(3, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)])
        self.heads = nnx.Dict({n: nnx.Linear(4, 2, rngs=rngs) for n in "ab"})
        self.ln = nnx.LayerNorm(4, epsilon=eps, rngs=rngs)
        self.drop = nnx.Dropout(0.0, rngs=rngs)
        self.wrap = wrap

    def __call__(self, x):
        def deep(layer, x):
            return layer(jnp.tanh(layer(x)))

        x = nnx.relu(self.bn(self.conv(x))).mean((1, 2))
        x = self.drop(self.layers[0](x))
        x = self.ln(self.wrap(deep)(self.layers[1], x))
        return {name: head(x) for name, head in self.heads.items()}


def nnx_twin(model: Any = None, **options: Any) -> Twin:
    model = model or NnxNet(**options)
    return Twin(torch=TorchNet, jax=model, inputs={"x": Image(4, 2, 4, 4)}, name="nnx")


@pytest.mark.parametrize("wrap", [lambda f: f, nnx.jit, nnx.remat], ids=["", "jit", "remat"])
def test_nnx(wrap: Callable):
    result = climb(nnx_twin(wrap=wrap), numerics=wrap is nnx.jit)
    assert result.verdict == SAME, trouble(result)
    assert paired(result) == (10, 0, 0)
    assert (result.leaves, result.buffers) == (result.moved, 2) == (14, 2)


def test_nnx_leaves_the_users_model_alone():
    model = NnxNet()
    before = jax.tree.leaves(nnx.state(model))
    result = climb(nnx_twin(model))
    assert result.verdict == SAME, trouble(result)
    assert all(a is b for a, b in zip(before, jax.tree.leaves(nnx.state(model)), strict=True))
    assert {type(m).__module__ for _, m in nnx.iter_modules(model)} >= {"flax.nnx.nn.linear"}
    assert type(model.conv) is nnx.Conv
    assert not model.bn.use_running_average


NNX_FAULTS = {
    "the padding of a strided convolution": ({"padding": "SAME"}, "conv"),
    "the epsilon of the layer norm": ({"eps": 1e-6}, "ln"),
}


@pytest.mark.parametrize("name", NNX_FAULTS)
def test_nnx_faults(name: str):
    options, layer = NNX_FAULTS[name]
    assert origin(climb(nnx_twin(**options))) == layer


def test_nnx_own_batch_norm_keeps_a_biased_variance():
    result = climb(nnx_twin(norm=nnx.BatchNorm))
    wrong = [j.name for j in result.stages["forward"].judged if j.verdict == DIVERGED]
    assert wrong == ["train/buffer/bn.running_var"]


# Equinox: one example a call, the batch by jax.vmap; PyTorch's layout throughout.


class TorchSingle(torch.nn.Module):
    """Convolution, pooling, a list with a layer that is called twice, norms, an embedding."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.gn = torch.nn.GroupNorm(2, 4)
        self.up = torch.nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 4), torch.nn.Linear(4, 4)])
        self.embed = torch.nn.Embedding(5, 4)
        self.mlp = torch.nn.ModuleDict({"fc": torch.nn.Linear(4, 4)})
        self.ln = torch.nn.LayerNorm(4)
        self.drop = torch.nn.Dropout(0.0)

    def forward(self, x, token):
        x = self.up(F.relu(self.gn(self.conv(x)))).mean((2, 3))
        x = self.drop(self.layers[0](x)) + self.embed(token)
        x = F.gelu(self.mlp["fc"](x))
        return self.ln(self.layers[1](torch.tanh(self.layers[1](x))))


class EqxSingle(eqx.Module):
    conv: eqx.nn.Conv2d
    gn: eqx.nn.GroupNorm
    up: eqx.nn.ConvTranspose2d
    layers: list
    embed: eqx.nn.Embedding
    mlp: dict
    ln: eqx.nn.LayerNorm
    drop: eqx.nn.Dropout
    wrap: Callable = eqx.field(static=True)
    exact: bool = eqx.field(static=True)

    def __init__(self, eps: float = 1e-5, exact: bool = True, wrap: Callable = lambda f: f):
        keys = iter(jax.random.split(jax.random.key(0), 8))
        self.conv = eqx.nn.Conv2d(2, 4, 3, stride=2, padding=1, key=next(keys))
        self.gn = eqx.nn.GroupNorm(2, 4)
        self.up = eqx.nn.ConvTranspose2d(4, 3, 2, stride=2, key=next(keys))
        self.layers = [
            eqx.nn.Linear(3, 4, key=next(keys)),
            eqx.nn.Linear(4, 4, key=next(keys)),
        ]
        self.embed = eqx.nn.Embedding(5, 4, key=next(keys))
        self.mlp = {"fc": eqx.nn.Linear(4, 4, key=next(keys))}
        self.ln = eqx.nn.LayerNorm(4, eps=eps)
        self.drop = eqx.nn.Dropout(0.5)
        self.wrap, self.exact = wrap, exact

    def __call__(self, x, token):
        def deep(layer, x):
            return layer(jnp.tanh(layer(x)))

        x = self.up(jax.nn.relu(self.gn(self.conv(x)))).mean((1, 2))
        x = self.drop(self.layers[0](x)) + self.embed(token)
        x = jax.nn.gelu(self.mlp["fc"](x), approximate=not self.exact)
        return self.ln(self.wrap(deep)(self.layers[1], x))


def eqx_twin(**options: Any) -> Twin:
    return Twin(
        torch=TorchSingle,
        jax=EqxSingle(**options),
        inputs={"x": Image(3, 2, 4, 4), "token": Tokens(3, 1, 5)},
        torch_call=lambda module, x, token: module(x, token[:, 0]),
        jax_call=lambda module, x, token, train: jax.vmap(module)(x, token[:, 0]),
        layout="same",
        name="equinox",
    )


@pytest.mark.parametrize(
    "wrap", [lambda f: f, eqx.filter_jit, eqx.filter_checkpoint], ids=["", "jit", "remat"]
)
def test_equinox(wrap: Callable):
    result = climb(eqx_twin(wrap=wrap), numerics=wrap is eqx.filter_jit)
    assert result.verdict == SAME, trouble(result)
    assert paired(result) == (12, 0, 0)
    assert result.leaves == result.moved == 15


EQX_FAULTS = {
    "the tanh form of gelu": ({"exact": False}, "gelu"),
    "the epsilon of the layer norm": ({"eps": 1e-6}, "ln"),
}


@pytest.mark.parametrize("name", EQX_FAULTS)
def test_equinox_faults(name: str):
    options, layer = EQX_FAULTS[name]
    assert origin(climb(eqx_twin(**options))) == layer


def test_equinox_state_is_refused():
    norm = eqx.nn.BatchNorm(3, axis_name="b", mode="batch")
    inputs = {"x": Array((4, 3))}
    twin = Twin(torch=torch.nn.BatchNorm1d(3), jax=norm, inputs=inputs, name="state")
    with pytest.raises(DiptychError, match=r"keeps eqx\.nn\.State, which cannot be carried"):
        climb(twin)
