"""Initial weights: equal draws give equal values, and torch's distributions."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn as tnn
from torch.nn import init

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.layers import defaults as their_defaults
from jaxnn.layers import initialisers as theirs
from jaxnn.layers import structured as their_structured
from tests.arrays import kernel
from torchref.layers import defaults as our_defaults
from torchref.layers import initialisers as ours
from torchref.layers import structured as our_structured

OF_UNIFORM = {
    "uniform": {"a": -0.5, "b": 2.0},
    "xavier_uniform": {"gain": 1.3},
    "kaiming_uniform": {"a": 0.2, "mode": "fan_out"},
}
OF_NORMAL = {
    "normal": {"mean": 0.5, "std": 2.0},
    "xavier_normal": {"gain": 1.3},
    "kaiming_normal": {"nonlinearity": "relu"},
    "orthogonal": {"gain": 2.0},
}
NAMED = [(n, "uniform", o) for n, o in OF_UNIFORM.items()]
NAMED += [(n, "normal", o) for n, o in OF_NORMAL.items()]
SHAPES = [(6, 4), (4, 6), (5, 2, 3, 4), (2, 5, 3, 4), (7, 3, 5)]


def of(side: str, name: str):
    modules = (ours, our_structured) if side == "torch" else (theirs, their_structured)
    return next(getattr(m, name) for m in modules if hasattr(m, name))


def first(weight) -> np.ndarray:
    return np.moveaxis(to_numpy(weight), (-1, -2), (0, 1))


def torch_draws(noise: str, shape, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return getattr(torch.empty(shape, dtype=torch.float64), f"{noise}_")()


@pytest.fixture(scope="module")
def found():
    """Every function of JAX on torch's draws, in one program."""

    @jax.jit
    def program(draws):
        return {
            (name, shape): of("jax", name)(draws[noise, shape], **options)
            for name, noise, options in NAMED
            for shape in SHAPES
        }

    with jax.enable_x64(True):
        given = {
            (n, s): to_jax(kernel(to_numpy(torch_draws(n, s))))
            for n in ("uniform", "normal")
            for s in SHAPES
        }
        return {key: first(value) for key, value in program(given).items()}


def assert_same(found, wanted) -> None:
    np.testing.assert_allclose(found, to_numpy(wanted), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "noise", "options"), NAMED, ids=lambda x: x if isinstance(x, str) else ""
)
def test_the_same_draws_give_the_same_weights(name, noise, options, found):
    """On both sides, and from the same seed the weights of torch.nn.init itself."""
    for shape in SHAPES:
        mine = of("torch", name)(torch_draws(noise, shape), **options)
        assert_same(found[name, shape], mine)
        torch.manual_seed(0)
        native = getattr(init, f"{name}_")(torch.empty(shape, dtype=torch.float64), **options)
        assert_same(to_numpy(mine), native)


def test_a_fault_is_found(found):
    """Fans of the other layout, and an orthogonal matrix whose signs LAPACK chose."""
    slips = {
        "kaiming_uniform": lambda x: ours.kaiming_uniform(x.mT, 0.2, "fan_out").mT,
        "orthogonal": lambda x: 2 * torch.linalg.qr(x.mT)[0].mT,
    }
    for name, slip in slips.items():
        x = torch_draws("uniform" if name in OF_UNIFORM else "normal", (4, 6))
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            assert_same(found[name, (4, 6)], slip(x))


@pytest.mark.parametrize(("mean", "std", "a", "b"), [(0, 1, -2, 2), (0.5, 2, 0, 1), (0, 0.5, 1, 3)])
def test_truncated_normals(mean, std, a, b):
    u = np.linspace(0, 1, 201)[1:-1]
    with jax.enable_x64(True):
        found = to_numpy(theirs.trunc_normal(to_jax(u), mean, std, a, b))
    wanted = stats.truncnorm((a - mean) / std, (b - mean) / std, mean, std)
    assert_same(found, ours.trunc_normal(to_torch(u), mean, std, a, b))
    np.testing.assert_allclose(found, wanted.ppf(u), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 1.0])
