"""Dropout in train mode: the same masks on both sides, the same training; a fault is seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from toys import climb, trouble

from compare import Array, Image, Twin
from compare.api import check
from compare.capture.given import Given
from compare.capture.masks import Draw, Site, fit, plan, uniform
from compare.capture.torch_masks import Masks
from compare.ladder.captures import capture, diff
from compare.ladder.pair import Pair
from compare.ladder.result import Result
from compare.ladder.samplers import examine, sampler, scaled
from compare.ladder.verdict import DIVERGED, INCONCLUSIVE, SAME


class TorchNet(nn.Module):
    """Two layers with a dropout of a module and one of a function."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.d = nn.Linear(3, 6), nn.Linear(6, 4), nn.Dropout(0.3)

    def forward(self, x):
        x = self.d(torch.tanh(self.a(x)))
        return F.dropout(self.b(x), 0.1, self.training)


def linen(rate: float = 0.3, **options: Any) -> Callable:
    return lambda x, train, key: fnn.Dropout(rate, **options)(x, deterministic=not train)


def drawn(rate: float, keep: float | None = None, scale: float | None = None) -> Callable:
    """Dropout as users write it, with a place for each fault."""
    keep = 1 - rate if keep is None else keep
    scale = 1 / (1 - rate) if scale is None else scale

    def drop(x, train, key):
        mask = jax.random.bernoulli(key("dropout"), keep, x.shape)
        return jnp.where(mask, x * scale, 0) if train else x

    return drop


def dropping(rate: float) -> Callable:
    """The same with a mask that says what is dropped."""

    def drop(x, train, key):
        mask = jax.random.bernoulli(key("dropout"), rate, x.shape)
        return jnp.where(mask, 0, x / (1 - rate)) if train else x

    return drop


def none(x, train, key):
    return x


class JaxNet(fnn.Module):
    one: Callable = linen(0.3)
    two: Callable = drawn(0.1)
    once: bool = False

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        key = self.make_rng("dropout") if self.once else None
        draw = (lambda name: key) if self.once else self.make_rng
        x = self.one(jnp.tanh(fnn.Dense(6, name="a")(x)), train, draw)
        return self.two(fnn.Dense(4, name="b")(x), train, draw)


def net(torch_model: Any = TorchNet, **options: Any) -> Twin:
    return Twin(torch=torch_model, jax=JaxNet(**options), inputs={"x": Array((9, 3))}, name="net")


def findings(result: Result) -> str:
    return "; ".join(text for s in result.stages.values() for _, text in s.findings)


CLEAN = {
    "a module and a function": {},
    "the user's own twice": {"one": drawn(0.3)},
    "masks of what is dropped": {"one": dropping(0.3), "two": dropping(0.1)},
}
FAULTS = {
    "another rate": ({"two": linen(0.2)}, "dropout 2: rate 0.1 in PyTorch, 0.2 in JAX"),
    "a rate that is hardly another": ({"two": linen(0.1001)}, "0.1001 in JAX"),
    "keep for drop": ({"two": drawn(0.1, keep=0.1)}, "rate 0.1 in PyTorch, 0.9 in JAX: kept for"),
    "keep for drop, by Linen": ({"two": linen(0.9)}, "kept for dropped?"),
    "no scale": ({"two": drawn(0.1, scale=1.0)}, ""),
    "a scale that is hardly another": ({"two": drawn(0.1, scale=(1 + 1e-7) / 0.9)}, ""),
    "one is missing": ({"two": none}, "PyTorch drops 2 times, JAX 1 time"),
    "one too many": (
        {"two": lambda x, t, k: drawn(0.1)(drawn(0.1)(x, t, k), t, k)},
        "PyTorch drops 2 times, JAX 3 times",
    ),
    "a mask that is shared": (
        {"one": linen(0.3, broadcast_dims=(0,))},
        "dropout 1: JAX shares its mask over axes 0: (1, 6), not (9, 6)",
    ),
    "a mask that is too large": (
        {"one": lambda x, t, k: drawn(0.3)(x[..., None] + jnp.zeros(2), t, k).mean(-1)},
        "dropout 1: a mask of shape (9, 6) in PyTorch, (9, 6, 2) in JAX",
    ),
    "active in eval": (
        {"two": lambda x, t, k: drawn(0.1)(x, True, k)},
        "eval: PyTorch drops 0 times, JAX 1 time",
    ),
}


