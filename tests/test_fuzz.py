"""Blocks of both sides on drawn shapes, values and options: values and gradients in float64.

`make test` draws six examples of each, always the same; `make fuzz` a hundred, new ones each time.
"""

from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.layers import activations as jax_activations
from jaxnn.linalg import broadcasting as jax_broadcasting
from jaxnn.training import adaptive as jax_adaptive
from jaxnn.training import cyclic_schedules as jax_cyclic
from jaxnn.training import losses as jax_losses
from jaxnn.training import moments as jax_moments
from jaxnn.training import optimizers as jax_optimizers
from jaxnn.training import ranking as jax_ranking
from jaxnn.training import robust as jax_robust
from jaxnn.training import schedules as jax_schedules
from torchref.layers import activations
from torchref.linalg import broadcasting
from torchref.training import (
    adaptive,
    cyclic_schedules,
    losses,
    moments,
    optimizers,
    ranking,
    robust,
    schedules,
)

torch_linalg, jax_linalg = (
    {f: import_module(f"{tree}.linalg.{f}") for f in ("orthogonal", "svd", "elimination")}
    for tree in ("torchref", "jaxnn")
)
SHAPES = st.sampled_from([(1,), (4,), (2, 4), (2, 1, 6), (0, 4)])
KINKS = st.sampled_from([0.0, 1.0, -1.0, 3.0, -3.0, 0.5, -0.5, 20.0, 6.0])
SMOOTH = st.floats(-30, 30, allow_subnormal=False)
PLAIN = [name for name in activations.__all__ if name not in ("prelu", "glu")]
ALONG = ("softmax", "log_softmax", "logsumexp")
ELEMENTWISE = {
    "mse": (losses, jax_losses, {}),
    "l1": (robust, jax_robust, {}),
    "huber": (robust, jax_robust, {"delta": st.floats(0.1, 3)}),
    "smooth_l1": (robust, jax_robust, {"beta": st.floats(0.1, 3)}),
    "binary_cross_entropy_with_logits": (losses, jax_losses, {}),
    "hinge": (ranking, jax_ranking, {}),
    "hinge_embedding": (ranking, jax_ranking, {"margin": st.floats(0, 2)}),
}


def drawn(data: st.DataObject, shape: tuple[int, ...], elements: Any = SMOOTH) -> np.ndarray:
    return data.draw(arrays.arrays(np.float64, shape, elements=elements))


def both(ours: Any, theirs: Any, *given: np.ndarray) -> None:
    """Values, and gradients of the outputs' sum, of PyTorch's function and of JAX's."""
    inputs = [to_torch(x).requires_grad_() for x in given]
    value = ours(*inputs)
    slopes = torch.autograd.grad(value.sum(), inputs)
    with jax.enable_x64(True):
        own = [to_jax(x, "float64") for x in given]
        found = theirs(*own)
        back = jax.grad(lambda *x: theirs(*x).sum(), argnums=tuple(range(len(own))))(*own)
    for here, there in zip((value, *slopes), (found, *back), strict=True):
        # 1e-14: 1 + tanh and the slope of elu cancel in the tails.
        close = {"rtol": 1e-9, "atol": 1e-14}
        np.testing.assert_allclose(to_numpy(there), to_numpy(here.detach()), **close)


@given(st.sampled_from(PLAIN), SHAPES, st.data())
@example("gelu", (4,), None)
def test_activations(name, shape, data):
    x = np.array([0.0, -40.0, 1e-9, 7.0]) if data is None else drawn(data, shape, SMOOTH | KINKS)
    more = (-1,) if name in ALONG else ()
    ours, theirs = getattr(activations, name), getattr(jax_activations, name)
    both(lambda x: ours(x, *more), lambda x: theirs(x, *more), x)