def test_sparse(sparsity):
    z, order = torch_draws("normal", (7, 5)), torch_draws("uniform", (7, 5), seed=1)
    wanted = our_structured.sparse(z, order, sparsity, std=0.1)
    with jax.enable_x64(True):
        found = their_structured.sparse(
            to_jax(to_numpy(z).T), to_jax(to_numpy(order).T), sparsity, 0.1
        )
    assert_same(to_numpy(found).T, wanted)
    zeros = (init.sparse_(torch.empty(7, 5), sparsity) == 0).sum(0)
    assert torch.equal((wanted == 0).sum(0), zeros)


@pytest.mark.parametrize("shape", [(4, 4, 3), (6, 2, 3, 4), (2, 6, 2, 3, 4), (6, 6, 1)])
def test_dirac(shape):
    for groups in (1, 2):
        found = their_structured.dirac(kernel(np.empty(shape)).shape, groups)
        assert_same(first(found), our_structured.dirac(shape, groups))


@pytest.mark.parametrize("name", ["linear", "conv_transpose2d", "sigmoid", "tanh", "relu", "selu"])
def test_gains(name):
    assert theirs.calculate_gain(name) == init.calculate_gain(name)


def test_gains_of_slopes():
    for slope in (None, 0, 0.2, math.sqrt(5)):
        assert theirs.calculate_gain("leaky_relu", slope) == init.calculate_gain(
            "leaky_relu", slope
        )


def jax_weights(module, name, noise, shape, **options) -> np.ndarray:
    init_ = theirs.initialiser(getattr(module, name), *noise, **options)
    return np.asarray(init_(jax.random.key(0), shape))


def torch_weights(module, name, noise, shape, **options) -> np.ndarray:
    init_ = ours.initialiser(getattr(module, name), *noise, **options)
    return init_(torch.empty(shape), torch.Generator().manual_seed(2)).numpy()


# What torch fills in by itself -> our function, its noise and its shape in both layouts.
LAYERS: dict[str, tuple[Callable[[], torch.Tensor], str, tuple[int, ...]]] = {
    "Linear": (lambda: tnn.Linear(60, 50).weight, "linear_weight", (50, 60)),
    "Conv2d": (lambda: tnn.Conv2d(16, 20, 3).weight, "linear_weight", (20, 16, 3, 3)),
    "grouped": (lambda: tnn.Conv2d(16, 40, 3, groups=4).weight, "linear_weight", (40, 4, 3, 3)),
    "transposed": (lambda: tnn.ConvTranspose2d(20, 16, 3).weight, "linear_weight", (20, 16, 3, 3)),
    "Embedding": (lambda: tnn.Embedding(50, 60).weight, "embedding", (50, 60)),
    "bias": (lambda: tnn.Linear(9, 3000).bias, "linear_bias", (3000,)),
    "Bilinear": (lambda: tnn.Bilinear(9, 20, 20).weight, "bilinear", (20, 9, 20)),
    "LSTM": (lambda: tnn.LSTM(30, 25).all_weights[0][1], "recurrent", (100, 25)),
    "attention": (
        lambda: tnn.MultiheadAttention(32, 2).in_proj_weight,
        "xavier_uniform",
        (96, 32),
    ),
}
OPTIONS = {
    "bias": {"weight_shape": (3000, 9)},
    "Bilinear": {"in1_features": 9},
    "LSTM": {"hidden_size": 25},
}


