"""Each rule fires on the layer that differs, and on none that is equal; the catalogue is clean."""

from __future__ import annotations

import functools
import time
from typing import Any

import equinox as eqx
import flax.linen as fnn
import jax
import pytest
from flax import nnx
from torch import nn

import jaxnn.layers.recurrent as layers
from compare import Array, Image, Twin
from compare.discover import catalogue
from compare.finder.lint import RULES, hyperparameters, lint
from compare.ladder.pair import Pair
from jaxnn.layers.norm import BatchNorm

KEY, RNGS = jax.random.key(0), nnx.Rngs(0)
IMAGES, ROWS, SERIES = Image(2, 4, 8, 8), Array((4, 4)), Array((2, 3, 4))


class TorchHolder(nn.Module):
    """One layer."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


class TorchAttention(TorchHolder):
    def forward(self, x):
        return self.layer(x, x, x)[0]


class TorchSequence(TorchHolder):
    def forward(self, x):
        return self.layer(x)[0]


class LinenHolder(fnn.Module):
    make: Any

    @fnn.compact
    def __call__(self, x):
        return self.make(name="layer")(x)


class NnxHolder(nnx.Module):
    def __init__(self, layer: nnx.Module):
        self.layer = layer

    def __call__(self, x):
        return self.layer(x)


class EqxHolder(eqx.Module):
    layer: Any

    def __call__(self, x):
        return self.layer(x)


def linen(cls: Any, **options: Any) -> Any:
    return LinenHolder(functools.partial(cls, **options))


def norm(**options: Any) -> Any:
    return linen(fnn.BatchNorm, use_running_average=True, **options)


def conv(**options: Any) -> Any:
    given = {"padding": 1, **options}
    return linen(fnn.Conv, features=4, kernel_size=(3, 3), **given)


class Own(fnn.Module):
    """A layer of the user's own, without weights."""

    negative_slope: float = 0.01
    approximate: bool = False
    axis: int = -1
    use_ceil: bool = False

    @fnn.compact
    def __call__(self, x):
        return x


def gru(**options: Any) -> Any:
    cell = fnn.GRUCell(options.pop("features", 4))
    return linen(functools.partial(fnn.RNN, cell), **options)


def attention(**options: Any) -> Any:
    return linen(fnn.MultiHeadDotProductAttention, num_heads=2, deterministic=True, **options)


def up(**options: Any) -> Any:
    return linen(
        fnn.ConvTranspose, features=4, kernel_size=(4, 4), transpose_kernel=True, **options
    )


TORCH_CONV, TORCH_STRIDED = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, padding=1)
TORCH_UP = nn.ConvTranspose2d(4, 4, 4, 2, padding=1)
TORCH_GRU = nn.GRU(4, 4, batch_first=True)
SMALL = {"epsilon": 1e-5}