@given(st.sampled_from(list(ELEMENTWISE)), st.sampled_from(["mean", "sum"]), SHAPES, st.data())
def test_losses(name, reduction, shape, data):
    assume(0 not in shape)  # the mean of nothing is NaN on both sides: held by its own test
    ours, theirs, drawing = ELEMENTWISE[name]
    options = {key: data.draw(value) for key, value in drawing.items()}
    x, y = drawn(data, shape), drawn(data, shape)
    if name.startswith("hinge"):
        y = np.where(y > 0, 1.0, -1.0)
    if name.startswith("binary"):
        y = 1 / (1 + np.exp(-y))
    both(
        lambda x: getattr(ours, name)(x, to_torch(y), reduction=reduction, **options),
        lambda x: getattr(theirs, name)(x, to_jax(y, "float64"), reduction=reduction, **options),
        x,
    )


@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.floats(0, 1),
    st.sampled_from(["mean", "sum"]),
    st.booleans(),
    st.data(),
)
def test_cross_entropy(n, classes, smoothing, reduction, weighted, data):
    logits = drawn(data, (n, classes))
    labels = data.draw(arrays.arrays(np.int64, n, elements=st.integers(-1, classes - 1)))
    assume((labels >= 0).any())
    weight = drawn(data, (classes,), st.floats(0.1, 5)) if weighted else None
    options = {"label_smoothing": smoothing, "reduction": reduction, "ignore_index": -1}

    def of(side, own):
        def loss(x):
            held = None if weight is None else own(weight)
            return side.cross_entropy(x, own(labels), weight=held, **options)

        return loss

    both(of(losses, to_torch), of(jax_losses, jnp.asarray), logits)


RATES = st.floats(1e-3, 1)
FACTOR = st.floats(0.1, 1)
SCHEDULES = {
    "step_lr": (schedules, jax_schedules, [st.integers(1, 9), FACTOR]),
    "multi_step_lr": (
        schedules,
        jax_schedules,
        [st.lists(st.integers(0, 20), min_size=1, max_size=4), FACTOR],
    ),
    "constant_lr": (schedules, jax_schedules, [FACTOR, st.integers(1, 9)]),
    "linear_lr": (schedules, jax_schedules, [FACTOR, FACTOR, st.integers(1, 9)]),
    "exponential_lr": (schedules, jax_schedules, [FACTOR]),
    "polynomial_lr": (schedules, jax_schedules, [st.integers(1, 9), st.floats(0.5, 3)]),
    "cosine_annealing_lr": (cyclic_schedules, jax_cyclic, [st.integers(1, 9)]),
    "cosine_annealing_warm_restarts": (
        cyclic_schedules,
        jax_cyclic,
        [st.integers(1, 9), st.integers(1, 3)],
    ),
}


@given(st.sampled_from(list(SCHEDULES)), RATES, st.data())
def test_schedules(name, lr, data):
    theirs, ours, drawing = SCHEDULES[name]
    options = [data.draw(each) for each in drawing]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=lr)
    scheduler = getattr(theirs, name)(optimizer, *options)
    wanted = []
    for _ in range(20):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    with jax.enable_x64(True):
        schedule = getattr(ours, name)(lr, *options)
        found = [float(schedule(jnp.int32(step))) for step in range(20)]
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-11 * lr)


UNIT = st.floats(0, 0.999)
DECAY = st.floats(0, 0.5)
OPTIMIZERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sgd": (
        optimizers,
        jax_optimizers,
        {"momentum": UNIT, "dampening": UNIT, "weight_decay": DECAY},
    ),
    "adam": (
        optimizers,
        jax_optimizers,
        {
            "betas": st.tuples(UNIT, UNIT),
            "eps": st.floats(1e-8, 1),
            "weight_decay": DECAY,
            "amsgrad": st.booleans(),
        },
    ),
    "adagrad": (adaptive, jax_adaptive, {"lr_decay": DECAY, "weight_decay": DECAY}),
    "rmsprop": (
        adaptive,
        jax_adaptive,
        {"alpha": UNIT, "momentum": UNIT, "centered": st.booleans(), "eps": st.floats(1e-2, 1)},
    ),
    "adamax": (
        moments,
        jax_moments,
        {"betas": st.tuples(st.floats(0.1, 0.999), UNIT), "weight_decay": DECAY},
    ),
}


