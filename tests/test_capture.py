"""Capture: every layer's value and gradient is right, whatever wraps, overwrites or casts it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toys
from torch import nn
from toys import CASES, Case, Values, climb, collect, trouble

from compare import Array, Image, Twin
from compare.api import check
from compare.capture.branches import imposed
from compare.capture.jaxpr import Walk
from compare.capture.taps import BRANCHES, FUNCTIONS, Tap
from compare.capture.torch_recorder import NAMES, Recorder
from compare.discover import find
from compare.ladder.ladder import Ladder
from compare.ladder.pair import Pair
from compare.ladder.pairing import match


@functools.cache
def captured(name: str, backend: str) -> tuple[Pair, Values]:
    case = next(c for c in CASES if c.name == name)
    pair = Pair(case.twin)
    return pair, collect(pair.run(backend))


def gradient(tensor: torch.Tensor) -> np.ndarray:
    assert tensor.grad is not None
    return tensor.grad.numpy()


@functools.cache
def expected(name: str) -> tuple[Values, Values]:
    """Values and gradients from intermediate values that are kept, out of place."""
    case = next(c for c in CASES if c.name == name)
    pair, _ = captured(name, "torch:cpu")
    weights = {k: torch.tensor(v, dtype=torch.float64) for k, v in pair.given.state.items()}
    x = torch.tensor(pair.given.batch["x"], dtype=torch.float64)
    found = case.explicit({k: w.requires_grad_() for k, w in weights.items()}, x.requires_grad_())
    # Each key holds a tensor of its own, so that its gradient is that of this place alone.
    for tensor in found.values():
        tensor.retain_grad()
    outs = [v for k, v in found.items() if k.startswith("out")]
    drawn = pair.given.cotangents[""]
    losses = [(o * torch.tensor(c)).sum() for o, c in zip(outs, drawn, strict=True)]
    torch.stack(losses).sum().backward()
    layers = {k: v for k, v in found.items() if not k.startswith("out")}
    return (
        {k: v.detach().numpy() for k, v in found.items()},
        {k: gradient(v) for k, v in layers.items()},
    )


def last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13)


each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
each_kind = pytest.mark.parametrize("kind", ["layer", "gradient/layer"])


@each_kind
@each_case
def test_torch_layers(case: Case, kind: str):
    _, tensors = captured(case.name, "torch:cpu")
    values, gradients = expected(case.name)
    wanted = values if kind == "layer" else gradients
    for key in gradients:
        close(tensors[f"train/{kind}/{key}"], wanted[key])


@each_kind
@each_case
def test_jax_layers(case: Case, kind: str):
    _, tensors = captured(case.name, "xla:cpu")
    values, gradients = expected(case.name)
    wanted = values if kind == "layer" else gradients
    stacked = {key for keys in case.stacked.values() for key in keys}
    for key in (k for k in gradients if k not in stacked):
        name = case.jax_keys.get(key, key.replace(".", "/"))
        close(tensors[f"train/{kind}/{name}"], last(wanted[key]))
    for name, keys in case.stacked.items():
        close(tensors[f"train/{kind}/{name}"], np.stack([wanted[k] for k in keys]))


@pytest.mark.parametrize("backend", ["torch:cpu", "xla:cpu"])
@each_case
def test_outputs_and_gradients_of_weights(case: Case, backend: str):
    pair, tensors = captured(case.name, backend)
    values, _ = expected(case.name)
    for key in (k for k in values if k.startswith("out")):
        wanted = last(values[key]) if backend == "xla:cpu" else values[key]
        close(tensors[f"train/{key}"], wanted)
        close(tensors[f"eval/{key}"], wanted)
    _, reference = captured(case.name, "torch:cpu")
    for name in pair.given.state:
        key = f"train/gradient/param/{name}"
        close(tensors[key], reference[key])


@each_case
def test_clean_pairs_are_the_same(case: Case):
    result = climb(case.twin, steps=2)
    assert result.verdict == "SAME", trouble(result)


@pytest.mark.parametrize("name", ["twice", "remat around jit", "in place"])
def test_inputs_of_layers(name: str):
    case = next(c for c in CASES if c.name == name)
    pair = Pair(case.twin)
    ours, theirs = (collect(pair.run(b, inputs=True)) for b in ("torch:cpu", "xla:cpu"))
    values, x = expected(name)[0], pair.given.batch["x"]
    if name == "twice":
        wanted = {"a": x, "b": np.tanh(values["a"]), "b#1": np.tanh(values["b"])}
    elif name == "in place":
        wanted = {"net": x, "net.0": x, "net.2": values["net.1"]}
    else:
        wanted = {"inner": x, "inner.a": x}
    for key, value in wanted.items():
        module, _, count = key.partition("#")
        name = f"train/layer/{module}:in" + (f"#{count}" if count else "")
        close(ours[name], value)
        close(theirs[name.replace(".", "/")], last(value))


class TorchPair(nn.Module):
    """Gives b(a(x)), and a(x) that it was made from."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x):
        first = self.a(x)
        return self.b(first), first