@pytest.mark.parametrize("name", CLEAN)
def test_without_a_fault(name: str):
    result = climb(net(**CLEAN[name]), numerics=True)
    assert result.verdict == SAME, trouble(result)
    assert result.stages["trajectory"].compared == "3 steps"


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str):
    options, words = FAULTS[name]
    result = climb(net(**options))
    assert result.stages["forward"].verdict == DIVERGED, trouble(result)
    assert words in findings(result), findings(result)


def test_only_what_differs_is_blamed():
    """A mask that one side shares is drawn so for both: nothing else differs."""
    result = climb(net(one=linen(0.3, broadcast_dims=(0,))))
    judged = [j.verdict for stage in result.stages.values() for j in stage.judged]
    assert set(judged) == {SAME}, trouble(result)


def test_check():
    assert check(net(), steps=2, backends=["xla:cpu", "xla:cpu+eager"]).verdict == SAME
    assert check(net(two=linen(0.2)), steps=2).verdict == DIVERGED


@pytest.mark.parametrize("backend", ["torch:cpu", "xla:cpu"])
def test_every_step_has_masks_of_its_own(backend: str, monkeypatch: pytest.MonkeyPatch):
    pair, asked = Pair(net(), steps=3), set()

    def recording(given: Given, mode: str, step: int, index: int, shape: tuple) -> np.ndarray:
        asked.add((mode, step, index))
        return uniform(given.seed, mode, step, index, shape)

    monkeypatch.setattr(Given, "uniform", recording)
    for _ in pair.run(backend).sections():
        pass
    assert asked == {("train", step, index) for step in range(4) for index in range(2)}


def test_captures():
    """Two machines, that know nothing of one another, give the same masks."""
    ours, theirs, faulty = (
        capture(Pair(net(**options), steps=2), backend, "float64", lambda doing: None)
        for backend, options in (("torch:cpu", {}), ("xla:cpu", {}), ("xla:cpu", {"two": none}))
    )
    assert diff(ours, theirs).verdict == SAME
    assert diff(ours, faulty).verdict == DIVERGED


def test_a_compiled_model_takes_no_masks():
    report = check(net(), steps=1, backends=["torch:cpu+compile"])
    assert report.verdict == INCONCLUSIVE
    assert "torch.compile takes no masks" in report.to_json()


# A mask that is used twice.


class TorchEqual(nn.Module):
    """Two dropouts of one size and rate."""

    reseed = False

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x):
        state = torch.get_rng_state()
        x = F.dropout(self.a(x), 0.2, self.training)
        if self.reseed:
            torch.set_rng_state(state)
        return F.dropout(self.b(x), 0.2, self.training)


class TorchReseeded(TorchEqual):
    reseed = True


class JaxEqual(fnn.Module):
    once: bool = False

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        key = self.make_rng("dropout")
        other = key if self.once else self.make_rng("dropout")
        x = drawn(0.2)(fnn.Dense(4, name="a")(x), train, lambda _: key)
        return drawn(0.2)(fnn.Dense(4, name="b")(x), train, lambda _: other)


@pytest.mark.parametrize("ours", [TorchEqual, TorchReseeded])
@pytest.mark.parametrize("once", [False, True])
def test_a_mask_that_is_used_twice(ours: Any, once: bool):
    twin = Twin(torch=ours, jax=JaxEqual(once), inputs={"x": Array((9, 3))}, name="twice")
    result = climb(twin)
    if once == ours.reseed:
        assert result.verdict == SAME, trouble(result)
    else:
        assert result.stages["forward"].verdict == DIVERGED
        assert f"PyTorch drops {2 - ours.reseed} time" in findings(result)


def test_what_a_checkpoint_computes_again_has_its_mask_again():
    class Torch(TorchEqual):
        def forward(self, x):
            x = checkpoint(
                lambda x: F.dropout(self.a(x), 0.2, self.training), x, use_reentrant=False
            )
            return F.dropout(self.b(x), 0.2, self.training)

    class Jax(fnn.Module):
        @fnn.compact
        def __call__(self, x, *, train: bool = False):
            class Block(fnn.Module):
                @fnn.compact
                def __call__(self, x):
                    return linen(0.2)(fnn.Dense(4, name="a")(x), train, None)

            x = fnn.remat(Block)(name="block")(x)
            return linen(0.2)(fnn.Dense(4, name="b")(x), train, None)

    rename = {r"^a\b": "block.a"}
    twin = Twin(torch=Torch, jax=Jax, inputs={"x": Array((9, 3))}, rename=rename, name="again")
    result = climb(twin)
    assert result.verdict == SAME, trouble(result)


