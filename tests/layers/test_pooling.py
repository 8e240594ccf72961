"""Pooling: values, indices and gradients at ties, infinities, NaN and the edges of the grid."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnn.layers import adaptive, pooling, unpooling
from tests.arrays import assert_same
from tests.layers.channels import by_jax, by_torch
from torchref.layers import adaptive as torch_adaptive
from torchref.layers import pooling as torch_pooling
from torchref.layers import unpooling as torch_unpooling

HALF = {"kernel_size": 3, "stride": 2, "padding": 1}
# Name of the function, size of the grid, keywords.
CASES = {
    "1d": ("max_pool1d", (9,), {"kernel_size": 2}),
    "1d, dilation": ("max_pool1d", (9,), {"kernel_size": 3, "dilation": 3, "padding": 1}),
    "one window": ("max_pool2d", (5, 4), {"kernel_size": (5, 3), "stride": 7}),
    "edge": ("max_pool2d", (7, 6), HALF),
    "ceil": ("max_pool2d", (8, 6), {**HALF, "ceil_mode": True}),
    "ceil, dropped": (
        "max_pool2d",
        (6, 6),
        {"kernel_size": 2, "stride": (3, 4), "padding": 1, "ceil_mode": True},
    ),
    "3d": ("max_pool3d", (3, 5, 4), {"kernel_size": (1, 3, 2), "dilation": (1, 2, 1)}),
    "mean, 1d": ("avg_pool1d", (9,), {**HALF, "ceil_mode": True}),
    "mean": ("avg_pool2d", (7, 6), {"kernel_size": (3, 2)}),
    "mean, ceil": ("avg_pool2d", (8, 6), {**HALF, "ceil_mode": True}),
    "mean, inside": ("avg_pool2d", (8, 6), {**HALF, "ceil_mode": True, "count_include_pad": False}),
    "mean, divisor": ("avg_pool2d", (7, 6), {**HALF, "divisor_override": -2}),
    "mean, 3d": ("avg_pool3d", (3, 5, 4), {"kernel_size": 2, "stride": 1, "padding": (0, 1, 1)}),
    "adaptive, 1d": ("adaptive_avg_pool1d", (7,), {"output_size": 3}),
    "adaptive, more": ("adaptive_avg_pool2d", (4, 3), {"output_size": (7, None)}),
    "global": ("adaptive_avg_pool2d", (5, 4), {"output_size": 1}),
    "adaptive, 3d": ("adaptive_avg_pool3d", (3, 5, 4), {"output_size": (2, 3, 5)}),
    "adaptive max, 1d": ("adaptive_max_pool1d", (7,), {"output_size": 3}),
    "adaptive max": ("adaptive_max_pool2d", (7, 5), {"output_size": (3, 7)}),
    "global max": ("adaptive_max_pool2d", (5, 4), {"output_size": (1, 1)}),
    "adaptive max, 3d": ("adaptive_max_pool3d", (3, 5, 4), {"output_size": (2, None, 3)}),
}


def functions(cases, *modules):
    """The functions of one side; those of maxima give their indices, too."""
    found = {}
    for case, (name, _, more) in cases.items():
        places = {"return_indices": True} if "max" in name else {}
        home = modules[name.startswith("adaptive")]
        found[case] = partial(getattr(home, name), **more, **places)
    return found


def grids(cases) -> dict[str, np.ndarray]:
    """Few different values, so that windows have ties, and two NaN."""
    rng = np.random.default_rng(0)
    found = {}
    for case, (_, sizes, _) in cases.items():
        values = [-np.inf, -1.0, 0.0, 2.0] if "max" in case else [-1.0, 0.0, 2.0]
        found[case] = rng.choice(values, (2, *sizes, 2))
        found[case][0].flat[[3, -1]] = np.nan
    return found


@pytest.fixture(scope="module")
def found():
    return by_jax(functions(CASES, pooling, adaptive), grids(CASES))


@pytest.fixture(scope="module")
def wanted():
    ours = functions(CASES, torch_pooling, torch_adaptive)
    return {case: by_torch(ours[case], x) for case, x in grids(CASES).items()}


@pytest.mark.parametrize("case", CASES)
def test_values_indices_and_gradients(case, found, wanted):
    assert_same(found[case], wanted[case])


def test_faults_are_found(wanted):
    """What Flax's own and plain maxima do otherwise."""

    def shared(x):
        return x.reshape(2, 1, 5, 4, 2).max((2, 3))[:, :, None]

    edges = ((1, 1), (1, 1))
    slips = {
        "one window": lambda x: nn.max_pool(x, (5, 3), (1, 1)),
        "edge": lambda x: nn.max_pool(x, (3, 3), (2, 2), "SAME"),
        "ceil": lambda x: nn.max_pool(x, (3, 3), (2, 2), edges),
        "mean": lambda x: nn.avg_pool(x, (3, 2)),
        "mean, ceil": lambda x: nn.avg_pool(x, (3, 3), (2, 2), ((1, 2), (1, 2))),
        "mean, inside": lambda x: nn.avg_pool(x, (3, 3), (2, 2), ((1, 2), (1, 2))),
        "mean, divisor": lambda x: nn.avg_pool(x, (3, 3), (2, 2), edges),
        "global max": shared,
    }
    wrong = by_jax(slips, grids(CASES))
    for case, (value, gradient) in wrong.items():
        places = wanted[case][1:-1]
        with pytest.raises(AssertionError):
            assert_same([value, *places, gradient], wanted[case])


