"""Backward passes by hand against both frameworks' automatic ones, of their own layers."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.foundations import backprop, backprop_conv, bptt
from tests.arrays import normal
from torchref.foundations import backprop as torch_backprop
from torchref.foundations import backprop_conv as torch_conv
from torchref.foundations import bptt as torch_bptt

TORCH = {backprop: torch_backprop, backprop_conv: torch_conv, bptt: torch_bptt}
IMAGE, KERNEL = ((0, 2, 3, 1), (0, 3, 1, 2)), ((2, 3, 1, 0), (3, 2, 0, 1))  # to JAX, and back


@dataclass
class Case:
    """A layer: its arguments by name, PyTorch's and JAX's own layer of the same mathematics."""

    module: Any
    layer: str
    args: dict[str, np.ndarray]
    torch_own: Callable
    jax_own: Callable
    forward: dict[str, Any] = field(default_factory=dict)
    backward: dict[str, Any] = field(default_factory=dict)


def arguments(_seed: int = 0, /, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(_seed)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def normalised(x, weight, bias):
    return fnn.standardize(x, axis=0, epsilon=1e-5, variance=jnp.var(x, axis=0)) * weight + bias


def images(layer: str, shapes: dict, torch_own: Callable, jax_own: Callable, **options) -> Case:
    """A case of `backprop_conv`, whose arguments have the axes of each side."""
    sized = {k: v for k, v in options.items() if k != "kernel_size"}
    used = options if layer.startswith(("max", "avg")) else sized
    return Case(
        backprop_conv, layer, arguments(**shapes), torch_own, jax_own, forward=used, backward=used
    )


def conv(n, c, k, size, kernel, stride, padding) -> Case:
    shapes = {"x": (n, c, *size), "weight": (k, c, *kernel), "bias": (k,)}
    options = {"stride": stride, "padding": padding}

    def own(x, weight, bias):
        dims, pads = ("NHWC", "HWIO", "NHWC"), ((padding, padding),) * 2
        return jax.lax.conv_general_dilated(x, weight, (stride,) * 2, pads, dimension_numbers=dims)

    return images(
        "conv2d",
        shapes,
        partial(F.conv2d, **options),
        lambda x, weight, bias: own(x, weight, bias) + bias,
        **options,
    )


def pool(kind: str, n, c, size, kernel, stride, padding, ties: bool = False) -> Case:
    options = {"kernel_size": kernel, "stride": stride, "padding": padding}
    pads = ((padding, padding),) * 2
    strides = (kernel if stride is None else stride,) * 2
    own = getattr(fnn, f"{kind}_pool")
    case = images(
        f"{kind}_pool2d",
        {"x": (n, c, *size)},
        partial(getattr(F, f"{kind}_pool2d"), **options),
        lambda x: own(x, (kernel, kernel), strides, pads),
        **options,
    )
    if ties:
        case.args["x"] = np.round(case.args["x"])
    return case


def cut(steps, length, truncate):
    """The steps in pieces."""
    return [steps[:, t : t + truncate] for t in range(0, length, truncate)]


def recurrent(kind: str, n, length, d, h, truncate=None) -> Case:
    gates = {"elman": 1, "lstm": 4}[kind]
    states = {"h": (n, h)} | ({"c": (n, h)} if kind == "lstm" else {})
    shapes = {"x": (n, length, d), **states, "weight_ih": (gates * h, d)}
    shapes |= {"weight_hh": (gates * h, h), "bias_ih": (gates * h,), "bias_hh": (gates * h,)}

    def torch_own(x, *given):
        state, params = given[: len(states)], given[len(states) :]
        layer = (torch.nn.LSTM if kind == "lstm" else torch.nn.RNN)(d, h, batch_first=True)
        names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
        weights = dict(zip(names, params, strict=True))
        outputs = []
        for piece in cut(x, length, truncate or length):
            hidden = tuple(s[None] for s in state)
            hidden = hidden if kind == "lstm" else hidden[0]
            output, last = torch.func.functional_call(layer, weights, (piece, hidden))
            state = [s[0].detach() for s in (last if kind == "lstm" else [last])]
            outputs.append(output)
        return torch.cat(outputs, dim=1)

    def jax_own(x, *given):
        *state, weight_ih, weight_hh, bias_ih, bias_hh = given
        outputs = []
        for t in range(length):
            if truncate and t and t % truncate == 0:
                state = [jax.lax.stop_gradient(s) for s in state]
            a = weight_ih @ x[:, t].T + weight_hh @ state[0].T + (bias_ih + bias_hh)[:, None]
            if kind == "elman":
                state = [jnp.tanh(a.T)]
            else:
                i, f, g, o = a.reshape(4, h, n).swapaxes(1, 2)
                c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
                state = [jax.nn.sigmoid(o) * jnp.tanh(c), c]
            outputs.append(state[0])
        return jnp.stack(outputs, axis=1)

    more = {"truncate": truncate}
    return Case(bptt, kind, arguments(**shapes), torch_own, jax_own, backward=more)


def dense(n, d, k) -> list[Case]:
    """The layers of `backprop`; the last logits are far apart, and a column of x is constant."""
    x = arguments(x=(n, d))["x"]
    kinked, flat, steep = x.copy(), x.copy(), 3 * x
    kinked[0], flat[:, 0], steep[-1, 0] = 0.0, 2.5, 900.0
    labels = np.arange(n) % d
    given = arguments(1, weight=(k, d), bias=(k,), scale=(d,), shift=(d,))
    affine = {"weight": given["scale"], "bias": given["shift"]}
    return [
        Case(
            backprop,
            "linear",
            {"x": x, "weight": given["weight"], "bias": given["bias"]},
            F.linear,
            lambda x, weight, bias: x @ weight.T + bias,
        ),
        Case(backprop, "relu", {"x": kinked}, F.relu, fnn.relu),
        Case(
            backprop,
            "batch_norm",
            {"x": flat, **affine},
            lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True, eps=1e-5),
            normalised,
        ),
        Case(
            backprop,
            "softmax_cross_entropy",
            {"logits": steep, "labels": labels},
            F.cross_entropy,
            lambda z, k: optax.softmax_cross_entropy_with_integer_labels(z, k).mean(),
        ),
    ]


CASES = [
    *dense(6, 4, 3),
    conv(2, 3, 4, (7, 6), (3, 2), 2, 1),
    conv(1, 2, 3, (5, 5), (1, 3), 1, 0),
    pool("max", 2, 3, (7, 6), 3, 2, 1, ties=True),
    pool("avg", 2, 3, (7, 6), 3, 2, 1),
    pool("avg", 2, 3, (7, 6), 2, None, 0),
    *(recurrent("elman", 3, 5, 2, 4, k) for k in (None, 1)),
    *(recurrent("lstm", 3, 5, 2, 4, k) for k in (None, 3)),
]
NAMES = [f"{i} {case.layer}" for i, case in enumerate(CASES)]


def axes(case: Case, name: str, there: bool):
    """The permutation of an argument (or, as "y", of the output) to JAX's axes, or back."""
    if case.module is not backprop_conv or name == "bias":
        return None
    return (KERNEL if name == "weight" else IMAGE)[0 if there else 1]


