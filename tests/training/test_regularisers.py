"""Regularisers: values and gradients of both sides at kinks and zeros, and what they should be."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Lasso

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.training import regularisers as theirs
from torchref.training import regularisers as ours


def arguments(n: int = 5, d: int = 4, k: int = 3) -> dict[str, np.ndarray]:
    """Weights with exact zeros, x on the kinks of soft thresholds, one unit at the wanted mean."""
    rng = np.random.default_rng(0)
    found = {
        "weight": rng.standard_normal((k, d)),
        "bias": rng.standard_normal(k),
        "x": rng.standard_normal((n, d)),
        "fake": rng.standard_normal((n, d)),
        "alpha": rng.uniform(size=n),
        "a": rng.uniform(0.05, 0.95, (n, k)),
    }
    found["weight"][0, 0] = found["bias"][0] = 0.0
    found["a"][:, 0] = 0.3
    found["x"][0] = found["fake"][0] = 0.0  # the critic has no slope there
    found["x"][1] = [0.25, -0.25, 0.0, 0.5]
    return found


def critic(module: Any, x, weight, bias):
    """One hidden layer of relu squared: at x = 0 there is no slope."""
    relu = (lambda a: a.clamp(min=0)) if module is ours else (lambda a: jnp.maximum(a, 0))
    return (relu(x @ weight.T) ** 2 * bias**2).sum(1)


def every(module: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Every function of a side -> its value; the keyword values are none of the defaults."""
    weight, bias, x, fake, alpha, a = args.values()
    params = [weight, bias]

    def f(x):
        return (weight @ x) ** 2 + bias

    step = module.proximal_step(params, [weight**2, bias**2], lr=0.1, strength=2.0)
    return {
        "l1_penalty": module.l1_penalty(params, strength=0.3),
        "l2_penalty": module.l2_penalty(params, strength=0.3),
        "elastic_net_penalty": module.elastic_net_penalty(params, strength=0.3, l1_ratio=0.7),
        "soft_threshold": module.soft_threshold(x, 0.25),
        "proximal_step": (step[0] ** 2).sum() + (step[1] ** 2).sum() + step[1].sum(),
        "sparsity_penalty": module.sparsity_penalty(a, rho=0.3),
        "jacobian_penalty": module.jacobian_penalty(f, x),
        "contractive_penalty": module.contractive_penalty(a, weight),
        "gradient_penalty": module.gradient_penalty(
            lambda x: critic(module, x, weight, bias), x, fake, alpha
        ),
    }


def by_torch(args: dict[str, np.ndarray]) -> dict[str, tuple]:
    """Name -> (value, gradient of every argument)."""
    given = {k: to_torch(v).requires_grad_() for k, v in args.items()}
    found = {}
    for name, value in every(ours, given).items():
        slopes = torch.autograd.grad(
            value.sum(), [*given.values()], retain_graph=True, materialize_grads=True
        )
        found[name] = (to_numpy(value), [to_numpy(slope) for slope in slopes])
    return found


def by_jax(args: dict[str, np.ndarray], module: Any = theirs) -> dict[str, tuple]:
    """The same, in one program."""

    @jax.jit
    def program(*values):
        found, pull = jax.vjp(lambda *v: every(module, dict(zip(args, v, strict=True))), *values)
        nothing = jax.tree.map(jnp.zeros_like, found)
        return {k: (v, pull(nothing | {k: jnp.ones_like(v)})) for k, v in found.items()}

    with jax.enable_x64(True):
        return jax.tree.map(to_numpy, program(*(to_jax(v) for v in args.values())))


def assert_same(found: Any, wanted: Any, what: str = "") -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12, err_msg=what)


ARGS = arguments()


@pytest.fixture(scope="module")
def found():
    return by_jax(ARGS)


@pytest.fixture(scope="module")
def wanted():
    return by_torch(ARGS)


