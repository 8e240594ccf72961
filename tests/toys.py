"""Tiny pairs of models, each for one thing that the harness must see through."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Image, Twin
from compare.api import prepare
from compare.finder.finder import find
from compare.finder.found import Found
from compare.ladder.ladder import Ladder
from compare.ladder.pair import Pair
from compare.ladder.result import Result
from compare.ladder.verdict import DIVERGED, SAME
from compare.report.entries import twin_dict

prepare()

Values = dict[str, np.ndarray]


def collect(run: Any) -> Values:
    """Every tensor of a run but those of its trajectory."""
    return {k: v for s in run.sections(trajectory=False) for k, v in s.tensors.items()}


def climb(
    twin: Twin, *, steps: int = 3, numerics: bool = False, seed: int = 0, dtype: str = "float32"
) -> Result:
    """The ladder of jitted XLA against PyTorch, tier 1 alone unless asked."""
    return Ladder(Pair(twin, seed, steps), ["xla:cpu"]).run((dtype,) if numerics else ())[0]


def trouble(result: Result) -> dict[str, list[str]]:
    """What is wrong on each rung, for the message of an assertion."""
    return {
        name: [f"{j.name}: {j.verdict} {j.relative:.1e} {j.detail}" for j in found]
        + [text for _, text in stage.findings]
        for name, stage in result.stages.items()
        if (found := [j for j in (*stage.judged, *stage.numerics) if j.verdict != "SAME"])
        or stage.findings
    }


def paired(result: Result, mode: str = "train") -> tuple[int, int, int]:
    """How many layers were paired, by order, and how many were left over."""
    found = result.pairing[mode]
    return len(found.pairs), len(found.by_order), len(found.torch_only) + len(found.jax_only)


def origin(result: Result) -> str:
    """The first layer that differs, where only the weights agree."""
    assert result.stages["weights"].verdict == SAME, trouble(result)
    assert result.stages["forward"].verdict == DIVERGED, trouble(result) or "nothing was found"
    return twin_dict(result)["origin"]["torch"]


def found(twin: Twin, **options: Any) -> Found:
    """What the finder says of a twin."""
    return find(Pair(twin, steps=2, **options))


# Captures: models whose every layer's value and gradient is known by other means.


@dataclass(frozen=True)
class Case:
    """A pair whose layers are computed a second time, out of place and one by one.

    Args:
      explicit: `f(weights, x)` gives the layers' values by PyTorch's key, and the output as "out".
      jax_keys: JAX's keys, where they are not PyTorch's with slashes.
      stacked: JAX's keys -> the keys of `explicit` that it holds, stacked over time.
    """

    name: str
    torch: Any
    jax: Any
    explicit: Callable[[Any, torch.Tensor], dict[str, torch.Tensor]]
    x: Any = field(default_factory=lambda: Array((2, 3)))
    jax_keys: Mapping[str, str] = field(default_factory=dict)
    stacked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def twin(self) -> Twin:
        return Twin(torch=self.torch, jax=self.jax, inputs={"x": self.x}, name=self.name)


def _linear(p: Mapping[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


class TorchTwice(nn.Module):
    """a, then b twice, with a tanh between."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.b(torch.tanh(self.b(torch.tanh(self.a(x)))))


class JaxTwice(fnn.Module):
    """The same in Linen; `transform` wraps the layers' class."""

    transform: Callable = lambda layer: layer

    @fnn.compact
    def __call__(self, x):
        dense = self.transform(fnn.Dense)
        a, b = dense(4, name="a"), dense(4, name="b")
        return b(jnp.tanh(b(jnp.tanh(a(x)))))


def twice(p, x):
    v = {"a": _linear(p, "a", x)}
    v["b"] = _linear(p, "b", torch.tanh(v["a"]))
    v["b#1"] = _linear(p, "b", torch.tanh(v["b"]))
    return v | {"out": v["b#1"]}


def whole(wrap: Callable) -> Any:
    """A Linen model with a child that is wrapped whole, its own children inside."""

    class Outer(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            return wrap(JaxTwice)(name="inner")(x)

    return Outer


class TorchOuter(nn.Module):
    """The same nesting."""

    def __init__(self):
        super().__init__()
        self.inner = TorchTwice()

    def forward(self, x):
        return self.inner(x)


def outer(p, x):
    v = twice({k.removeprefix("inner."): t for k, t in p.items()}, x)
    return {f"inner.{k}": t for k, t in v.items() if k != "out"} | {"inner": v["out"]} | v_out(v)


def v_out(v):
    return {"out": v["out"]}


class TorchCell(nn.Module):
    """tanh(i(x) + h(state)), looped over time."""

    def __init__(self):
        super().__init__()
        self.i, self.h = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, state, x):
        state = torch.tanh(self.i(x) + self.h(state))
        return state, state


class TorchLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = TorchCell()

    def forward(self, x):
        state, seen = torch.zeros(x.shape[0], 4), []
        for t in range(x.shape[1]):
            state, y = self.cell(state, x[:, t])
            seen.append(y)
        return torch.stack(seen, 1)


class JaxCell(fnn.Module):
    @fnn.compact
    def __call__(self, state, x):
        state = jnp.tanh(fnn.Dense(4, name="i")(x) + fnn.Dense(4, name="h")(state))
        return state, state


class JaxScan(fnn.Module):
    """The same by nn.scan, last time step first where `reverse`."""

    reverse: bool = False
    remat: bool = False

    @fnn.compact
    def __call__(self, x):
        cell = fnn.remat(JaxCell) if self.remat else JaxCell
        scan = fnn.scan(
            cell,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
            reverse=self.reverse,
        )
        return scan(name="cell")(jnp.zeros((x.shape[0], 4), x.dtype), x)[1]


class TorchReversed(TorchLoop):
    def forward(self, x):
        return super().forward(x.flip(1)).flip(1)


def loop(p, x, order=(0, 1, 2)):
    v, state, seen = {}, torch.zeros(x.shape[0], 4, dtype=x.dtype), {}
    for count, t in enumerate(order):
        tail = f"#{count}" if count else ""
        v[f"cell.i{tail}"] = _linear(p, "cell.i", x[:, t])
        v[f"cell.h{tail}"] = _linear(p, "cell.h", state)
        state = seen[t] = torch.tanh(v[f"cell.i{tail}"] + v[f"cell.h{tail}"])
    return v | {"out": torch.stack([seen[t] for t in range(len(order))], 1)}


def stack(order: tuple[int, ...]) -> dict[str, tuple[str, ...]]:
    """Where the steps, numbered in the order of execution, stand along the time axis."""
    at = {t: count for count, t in enumerate(order)}
    tails = [f"#{at[t]}" if at[t] else "" for t in range(len(order))]
    return {f"cell/{n}": tuple(f"cell.{n}{tail}" for tail in tails) for n in "ih"}


def lax_loop(params, x):
    """The cell as a plain function under lax.scan, a named function inside."""

    def step(state, x):
        def dense(name, x):
            return x @ params["cell"][name]["kernel"] + params["cell"][name]["bias"]

        state = jax.nn.relu(dense("i", x) + dense("h", state))
        return state, state

    start = jnp.zeros((x.shape[0], 4), x.dtype)
    return jnp.moveaxis(jax.lax.scan(step, start, jnp.moveaxis(x, 1, 0))[1], 0, 1)


class TorchReluLoop(TorchLoop):
    def forward(self, x):
        state, seen = torch.zeros(x.shape[0], 4), []
        for t in range(x.shape[1]):
            state = F.relu(self.cell.i(x[:, t]) + self.cell.h(state))
            seen.append(state)
        return torch.stack(seen, 1)


def relu_loop(p, x):
    v, state = {}, torch.zeros(x.shape[0], 4, dtype=x.dtype)
    for t in range(3):
        tail = f"#{t}" if t else ""
        z = _linear(p, "cell.i", x[:, t]) + _linear(p, "cell.h", state)
        v[f"relu{tail}"] = state = torch.where(z > 0, z, torch.zeros_like(z))
    return v | {"out": torch.stack(list(v.values()), 1)}


def cell_variables() -> dict[str, Any]:
    """Leaves of the right shapes; the harness puts its own values there."""
    shapes = {"i": (3, 4), "h": (4, 4)}
    dense = {n: {"kernel": jnp.zeros(s), "bias": jnp.zeros(4)} for n, s in shapes.items()}
    return {"cell": dense}