def moved(case: Case, name: str, value: np.ndarray, there: bool) -> np.ndarray:
    found = axes(case, name, there)
    return value if found is None else value.transpose(found)


def by_hand(case: Case, args: dict[str, Any], module: Any, weigh: Callable) -> tuple[Any, dict]:
    y, cache = getattr(module, f"{case.layer}_forward")(*args.values(), **case.forward)
    return y, getattr(module, f"{case.layer}_backward")(weigh(y), cache, **case.backward)


def cotangent(shape: tuple[int, ...]) -> np.ndarray:
    return normal(2, *shape)


def by_torch(case: Case) -> tuple[tuple, tuple]:
    """PyTorch's own output and gradients, and those by hand, by name."""
    args = {name: to_torch(value) for name, value in case.args.items()}
    floating = {k: v.requires_grad_() for k, v in args.items() if v.is_floating_point()}
    y = case.torch_own(*args.values())
    dy = to_torch(cotangent(y.shape))
    slopes = torch.autograd.grad(y, [*floating.values()], dy)
    own = y, dict(zip(floating, slopes, strict=True))
    with torch.no_grad():
        hand = by_hand(case, args, TORCH[case.module], lambda y: dy)
    first, second = [(to_numpy(y), {k: to_numpy(v) for k, v in g.items()}) for y, g in (own, hand)]
    return first, second


