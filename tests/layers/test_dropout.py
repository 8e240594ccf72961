"""Dropouts against torch's own under the same masks; what they draw; weights and branches."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compare.capture.torch_masks import Masks
from compare.share import to_jax, to_numpy, to_torch
from jaxnn.layers import dropout as jax_dropout
from jaxnn.layers import stochastic as jax_stochastic
from tests.arrays import weigh
from torchref.layers import dropout as torch_dropout
from torchref.layers import stochastic as torch_stochastic


def both(one, other):
    names = {name: getattr(module, name) for module in (one, other) for name in module.__all__}
    return SimpleNamespace(**names)


ours = both(torch_dropout, torch_stochastic)
theirs = both(jax_dropout, jax_stochastic)
# torch's module, the function of its mask, torch's shape of x.
MODULES = {
    "Dropout": ("dropout", (3, 4, 2)),
    "Dropout1d": ("feature_dropout", (3, 4, 2)),
    "Dropout2d": ("feature_dropout", (3, 4, 2, 2)),
    "Dropout3d": ("feature_dropout", (3, 4, 2, 1, 2)),
    "AlphaDropout": ("alpha_dropout", (3, 4)),
    "FeatureAlphaDropout": ("feature_alpha_dropout", (3, 4, 2)),
}
RATES = (0.0, 0.3, 0.5, 1.0)


def moved(function, channels):
    """A function of JAX's side on torch's layout."""

    def call(x, *rest):
        y = function(jnp.moveaxis(x, 1, -1), *rest)
        return jnp.moveaxis(y, -1, 1)

    return call if channels else function


def by_torch(function, x, *rest):
    x = to_torch(x).requires_grad_()
    y = function(x, *rest)
    weigh(y).backward()
    return to_numpy(y), to_numpy(x.grad)


def with_slope(function):
    def call(x, *rest):
        def loss(x):
            y = function(x, *rest)
            return weigh(y), y

        slope, y = jax.grad(loss, has_aux=True)(x)
        return y, slope

    return call


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(to_numpy(one), other, rtol=1e-9, atol=1e-14)


@pytest.fixture(scope="module")
def known(normal):
    """(Module, rate) -> x, mask, and what torch's module makes of x with that mask."""
    found = {}
    for name, (function, shape) in MODULES.items():
        for p in RATES:
            numbers = np.random.default_rng(1).uniform(size=shape)
            if function.startswith("feature"):
                numbers = numbers[(..., *[slice(0, 1)] * (len(shape) - 2))]
            module, x = getattr(ours, name)(p), normal(0, *shape)
            with Masks(lambda: "", lambda index, shape, n=numbers: n.reshape(shape)):
                wanted = by_torch(module, x)
            mask = numbers < 1 - p
            mask = mask.reshape(shape[:2]) if function.startswith("feature") else mask
            found[name, p] = x, mask, wanted
    return found


def test_functions_are_torchs_modules(known):
    """Both sides' functions, given the mask that the module drew."""

    @jax.jit
    def program(given):
        found = {}
        for (name, p), (x, mask) in given.items():
            function = MODULES[name][0]
            call = moved(getattr(theirs, function), function.startswith("feature"))
            found[name, p] = with_slope(call)(x, mask, p)
        return found

    with jax.enable_x64(True):
        found = program({case: (to_jax(x), to_jax(mask)) for case, (x, mask, _) in known.items()})
    for (name, p), (x, mask, wanted) in known.items():
        assert_same(found[name, p], wanted)
        assert_same(by_torch(getattr(ours, MODULES[name][0]), x, to_torch(mask), p), wanted)


def test_faults_are_found(known):
    """No scale, a mask that says what is dropped, and selu's bound without what makes up for it."""
    x, mask, wanted = known["Dropout", 0.3]
    slips = [x * mask, jax_dropout.dropout(x, ~mask, 0.3), jax_dropout.dropout(x, mask, 0.31)]
    for slip in slips:
        with pytest.raises(AssertionError, match="Mismatch"):
            assert_same([slip], wanted[:1])
    x, mask, wanted = known["AlphaDropout", 0.3]
    slips = [np.where(mask, x, -jax_dropout.ALPHA), jax_dropout.dropout(x, mask, 0.3)]
    for slip in slips:
        with pytest.raises(AssertionError, match="Mismatch"):
            assert_same([slip], wanted[:1])