@pytest.mark.parametrize("name", ours.__all__)
def test_values_and_gradients(name, found, wanted):
    assert_same(found[name][0], wanted[name][0])
    for argument, one, other in zip(ARGS, found[name][1], wanted[name][1], strict=True):
        assert np.all(np.isfinite(other)), argument
        assert_same(one, other, argument)


def clipped(x, lambd):
    return x - jnp.clip(x, -lambd, lambd)


FAULTS: dict[str, Callable] = {
    "l1_penalty": lambda params, strength: strength * sum(jnp.abs(w).sum() for w in params),
    "l2_penalty": lambda params, strength: 2 * theirs.l2_penalty(params, strength),
    "soft_threshold": clipped,  # its derivative at the kink is a half
    "sparsity_penalty": lambda a, rho: theirs.sparsity_penalty(a, 1 - rho),
    "jacobian_penalty": lambda f, x: jnp.square(jax.vmap(jax.jacrev(f))(x)).mean(),
    "gradient_penalty": lambda c, x, fake, alpha: theirs.gradient_penalty(c, fake, x, alpha),
}


def test_a_fault_is_found(wanted):
    right = {name: getattr(theirs, name) for name in theirs.__all__}
    wrong = by_jax(ARGS, SimpleNamespace(**(right | FAULTS)))
    for name in theirs.__all__:
        one, other = (
            np.concatenate([np.ravel(v), *map(np.ravel, g)]) for v, g in (wrong[name], wanted[name])
        )
        assert np.allclose(one, other, rtol=1e-9, atol=1e-12) == (name not in FAULTS), name