def by_jax(cases: list[Case], compiled: bool = True) -> list[tuple[Any, tuple]]:
    """The same of JAX, with PyTorch's axes; all cases in one program, or by hand only."""

    def program(given, cotangents):
        found = []
        for case, values, dy in zip(cases, given, cotangents, strict=True):
            args = dict(zip(case.args, values, strict=True))
            names = [k for k, v in args.items() if jnp.issubdtype(v.dtype, jnp.floating)]

            def of(floating, case=case, args=args):
                return case.jax_own(*(args | floating).values())

            own = None
            if compiled:
                y, pull = jax.vjp(of, {k: args[k] for k in names})
                own = y, pull(dy)[0]
            found.append((own, by_hand(case, args, case.module, lambda y, dy=dy: dy)))
        return found

    with jax.enable_x64(True):
        given = [
            [to_jax(np.ascontiguousarray(moved(c, k, v, True))) for k, v in c.args.items()]
            for c in cases
        ]
        outs = [
            jax.eval_shape(case.jax_own, *values).shape
            for case, values in zip(cases, given, strict=True)
        ]
        cotangents = [
            to_jax(moved(c, "y", cotangent(_torch_shape(c, out)), True))
            for c, out in zip(cases, outs, strict=True)
        ]
        found = (jax.jit(program) if compiled else program)(given, cotangents)
        found = jax.tree.map(np.asarray, found)

    def back(case: Case, result: Any) -> Any:
        if result is None:
            return None
        y, grads = result
        return moved(case, "y", y, False), {k: moved(case, k, v, False) for k, v in grads.items()}

    return [
        (back(case, own), back(case, hand)) for case, (own, hand) in zip(cases, found, strict=True)
    ]


def _torch_shape(case: Case, shape: tuple[int, ...]) -> tuple[int, ...]:
    found = axes(case, "y", False)
    return shape if found is None else tuple(shape[i] for i in found)


def assert_same(found: tuple, wanted: tuple) -> None:
    """Outputs and every gradient, to 1e-9 of the largest element."""
    assert set(found[1]) == set(wanted[1])
    pairs = [("y", found[0], wanted[0])] + [(k, v, wanted[1][k]) for k, v in found[1].items()]
    for name, one, other in pairs:
        assert one.shape == other.shape, name
        # a constant column's gradient is a sum of rounding errors, hence the 1e-12
        atol = 1e-9 * np.abs(other).max(initial=0) + 1e-12
        np.testing.assert_allclose(one, other, rtol=0, atol=atol, err_msg=name)


@pytest.fixture(scope="module")
def found():
    return dict(zip(NAMES, by_jax(CASES), strict=True))


@pytest.mark.parametrize(("name", "case"), zip(NAMES, CASES, strict=True), ids=NAMES)
def test_by_hand_and_automatic(name, case, found):
    own, hand = by_torch(case)
    jax_own, jax_hand = found[name]
    for other in (hand, jax_own, jax_hand):
        assert_same(other, own)


def test_truncation_changes_gradients_and_only_them(found):
    for kind in ("elman", "lstm"):
        whole, pieces = (found[n][1] for n in NAMES if kind in n)
        assert np.array_equal(whole[0], pieces[0])
        with pytest.raises(AssertionError):
            assert_same(pieces, whole)


def slips() -> dict[str, Callable]:
    """Backward passes with one mistake each: layer -> (grads, dy, cache) -> grads."""

    def first_cell(grads, dy, cache):
        return {"x": jnp.where(grads["x"] != 0, grads["x"].sum(), 0)}

    return {
        "linear": lambda grads, dy, cache: grads | {"bias": dy.mean(0)},
        "relu": lambda grads, dy, cache: {"x": jnp.where(cache[0] >= 0, dy, 0)},
        "batch_norm": lambda grads, dy, cache: grads | {"x": cache[1] * cache[2] * dy},
        "softmax_cross_entropy": lambda grads, dy, cache: {"logits": 6 * grads["logits"]},
        "conv2d": lambda grads, dy, cache: grads | {"weight": grads["weight"][::-1]},
        "max_pool2d": first_cell,
        "elman": lambda grads, dy, cache: grads | {"weight_hh": grads["weight_hh"].T},
        "lstm": lambda grads, dy, cache: grads | {"c": jnp.zeros_like(grads["c"])},
    }


@pytest.mark.parametrize("layer", slips())
def test_a_fault_is_found(layer, monkeypatch):
    case = next(case for case in CASES if case.layer == layer)
    right = getattr(case.module, f"{layer}_backward")

    def wrong(dy, cache, **options):
        return slips()[layer](right(dy, cache, **options), dy, cache)

    monkeypatch.setattr(case.module, f"{layer}_backward", wrong)
    [(_, hand)] = by_jax([case], compiled=False)
    with pytest.raises(AssertionError):
        assert_same(hand, by_torch(case)[0])


SIZES = st.integers(1, 3)


