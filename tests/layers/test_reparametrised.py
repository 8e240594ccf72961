"""Weight norm and spectral norm: several calls in both modes against torch, state and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn as tnn

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.layers import reparametrised as theirs
from tests.arrays import kernel, normal, weigh
from torchref.layers import reparametrised as ours

MODES = (True, True, False)
# torch's layer, Linen's, torch's shape of x.
LAYERS = {
    "linear": (lambda: tnn.Linear(3, 4), nn.Dense(4), (5, 3)),
    "tall": (lambda: tnn.Linear(2, 7, bias=False), nn.Dense(7, use_bias=False), (3, 2)),
    "sequence": (lambda: tnn.Conv1d(3, 4, 3), nn.Conv(4, (3,), padding="VALID"), (2, 3, 5)),
    "image": (lambda: tnn.Conv2d(2, 3, (1, 2)), nn.Conv(3, (1, 2), padding="VALID"), (2, 2, 2, 3)),
}
CASES = {(name, layer): {} for name in ("WeightNorm", "SpectralNorm") for layer in LAYERS}
CASES["SpectralNorm", "sequence"] = {"n_power_iterations": 3, "eps": 0.5}


def last(x):
    return x.movedim(1, -1) if isinstance(x, torch.Tensor) else jnp.moveaxis(x, 1, -1)


def by_torch(layer, x):
    """What the layer starts from, and per call its output, gradients and state."""
    draws = np.random.default_rng(3)
    with torch.no_grad():
        for value in (*layer.parameters(), *layer.buffers()):
            value.copy_(to_torch(draws.uniform(0.2, 2, value.shape)))
    names = {
        "bias": "bias",
        "parametrizations.weight.original0": "g",
        "parametrizations.weight.original1": "kernel",
        "parametrizations.weight.original": "kernel",
        "parametrizations.weight.0._u": "u",
        "parametrizations.weight.0._v": "v",
    }

    def named(values):
        found = {names[key]: to_numpy(value) for key, value in values}
        found["kernel"] = kernel(found["kernel"])
        return found | ({"g": found["g"].ravel()} if "g" in found else {})

    start, calls = named(layer.state_dict().items()), []
    for train in MODES:
        x = to_torch(to_numpy(x)).requires_grad_()
        layer.zero_grad()
        y = layer.train(train)(x)
        weigh(last(y)).backward()
        found = {"y": last(y), "x": last(x.grad), **dict(layer.named_buffers())}
        found = {names.get(key, key): to_numpy(value) for key, value in found.items()}
        slopes = named((key, value.grad) for key, value in layer.named_parameters())
        calls.append(found | {f"slope of {key}": value for key, value in slopes.items()})
    return start, calls


def program(layer):
    """(start, x) -> the same calls of a Linen layer."""

    def loss(params, x, stats, train):
        own = {key: value for key, value in params.items() if key in ("kernel", "bias")}
        params = {**{k: v for k, v in params.items() if k not in own}, "layer": own}
        mode = {"train": train} if isinstance(layer, theirs.SpectralNorm) else {}
        given = {"params": params, "batch_stats": stats}
        y, after = layer.apply(given, x, mutable=["batch_stats"], **mode)
        return weigh(y), (y, after.get("batch_stats", {}))

    def run(start, x):
        params = {key: value for key, value in start.items() if key not in "uv"}
        stats, calls = {key: value for key, value in start.items() if key in "uv"}, []
        for train in MODES:
            slope = jax.grad(loss, (0, 1), has_aux=True)
            (slopes, dx), (y, stats) = slope(params, last(x), stats, train)
            slopes = {f"slope of {key}": value for key, value in slopes.items()}
            calls.append({"y": y, "x": dx, **stats, **slopes})
        return calls

    return run


def pair(name, layer, more):
    make, linen, shape = LAYERS[layer] if isinstance(layer, str) else layer
    x = normal(7, *shape)
    start, wanted = by_torch(getattr(ours, name)(make().double(), **more), x)
    return program(getattr(theirs, name)(linen, **more)), jax.tree.map(to_jax, (start, x)), wanted


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            np.testing.assert_allclose(one[key], value, rtol=1e-9, atol=1e-13, err_msg=key)


def test_calls_in_both_modes():
    with jax.enable_x64(True):
        made = {" ".join(case): pair(*case, more) for case, more in CASES.items()}
        runs = {case: run for case, (run, _, _) in made.items()}
        every = jax.jit(lambda given: {case: run(*given[case]) for case, run in runs.items()})
        found = jax.tree.map(to_numpy, every({case: args for case, (_, args, _) in made.items()}))
    for case, (_, _, wanted) in made.items():
        assert_same(found[case], wanted)


@given(
    sizes=st.tuples(*[st.integers(2, 4)] * 3),
    times=st.integers(1, 3),
    eps=st.sampled_from([1e-12, 0.1, 2.0]),
)
def test_any_size(sizes, times, eps):
    rows, features, out = sizes
    layer = (lambda: tnn.Linear(features, out), nn.Dense(out), (rows, features))
    with jax.enable_x64(True):
        run, args, wanted = pair("SpectralNorm", layer, {"n_power_iterations": times, "eps": eps})
        assert_same(jax.tree.map(to_numpy, jax.jit(run)(*args)), wanted)


def test_the_start():
    """Weight norm changes nothing; spectral norm has iterated: v is what u makes of it."""
    x = jnp.ones((2, 3))
    weight = theirs.WeightNorm(nn.Dense(4))
    variables = weight.init(jax.random.key(0), x)
    alone = nn.Dense(4).apply({"params": variables["params"]["layer"]}, x)
    outputs = [np.asarray(y) for y in (weight.apply(variables, x), alone)]
    np.testing.assert_allclose(*outputs, rtol=1e-6)
    variables = theirs.SpectralNorm(nn.Dense(4)).init(jax.random.key(0), x)
    u, v = (np.asarray(variables["batch_stats"][key]) for key in "uv")
    matrix = np.asarray(variables["params"]["layer"]["kernel"]).T
    np.testing.assert_allclose(v, matrix.T @ u / np.linalg.norm(matrix.T @ u), rtol=1e-5)
    np.testing.assert_allclose(u @ matrix @ v, np.linalg.norm(matrix, 2), rtol=1e-2)


def test_calls_in_training_make_the_largest_singular_value_one():
    x = jnp.ones((2, 6))
    layer = theirs.SpectralNorm(nn.Dense(5))
    variables = layer.init(jax.random.key(0), x)
    step = jax.jit(lambda v: v | layer.apply(v, x, train=True, mutable=["batch_stats"])[1])
    for _ in range(200):
        variables = step(variables)
    u, v = (np.asarray(variables["batch_stats"][key]) for key in "uv")
    matrix = np.asarray(variables["params"]["layer"]["kernel"]).T
    assert abs(np.linalg.norm(matrix / (u @ matrix @ v), 2) - 1) < 1e-3
    ours = tnn.utils.parametrizations.spectral_norm(tnn.Linear(6, 5))
    for _ in range(200):
        weight = ours.weight
    assert abs(np.linalg.norm(to_numpy(weight), 2) - 1) < 1e-3


def test_faults_are_found(monkeypatch):
    """A gradient through u and v; half steps in Flax's order; an iteration in evaluation."""

    def order(self, matrix, u, v, times):
        for _ in range(times):
            v = theirs._unit(matrix.T @ u, self.eps)
            u = theirs._unit(matrix @ v, self.eps)
        return u, v

    def found_of(start, wanted):
        with pytest.raises(AssertionError, match="Mismatch"):
            assert_same(jax.tree.map(to_numpy, jax.jit(run)(*start)), wanted)

    with jax.enable_x64(True):
        run, args, wanted = pair("SpectralNorm", "linear", {})
        with monkeypatch.context() as patch:
            patch.setattr(theirs.jax.lax, "stop_gradient", lambda x: x)
            found_of(args, wanted)
        with monkeypatch.context() as patch:
            patch.setattr(theirs.SpectralNorm, "_iterated", order)
            found_of(args, wanted)
        found_of(args, [*wanted[:2], wanted[1]])


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (theirs.WeightNorm(nn.LayerNorm()), "module=LayerNorm"),
        (theirs.SpectralNorm(nn.LayerNorm()), "module=LayerNorm"),
        (theirs.SpectralNorm(nn.Dense(2), n_power_iterations=0), "n_power_iterations=0"),
    ],
)
def test_bad_arguments(layer, said):
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(lambda: layer.init(jax.random.key(0), jnp.ones((2, 3))))