# Images.


class TorchImages(nn.Module):
    def __init__(self, drop: Callable = F.dropout2d):
        super().__init__()
        self.c, self.d, self.drop = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 3, 1), drop

    def forward(self, x):
        return self.d(self.drop(self.c(x), 0.4, self.training))


class JaxImages(fnn.Module):
    dims: tuple[int, ...] = (1, 2)

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        x = fnn.Conv(6, (3, 3), padding="VALID", name="c")(x)
        x = fnn.Dropout(0.4, broadcast_dims=self.dims)(x, deterministic=not train)
        return fnn.Conv(3, (1, 1), name="d")(x)


@pytest.mark.parametrize(
    ("drop", "dims", "words"),
    [
        (F.dropout2d, (1, 2), ""),
        (F.dropout, (), ""),
        (F.dropout, (1, 2), "JAX shares its mask over axes 1, 2: (4, 1, 1, 6), not (4, 6, 6, 6)"),
        (F.dropout2d, (), "PyTorch shares its mask over axes 1, 2: (4, 1, 1, 6), not (4, 6, 6, 6)"),
        (F.dropout2d, (2, 3), "shares"),
    ],
)
def test_images(drop: Callable, dims: tuple, words: str):
    """Height, width and channels are of one size: only the order of the axes tells."""
    inputs = {"x": Image(4, 2, 8, 8)}
    model = lambda: TorchImages(drop)  # noqa: E731
    result = climb(Twin(torch=model, jax=JaxImages(dims), inputs=inputs, name="images"))
    assert result.verdict == (DIVERGED if words else SAME), trouble(result)
    assert words in findings(result), findings(result)


def test_alpha_dropout():
    class Torch(TorchEqual):
        def forward(self, x):
            return self.b(F.alpha_dropout(self.a(x), 0.2, self.training))

    class Jax(fnn.Module):
        @fnn.compact
        def __call__(self, x, *, train: bool = False):
            x = fnn.Dense(4, name="a")(x)
            if train:
                low, keep = -1.7580993408473766, 0.8
                mask = jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape)
                scale = (keep + low**2 * keep * (1 - keep)) ** -0.5
                x = scale * jnp.where(mask, x, low) - scale * low * (1 - keep)
            return fnn.Dense(4, name="b")(x)

    result = climb(Twin(torch=Torch, jax=Jax, inputs={"x": Array((9, 3))}, name="alpha"))
    assert result.verdict == SAME, trouble(result)


# Recurrent layers.


class Leaves(fnn.Module):
    """Parameters as PyTorch packs them."""

    shapes: Any

    @fnn.compact
    def __call__(self):
        init = fnn.initializers.normal()
        return {name: self.param(name, init, shape) for name, shape in self.shapes.items()}


class TorchLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, 2, batch_first=True, dropout=0.25)

    def forward(self, x):
        return self.lstm(x)[0]


