"""Whatever a porter brings: NNX, Equinox, plain pytrees; each the same, and each with a fault."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flax
import flax.linen as fnn
import jax
import jax.numpy as jnp
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

from compare import Array, Image, Tokens, Twin, check
from compare.errors import DiptychError
from compare.ladder.verdict import DIVERGED, SAME
from tests.toys import TorchMlp, climb, origin, paired, trouble

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


# Modules that a function puts together.


def merged_nnx(**options: Any) -> Twin:
    graph, state = nnx.split(NnxNet(**options))

    def apply(state: Any, x: Any, train: bool) -> tuple:
        model = nnx.merge(graph, state)
        model.train() if train else model.eval()
        return model(x), nnx.state(model)

    return dataclasses.replace(
        nnx_twin((apply, state)),
        jax_call=lambda apply, state, x, train: apply(state, x, train),
    )


def merged_equinox(**options: Any) -> Twin:
    arrays, rest = eqx.partition(EqxSingle(**options), eqx.is_array)

    def apply(arrays: Any, x: Any, token: Any) -> Any:
        return jax.vmap(eqx.combine(arrays, eqx.nn.inference_mode(rest)))(x, token[:, 0])

    return dataclasses.replace(eqx_twin(), jax=(apply, arrays), jax_call=None)


@pytest.mark.parametrize(("merged", "places"), [(merged_nnx, 10), (merged_equinox, 12)])
def test_modules_that_a_function_puts_together(merged: Callable, places: int):
    result = climb(merged())
    assert result.verdict == SAME, trouble(result)
    assert paired(result) == (places, 0, 0)
    assert origin(climb(merged(eps=1e-6))) == "ln"
    assert nnx.merge.__module__.startswith("flax.")
    assert eqx.combine.__module__.startswith("equinox.")


# Plain functions with their parameters in any pytree.


class Dense(NamedTuple):
    kernel: Any
    bias: Any


def dense(a: int, b: int) -> tuple[jax.Array, jax.Array]:
    return jnp.zeros((a, b)), jnp.zeros(b)


def mlp(layers, x, slope=1.0):
    for w, b in layers[:-1]:
        x = jnp.tanh(slope * (x @ w + b))
    return x @ layers[-1][0] + layers[-1][1]


SIZES = ((3, 5), (5, 4), (4, 2))
TREES = {
    "a dict of lists": (
        lambda p, x: mlp([(q["kernel"], q["bias"]) for q in p["layers"]], x),
        {"layers": [dict(zip(("kernel", "bias"), dense(*s), strict=True)) for s in SIZES]},
        0,
    ),
    "a NamedTuple": (
        lambda p, x: mlp(p["layers"], x),
        {"layers": tuple(Dense(*dense(*s)) for s in SIZES)},
        0,
    ),
    "a list of tuples": (lambda p, x: mlp(p, x), [dense(*s) for s in SIZES], 6),
    "PyTorch's own layout": (
        lambda p, x: mlp([(q["W"].T, q["b"]) for q in p], x),
        [{"W": jnp.zeros(s[::-1]), "b": jnp.zeros(s[1])} for s in SIZES],
        6,
    ),
    "one flat dict": (
        lambda p, x: mlp([(p[f"w{i}"], p[f"b{i}"]) for i in "123"], x),
        {
            f"{n}{i + 1}": a
            for i, s in enumerate(SIZES)
            for n, a in zip("wb", dense(*s), strict=True)
        },
        6,
    ),
}


def tree_twin(apply: Callable, variables: Any, torch_model: Any = TorchMlp) -> Twin:
    inputs = {"x": Array((4, 3))}
    return Twin(torch=torch_model, jax=(apply, variables), inputs=inputs, name="tree")


@pytest.mark.parametrize("name", TREES)
def test_trees(name: str):
    apply, variables, by_order = TREES[name]
    result = climb(tree_twin(apply, variables))
    assert result.verdict == SAME, trouble(result)
    assert result.leaves == result.moved == 6
    compared = result.stages["weights"].compared
    assert compared == "6 tensors" + (f", {by_order} by order" if by_order else "")


def test_a_fault_in_a_plain_function():
    faulty = functools.partial(mlp, slope=1 + 1e-7)
    result = climb(tree_twin(faulty, [dense(*s) for s in SIZES]))
    assert result.stages["forward"].verdict == DIVERGED


def test_a_square_whose_layout_no_name_tells_stays_unpaired():
    widths = (3, 4, 4, 2)
    sizes = list(itertools.pairwise(widths))
    result = climb(tree_twin(mlp, [dense(*s) for s in sizes], TorchMlp(widths)))
    found = trouble(result)["weights"]
    assert any("as it is or transposed" in line and "layers.1.weight" in line for line in found)
    assert sum("has no counterpart" in line for line in found) >= 2


# What PyTorch's side may be.


class LinenNormed(fnn.Module):
    eps: float = 1e-12

    @fnn.compact
    def __call__(self, x):
        return fnn.WeightNorm(fnn.Dense(4, name="fc"), epsilon=self.eps)(x)


class EqxNormed(eqx.Module):
    fc: eqx.nn.WeightNorm

    def __init__(self):
        self.fc = eqx.nn.WeightNorm(eqx.nn.Linear(3, 4, key=jax.random.key(0)))

    def __call__(self, x):
        return self.fc(x)


class TorchNormed(torch.nn.Module):
    def __init__(self, norm: Callable = torch.nn.utils.parametrizations.weight_norm):
        super().__init__()
        self.fc = norm(torch.nn.Linear(3, 4))

    def forward(self, x):
        return self.fc(x)


@pytest.mark.parametrize(
    "norm",
    [torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.weight_norm],
    ids=["parametrisation", "hook"],
)
@pytest.mark.parametrize("model", [LinenNormed, EqxNormed])
def test_weight_norm(model: type, norm: Callable):
    call: Any = {"jax_call": lambda module, x, train: jax.vmap(module)(x)}
    twin = Twin(
        torch=TorchNormed(norm),
        jax=model(),
        inputs={"x": Array((5, 3))},
        name="weight norm",
        **(call if model is EqxNormed else {}),
    )
    result = climb(twin)
    assert result.verdict == SAME, trouble(result)
    assert result.leaves == result.moved == 3
    if model is LinenNormed:
        faulty = dataclasses.replace(twin, jax=LinenNormed(1e-6))
        assert climb(faulty).stages["forward"].verdict == DIVERGED


class LinenSpectral(fnn.Module):
    """A power iteration in training: PyTorch's parametrisation starts with u, its hook with v."""

    order: str = "uv"

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        kernel = self.param("kernel", fnn.initializers.lecun_normal(), (3, 4))
        bias = self.param("bias", fnn.initializers.zeros, (4,))
        u = self.variable("spectral", "u", jnp.ones, (4,))
        v = self.variable("spectral", "v", jnp.ones, (3,))
        if train and not self.is_initializing():
            frozen = jax.lax.stop_gradient(kernel)
            for vector in self.order:
                if vector == "u":
                    u.value = unit(frozen.T @ v.value)
                else:
                    v.value = unit(frozen @ u.value)
        return x @ (kernel / (u.value @ kernel.T @ v.value)) + bias