@given(
    name=st.sampled_from(
        ["dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "drop_path"]
    ),
    shape=st.tuples(*[st.integers(1, 3)] * 3),
    p=st.sampled_from([0.0, 0.25, 0.9, 1.0]),
    kind=st.sampled_from([bool, np.int32, np.float64]),
    seed=st.integers(0, 99),
)
def test_any_mask(name, shape, p, kind, seed, normal):
    feature = name.startswith("feature")
    size = shape[:2] if feature else shape[:1] if name == "drop_path" else shape
    mask = (np.random.default_rng(seed).uniform(size=size) < 1 - p).astype(kind)
    x = normal(seed, *shape)
    wanted = by_torch(getattr(ours, name), x, to_torch(mask), p)
    with jax.enable_x64(True):
        call = with_slope(moved(getattr(theirs, name), feature))
        found = jax.jit(call, static_argnums=2)(to_jax(x), to_jax(mask), p)
        assert_same(found, wanted)


@pytest.mark.parametrize("name", [*MODULES, "DropPath"])
def test_what_a_module_draws(name):
    """Nothing in evaluation; in training a share of 1 - p, of whole channels or examples."""
    rank = len(MODULES[name][1]) if name in MODULES else 3
    shape = (200, *[2] * (rank - 2), 50)
    layer, x = getattr(theirs, name)(0.3), jnp.ones(shape)
    assert np.array_equal(layer.apply({}, x), x)
    y = np.asarray(layer.apply({}, x, train=True, rngs={"dropout": jax.random.key(3)}))
    kept = y == y.max()
    whole = {"Dropout": (), "AlphaDropout": (), "DropPath": range(1, rank)}
    axes = tuple(whole.get(name, range(1, rank - 1)))
    assert np.array_equal(kept.all(axes), kept.any(axes))
    count = kept.all(axes).size
    assert abs(kept.mean() - 0.7) < 4 * (0.21 / count) ** 0.5
    # The same key draws the same mask, another one another.
    again = [layer.apply({}, x, train=True, rngs={"dropout": jax.random.key(k)}) for k in (3, 4)]
    assert np.array_equal(again[0], y)
    assert not np.array_equal(again[1], y)


def test_the_ends():
    """Rates of 0 and 1 draw nothing, so that no stream of random numbers is needed."""
    for name, (_, shape) in MODULES.items():
        x = jnp.full(shape, 2.0)
        for p, wanted in ((0.0, 2.0), (1.0, 0.0)):
            y = getattr(theirs, name)(p).apply({}, x, train=True)
            assert np.array_equal(y, jnp.full(shape, wanted)), name


def test_alpha_dropout_keeps_mean_and_variance(normal):
    x, mask = normal(0, 10**5), np.random.default_rng(2).uniform(size=10**5) < 0.6
    y = to_numpy(ours.alpha_dropout(to_torch(x), to_torch(mask), 0.4))
    assert abs(y.mean()) < 0.015
    assert abs(y.var() - 1) < 0.02


def test_an_infinite_element():
    """Documented: NaN where torch drops it, whose own does so too; dropped where JAX does."""
    x, mask = np.array([np.inf, np.inf]), np.array([False, True])
    for name, bound in (("dropout", 0), ("alpha_dropout", -0.77917)):
        found = to_numpy(getattr(theirs, name)(to_jax(x), to_jax(mask)))
        np.testing.assert_allclose(found, [bound, np.inf], rtol=1e-4)
        found = to_numpy(getattr(ours, name)(to_torch(x), to_torch(mask)))
        np.testing.assert_equal(found, [np.nan, np.inf])
    assert ours.Dropout(1.0)(to_torch(x)).isnan().all()


def test_drop_connect(normal):
    """One mask for all examples, and one for each, against the layer of each example alone."""
    x, weight, bias = normal(0, 5, 4), normal(1, 3, 4), normal(2, 3)
    masks = np.random.default_rng(3).uniform(size=(5, 3, 4)) < 0.7
    alone = [(mask * weight / 0.7) @ row + bias for row, mask in zip(x, masks, strict=True)]
    shared = x @ (masks[0] * weight / 0.7).T + bias
    for mask, wanted in ((masks, alone), (masks[0], shared)):
        y = ours.drop_connect(*(to_torch(a) for a in (x, weight, bias, mask)), 0.3)
        np.testing.assert_allclose(to_numpy(y), wanted, rtol=1e-12)
        with jax.enable_x64(True):
            y = theirs.drop_connect(*(to_jax(a) for a in (x, weight, bias, mask)), 0.3)
            np.testing.assert_allclose(to_numpy(y), wanted, rtol=1e-12)


def test_modules_that_drop_weights_and_branches(normal):
    """Where nothing is dropped they are the linear layer and the branch, where all is, the bias."""
    x = normal(0, 5, 4)
    for p, train in ((0.9, False), (0.0, True), (1.0, True)):
        layer, path = ours.DropConnect(4, 3, p), ours.DropPath(p)
        layer.double().train(train), path.train(train)
        weight, bias = (to_numpy(value) for value in layer.parameters())
        wanted = x @ weight.T * (p < 1 or not train) + bias
        np.testing.assert_allclose(to_numpy(layer(to_torch(x))), wanted, rtol=1e-12)
        np.testing.assert_array_equal(to_numpy(path(to_torch(x))), x * (p < 1 or not train))
        with jax.enable_x64(True):
            params = {"kernel": to_jax(weight.T), "bias": to_jax(bias)}
            y = theirs.DropConnect(4, 3, p).apply({"params": params}, to_jax(x), train=train)
            np.testing.assert_allclose(np.asarray(y), wanted, rtol=1e-12)
            y = theirs.DropPath(p).apply({}, to_jax(x), train=train)
            np.testing.assert_array_equal(np.asarray(y), x * (p < 1 or not train))


@pytest.mark.parametrize("p", [-0.1, 1.1])
@pytest.mark.parametrize("name", ["dropout", "alpha_dropout", "feature_dropout", "drop_path"])
def test_bad_rates(name, p):
    for module, like in ((ours, torch.ones), (theirs, jnp.ones)):
        mask = like((2, 3)) if name != "drop_path" else like(2)
        with pytest.raises(ValueError, match="between 0 and 1"):
            getattr(module, name)(like((2, 3)), mask, p)


@pytest.mark.parametrize("name", [*MODULES, "DropPath"])
def test_bad_rates_of_modules(name):
    shape = MODULES[name][1] if name in MODULES else (2, 3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        getattr(ours, name)(1.5)
    layer = getattr(theirs, name)(1.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        layer.apply({}, jnp.ones(shape), train=True, rngs={"dropout": jax.random.key(0)})