class TorchReader(nn.Module):
    """Overwrites one of the two."""

    def __init__(self):
        super().__init__()
        self.pair, self.out = TorchPair(), nn.Linear(4, 2)

    def forward(self, x):
        second, first = self.pair(x)
        return self.out(F.relu(second, inplace=True) + first)


class JaxPair(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        first = fnn.Dense(4, name="a")(x)
        return fnn.Dense(4, name="b")(first), first


class JaxReader(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        second, first = JaxPair(name="pair")(x)
        return fnn.Dense(2, name="out")(fnn.relu(second) + first)


class TorchSlope(nn.Module):
    """A layer and functions inside of torch.func's transformations, and again outside of them."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.act = nn.ReLU()

    def forward(self, x):
        def encode(x):
            return self.act(torch.sigmoid(self.fc(x)) - 0.5)

        return torch.func.vmap(torch.func.jacrev(encode))(x) * encode(x)[..., None]


class JaxSlope(fnn.Module):
    bias: bool = True

    @fnn.compact
    def __call__(self, x, *, train=False):
        fc = fnn.Dense(3, name="fc")
        outside = fc(x)
        params = fc.variables["params"]

        def encode(x):
            return fnn.relu(fnn.sigmoid(x @ params["kernel"] + self.bias * params["bias"]) - 0.5)

        return jax.vmap(jax.jacrev(encode))(x) * fnn.relu(fnn.sigmoid(outside) - 0.5)[..., None]


def test_what_torch_func_transforms_is_run_and_not_recorded():
    twin = Twin(torch=TorchSlope, jax=JaxSlope, inputs={"x": Array((5, 4))})
    assert climb(twin, steps=1).verdict == "SAME"
    wrong = replace(twin, jax=JaxSlope(bias=False))
    assert climb(wrong, steps=1).verdict == "DIVERGED"


def test_one_output_that_is_made_from_another():
    """Its gradient is that of the place behind the layer: the layer's own use does not count."""
    twin = Twin(torch=TorchReader, jax=JaxReader, inputs={"x": Array((5, 3))}, name="pair")
    result = climb(twin, steps=2)
    assert result.verdict == "SAME", trouble(result)
    pair = Pair(twin)
    ours, theirs = (collect(pair.run(b)) for b in ("torch:cpu", "xla:cpu"))
    for key in ("train/gradient/layer/pair.0", "train/gradient/layer/pair.1"):
        close(ours[key], theirs[key])


class TorchIgnorer(nn.Module):
    """Ignores one of the two, and, of a loop's, the last."""

    def __init__(self):
        super().__init__()
        self.pair, self.out = TorchPair(), nn.Linear(4, 3)

    def forward(self, x):
        for _ in range(3):
            second, first = self.pair(x)
            x = x + self.out(first)
        return second


class JaxIgnorer(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        def step(self, x, _):
            second, first = JaxPair(name="pair")(x)
            return x + fnn.Dense(3, name="out")(first), second

        scan = fnn.scan(step, variable_broadcast="params", split_rngs={"params": False}, length=3)
        return scan(self, x, None)[1][-1]


def test_an_output_that_nobody_uses_has_no_gradient():
    """Though the layer itself uses it; in a scan that is a zero in the stack."""
    twin = Twin(torch=TorchIgnorer, jax=JaxIgnorer, inputs={"x": Array((5, 3))}, name="ignored")
    result = climb(twin, steps=2)
    assert result.verdict == "SAME", trouble(result)


TORCH_NAMES = {other: name for name, other in NAMES.items()} | {"max_pool": "max_pool2d"}
OPTIONS = {"softmax": (-1,), "log_softmax": (-1,), "max_pool": (2,)}


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["", "jit", "remat"])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_named_functions_of_jax_are_recorded_once(name: str, wrap: Callable):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 4, 3)), jnp.float32)
    pools = {"max_pool": fnn.max_pool}

    def model(x):
        if name in pools:
            return pools[name](x, (2, 2), (2, 2))
        return getattr(jax.nn, name)(x)

    call = wrap(model)
    closed = jax.make_jaxpr(call)(x)
    walk = Walk(root=False)
    (out,) = walk.run(closed, [x])
    assert list(walk.info) == [name]
    assert walk.info[name].source.startswith("tests/")
    close(walk.taps[name], np.asarray(call(x)))
    close(out, np.asarray(call(x)))
    assert list(walk.branches) == ([name] if name in BRANCHES else [])


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_named_functions_of_torch_are_recorded_once(name: str):
    x = torch.randn(2, 3, 4, 4)
    with Recorder(None) as recorder:
        out = getattr(F, TORCH_NAMES.get(name, name))(x, *OPTIONS.get(name, ()))
    assert list(recorder.info) == [name]
    close(recorder.taps[name].numpy(), out.numpy())
    assert list(recorder.branches) == ([name] if name in BRANCHES else [])