def lstm(p: Any, x: Any) -> Any:
    """One layer over (batch, time, features), in PyTorch's order of gates."""

    def step(state, x):
        h, c = state
        gates = x @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"]
        i, f, g, o = jnp.split(gates, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((2, x.shape[0], 4), x.dtype)
    return jnp.moveaxis(jax.lax.scan(step, (start[0], start[1]), jnp.moveaxis(x, 1, 0))[1], 0, 1)


class JaxLSTM(fnn.Module):
    """The sequence dropped at once, or step by step in a scan."""

    rate: float = 0.25
    stepwise: bool = False

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        shapes = {}
        for n, width in enumerate((3, 4)):
            shapes |= {f"weight_ih_l{n}": (16, width), f"weight_hh_l{n}": (16, 4)}
            shapes |= {f"bias_ih_l{n}": (16,), f"bias_hh_l{n}": (16,)}
        p = Leaves(shapes, name="lstm")()
        for n in range(2):
            x = lstm({name.removesuffix(f"_l{n}"): leaf for name, leaf in p.items()}, x)
            if n == 0 and train:
                x = self.drop(x)
        return x

    def drop(self, x):
        key, keep = self.make_rng("dropout"), 1 - self.rate
        if not self.stepwise:
            return x * jax.random.bernoulli(key, keep, x.shape) / keep

        def step(key, x):
            key, this = jax.random.split(key)
            return key, x * jax.random.bernoulli(this, keep, x.shape) / keep

        return jnp.moveaxis(jax.lax.scan(step, key, jnp.moveaxis(x, 1, 0))[1], 0, 1)


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("rate", [0.25, 0.3])
def test_dropout_between_the_layers_of_an_lstm(stepwise: bool, rate: float):
    twin = Twin(
        torch=TorchLSTM,
        jax=JaxLSTM(rate, stepwise),
        inputs={"x": Array((2, 5, 3))},
        optimizer=("sgd", {"lr": 0.5}),
        name="lstm",
    )
    result = climb(twin, numerics=True)
    if rate == 0.25:
        assert result.verdict == SAME, trouble(result)
    else:
        assert "dropout 1: rate 0.25 in PyTorch, 0.3 in JAX" in findings(result)


class TorchSteps(nn.Module):
    """A mask a step, or one for all steps."""

    def __init__(self, one: bool):
        super().__init__()
        self.i, self.h, self.one = nn.Linear(3, 4), nn.Linear(4, 4), one

    def forward(self, x):
        state = torch.zeros(x.shape[0], 4, dtype=x.dtype)
        mask = F.dropout(torch.ones_like(state), 0.3, self.training)
        for t in range(x.shape[1]):
            dropped = state * mask if self.one else F.dropout(state, 0.3, self.training)
            state = torch.tanh(self.i(x[:, t]) + self.h(dropped))
        return state if self.one else state * mask


class JaxStep(fnn.Module):
    train: bool

    @fnn.compact
    def __call__(self, state, x):
        dropped = linen(0.3)(state, self.train, None)
        state = jnp.tanh(fnn.Dense(4, name="i")(x) + fnn.Dense(4, name="h")(dropped))
        return state, None


class JaxSteps(fnn.Module):
    one: bool

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        state = jnp.zeros((x.shape[0], 4), x.dtype)
        mask = 1.0 if self.one else linen(0.3)(jnp.ones_like(state), train, None)
        split: Any = {"params": False, "dropout": not self.one}
        scan = fnn.scan(JaxStep, variable_broadcast="params", split_rngs=split, in_axes=1)
        state, _ = scan(train, name="cell")(state, x)
        return state * mask


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("theirs", [False, True])
def test_masks_in_a_loop(ours: bool, theirs: bool):
    """Dropout of the state in `nn.scan`: a mask a step, or the same in every step."""
    twin = Twin(
        torch=lambda: TorchSteps(ours),
        jax=JaxSteps(theirs),
        inputs={"x": Array((4, 5, 3))},
        rename={r"^([ih])\b": r"cell.\1"},
        name="steps",
    )
    result = climb(twin)
    if ours == theirs:
        assert result.verdict == SAME, trouble(result)
    else:
        counts = f"PyTorch drops {1 if ours else 6} time"
        assert counts in findings(result), findings(result)


# Attention.


class TorchAttention(nn.Module):
    def __init__(self, weights: bool):
        super().__init__()
        self.mha, self.weights = nn.MultiheadAttention(6, 2, 0.2, batch_first=True), weights

    def forward(self, x):
        return self.mha(x, x, x, need_weights=self.weights)[0]


class TorchSDPA(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.o = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        q = self.q(x).unflatten(-1, (2, 3)).transpose(1, 2)
        p = 0.2 if self.training else 0.0
        y = F.scaled_dot_product_attention(q, q, q, dropout_p=p)
        return self.o(y.transpose(1, 2).flatten(2))


def attend(q, k, v, drop):
    """(batch, time, heads, features), by hand."""
    weights = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    return jnp.einsum("bhqk,bkhd->bqhd", drop(jax.nn.softmax(weights)), v)


class JaxAttention(fnn.Module):
    """As PyTorch packs it, or with one projection; by hand or by Flax's function."""

    packed: bool
    shared: bool | None = None

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        if self.packed:
            p = Leaves({"in_proj_weight": (18, 6), "in_proj_bias": (18,)}, name="mha")()
            q, k, v = jnp.split(x @ p["in_proj_weight"].T + p["in_proj_bias"], 3, -1)
        else:
            q = k = v = fnn.Dense(6, name="q")(x)
        q, k, v = (a.reshape(*a.shape[:2], 2, 3) for a in (q, k, v))
        if self.shared is None:
            y = attend(q, k, v, lambda w: linen(0.2)(w, train, None))
        else:
            rng = self.make_rng("dropout")
            y = fnn.dot_product_attention(
                q, k, v, broadcast_dropout=self.shared, dropout_rng=rng,
                dropout_rate=0.2, deterministic=not train,
            )  # fmt: skip
        return fnn.Dense(6, name="o")(y.reshape(*y.shape[:2], 6))


@pytest.mark.parametrize(
    "ours",
    [TorchSDPA, lambda: TorchAttention(True), lambda: TorchAttention(False)],
    ids=["sdpa", "mha", "mha without weights"],
)
@pytest.mark.parametrize("shared", [None, False, True])
def test_attention(ours: Callable, shared: bool | None):
    packed = ours is not TorchSDPA
    twin = Twin(
        torch=ours,
        jax=JaxAttention(packed, shared),
        inputs={"x": Array((3, 4, 6))},
        rename={r"mha\.out_proj": "o"},
        name="attention",
    )
    result = climb(twin)
    if not shared:
        assert result.verdict == SAME, trouble(result)
    else:
        assert "dropout 1: JAX shares its mask over axes 0" in findings(result), findings(result)
        assert {j.verdict for s in result.stages.values() for j in s.judged} == {SAME}


# Masks of functions, of other samplers, and of a mapped model.


def test_a_mapped_function_with_a_key_an_example():
    def jax_model(params, x):
        def one(key, x):
            mask = jax.random.bernoulli(key, 0.7, x.shape)
            return jnp.where(mask, x @ params["a"]["kernel"] + params["a"]["bias"], 0) / 0.7

        return jax.vmap(one)(jax.random.split(jax.random.key(3), len(x)), x)

    def call(apply, tree, x, *, train):
        dense = x @ tree["a"]["kernel"] + tree["a"]["bias"]
        return apply(tree, x) if train else dense

    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x):
            return (
                self.a(x) * torch.bernoulli(torch.full_like(x, 0.7)) / 0.7
                if self.training
                else self.a(x)
            )

    variables = {"a": {"kernel": np.zeros((4, 4)), "bias": np.zeros(4)}}
    twin = Twin(
        torch=Torch,
        jax=(jax_model, variables),
        jax_call=call,
        inputs={"x": Array((5, 4))},
        name="map",
    )
    result = climb(twin)
    assert result.verdict == SAME, trouble(result)


def test_probabilities_that_vary():
    """Gibbs sampling: each element's own probability, which the model itself computes."""

    def ours(x):
        return x * torch.bernoulli(torch.sigmoid(x))

    def theirs(mode, by=1.0):
        def model(x):
            chances = jax.nn.sigmoid(by * x)
            return x * jax.random.bernoulli(jax.random.key(0), chances, mode=mode)

        return model

    inputs = {"x": Array((40, 30))}
    for mode in ("low", "high"):
        result = climb(Twin(torch=ours, jax=theirs(mode), inputs=inputs), numerics=True)
        assert result.verdict == SAME, trouble(result)
    result = climb(Twin(torch=ours, jax=theirs("low", 1.1), inputs=inputs))
    assert result.verdict == DIVERGED


def test_dropout_that_is_always_active():
    """As for Monte Carlo: masks are given in eval mode, too."""

    def ours(x):
        return torch.sin(F.dropout(x, 0.3))

    def theirs(rate):
        def model(x):
            mask = jax.random.bernoulli(jax.random.key(0), 1 - rate, x.shape)
            return jnp.sin(jnp.where(mask, x / (1 - rate), 0))

        return model

    inputs = {"x": Array((9, 3))}
    result = climb(Twin(torch=ours, jax=theirs(0.3), inputs=inputs))
    assert result.verdict == SAME, trouble(result)
    result = climb(Twin(torch=ours, jax=theirs(0.2), inputs=inputs))
    assert "eval: dropout 1: rate 0.3 in PyTorch, 0.2 in JAX" in findings(result)


TORCH_DRAWS = {
    "dropout": lambda x: F.dropout(x, 0.3) * 0.7,
    "dropout in place": lambda x: F.dropout(x.clone(), 0.3, inplace=True) * 0.7,
    "native_dropout": lambda x: torch.native_dropout(x, 0.3, True)[0] * 0.7,
    "native_dropout's mask": lambda x: torch.native_dropout(x, 0.3, True)[1] * x,
    "bernoulli": lambda x: torch.bernoulli(torch.full_like(x, 0.7)) * x,
    "bernoulli of one rate": lambda x: torch.bernoulli(x, 0.7) * x,
    "bernoulli_": lambda x: torch.empty_like(x).bernoulli_(0.7) * x,
    "bernoulli_ of many rates": lambda x: torch.empty_like(x).bernoulli_(0.7 + 0 * x) * x,
    "bernoulli_ in bool": lambda x: torch.empty(x.shape, dtype=torch.bool).bernoulli_(0.7) * x,
    "a distribution": lambda x: torch.distributions.Bernoulli(0.7 + 0 * x).sample() * x,
}


@pytest.mark.parametrize("name", TORCH_DRAWS)
def test_every_way_of_drawing_in_torch(name: str):
    numbers = uniform(0, "train", 0, 0, (5, 4))
    x = torch.arange(1.0, 21.0, dtype=torch.float64).reshape(5, 4)
    with (
        torch.random.fork_rng(devices=[]),
        Masks(lambda: "", lambda index, shape: numbers) as masks,
    ):
        y = TORCH_DRAWS[name](x)
    assert torch.allclose(y, torch.from_numpy(numbers < 0.7) * x, rtol=1e-15)
    assert masks.draws == [Draw((5, 4), 0.7)]
    assert not masks.noise


@pytest.mark.parametrize("where", ["cond", "nowhere"])
def test_masks_that_cannot_be_given_are_said(where: str):
    """A branch is not walked; what leads nowhere is no matter."""

    def theirs(x):
        key = jax.random.key(0)
        jax.random.normal(key, x.shape)
        if where == "nowhere":
            return jnp.sin(x)
        drop = lambda x: x * jax.random.bernoulli(key, 0.7, x.shape)  # noqa: E731
        return jnp.sin(jax.lax.cond(x[0, 0] > 1e9, drop, lambda x: x, x))

    result = climb(Twin(torch=torch.sin, jax=theirs, inputs={"x": Array((9, 3))}))
    assert result.verdict == (SAME if where == "nowhere" else INCONCLUSIVE), trouble(result)
    assert ("JAX draws at" in findings(result)) == (where == "cond")


def test_noise_that_nobody_controls_is_said():
    class Jax(JaxEqual):
        @fnn.compact
        def __call__(self, x, *, train: bool = False):
            noise = jax.random.normal(self.make_rng("dropout"), (9, 4)) if train else 0.0
            return fnn.Dense(4, name="b")(fnn.Dense(4, name="a")(x) + noise)

    class Torch(TorchEqual):
        def forward(self, x):
            x = self.a(x)
            return self.b(x + torch.randn_like(x) if self.training else x)

    result = climb(Twin(torch=Torch, jax=Jax, inputs={"x": Array((9, 3))}, name="noise"))
    assert "train: JAX draws at" in findings(result)
    assert "aten.randn_like" in findings(result)


# The parts.


def test_masks_are_the_same_for_the_same_purpose_alone():
    places = [(0, "train", 0, 0), (1, "train", 0, 0), (0, "eval", 0, 0), (0, "train", 1, 0)]
    drawn = [uniform(*place, (1000,)) for place in (*places, (0, "train", 0, 1))]
    assert (uniform(0, "train", 0, 0, (1000,)) == drawn[0]).all()
    assert all(np.abs((a == b).mean()) < 0.01 for i, a in enumerate(drawn) for b in drawn[:i])
    assert (drawn[0].astype(np.float32) == drawn[0]).all()
    for rate in (0.1, 0.2, 0.25, 0.3, 0.5, 0.7, 0.9):
        near = np.abs(drawn[0] - rate).min()
        assert near > 1e-7
        assert abs((drawn[0] < rate).mean() - rate) < 0.07


@pytest.mark.parametrize(
    ("ours", "theirs", "images", "order"),
    [
        ((2, 3, 4, 5), (2, 4, 5, 3), True, "nhwc"),
        ((2, 3, 3, 3), (2, 3, 3, 3), True, "nhwc"),
        ((2, 3, 3, 3), (2, 3, 3, 3), False, "nchw"),
        ((2, 3, 1, 1), (2, 1, 1, 3), True, "nhwc"),
        ((5, 2, 4), (2, 5, 4), False, "swapped"),
        ((2, 3, 5), (2, 5, 3), False, "last"),
    ],
)
def test_arranged(ours: tuple, theirs: tuple, images: bool, order: str):
    mask = np.arange(np.prod(ours)).reshape(ours)
    axes = {"nhwc": (0, 2, 3, 1), "nchw": (0, 1, 2, 3), "swapped": (1, 0, 2), "last": (0, 2, 1)}
    found = fit(ours, theirs, images, "NHWC")
    assert found is not None
    assert (found(mask) == mask.transpose(axes[order])).all()
    assert found.shared() == ([], [])


def test_arranged_at_another_rank():
    mask = np.arange(48).reshape(4, 12)
    for ours, theirs, right in (
        ((4, 12), (2, 2, 12), mask.reshape(2, 2, 12)),
        ((4, 12), (4, 2, 2, 3), mask.reshape(4, 3, 2, 2).transpose(0, 2, 3, 1)),
        ((2, 2, 12), (4, 12), mask),
    ):
        found = fit(ours, theirs, False, "NHWC")
        assert found is not None
        assert (found(mask.reshape(ours)) == right).all()
    assert fit((4, 12), (6, 8), False, "NHWC") is None


def test_a_scan_that_runs_backwards_draws_its_last_step_first():
    keys = np.arange(3)[:, None]
    sites = [Site((2,), (1, 1), (-3,))]
    draws = [Draw((2,), 0.5)] * 3
    found = plan("train", draws, sites, [(keys, np.full(3, 0.5))], False, "NHWC")
    assert found.numbers[0].tolist() == [2, 1, 0]


# Each side's own sampler.


def alone(twin: Twin) -> list[str]:
    """What is wrong with the masks that the sides draw by themselves."""
    return [text for _, text in sampler(Pair(twin))[1]]


def test_the_frameworks_samplers_are_sound():
    images = {"x": Image(4, 2, 8, 8)}
    for twin in (net(), Twin(torch=TorchImages, jax=JaxImages(), inputs=images, name="images")):
        line, found = sampler(Pair(twin))
        assert not found
        assert line.endswith("no findings")


def test_it_is_told_where_there_is_dropout():
    """In the line, in report.json, and by the verdict, where the given masks hide the fault."""
    assert climb(net()).dropout.startswith("masks of each side's own sampler: PyTorch 2 in ")
    assert climb(Twin(torch=torch.sin, jax=jnp.sin, inputs={"x": Array((4, 3))})).dropout == ""
    twin = net(two=lambda x, train, key: drawn(0.1)(x, train, lambda _: jax.random.key(0)))
    result = climb(twin)
    assert result.stages["forward"].verdict == DIVERGED
    assert "JAX by itself, dropout 2: elements alike in two successive" in findings(result)
    assert {j.verdict for s in result.stages.values() for j in s.judged} == {SAME}
    report = json.loads(check(twin, steps=1).to_json())["twins"][0]
    assert report["dropout"].endswith("2 findings")
    assert any("successive calls" in text for text in report["stages"][1]["findings"])


def test_what_both_sides_do_is_no_difference():
    class TorchDropout(nn.Module):
        """Without the scale, as JAX's."""

        def forward(self, x):
            return x * torch.bernoulli(torch.full_like(x, 0.9))

    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.d = nn.Linear(3, 6), nn.Linear(6, 4), nn.Dropout(0.3)
            self.own = TorchDropout()

        def forward(self, x):
            x = self.b(self.d(torch.tanh(self.a(x))))
            return self.own(x) if self.training else x

    faulty = layered(keep=0.9, scale=1.0)
    assert alone(net(**faulty))
    assert alone(net(Torch, **faulty)) == []


class JaxFixed(fnn.Module):
    """Two dropouts with the same two keys in every call."""

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        x = drawn(0.2)(fnn.Dense(4, name="a")(x), train, lambda _: jax.random.key(0))
        return drawn(0.2)(fnn.Dense(4, name="b")(x), train, lambda _: jax.random.key(1))


class JaxDropout(fnn.Module):
    """A layer of the user's own."""

    keep: float
    scale: float
    column: bool = False

    @fnn.compact
    def __call__(self, x):
        shape = (1, x.shape[-1]) if self.column else x.shape
        return x * jax.random.bernoulli(self.make_rng("dropout"), self.keep, shape) * self.scale


def layered(**options: Any) -> dict[str, Any]:
    return {"two": lambda x, train, key: JaxDropout(**options)(x) if train else x}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"two": linen(0.2)}, "JAX by itself, dropout 2: kept: 0.8"),
        (layered(keep=0.9, scale=1.0), "are kept, but multiplied by 1"),
        (layered(keep=0.1, scale=1 / 0.9), "are kept, but multiplied by 1.111"),
    ],
    ids=["another rate", "no scale", "keep for drop"],
)
def test_samplers_with_a_fault(options: dict, words: str):
    found = alone(net(**options))
    assert any(words in text for text in found), found
    assert not any(text.startswith("PyTorch") for text in found), found