# what -> input, torch's layer, the layers that are equal, those that are not
CASES: dict[str, tuple[Any, nn.Module, list[Any], list[Any]]] = {
    "eps": (
        ROWS,
        nn.LayerNorm(4),
        [
            linen(fnn.LayerNorm, epsilon=1e-5),
            NnxHolder(nnx.LayerNorm(4, epsilon=1e-5, rngs=RNGS)),
            EqxHolder(eqx.nn.LayerNorm(4)),
        ],
        [
            linen(fnn.LayerNorm),
            NnxHolder(nnx.LayerNorm(4, rngs=RNGS)),
            EqxHolder(eqx.nn.LayerNorm(4, eps=1e-6)),
        ],
    ),
    "momentum": (
        IMAGES,
        nn.BatchNorm2d(4),
        [norm(momentum=0.9), NnxHolder(nnx.BatchNorm(4, momentum=0.9, rngs=RNGS))],
        [norm(momentum=0.1), norm(), NnxHolder(nnx.BatchNorm(4, rngs=RNGS))],
    ),
    "stride": (
        IMAGES,
        TORCH_STRIDED,
        [
            conv(strides=2),
            conv(strides=(2, 2)),
            NnxHolder(nnx.Conv(4, 4, (3, 3), strides=2, padding=1, rngs=RNGS)),
            EqxHolder(eqx.nn.Conv2d(4, 4, 3, 2, 1, key=KEY)),
        ],
        [
            conv(),
            conv(strides=(1, 2)),
            NnxHolder(nnx.Conv(4, 4, (3, 3), padding=1, rngs=RNGS)),
            EqxHolder(eqx.nn.Conv2d(4, 4, 3, 1, 1, key=KEY)),
        ],
    ),
    "dilation": (
        IMAGES,
        nn.Conv2d(4, 4, 3, padding=1, dilation=2),
        [conv(kernel_dilation=2), EqxHolder(eqx.nn.Conv2d(4, 4, 3, 1, 1, 2, key=KEY))],
        [conv(), EqxHolder(eqx.nn.Conv2d(4, 4, 3, 1, 1, 1, key=KEY))],
    ),
    "padding": (
        IMAGES,
        TORCH_CONV,
        [
            conv(),
            conv(padding="SAME"),
            conv(padding=((1, 1), (1, 1))),
            EqxHolder(eqx.nn.Conv2d(4, 4, 3, padding="SAME", key=KEY)),
        ],
        [
            conv(padding="VALID"),
            conv(padding="CIRCULAR"),
            conv(padding=((0, 1), (1, 1))),
            EqxHolder(eqx.nn.Conv2d(4, 4, 3, key=KEY)),
        ],
    ),
    "padding at stride 2": (
        IMAGES,
        TORCH_STRIDED,
        [conv(strides=2)],
        [conv(strides=2, padding="SAME")],
    ),
    "padding by name": (
        IMAGES,
        nn.Conv2d(4, 4, 3, padding="same"),
        [conv(padding="SAME"), conv()],
        [conv(padding=0)],
    ),
    "padding of a transposed convolution": (
        IMAGES,
        TORCH_UP,
        [
            up(strides=(2, 2), padding="SAME"),
            up(strides=(2, 2), padding=((2, 2), (2, 2))),
            EqxHolder(eqx.nn.ConvTranspose2d(4, 4, 4, 2, padding=1, key=KEY)),
        ],
        [
            up(strides=(2, 2), padding="VALID"),
            up(strides=(2, 2), padding=((1, 1), (1, 1))),
            EqxHolder(eqx.nn.ConvTranspose2d(4, 4, 4, 2, key=KEY)),
        ],
    ),
    "groups": (
        IMAGES,
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        [conv(feature_group_count=2), EqxHolder(eqx.nn.Conv2d(4, 4, 3, 1, 1, 1, 2, key=KEY))],
        [conv(feature_group_count=4), EqxHolder(eqx.nn.Conv2d(4, 4, 3, 1, 1, key=KEY))],
    ),
    "kernel_size": (IMAGES, nn.Conv2d(4, 4, 5, padding=1), [], [conv()]),
    "num_groups": (
        IMAGES,
        nn.GroupNorm(2, 4),
        [
            linen(fnn.GroupNorm, num_groups=2, **SMALL),
            NnxHolder(nnx.GroupNorm(4, num_groups=2, epsilon=1e-5, rngs=RNGS)),
            EqxHolder(eqx.nn.GroupNorm(2, 4)),
        ],
        [
            linen(fnn.GroupNorm, num_groups=4, **SMALL),
            NnxHolder(nnx.GroupNorm(4, num_groups=1, epsilon=1e-5, rngs=RNGS)),
            EqxHolder(eqx.nn.GroupNorm(4, 4)),
        ],
    ),
    "bias": (
        ROWS,
        nn.Linear(4, 4),
        [linen(fnn.Dense, features=4), EqxHolder(eqx.nn.Linear(4, 4, key=KEY))],
        [
            linen(fnn.Dense, features=4, use_bias=False),
            NnxHolder(nnx.Linear(4, 4, use_bias=False, rngs=RNGS)),
            EqxHolder(eqx.nn.Linear(4, 4, use_bias=False, key=KEY)),
        ],
    ),
    "weight": (
        ROWS,
        nn.LayerNorm(4, elementwise_affine=False),
        [linen(fnn.LayerNorm, use_scale=False, use_bias=False, **SMALL)],
        [
            linen(fnn.LayerNorm, use_bias=False, **SMALL),
            EqxHolder(eqx.nn.LayerNorm(4, use_bias=False)),
        ],
    ),
    "normalized_shape": (
        SERIES,
        nn.LayerNorm([3, 4]),
        [
            linen(fnn.LayerNorm, reduction_axes=(-2, -1), feature_axes=(-2, -1), **SMALL),
            EqxHolder(eqx.nn.LayerNorm((3, 4))),
        ],
        [linen(fnn.LayerNorm, **SMALL), EqxHolder(eqx.nn.LayerNorm(4))],
    ),
    "num_heads": (
        SERIES,
        nn.MultiheadAttention(4, 2, batch_first=True),
        [
            linen(fnn.MultiHeadDotProductAttention, num_heads=2),
            NnxHolder(nnx.MultiHeadAttention(2, 4, decode=False, rngs=RNGS)),
        ],
        [
            linen(fnn.MultiHeadDotProductAttention, num_heads=4),
            NnxHolder(nnx.MultiHeadAttention(1, 4, decode=False, rngs=RNGS)),
        ],
    ),
    "in_proj_bias": (
        SERIES,
        nn.MultiheadAttention(4, 2, batch_first=True),
        [],
        [
            linen(fnn.MultiHeadDotProductAttention, num_heads=2, use_bias=False),
            EqxHolder(eqx.nn.MultiheadAttention(2, 4, key=KEY)),
        ],
    ),
    "dropout": (
        SERIES,
        nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True),
        [
            linen(
                fnn.MultiHeadDotProductAttention, num_heads=2, dropout_rate=0.1, deterministic=True
            )
        ],
        [
            attention(),
            EqxHolder(eqx.nn.MultiheadAttention(2, 4, use_query_bias=True, dropout_p=0.2, key=KEY)),
        ],
    ),
    "p": (
        ROWS,
        nn.Dropout(0.3),
        [
            linen(fnn.Dropout, rate=0.3, deterministic=True),
            NnxHolder(nnx.Dropout(0.3, rngs=RNGS)),
            EqxHolder(eqx.nn.Dropout(0.3)),
        ],
        [
            linen(fnn.Dropout, rate=0.7, deterministic=True),
            NnxHolder(nnx.Dropout(0.7, rngs=RNGS)),
            EqxHolder(eqx.nn.Dropout(0.7)),
        ],
    ),
    "hidden_size": (SERIES, TORCH_GRU, [gru()], [gru(features=5)]),
    "batch_first": (SERIES, TORCH_GRU, [gru(time_major=False)], [gru(time_major=True)]),
    "num_layers": (
        SERIES,
        nn.LSTM(4, 4, 2),
        [linen(layers.LSTM, input_size=4, hidden_size=4, num_layers=2)],
        [linen(layers.LSTM, input_size=4, hidden_size=4)],
    ),
    "bidirectional": (
        SERIES,
        nn.LSTM(4, 4, bidirectional=True),
        [linen(layers.LSTM, input_size=4, hidden_size=4, bidirectional=True)],
        [linen(layers.LSTM, input_size=4, hidden_size=4)],
    ),
    "nonlinearity": (
        SERIES,
        nn.RNN(4, 4),
        [linen(layers.RNN, input_size=4, hidden_size=4)],
        [linen(layers.RNN, input_size=4, hidden_size=4, nonlinearity="relu")],
    ),
    "bias of a recurrent layer": (
        ROWS,
        nn.GRUCell(4, 4),
        [],
        [EqxHolder(eqx.nn.GRUCell(4, 4, use_bias=False, key=KEY))],
    ),
    "negative_slope": (
        ROWS,
        nn.LeakyReLU(0.2),
        [linen(Own, negative_slope=0.2)],
        [linen(Own)],
    ),
    "approximate": (
        ROWS,
        nn.GELU("tanh"),
        [linen(Own, approximate=True)],
        [linen(Own)],
    ),
    "dim": (ROWS, nn.Softmax(1), [linen(Own, axis=1)], [linen(Own, axis=0)]),
    "ceil_mode": (
        IMAGES,
        nn.MaxPool2d(2, ceil_mode=True),
        [EqxHolder(eqx.nn.MaxPool2d(2, 2, use_ceil=True))],
        [EqxHolder(eqx.nn.MaxPool2d(2, 2))],
    ),
}