def line(of: Any, text: str) -> str:
    """The file and line where `text` stands in the source of `of`."""
    lines, first = inspect.getsourcelines(of)
    offset = next(i for i, code in enumerate(lines) if text in code)
    return f"{Path(toys.__file__).name}:{first + offset}"


@pytest.mark.parametrize(
    ("name", "side", "key", "of", "text"),
    [
        ("twice", "torch:cpu", "b#1", toys.TorchTwice, "return self.b"),
        ("twice", "xla:cpu", "b#1", toys.JaxTwice, "return b("),
        ("remat around jit", "xla:cpu", "inner/a", toys.JaxTwice, "return b("),
        ("functions", "torch:cpu", "block.relu", toys.TorchFunctions, "return F.relu(self.conv"),
        ("functions", "torch:cpu", "max_pool", toys.TorchFunctions, "F.max_pool2d"),
        ("functions", "xla:cpu", "block/relu", toys.JaxFunctions, "fnn.Conv"),
        ("functions", "xla:cpu", "max_pool", toys.JaxFunctions, "fnn.max_pool"),
        ("scan", "xla:cpu", "cell/i", toys.JaxCell, 'name="i"'),
        ("lax.scan", "xla:cpu", "relu", toys.lax_loop, "jax.nn.relu"),
    ],
)
def test_source_lines(name: str, side: str, key: str, of: Any, text: str):
    case = next(c for c in CASES if c.name == name)
    run = Pair(case.twin).run(side)
    collect(run)
    assert run.info["train"][key].source.endswith(line(of, text))


# Hidden float32.