class TorchInplace(nn.Module):
    """A convolution whose output is overwritten, twice over."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 1))

    def forward(self, x):
        x = self.net(x)
        return 2.0 * F.leaky_relu_(x, 0.2)


class JaxInplace(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        class Net(fnn.Module):
            @fnn.compact
            def __call__(self, x):
                x = fnn.relu(fnn.Conv(3, (3, 3), padding="VALID", name="0")(x))
                return fnn.Conv(2, (1, 1), name="2")(x)

        return 2.0 * fnn.leaky_relu(Net(name="net")(x), 0.2)


def inplace(p, x):
    v = {"net.0": F.conv2d(x, p["net.0.weight"], p["net.0.bias"])}
    v["net.1"] = torch.where(v["net.0"] > 0, v["net.0"], torch.zeros_like(v["net.0"]))
    v["net.2"] = v["net"] = F.conv2d(v["net.1"], p["net.2.weight"], p["net.2.bias"])
    v["leaky_relu"] = torch.where(v["net"] > 0, v["net"], 0.2 * v["net"])
    return v | {"out": 2.0 * v["leaky_relu"]}


class TorchFunctions(nn.Module):
    """Functional calls, in the root and in a block, one of them twice."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            return F.relu(self.conv(F.relu(x)))

    def __init__(self):
        super().__init__()
        self.block = self.Block()

    def forward(self, x):
        x = F.avg_pool2d(F.max_pool2d(self.block(x) + x, 2), 2)
        return F.gelu(x, approximate="tanh")


class JaxFunctions(fnn.Module):
    class Block(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            return fnn.relu(fnn.Conv(2, (3, 3), name="conv")(fnn.relu(x)))

    @fnn.compact
    def __call__(self, x):
        x = fnn.max_pool(self.Block(name="block")(x) + x, (2, 2), (2, 2))
        return fnn.gelu(fnn.avg_pool(x, (2, 2), (2, 2)))


def functions(p, x):
    def pooled(x):
        return x.unfold(2, 2, 2).unfold(3, 2, 2)

    v = {"block.relu": x * (x > 0)}
    v["block.conv"] = F.conv2d(
        v["block.relu"], p["block.conv.weight"], p["block.conv.bias"], padding=1
    )
    v["block.relu#1"] = v["block"] = v["block.conv"] * (v["block.conv"] > 0)
    v["max_pool"] = pooled(v["block"] + x).amax((-1, -2))
    y = pooled(v["max_pool"]).mean((-1, -2))
    v["gelu"] = 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
    return v | {"out": v["gelu"]}


class TorchTrees(nn.Module):
    """A module that gives a tuple with a dict in it."""

    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x):
            y = self.fc(x)
            return y.tanh(), {"sine": y.sin(), "index": y.argmax(-1)}

    def __init__(self):
        super().__init__()
        self.split = self.Split()

    def forward(self, x):
        y, more = self.split(x)
        return {"z": y * more["sine"], "y": y, "index": more["index"]}