@given(st.sampled_from(list(OPTIMIZERS)), RATES, st.data())
def test_optimizers(name, lr, data):
    theirs, ours, drawing = OPTIMIZERS[name]
    options = {key: data.draw(value) for key, value in drawing.items()}
    start, gradients = drawn(data, (3,)), drawn(data, (6, 3))
    parameter = torch.nn.Parameter(to_torch(start))
    optimizer = getattr(theirs, name)([parameter], lr=lr, **options)
    with jax.enable_x64(True):
        transformation = getattr(ours, name)(lr=lr, **options)
        weight = to_jax(start, "float64")
        state = transformation.init(weight)
        for gradient in gradients:
            parameter.grad = to_torch(gradient)
            optimizer.step()
            updates, state = transformation.update(to_jax(gradient, "float64"), state, weight)
            weight = optax.apply_updates(weight, updates)
        np.testing.assert_allclose(
            to_numpy(weight), to_numpy(parameter.detach()), rtol=1e-9, atol=1e-9 * lr
        )


MATRICES = st.sampled_from([(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (4, 2), (3, 1)])


@given(MATRICES, st.data())
def test_factors(shape, data):
    """What defines each factorisation, of whole and of deficient matrices."""
    # Squares of what is left do not underflow.
    a = drawn(data, shape, st.integers(-3, 3).map(float) | SMOOTH.map(lambda x: round(x, 9)))
    size = np.abs(a).max(initial=0) or 1.0
    limit = 64 * np.finfo(float).eps * max(1, *shape) * size
    for side, own in ((torch_linalg, to_torch), (jax_linalg, jnp.asarray)):
        with jax.enable_x64(True):
            q, r = map(to_numpy, side["orthogonal"].householder_qr(own(a)))
            u, s, vh = map(to_numpy, side["svd"].jacobi_svd(own(a)))
            found = map(to_numpy, side["elimination"].lu(own(a))) if shape[0] == shape[1] else ()
        assert np.abs(q @ r - a).max(initial=0) <= limit
        assert np.abs(q.T @ q - np.eye(q.shape[1])).max(initial=0) <= limit / size
        assert np.abs(u * s @ vh - a).max(initial=0) <= limit
        assert np.abs(s - np.linalg.svd(a, compute_uv=False)).max(initial=0) <= limit
        if found:
            p, lower, upper = found
            assert np.abs(lower @ upper - a[p]).max(initial=0) <= 8 * limit


@given(arrays.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3, max_dims=3))
def test_broadcasting(shapes):
    """The rule is NumPy's, and <broadcast x, y> = <x, unbroadcast y>."""
    given, wanted = shapes.input_shapes, shapes.result_shape
    x, y = (np.random.default_rng(0).standard_normal(shape) for shape in (given[0], wanted))
    sides: list[Any] = [(broadcasting, to_torch), (jax_broadcasting, jnp.asarray)]
    for module, own in sides:
        assert module.broadcast_shape(*given) == wanted
        with jax.enable_x64(True):
            wide = to_numpy(module.broadcast_to(own(x), wanted))
            back = to_numpy(module.unbroadcast(own(y), given[0]))
        assert np.array_equal(wide, np.broadcast_to(x, wanted))
        assert back.shape == given[0]
        np.testing.assert_allclose((wide * y).sum(), (x * back).sum(), rtol=1e-12, atol=1e-12)
        with pytest.raises(ValueError, match="sizes"):
            module.broadcast_shape((2, 3), (2,))
        with pytest.raises(ValueError, match="stretched"):
            module.broadcast_to(own(np.ones((2, 3))), (1, 3))


def test_a_slip_is_caught():
    """What a porter may take for the same, on values where it is not."""
    with pytest.raises(AssertionError):
        both(activations.gelu, jax.nn.gelu, np.array([0.5]))
    with pytest.raises(AssertionError):
        both(activations.hardtanh, lambda x: jnp.clip(x, -1, 1.1), np.array([1.05]))