def wide(torch_cast: Callable, jax_cast: Callable, act: Any = (torch.tanh, jnp.tanh), **dense: Any):
    """A pair that casts between two layers."""

    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.b(act[0](torch_cast(self.a(x))).to(self.b.weight.dtype))

    class Jax(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            x = act[1](jax_cast(fnn.Dense(4, name="a", **dense)(x)))
            return fnn.Dense(4, name="b", **dense)(x)

    return Torch, Jax


def keep(x):
    return x


def down(x):
    return x.astype(jnp.float32)


def up_and_down(f: Callable) -> Callable:
    """What an attention or a norm does: computes in float32 whatever it is given."""
    return lambda x: f(x.astype(jnp.float32)).astype(x.dtype)


@jax.custom_vjp
def own_rule(x):
    return jnp.tanh(x.astype(jnp.float32)).astype(x.dtype)


own_rule.defvjp(
    lambda x: (own_rule(x), x),
    lambda x, g: (((1 - jnp.tanh(x.astype(jnp.float32)) ** 2) * g).astype(x.dtype),),
)

FLOAT32 = {
    "torch .float()": wide(lambda x: x.float(), keep),
    "torch .to(dtype)": wide(lambda x: x.to(torch.float32), keep),
    "torch .to(dtype=)": wide(lambda x: x.to(dtype=torch.float32), keep),
    "torch .type()": wide(lambda x: x.type(torch.float32), keep),
    "torch softmax(dtype=)": wide(
        lambda x: torch.softmax(x, -1, dtype=torch.float32), lambda x: jax.nn.softmax(x, -1)
    ),
    "jax astype": wide(keep, down),
    "jax astype and back": wide(keep, keep, (torch.tanh, up_and_down(jnp.tanh))),
    "both": wide(lambda x: x.float(), down),
    "Dense(dtype=float32)": wide(keep, keep, dtype=jnp.float32),
    "Dense(dtype=float32), a scalar": wide(
        keep, keep, (lambda x: 0.1 * x, lambda x: 0.1 * x), dtype=jnp.float32
    ),
    "Dense(dtype=float32), gelu": wide(
        keep,
        keep,
        (F.gelu, exact_gelu := lambda x: jax.nn.gelu(x, approximate=False)),
        dtype=jnp.float32,
    ),
    "leaky_relu of float32": wide(keep, down, (F.leaky_relu, jax.nn.leaky_relu)),
    "zeros of float32": wide(keep, lambda x: x + jnp.zeros(4, jnp.float32)),
    "mean in float32": wide(
        lambda x: x - x.mean(-1, keepdim=True),
        lambda x: x - jnp.mean(x, -1, keepdims=True, dtype=jnp.float32),
    ),
    "matmul into float32": wide(
        lambda x: x @ x.T @ x,
        lambda x: jnp.matmul(x @ x.T, x, preferred_element_type=jnp.float32),
    ),
    "cond of float32": wide(
        keep, down, (torch.tanh, lambda x: jax.lax.cond(x.sum() > 1e9, jnp.sin, jnp.tanh, x))
    ),
    "while of float32": wide(
        keep,
        down,
        (
            lambda x: torch.tanh(torch.tanh(x)),
            lambda x: jax.lax.fori_loop(0, 2, lambda _, x: jnp.tanh(x), x),
        ),
    ),
    "custom_vjp that casts": wide(keep, keep, (torch.tanh, own_rule)),
}


@pytest.mark.parametrize("name", FLOAT32)
def test_float32_is_lifted_and_listed(name: str):
    ours, theirs = FLOAT32[name]
    result = climb(Twin(torch=ours, jax=theirs, inputs={"x": Array((2, 3))}, name=name), steps=2)
    assert result.verdict == "SAME", trouble(result)
    wanted = {"both": {"torch", "jax"}}.get(name, {"torch" if name.startswith("torch") else "jax"})
    assert {text.partition(" ")[0] for text in result.lifted} == wanted
    assert all(f"{Path(__file__).name}:" in text and "float32" in text for text in result.lifted)


def test_the_carry_of_flax_recurrences_is_lifted():
    class Jax(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            return fnn.RNN(fnn.LSTMCell(4, name="cell"))(x)

    twin = Twin(torch=TorchLSTM, jax=Jax, inputs={"x": Array((2, 3, 3))}, name="lstm")
    result = climb(twin, steps=2)
    assert result.verdict == "SAME", trouble(result)


class TorchLSTM(nn.Module):
    """An LSTM by hand with one bias, as Flax has it."""

    def __init__(self):
        super().__init__()
        ours = {f"i{gate}": nn.Linear(3, 4, bias=False) for gate in "ifgo"}
        self.cell = nn.ModuleDict(ours | {f"h{gate}": nn.Linear(4, 4) for gate in "ifgo"})

    def forward(self, x):
        cell, out = self.cell, []
        h = c = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            i, f, g, o = (cell[f"i{n}"](x[:, t]) + cell[f"h{n}"](h) for n in "ifgo")
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            out.append(h)
        return torch.stack(out, 1)


# Imposed branches.

KINKED: dict[str, tuple[Any, tuple, dict[str, Any]]] = {
    "relu": (F.relu, (), {}),
    "relu in place": (F.relu, (), {"inplace": True}),
    "relu6": (F.relu6, (), {}),
    "leaky_relu": (F.leaky_relu, (0.2,), {}),
    "leaky_relu by keyword": (F.leaky_relu, (), {"negative_slope": 0.3}),
    "leaky_relu by default": (F.leaky_relu, (), {}),
    "hard_tanh": (F.hardtanh, (), {}),
    "hard_tanh with limits": (F.hardtanh, (-0.5, 0.25), {}),
    "hard_tanh by keyword": (F.hardtanh, (), {"min_val": -2.0, "max_val": 0.5}),
    "max_pool": (F.max_pool2d, (2,), {}),
    "max_pool overlapping": (F.max_pool2d, (3,), {"stride": 2, "padding": 1}),
    "max_pool dilated": (F.max_pool2d, (2, 1, 0, 2), {}),
    "max_pool ceil": (F.max_pool2d, (2,), {"ceil_mode": True}),
    "max_pool unbatched": (F.max_pool2d, (2,), {}),
    "max_pool of sequences": (F.max_pool1d, (2,), {}),
}


def by_hand(name: str, func: Callable, x: torch.Tensor, theirs: torch.Tensor, args, kwargs):
    """func(x) on theirs' branches: the affine map, or the place, that is active at `theirs`."""
    if name.startswith("max_pool"):
        # A one-hot of x's place tells which element `theirs` picks; overlapping windows share one.
        at = theirs.clone().requires_grad_()
        pooled = func(at, *args, **kwargs)
        out = torch.zeros_like(pooled, dtype=x.dtype)
        for index in np.ndindex(*pooled.shape):
            (picked,) = torch.autograd.grad(pooled[index], at, retain_graph=True)
            out[index] = (picked * x).sum()
        return out
    at = theirs.clone().requires_grad_()
    value = func(at.clone(), *args, **kwargs)
    (slope,) = torch.autograd.grad(value.sum(), at)
    return slope * x + (value - slope * theirs).detach()


@pytest.mark.parametrize("name", KINKED)
def test_imposed_branches(name: str):
    func, args, kwargs = KINKED[name]
    kind = name.split()[0]
    rng = torch.Generator().manual_seed(0)
    shape = {"max_pool unbatched": (2, 5, 5), "max_pool of sequences": (2, 2, 5)}.get(name)
    x = torch.randn(shape or (2, 2, 5, 5), generator=rng, dtype=torch.float64)
    theirs = x + 0.5 * torch.randn(x.shape, generator=rng, dtype=torch.float64)
    ours, hand = x.clone().requires_grad_(), x.clone().requires_grad_()
    output, flips = imposed(kind, func, ours.clone(), theirs, args, kwargs)
    wanted = by_hand(name, func, hand, theirs, args, kwargs)
    close(output.detach().numpy(), wanted.detach().numpy())
    weight = torch.randn(wanted.shape, generator=rng, dtype=torch.float64)
    (output * weight).sum().backward()
    (wanted * weight).sum().backward()
    close(gradient(ours), gradient(hand))
    own = by_hand(name, func, x, x, args, kwargs)
    assert flips.error == pytest.approx(float((x - theirs).abs().max()))
    assert flips.scale == pytest.approx(float(x.abs().max()))
    if kind == "max_pool":
        assert flips.count == int((own != wanted).sum())
        assert flips.farthest == pytest.approx(float((own - wanted).detach().abs().max()))
    else:
        slopes = [
            torch.autograd.functional.jvp(
                lambda z: func(z.clone(), *args, **kwargs), at, torch.ones_like(at)
            )[1]
            for at in (x, theirs)
        ]
        assert flips.count == int((slopes[0] != slopes[1]).sum())


def test_every_branching_function_is_tested():
    assert {name.split()[0] for name in KINKED} == BRANCHES


def in_place(function: Callable) -> Callable:
    """A call whose result is not taken: what it did to its argument counts."""

    def call(x):
        x = x + 0.1
        function(x)
        return x * 2

    return call


def picky(x):
    values, _ = F.max_pool2d(x, 2, return_indices=True)
    return values


SPELLINGS = {
    "relu": F.relu,
    "torch.relu": torch.relu,
    "Tensor.relu": lambda x: x.relu(),
    "F.relu_": in_place(F.relu_),
    "torch.relu_": in_place(torch.relu_),
    "Tensor.relu_": in_place(lambda x: x.relu_()),
    "relu(inplace=True)": in_place(lambda x: F.relu(x, inplace=True)),
    "relu(x, True)": in_place(lambda x: F.relu(x, True)),
    "ReLU": nn.ReLU(),
    "ReLU(inplace=True)": in_place(nn.ReLU(inplace=True)),
    "ReLU6(inplace=True)": in_place(nn.ReLU6(inplace=True)),
    "LeakyReLU": nn.LeakyReLU(0.3),
    "LeakyReLU(inplace=True)": in_place(nn.LeakyReLU(0.3, inplace=True)),
    "F.leaky_relu_": in_place(lambda x: F.leaky_relu_(x, 0.3)),
    "Hardtanh(inplace=True)": in_place(nn.Hardtanh(-0.5, 0.25, inplace=True)),
    "F.hardtanh_": in_place(lambda x: F.hardtanh_(x, -0.5, 0.25)),
    "MaxPool2d": nn.MaxPool2d(3, 2, 1),
    "MaxPool2d of one image": lambda x: nn.MaxPool2d(2)(x[0])[None],
    "torch.max_pool2d": lambda x: torch.max_pool2d(x, 2),
    "max_pool2d with indices": picky,
    "twice": lambda x: F.relu(F.relu(x) - 0.5),
}


def plain_jax(x):
    return x


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_run_on_its_own_branches_is_the_plain_run(name: str):
    function = SPELLINGS[name]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3, padding=1)

        def forward(self, x):
            return function(self.conv(x))

    pair = Pair(Twin(torch=Model, jax=plain_jax, inputs={"x": Image(2, 2, 6, 6)}, name="kinks"))
    plain = pair.run("torch:cpu", "float32")
    wanted = collect(plain)
    assert all(plain.branches.values())
    again = pair.run("torch:cpu", "float32", impose=plain.branches.__getitem__)
    found = collect(again)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        close(found[key], value)
    assert set(again.flips) == {f"{m}/{k}" for m, b in plain.branches.items() for k in b}
    assert all(flips.count == 0 for flips in again.flips.values())


@pytest.mark.parametrize("key", ["relu", "leaky", "hard_tanh"])
def test_flips_are_counted(key: str):
    model = {"relu": F.relu, "leaky": nn.LeakyReLU(0.2), "hard_tanh": F.hardtanh}[key]
    pair = Pair(Twin(torch=lambda: module_of(model), jax=plain_jax, inputs={"x": Array((4, 5))}))
    plain = pair.run("torch:cpu", "float32")
    collect(plain)
    ((name, branch),) = plain.branches["eval"].items()
    turned = branch.copy()
    turned.flat[[1, 7, 12]] *= -1
    if key == "hard_tanh":
        turned.flat[[1, 7, 12]] = np.where(np.abs(branch.flat[[1, 7, 12]]) < 1, 2.0, 0.0)
    run = pair.run("torch:cpu", impose=lambda mode: {name: turned} if mode == "eval" else {})
    collect(run)
    assert run.flips[f"eval/{name}"].count == 3


def module_of(function: Callable) -> nn.Module:
    """A function as a module."""

    class Wrapped(nn.Module):
        def forward(self, x):
            return function(x)

    return Wrapped()


def test_two_runs_of_jax_side_by_side():
    """Each is suspended between its sections, with nothing of its own left in force."""
    case = next(c for c in CASES if c.name == "functions")
    results = Ladder(Pair(case.twin, steps=2), ["xla:cpu", "xla:cpu+eager"]).run(numerics=False)
    assert [result.verdict for result in results] == ["SAME", "SAME"], trouble(results[0])


@pytest.mark.parametrize("calls", [1, 2])
def test_functions_in_a_scan_are_stacked_only_if_it_is_known_which_is_which(calls: int):
    """Two sigmoids in a step: PyTorch's calls alternate, and JAX has each of its own stacked."""

    def info(count: int, steps: int = 0) -> dict[str, Tap]:
        keys = ["sigmoid", *(f"sigmoid#{i}" for i in range(1, count))]
        return {key: Tap("", "sigmoid", function=True, steps=steps) for key in keys}

    found = match(info(3 * calls), info(calls, steps=3), {})
    assert found.stacked == ({"sigmoid": [*info(3)]} if calls == 1 else {})
    assert set(found.pairs) == set(found.stacked)


@pytest.mark.parametrize("name", ["foundations/perceptron:rosenblatt", "foundations/mlp:MLP"])
def test_compiled_by_torch(name):
    """One that is a graph, and one that steers Python by its values, which no graph can."""
    report = check(*find(name), steps=1, backends=["torch:cpu+compile"])
    assert report.verdict == "SAME"
    assert report.twins[0]["coverage"]["skipped"] == []