def test_ties_and_nan():
    """The first of equal ones, the last NaN; a window of -inf has a place, too."""
    x = np.array([[0.0, 0.0, np.nan, np.nan, -np.inf, -np.inf]])
    value, places = pooling.max_pool1d(jnp.asarray(x[..., None]), 2, return_indices=True)
    np.testing.assert_equal(np.ravel(value), [0, np.nan, -np.inf])
    np.testing.assert_equal(np.ravel(places), [0, 3, 4])


INVERSES = {
    "1d": ("max_unpool1d", (9,), {"kernel_size": 2, "output_size": (2, 9, 2)}),
    "2d": ("max_unpool2d", (6, 8), {"kernel_size": 2}),
    "overlap": ("max_unpool2d", (7, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "odd": ("max_unpool2d", (7, 6), {"kernel_size": 2, "output_size": (7, 6)}),
    "3d": ("max_unpool3d", (3, 4, 4), {"kernel_size": (3, 2, 2), "stride": (1, 2, 2)}),
}


def inverses(pool, unpool, first):
    """Pools, squares, puts back."""
    found = {}
    for case, (name, _, more) in INVERSES.items():
        window = {k: v for k, v in more.items() if k != "output_size"}
        if first and case == "1d":
            more = {**more, "output_size": (2, 2, 9)}

        def call(x, name=name, window=window, more=more):
            pooled = getattr(pool, name.replace("un", ""))(x, **window, return_indices=True)
            return getattr(unpool, name)(pooled[0] * pooled[0], pooled[1], **more)

        found[case] = call
    return found


def test_unpooling():
    """Also where windows overlap: the gradient of one place goes to all that were put there."""
    rng = np.random.default_rng(1)
    x = {case: rng.standard_normal((2, *sizes, 2)) for case, (_, sizes, _) in INVERSES.items()}
    found = by_jax(inverses(pooling, unpooling, False), x)
    for case, ours in inverses(torch_pooling, torch_unpooling, True).items():
        assert_same(found[case], by_torch(ours, x[case]))


@given(data=st.data())
def test_drawn_windows(data):
    """Windows of any kind on any grid: values, places and gradients, or a refusal of both sides."""
    rank = data.draw(st.integers(1, 2))
    kind = data.draw(st.sampled_from(["max_pool", "avg_pool"]))

    def each(low, high):
        return data.draw(st.tuples(*[st.integers(low, high)] * rank))

    sizes = each(3, 7)
    more = {"kernel_size": each(1, 3), "stride": each(1, 3), "padding": each(0, 1)}
    more |= {"ceil_mode": data.draw(st.booleans())}
    if kind == "max_pool":
        more |= {"dilation": each(1, 2)}
    else:
        more |= {"count_include_pad": data.draw(st.booleans())}
    case = {kind: (f"{kind}{rank}d", sizes, more)}
    try:
        wanted = by_torch(functions(case, torch_pooling)[kind], grids(case)[kind])
    except RuntimeError:
        with pytest.raises(ValueError):
            by_jax(functions(case, pooling), grids(case))
        return
    assert_same(by_jax(functions(case, pooling), grids(case))[kind], wanted)


def test_any_leading_axes():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 6, 2))

    def call(x):
        places = pooling.max_pool2d(x, 2, return_indices=True)[1]
        return [places, pooling.avg_pool2d(x, 2, padding=1), adaptive.adaptive_max_pool2d(x, 2)]

    for whole, flat, one in zip(
        *jax.jit(lambda x: (call(x), call(x[1]), call(x[1, 2])))(x), strict=True
    ):
        np.testing.assert_array_equal(whole[1], flat)
        np.testing.assert_array_equal(flat[2], one)


X = jnp.ones((1, 6, 6, 2))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: pooling.max_pool2d(X, 2, padding=2), "padding"),
        (lambda: pooling.max_pool2d(X, 2, padding=-1), "padding"),
        (lambda: pooling.max_pool2d(X, 7), "kernel_size"),
        (lambda: pooling.max_pool2d(X, (2, 2, 2)), "kernel_size"),
        (lambda: pooling.max_pool2d(X, 2, 0), "stride"),
        (lambda: pooling.max_pool2d(X, 2, dilation=0), "dilation"),
        (lambda: pooling.max_pool1d(jnp.ones((1, 1, 2)), 2, 1, 1, 2), "dilation"),
        (lambda: pooling.max_pool3d(X[0], 2), "x of shape"),
        (lambda: pooling.avg_pool2d(X, 2, divisor_override=0), "divisor_override"),
        (lambda: adaptive.adaptive_avg_pool2d(X, 0), "output_size"),
        (lambda: adaptive.adaptive_max_pool2d(X, (2, 2, 2)), "output_size"),
        (lambda: adaptive.adaptive_avg_pool3d(X[0], 1), "x of shape"),
        (lambda: unpooling.max_unpool2d(X, X[:, 1:].astype(int), 2), "indices"),
        (lambda: unpooling.max_unpool2d(X, X.astype(int), 2, output_size=(14, 12)), "output_size"),
    ],
)
def test_bad_arguments(call, said):
    with pytest.raises(ValueError, match=said):
        call()
