"""Dropout's masks: the same on both sides, wherever a model drops, and paired by execution."""

from __future__ import annotations

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

from compare import Array, Image, Twin
from compare.capture.given import Given
from compare.capture.masks import Draw, Site, fit, plan, uniform
from compare.ladder.pair import Pair
from compare.ladder.verdict import DIVERGED, SAME
from tests.dropouts import JaxEqual, JaxImages, TorchEqual, TorchImages, findings, linen, net
from tests.toys import climb, trouble


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


class TorchReseeded(TorchEqual):
    reseed = True


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
        rename={r"mha\.out_proj": "o"} if packed else {},
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