@given(st.data())
def test_shapes_and_options(data):
    """Windows of any size, step and padding that fits, and sequences cut anywhere."""
    n, c, k = (data.draw(SIZES) for _ in range(3))
    size = (data.draw(st.integers(3, 6)), data.draw(st.integers(3, 6)))
    kernel, stride, padding = data.draw(SIZES), data.draw(SIZES), data.draw(st.integers(0, 2))
    cut_at = data.draw(st.one_of(st.none(), st.integers(1, 4)))
    kind = data.draw(st.sampled_from(["conv", "max", "avg", "elman", "lstm"]))
    if kind == "conv":
        case = conv(n, c, k, size, (kernel, data.draw(SIZES)), stride, padding)
    elif kind in ("max", "avg"):
        assume(padding <= kernel // 2)
        case = pool(kind, n, c, size, kernel, data.draw(st.sampled_from([None, stride])), padding)
    else:
        case = recurrent(kind, n, stride, c, k, cut_at)
    own, hand = by_torch(case)
    [(_, jax_hand)] = by_jax([case], compiled=False)
    assert_same(hand, own)
    assert_same(jax_hand, own)


def both(module: Any, layer: str) -> list[tuple[Any, Callable]]:
    """(array maker, function) of the two sides."""
    return [(np.ones, getattr(module, layer)), (torch.ones, getattr(TORCH[module], layer))]


@pytest.mark.parametrize(
    ("module", "layer", "shapes", "options", "said"),
    [
        (backprop, "batch_norm_forward", [(1, 3), (3,), (3,)], {}, "x must"),
        (backprop_conv, "conv2d_forward", [(1, 4, 4, 4), (3, 3, 3, 3), (3,)], {}, "weight"),
        (backprop_conv, "max_pool2d_forward", [(1, 4, 4, 4)], {"kernel_size": 5}, "kernel"),
        (
            backprop_conv,
            "max_pool2d_forward",
            [(1, 4, 4, 4)],
            {"kernel_size": 2, "padding": 2},
            "padding",
        ),
        (
            backprop_conv,
            "avg_pool2d_forward",
            [(1, 4, 4, 4)],
            {"kernel_size": 2, "padding": -1},
            "padding",
        ),
        (
            backprop_conv,
            "avg_pool2d_forward",
            [(1, 4, 4, 4)],
            {"kernel_size": 2, "stride": 0},
            "stride",
        ),
    ],
)
def test_bad_arguments(module, layer, shapes, options, said):
    for ones, function in both(module, layer):
        with pytest.raises(ValueError, match=said):
            function(*(ones(shape) for shape in shapes), **options)


def test_truncate_must_be_positive():
    args = recurrent("elman", 1, 2, 1, 1).args
    sides: list[tuple[Any, Callable]] = [(bptt, jnp.asarray), (torch_bptt, torch.as_tensor)]
    for side, cross in sides:
        y, cache = side.elman_forward(*(cross(v) for v in args.values()))
        with pytest.raises(ValueError, match="truncate"):
            side.elman_backward(y, cache, truncate=0)


@pytest.mark.parametrize("module", [backprop, torch_backprop])
def test_what_batch_norm_keeps_from_the_layers_below(module):
    """Nothing along 1, along x_hat what eps leaves; of weights 4 times as large a quarter."""
    to = to_torch if module is torch_backprop else to_jax
    args = arguments(x=(20, 5), weight=(5,), bias=(5,), dy=(20, 5))
    dy = args.pop("dy")

    def both_ways(x, eps):
        with jax.enable_x64(True):
            given = [to(each) for each in (x, args["weight"], args["bias"])]
            y, cache = module.batch_norm_forward(*given, eps=eps)
            return to_numpy(y), to_numpy(module.batch_norm_backward(to(dy), cache)["x"])

    _, dx = both_ways(args["x"], 1e-5)
    rate = 1 / np.sqrt(args["x"].var(0) + 1e-5)
    x_hat = (args["x"] - args["x"].mean(0)) * rate
    assert abs(dx.sum(0)).max() < 1e-12
    left = 1e-5 * rate**3 * (args["weight"] * dy * x_hat).sum(0)
    np.testing.assert_allclose((dx * x_hat).sum(0), left, rtol=1e-6, atol=1e-12)
    (y, dx), (same_y, less) = both_ways(args["x"], 0.0), both_ways(4 * args["x"], 0.0)
    np.testing.assert_allclose(same_y, y, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(4 * less, dx, rtol=1e-9, atol=1e-12)


def test_every_function_has_a_case():
    there = {case.layer for case in CASES}
    named = {name.rpartition("_")[0] for m in TORCH for name in m.__all__}
    assert there == named
    pairs = itertools.chain.from_iterable(m.__all__ for m in TORCH)
    assert all(name.endswith(("_forward", "_backward")) for name in pairs)
