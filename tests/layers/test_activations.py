"""Activations: values and gradients of both sides at kinks, infinities and in half precision."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.layers import activations as theirs
from torchref.layers import activations as ours

KINKS = [0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 2.0, -2.0, 20.0, -20.0, 10.0, -6.0, 6.0]
EXTREMES = [np.inf, -np.inf, np.nan, 20.5, -20.5, 40.0, -40.0, 800.0, -800.0, 1e4, -1e4, 1e-9]
GENERIC = [0.3, -0.7, 2.5, -2.5, 0.414, -0.414, 7.0, -7.0]
POINTS = np.array(KINKS + EXTREMES + GENERIC)
SUBNORMAL = np.array([1e-310, -1e-310])
ELEMENTWISE = {
    name: (name, {})
    for name in ours.__all__
    if name not in ("prelu", "softmax", "log_softmax", "logsumexp", "glu")
} | {
    "leaky_relu 0.3": ("leaky_relu", {"negative_slope": 0.3}),
    "elu 1.5": ("elu", {"alpha": 1.5}),
    "celu 1.5": ("celu", {"alpha": 1.5}),
    "softplus 2": ("softplus", {"beta": 2.0, "threshold": 5.0}),
    "gelu tanh": ("gelu", {"approximate": "tanh"}),
    "hardtanh -2 3": ("hardtanh", {"min_val": -2.0, "max_val": 3.0}),
    "swish 1.7": ("swish", {"beta": 1.7}),
}
ROWS = np.array(
    [
        [0.3, -1.2, 2.0, 0.7],
        [1.0, 1.0, 1.0, 1.0],
        [-np.inf, 0.5, -np.inf, 2.0],
        [-np.inf] * 4,
        [np.inf, 1.0, 2.0, 3.0],
        [np.nan, 1.0, 2.0, 3.0],
        [1e4, -1e4, 1e4, 0.0],
        [0.0, -0.0, 0.0, -0.0],
    ]
)
ALONG = ("softmax", "log_softmax", "logsumexp", "glu")


def functions(module) -> dict:
    return {case: partial(getattr(module, n), **more) for case, (n, more) in ELEMENTWISE.items()}


def by_torch(points, dtype=torch.float64) -> dict:
    """Case -> (values, derivatives) at the points."""
    found = {}
    for case, f in functions(ours).items():
        x = to_torch(points).to(dtype).requires_grad_()
        y = f(x)
        (g,) = torch.autograd.grad(y.sum(), x)
        found[case] = (to_numpy(y.double()), to_numpy(g.double()))
    return found


def by_jax(points, dtype="float64", given=None) -> dict:
    """The same of JAX, all cases in one program."""
    given = given or functions(theirs)

    @jax.jit
    def program(x):
        return {c: (f(x), jax.vmap(jax.grad(f))(x)) for c, f in given.items()}

    with jax.enable_x64(True):
        found = program(jnp.asarray(to_jax(points, "float64"), dtype))
        assert {value.dtype for value in jax.tree.leaves(found)} == {jnp.dtype(dtype)}
        return jax.tree.map(lambda value: np.asarray(value.astype("float64")), found)


@pytest.fixture(scope="module")
def found():
    return by_jax(POINTS)


@pytest.fixture(scope="module")
def wanted():
    return by_torch(POINTS)


def assert_same(found, wanted, what=""):
    """To 1e-9, or to 1e-14 in tails: 1 + tanh and JAX's expm1 + 1 (elu's slope) cancel."""
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-14, err_msg=what)


@pytest.mark.parametrize("case", ELEMENTWISE)
def test_values_and_gradients(case, found, wanted):
    (value, slope), (value_t, slope_t) = found[case], wanted[case]
    assert_same(value, value_t)
    if case.split()[0] not in ("relu", "celu"):  # documented: of -0.0 they are 0.0 in JAX
        assert np.array_equal(np.signbit(value[:2]), np.signbit(value_t[:2])), "the sign of zero"
    if case == "relu":  # documented: 0 in JAX, 1 in torch
        here = np.isnan(POINTS)
        assert (slope[here], slope_t[here]) == (0, 1)
        slope, slope_t = slope[~here], slope_t[~here]
    assert_same(slope, slope_t)


def test_a_fault_at_one_kink_is_found(wanted):
    """What jax.nn does otherwise, on the points where it does."""
    slips = {
        "leaky_relu": jax.nn.leaky_relu,
        "softplus": jax.nn.softplus,
        "gelu": jax.nn.gelu,
        "hardtanh": jax.nn.hard_tanh,
        "hardtanh -2 3": lambda x: jnp.clip(x, -2, 3),
        "swish 1.7": jax.nn.silu,
    }
    wrong = by_jax(POINTS, given=slips)
    for case in slips:
        with pytest.raises(AssertionError):
            assert_same(wrong[case], wanted[case])


def test_subnormals_are_flushed_and_no_more():
    at_zero = by_torch(np.zeros_like(SUBNORMAL))
    kept, flushed = by_torch(SUBNORMAL), by_jax(SUBNORMAL)
    for case, (value, slope) in flushed.items():
        assert_same(value, kept[case][0], case)
        near = [np.isclose(slope, s[case][1], rtol=1e-9, atol=0) for s in (kept, at_zero)]
        assert np.all(near[0] | near[1]), case


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype):
    """Both sides against float64 at the same points: a few roundings of the larger of 1 and y."""
    points = np.concatenate([np.linspace(-12, 12, 401), POINTS[np.abs(POINTS) < 100], [np.inf]])
    points = to_numpy(to_torch(points).to(getattr(torch, dtype)).double())
    eps = float(jnp.finfo(dtype).eps)
    exact, half = by_torch(points), by_jax(points, dtype)
    native = by_torch(points[:-1], getattr(torch, dtype))
    for case, (value, _) in exact.items():
        allowed = 4 * eps * np.maximum(1, np.abs(value[:-1]))
        for side in (half, native):
            assert np.all(np.abs(side[case][0][: len(allowed)] - value[:-1]) <= allowed), case
        np.testing.assert_equal(half[case][0][-1], value[-1], case)  # at +inf


def along(module, x, c) -> dict:
    return {
        name: (y, (y * c[..., : y.shape[-1]] if y.ndim > 1 else y * c[:, 0]).sum())
        for name in ALONG
        for y in [getattr(module, name)(x, -1)]
    }


def test_along_an_axis(normal):
    """Ties, masked, infinite and missing elements."""
    c = normal(0, *ROWS.shape)
    x = to_torch(ROWS).requires_grad_()
    wanted = {
        name: (y, torch.autograd.grad(s, x, retain_graph=True)[0])
        for name, (y, s) in along(ours, x, to_torch(c)).items()
    }

    @jax.jit
    def program(x, c):
        slopes = {name: jax.grad(lambda x, n=name: along(theirs, x, c)[n][1])(x) for name in ALONG}
        return {name: (y, slopes[name]) for name, (y, _) in along(theirs, x, c).items()}

    with jax.enable_x64(True):
        found = jax.tree.map(to_numpy, program(to_jax(ROWS), to_jax(c)))
    for name in ALONG:
        for one, other in zip(found[name], wanted[name], strict=True):
            assert_same(one, to_numpy(other), name)


def test_learned_slopes(normal):
    """Gradients of prelu's weight, one for each channel and one for all, and of swish's beta."""
    x = normal(1, 5, 3)
    x[0] = 0.0
    more = {"prelu": np.array([0.25, -0.5, 2.0]), "one": np.array([0.25]), "beta": np.array([1.3])}

    def total(module, x, prelu, one, beta):
        used = module.prelu(x, prelu), module.prelu(x, one), module.swish(x, beta)
        return (used[0] * used[1] * used[2] + used[0] + used[1] + used[2]).sum()

    given = [to_torch(a).requires_grad_() for a in (x, *more.values())]
    wanted = torch.autograd.grad(total(ours, *given), given)
    with jax.enable_x64(True):
        slopes = jax.jit(jax.grad(partial(total, theirs), (0, 1, 2, 3)))
        found = slopes(*(to_jax(a) for a in (x, *more.values())))
    for one, other in zip(found, wanted, strict=True):
        assert_same(to_numpy(one), to_numpy(other))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: theirs.gelu(jnp.ones(2), approximate="erf"), "approximate"),
        (lambda: theirs.hardtanh(jnp.ones(2), min_val=2.0), "min_val"),
        (lambda: theirs.prelu(jnp.ones((2, 3)), jnp.ones(2)), "weight"),
    ],
)
def test_bad_arguments(call, said):
    with pytest.raises(ValueError, match=said):
        call()