def test_a_mask_that_the_batch_shares():
    """No sampler's fault, but the ladder's: the shapes tell."""
    twin = net(**layered(keep=0.9, scale=1 / 0.9, column=True))
    assert alone(twin) == []
    assert "dropout 2: JAX shares its mask over axes 0: (1, 4), not (9, 4)" in findings(climb(twin))


def test_a_mask_that_is_tiled_over_the_batch():
    """One mask of the right shape for all examples, which the shapes do not tell."""

    def tiled(x, train, key):
        mask = jax.random.bernoulli(key("dropout"), 0.9, x.shape)
        return jnp.where(mask[:1], x / 0.9, 0) if train else x

    assert climb(net(two=tiled)).stages["forward"].verdict == DIVERGED


def test_a_layer_that_hands_its_input_on():
    class JaxDropoutOff(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            return x

    off = lambda x, train, key: JaxDropoutOff(name="off")(x)  # noqa: E731
    assert "PyTorch drops 2 times, JAX 1 time" in findings(climb(net(two=off)))


def test_a_key_that_is_always_the_same():
    found = alone(Twin(torch=TorchEqual, jax=JaxFixed(), inputs={"x": Array((9, 3))}, name="key"))
    assert any("alike in two successive calls" in text for text in found), found


@pytest.mark.parametrize("axis", [1, 2])
def test_elements_that_depend_on_one_another(axis: int):
    rng = np.random.default_rng(0)
    masks = rng.random((64, 16, 16)) < 0.8
    assert examine([(Draw((16, 16), 0.8), masks)]) == {}
    tied = masks.copy()
    tied[:, 1::2] = np.where(rng.random((64, 8, 16)) < 0.3, tied[:, ::2], tied[:, 1::2])
    tied = tied if axis == 1 else tied.swapaxes(1, 2)
    what, *_ = examine([(Draw((16, 16), 0.8), tied)])
    assert f"neighbours along axis {axis - 1}" in what


def test_draws_that_depend_on_one_another():
    rng = np.random.default_rng(0)
    one, two = rng.random((2, 64, 16)) < 0.8
    two = np.where(rng.random(two.shape) < 0.5, one, two)
    draw = Draw((16,), 0.8)
    assert list(examine([(draw, one), (draw, two)])) == ["dropout 1 and dropout 2: elements alike"]


def test_a_scale_of_its_own():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 64, 4))
    mask = rng.random(x.shape) < 0.8
    channels = rng.random((8, 1, 4)) < 0.8
    assert scaled(x, x * mask / 0.8) == ""
    assert scaled(x, x * channels / 0.8) == ""
    assert scaled(np.maximum(x, 0), np.maximum(x, 0) * mask / 0.8) == ""
    assert scaled(x, x) == ""
    assert scaled(x, x * mask / 0.9)
    assert scaled(x, x * mask)
    assert scaled(x, x * mask * rng.random(x.shape))