class JaxTrees(fnn.Module):
    class Split(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            y = fnn.Dense(4, name="fc")(x)
            return jnp.tanh(y), {"sine": jnp.sin(y), "index": jnp.argmax(y, -1)}

    @fnn.compact
    def __call__(self, x):
        y, more = self.Split(name="split")(x)
        return {"z": y * more["sine"], "y": y, "index": more["index"]}


def trees(p, x):
    v = {"split.fc": _linear(p, "split.fc", x)}
    v["split.0"], v["split.1.sine"] = torch.tanh(v["split.fc"]), torch.sin(v["split.fc"])
    return v | {"out.y": v["split.0"], "out.z": v["split.0"] * v["split.1.sine"]}


class _Ruled(torch.autograd.Function):
    """sin, whose gradient is said to be 3 g + x."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, *grads):
        return 3 * grads[0] + ctx.saved_tensors[0]


class _Tripled(torch.autograd.Function):
    """sin, whose gradient is said to be 3 g."""

    @staticmethod
    def forward(ctx, x):
        return torch.sin(x)

    @staticmethod
    def backward(ctx, *grads):
        return 3 * grads[0]


@jax.custom_vjp
def ruled(x):
    return jnp.sin(x)


ruled.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (3 * g + x,))


@jax.custom_jvp
def tripled(x):
    return jnp.sin(x)


tripled.defjvp(lambda primals, tangents: (jnp.sin(*primals), 3 * tangents[0]))


def rule(torch_function: Any, jax_function: Callable, **dense: Any) -> tuple[Any, Any, Callable]:
    """A pair with a function of its own gradient between two layers."""

    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.b(torch_function.apply(self.a(x)))

    class Jax(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            x = jax_function(fnn.Dense(4, name="a", **dense)(x))
            return fnn.Dense(4, name="b", **dense)(x)

    def explicit(p, x):
        v = {"a": _linear(p, "a", x)}
        v["b"] = _linear(p, "b", torch_function.apply(v["a"]))
        return v | {"out": v["b"]}

    return Torch, Jax, explicit


class TorchSkip(nn.Module):
    """A module that gives back its very input, called after others have used it."""

    class Same(nn.Module):
        def forward(self, x):
            return x

    def __init__(self):
        super().__init__()
        self.fc, self.main, self.skip = nn.Linear(3, 4), nn.Linear(4, 4), self.Same()

    def forward(self, x):
        x = self.fc(x)
        return self.main(x) * self.skip(x)


class JaxSkip(fnn.Module):
    class Same(fnn.Module):
        def __call__(self, x):
            return x

    @fnn.compact
    def __call__(self, x):
        x = fnn.Dense(4, name="fc")(x)
        return fnn.Dense(4, name="main")(x) * self.Same(name="skip")(x)


def skip(p, x):
    v = {"fc": _linear(p, "fc", x)}
    v["main"], v["skip"] = _linear(p, "main", v["fc"]), 1.0 * v["fc"]
    return v | {"out": v["main"] * v["skip"]}


def applied() -> tuple[Callable, Any]:
    """(apply, variables), as Linen's init gives them."""
    model = JaxTwice()
    variables = jax.tree.map(
        lambda x: jnp.zeros(x.shape),
        jax.eval_shape(model.init, jax.random.key(0), jnp.ones((2, 3))),
    )
    return model.apply, variables


def plain_torch(x):
    return F.relu(torch.sin(x)) * 2


def plain_jax(x):
    return jax.nn.relu(jnp.sin(x)) * 2


def plain(p, x):
    v = {"relu": torch.sin(x) * (torch.sin(x) > 0)}
    return v | {"out": v["relu"] * 2}


TWICE, SERIES = Array((2, 3)), Array((2, 3, 3))
IMAGES = Image(2, 2, 6, 6)
CASES = [
    Case("twice", TorchTwice, JaxTwice, twice),
    Case("jit", TorchTwice, JaxTwice(transform=fnn.jit), twice),
    Case("remat", TorchTwice, JaxTwice(transform=fnn.remat), twice),
    Case("jit around", TorchOuter, whole(fnn.jit), outer),
    Case("remat around jit", TorchOuter, whole(lambda m: fnn.remat(fnn.jit(m))), outer),
    Case("scan", TorchLoop, JaxScan, loop, SERIES, stacked=stack((0, 1, 2))),
    Case(
        "scan reversed",
        TorchReversed,
        JaxScan(reverse=True, remat=True),
        lambda p, x: loop(p, x, (2, 1, 0)),
        SERIES,
        stacked=stack((2, 1, 0)),
    ),
    Case(
        "lax.scan",
        TorchReluLoop,
        (lax_loop, cell_variables()),
        relu_loop,
        SERIES,
        stacked={"relu": ("relu", "relu#1", "relu#2")},
    ),
    Case("in place", TorchInplace, JaxInplace, inplace, IMAGES, {"net.1": "net/relu"}),
    Case("functions", TorchFunctions, JaxFunctions, functions, Image(2, 2, 8, 8)),
    Case(
        "trees",
        TorchTrees,
        JaxTrees,
        trees,
        jax_keys={"split.0": "split.0", "split.1.sine": "split.1.sine"},
    ),
    Case("custom_vjp", *rule(_Ruled, ruled)),
    Case("custom_jvp", *rule(_Tripled, tripled)),
    Case("custom_vjp in jit", *rule(_Ruled, jax.jit(ruled))),
    Case("custom_vjp of float32", *rule(_Ruled, ruled, dtype=jnp.float32)),
    Case("custom_jvp of float32", *rule(_Tripled, tripled, dtype=jnp.float32)),
    Case("identity", TorchSkip, JaxSkip, skip),
    Case("apply", TorchTwice, applied(), twice),
    Case("function", plain_torch, plain_jax, plain),
]


class TorchMlp(nn.Module):
    """Linear layers with a tanh between, in a list."""

    def __init__(self, widths: tuple[int, ...] = (3, 5, 4, 2)):
        super().__init__()
        pairs = itertools.pairwise(widths)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairs])

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return self.layers[-1](x)