def samples(layer: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of torch's own layer, of PyTorch's side and of JAX's."""
    name, shape = LAYERS[layer][1:]
    torch.manual_seed(1)
    native = LAYERS[layer][0]().detach().numpy().ravel()
    noise, options = ["normal" if name == "embedding" else "uniform"], OPTIONS.get(layer, {})
    module = ours if name == "xavier_uniform" else our_defaults
    mine = torch_weights(module, name, noise, shape, **options)
    module = theirs if name == "xavier_uniform" else their_defaults
    if layer == "bias":
        options = {"weight_shape": (9, 3000)}
    moved = len(shape) > 1 and name not in ("embedding", "bilinear", "recurrent")
    shape = kernel(np.empty(shape)).shape if moved else shape
    return native, mine.ravel(), jax_weights(module, name, noise, shape, **options).ravel()


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_start_alike(layer):
    """Kolmogorov and Smirnov's test between thousands of weights: no sign of a difference."""
    native, mine, his = samples(layer)
    for sample in (mine, his):
        assert stats.ks_2samp(native, sample).pvalue > 1e-3


@pytest.mark.parametrize(
    "name", ["trunc_normal", "normal", "xavier_normal", "kaiming_uniform", "orthogonal", "sparse"]
)
def test_distributions_of_torch_nn_init(name):
    noise = {
        "trunc_normal": ["uniform"],
        "kaiming_uniform": ["uniform"],
        "sparse": ["normal", "uniform"],
    }
    options = {"sparsity": 0.2} if name == "sparse" else {}
    torch.manual_seed(1)
    native = getattr(init, f"{name}_")(torch.empty(60, 50), **options).numpy().ravel()
    module = their_structured if name in ("orthogonal", "sparse") else theirs
    his = jax_weights(module, name, noise.get(name, ["normal"]), (50, 60), **options).ravel()
    assert stats.ks_2samp(native, his).pvalue > 1e-3


def test_what_flax_starts_with_is_found_to_differ():
    native, _, _ = samples("Linear")
    lecun = np.asarray(nn.initializers.lecun_normal()(jax.random.key(0), (60, 50)))
    assert stats.ks_2samp(native, lecun.ravel()).pvalue < 1e-9
    variance = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    his = np.asarray(variance(jax.random.key(0), (60, 50)))
    assert stats.ks_2samp(native, his.ravel()).pvalue > 1e-3


def test_initialisers_serve_flax():
    uniform = theirs.initialiser(their_defaults.linear_weight, "uniform")
    dense = nn.Dense(5, kernel_init=uniform)
    params = dense.init(jax.random.key(0), jnp.ones((1, 16)))["params"]
    kernel = np.asarray(params["kernel"])
    assert kernel.shape == (16, 5)
    assert 0.2 < np.abs(kernel).max() <= 0.25


def test_padding_has_an_embedding_of_zeros():
    for row in (2, -1):
        mine = our_defaults.embedding(torch_draws("normal", (4, 3)), row)
        his = their_defaults.embedding(to_jax(to_numpy(torch_draws("normal", (4, 3)))), row)
        np.testing.assert_allclose(his, mine, rtol=1e-6)
        assert (np.flatnonzero((mine == 0).all(1)) == [row % 4]).all()


BAD = {
    "axes": lambda m, d, s, x: m.xavier_uniform(x[0]),
    "mode": lambda m, d, s, x: m.kaiming_normal(x, mode="fan_avg"),
    "onlinearity": lambda m, d, s, x: m.calculate_gain("gelu"),
    "noise": lambda m, d, s, x: m.initialiser(m.uniform, "gamma"),
    "padding_idx": lambda m, d, s, x: d.embedding(x, 9),
    "two axes": lambda m, d, s, x: s.sparse(x[None], x[None], 0.1),
    "fewer": lambda m, d, s, x: s.orthogonal(x[0]),
    "ivisible|groups": lambda m, d, s, x: s.dirac((3, 3, 3), 2),
}


@pytest.mark.parametrize("said", BAD)
def test_bad_arguments(said):
    for modules in (
        (ours, our_defaults, our_structured),
        (theirs, their_defaults, their_structured),
    ):
        x = torch.ones(3, 3) if modules[0] is ours else jnp.ones((3, 3))
        with pytest.raises(ValueError, match=said):
            BAD[said](*modules, x)