def findings(x: Any, layer: nn.Module, jax_model: Any) -> list[Any]:
    holder = TorchAttention if isinstance(layer, nn.MultiheadAttention) else TorchHolder
    holder = TorchSequence if isinstance(layer, nn.RNNBase) else holder
    twin = Twin(torch=holder(layer), jax=jax_model, inputs={"x": x}, name="lint")
    return lint(Pair(twin))


@pytest.mark.parametrize("name", CASES)
def test_rules(name: str):
    x, layer, equal, different = CASES[name]
    for model in equal:
        found = findings(x, layer, model)
        assert not [f.line for f in found if f.what == name.split()[0]]
    for model in different:
        found = findings(x, layer, model)
        assert [f.what for f in found].count(name.split()[0]) == 1, (model, found)
        assert {(f.torch, f.jax) for f in found} == {("layer", "layer")}


def test_every_rule_has_a_case():
    assert {rule.what for rule in RULES} == {name.split()[0] for name in CASES}


def test_what_is_said():
    found = findings(IMAGES, nn.BatchNorm2d(4), norm(momentum=0.1, epsilon=1e-3))
    assert [f.line for f in found] == [
        "layer / layer: eps=1e-05 in PyTorch, epsilon=0.001 in JAX",
        (
            "layer / layer: momentum=0.1 in PyTorch, momentum=0.1 in JAX; Flax's is the share of"
            " the old value, PyTorch's that of the new one"
        ),
    ]
    assert (found[0].ours, found[0].theirs) == (1e-5, 1e-3)