def unit(x):
    return x / jnp.linalg.norm(x)


class JaxSpectral(fnn.Module):
    order: str = "uv"

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        return LinenSpectral(self.order, name="fc")(x, train=train)


@pytest.mark.parametrize(
    ("norm", "order"),
    [
        (torch.nn.utils.parametrizations.spectral_norm, "uv"),
        (torch.nn.utils.spectral_norm, "vu"),
    ],
    ids=["parametrisation", "hook"],
)
def test_spectral_norm(norm: Callable, order: str):
    model, inputs = JaxSpectral(order), {"x": Array((5, 3))}
    twin = Twin(torch=TorchNormed(norm), jax=model, inputs=inputs, name="spectral")
    result = climb(twin)
    assert result.verdict == SAME, trouble(result)
    assert result.buffers == 2
    result = climb(dataclasses.replace(twin, jax=JaxSpectral(order[::-1])))
    assert result.stages["forward"].verdict == DIVERGED


@dataclasses.dataclass
class TorchOutput:
    logits: torch.Tensor
    hidden: tuple
    loss: torch.Tensor | None = None


@flax.struct.dataclass
class JaxOutput:
    logits: Any
    hidden: Any
    loss: Any = None


class TorchRich(torch.nn.Module):
    """Tied weights, keywords, None, a dataclass and a dict, a buffer that is not persistent."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(5, 4)
        self.mix = TorchMix()
        self.head = torch.nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("mask", torch.tensor([1.0, 0.5, 2.0, 1.0]), persistent=False)

    def forward(self, tokens, x, extra=None):
        assert extra is None
        h = self.mix(a=self.embed(tokens), b=x[:, None])
        return TorchOutput(self.head(h["sum"] * self.mask), (h["sum"], {"b": h["b"]}))


class TorchMix(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)

    def forward(self, *, a, b, c=None):
        b = self.fc(b)
        return {"sum": a + b, "b": b, "none": c}


class JaxMix(fnn.Module):
    @fnn.compact
    def __call__(self, *, a, b, c=None):
        b = fnn.Dense(4, name="fc")(b)
        return {"sum": a + b, "b": b, "none": c}


class JaxRich(fnn.Module):
    weight: float = 1.0

    @fnn.compact
    def __call__(self, tokens, x, extra=None):
        embed = fnn.Embed(5, 4, name="embed")
        h = JaxMix(name="mix")(a=embed(tokens), b=self.weight * x[:, None])
        mask = jnp.array([1.0, 0.5, 2.0, 1.0])
        return JaxOutput(embed.attend(h["sum"] * mask), (h["sum"], {"b": h["b"]}))


def test_many_inputs_and_outputs():
    twin = Twin(
        torch=TorchRich,
        jax=JaxRich(),
        inputs={"tokens": Tokens(2, 3, 5), "x": Array((2, 4))},
        name="rich",
    )
    result = climb(twin)
    assert result.verdict == SAME, trouble(result)
    assert result.leaves == result.moved == 3
    assert result.skipped == ["mask: a buffer that is not persistent, a constant in JAX"]
    outputs = {j.name for j in result.stages["forward"].judged if j.name.startswith("eval/out")}
    assert outputs == {"eval/out.logits", "eval/out.hidden.0", "eval/out.hidden.1.b"}
    assert {"embed", "mix.sum", "mix.b", "mix.fc"} <= set(result.pairing["train"].pairs)
    assert origin(climb(dataclasses.replace(twin, jax=JaxRich(1.0001)))) == "mix.fc"


def test_a_buffer_that_is_not_persistent_meets_a_variable():
    class Net(nnx.Module):
        def __init__(self):
            self.fc = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
            self.mask = nnx.Variable(jnp.ones(4))

        def __call__(self, x):
            return self.fc(x) * self.mask[...]

    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 4)
            self.register_buffer("mask", torch.tensor([1.0, 0.5, 2.0, 1.0]), persistent=False)

        def forward(self, x):
            return self.fc(x) * self.mask

    result = climb(Twin(torch=Torch, jax=Net(), inputs={"x": Array((5, 3))}, name="mask"))
    assert result.verdict == SAME, trouble(result)
    assert result.buffers == 1


class EqxMasked(eqx.Module):
    fc: eqx.nn.Linear
    mask: jax.Array
    times: int

    def __init__(self, times: int = 1):
        self.fc, self.times = eqx.nn.Linear(3, 4, key=jax.random.key(0)), times
        self.mask = jnp.ones(4)

    def __call__(self, x):
        return self.times * jax.vmap(self.fc)(x) * jax.lax.stop_gradient(self.mask)


class TorchMasked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 4)
        self.register_buffer("mask", torch.tensor([1.0, 0.5, 2.0, 1.0]))

    def forward(self, x):
        return self.fc(x) * self.mask


def masked(p, x):
    return (x @ p["fc"]["kernel"] + p["fc"]["bias"]) * p["mask"]


@pytest.mark.parametrize(
    "model",
    [
        EqxMasked(),
        (masked, {"fc": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}, "mask": jnp.ones(4)}),
    ],
    ids=["equinox", "tree"],
)
def test_a_buffer_in_a_tree_of_parameters_is_not_trained(model: Any):
    twin = Twin(torch=TorchMasked, jax=model, inputs={"x": Array((5, 3))}, name="masked")
    result = climb(twin)
    assert result.verdict == SAME, trouble(result)
    assert (result.leaves, result.buffers) == (2, 1)


@pytest.mark.slow
def test_the_whole_ladder_on_every_way_to_run():
    backends = ["xla:cpu", "xla:cpu+eager"]
    report = check(nnx_twin(), eqx_twin(), backends=backends, steps=2)
    assert report.verdict == SAME, report.first_line()
    assert len(report.twins) == 4
    assert all(len(twin["layers"]) >= 10 for twin in report.twins)