@given(
    st.lists(st.sampled_from([0.0, 0.5, -0.5, 1.0, -1.0, 3.0]), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_penalties_of_any_weights(values, l1_ratio, strength):
    """Zeros, kinks and extreme options: value and gradient against PyTorch's."""

    def total(module, w):
        kept = module.proximal_step([w], [w], lr=0.5, strength=strength)[0]
        return (kept * 3).sum() + module.elastic_net_penalty([w], strength, l1_ratio)

    w = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    value = total(ours, w)
    (slope,) = torch.autograd.grad(value, w)
    with jax.enable_x64(True):
        result = jax.value_and_grad(lambda w: total(theirs, w))(jnp.array(values))
    assert_same(result[0], to_numpy(value))
    assert_same(result[1], to_numpy(slope))


def test_the_formulas():
    """Against NumPy's, and the divergence against torch.distributions."""
    weight, bias, x, fake, alpha, a = ARGS.values()
    flat = np.concatenate([weight.ravel(), bias])
    found = {k: v for k, (v, _) in by_torch(ARGS).items()}
    l1, l2 = np.abs(flat).sum(), np.square(flat).sum() / 2
    assert_same(found["l1_penalty"], 0.3 * l1)
    assert_same(found["l2_penalty"], 0.3 * l2)
    assert_same(found["elastic_net_penalty"], 0.3 * (0.7 * l1 + 0.3 * l2))
    assert_same(found["soft_threshold"], np.sign(x) * np.maximum(np.abs(x) - 0.25, 0))
    on, mean = (torch.distributions.Bernoulli(to_torch(p)) for p in (np.array(0.3), a.mean(0)))
    divergence = torch.distributions.kl_divergence(on, mean)
    assert abs(divergence[0]) < 1e-12, "a unit at the wanted mean"
    assert_same(found["sparsity_penalty"], divergence.sum().numpy())
    # d(w x)^2/dx = 2 (w x) w
    jacobian = 2 * (x @ weight.T)[..., None] * weight
    assert_same(found["jacobian_penalty"], np.square(jacobian).sum((1, 2)).mean())
    between = alpha[:, None] * x + (1 - alpha[:, None]) * fake
    slope = 2 * np.maximum(between @ weight.T, 0) * bias**2 @ weight
    assert np.all(slope[0] == 0), "the case of no slope"
    norm = np.sqrt(np.square(slope).sum(1))
    assert_same(found["gradient_penalty"], np.square(norm - 1).mean())


def test_the_contractive_penalty_is_the_jacobian_of_a_sigmoid_layer():
    weight, bias, x = (to_torch(ARGS[k]) for k in ("weight", "bias", "x"))

    def layer(x):
        return torch.sigmoid(x @ weight.T + bias)

    assert_same(ours.contractive_penalty(layer(x), weight), ours.jacobian_penalty(layer, x))


def test_proximal_steps_solve_the_lasso():
    """scikit-learn's Lasso, by coordinate descent, has the same zeros and the same weights."""
    rng = np.random.default_rng(3)
    x, strength = rng.standard_normal((40, 6)), 0.3
    y = x @ np.array([2.0, 0, -1.0, 0, 0, 0.2]) + 0.1 * rng.standard_normal(40)
    wanted = Lasso(strength, fit_intercept=False, tol=1e-14, max_iter=10000).fit(x, y).coef_
    assert 0 < np.count_nonzero(wanted) < 6

    def step(module, x, y, w):
        [w] = module.proximal_step([w], [x.T @ (x @ w - y) / len(y)], lr=0.2, strength=strength)
        return w

    w = torch.zeros(6, dtype=torch.float64)
    for _ in range(300):
        w = step(ours, to_torch(x), to_torch(y), w)
    with jax.enable_x64(True):
        loop = jax.jit(
            lambda x, y: jax.lax.fori_loop(0, 300, lambda _, w: step(theirs, x, y, w), x[0] * 0)
        )
        found = to_numpy(loop(to_jax(x), to_jax(y)))
    for side in (to_numpy(w), found):
        assert np.array_equal(side == 0, wanted == 0)
        np.testing.assert_allclose(side, wanted, rtol=1e-9)


def test_dead_and_saturated_units():
    """Infinite penalties, whose gradients are infinite too, and no NaN."""
    a = np.array([[0.0, 1.0, 0.2], [0.0, 1.0, 0.4]])
    for unit in range(2):
        given = to_torch(a[:, [unit, 2]]).requires_grad_()
        value = ours.sparsity_penalty(given, 0.3)
        (slope,) = torch.autograd.grad(value, given)
        with jax.enable_x64(True):
            found = jax.value_and_grad(lambda a: theirs.sparsity_penalty(a, 0.3))(
                to_jax(a[:, [unit, 2]])
            )
        assert np.isinf(to_numpy(value))
        assert np.isinf(found[0])
        assert_same(found[1], to_numpy(slope))
        assert np.all(np.isinf(found[1][:, 0]))


def test_gradient_penalty_of_images_without_grad_mode():
    """The same value where PyTorch records nothing else, for images and a column of scores."""
    rng = np.random.default_rng(4)
    real, fake, alpha = rng.standard_normal((3, 2, 2, 4)), np.zeros((3, 2, 2, 4)), np.full(3, 0.5)
    wanted = np.square(np.sqrt(np.square(real).sum((1, 2, 3))) - 1).mean()
    with torch.no_grad():
        found = ours.gradient_penalty(
            lambda x: (x**2).flatten(1).sum(1, keepdim=True), *map(to_torch, (real, fake, alpha))
        )
    assert_same(to_numpy(found), wanted)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m, ones: m.elastic_net_penalty([ones(2)], l1_ratio=1.1), "l1_ratio"),
        (lambda m, ones: m.sparsity_penalty(ones((2, 2)), rho=1.0), "rho"),
        (lambda m, ones: m.gradient_penalty(None, ones((2, 3)), ones((2, 3)), ones(3)), "alpha"),
    ],
)
def test_bad_arguments(call, said):
    for module, ones in ((ours, torch.ones), (theirs, np.ones)):
        with pytest.raises(ValueError, match=said):
            call(module, ones)


def test_a_negative_threshold():
    with pytest.raises(ValueError, match="lambd"):
        theirs.soft_threshold(jnp.ones(2), -1.0)
    with pytest.raises(RuntimeError):
        ours.soft_threshold(torch.ones(2), -1.0)