@pytest.mark.parametrize("momentum", [None, 0.1])
def test_a_momentum_that_is_none(momentum):
    """A layer of jaxnn's averages over all batches, as torch's does."""
    found = findings(
        IMAGES,
        nn.BatchNorm2d(4, momentum=momentum),
        linen(BatchNorm, num_features=4, momentum=None),
    )
    assert [f.what for f in found] == (["momentum"] if momentum else [])


def test_layers_that_are_paired_by_their_weights():
    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(4)

        def forward(self, x):
            return self.norm(x)

    model = linen(fnn.LayerNorm)
    pair = Pair(Twin(torch=Torch, jax=model, inputs={"x": ROWS}, name="other names"))
    assert [(f.torch, f.jax, f.what) for f in lint(pair)] == [("norm", "layer", "eps")]


def test_a_functions_layers_are_those_of_its_module():
    model = linen(fnn.LayerNorm)
    twin = Twin(torch=TorchHolder(nn.LayerNorm(4)), jax=(model.apply, {}), inputs={"x": ROWS})
    assert hyperparameters(twin, (model.apply, {}))["layer"][0] == "Linen LayerNorm"
    assert hyperparameters(twin, lambda x: x) == {}


@pytest.mark.parametrize("name", catalogue())
def test_the_catalogue_is_clean(name: str):
    twin = catalogue()[name]
    pair = Pair(twin)
    assert pair.weights is not None
    start = time.perf_counter()
    assert [f.line for f in lint(pair)] == []
    assert time.perf_counter() - start < 5  # it takes less than one on an idle machine
