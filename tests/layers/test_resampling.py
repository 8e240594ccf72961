"""Resampling: every mode and its options against torch, up and down, odd sizes and one pixel."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jaxnn.layers import resampling as theirs
from tests.arrays import assert_same
from tests.layers.channels import by_jax, by_torch
from torchref.layers import resampling as ours

# Size of the grid, keywords.
CASES = {
    "nearest, up": ((5, 4), {"size": (7, 9)}),
    "nearest, down": ((5, 8), {"size": 3}),
    "nearest, factor": ((5, 4), {"scale_factor": (1.7, 0.6)}),
    "nearest, same size": ((4, 3), {"scale_factor": 1.3}),
    "nearest, twice": ((3, 9), {"scale_factor": (1.7, 2.1)}),
    "nearest, 1d": ((9,), {"size": 4}),
    "nearest, 3d": ((2, 3, 5), {"size": (3, 5, 2)}),
    "nearest-exact": ((5, 4), {"size": (7, 3), "mode": "nearest-exact"}),
    "nearest-exact, factor": ((5,), {"scale_factor": 1.7, "mode": "nearest-exact"}),
    "area": ((5, 8), {"size": (3, 4), "mode": "area"}),
    "area, factor": ((5, 4), {"scale_factor": (1.7, 0.6), "mode": "area"}),
    "linear": ((9,), {"size": 5, "mode": "linear"}),
    "linear, corners": ((5,), {"size": 9, "mode": "linear", "align_corners": True}),
    "trilinear": ((2, 3, 4), {"scale_factor": (1.6, 2.0, 0.5), "mode": "trilinear"}),
    "one pixel": ((5, 4), {"size": (1, 6), "mode": "bilinear", "align_corners": True}),
    "one pixel, antialias": (
        (4, 5),
        {"size": (1, 3), "mode": "bicubic", "align_corners": True, "antialias": True},
    ),
    "of one pixel": ((1, 4), {"size": (3, 1), "mode": "bicubic"}),
}
for mode in ("bilinear", "bicubic"):
    CASES |= {
        f"{mode}, {case}": (sizes, {"mode": mode, **more})
        for case, (sizes, more) in {
            "size": ((5, 8), {"size": (9, 3)}),
            "factor": ((5, 8), {"scale_factor": (1.7, 0.6)}),
            "ratio": ((5, 8), {"scale_factor": (1.7, 0.6), "recompute_scale_factor": True}),
            "corners": ((5, 8), {"size": (9, 3), "align_corners": True}),
            "antialias": ((5, 8), {"size": (9, 3), "antialias": True}),
            "antialias, factor": ((5, 8), {"scale_factor": (1.7, 0.6), "antialias": True}),
            "both": ((5, 8), {"size": (9, 3), "antialias": True, "align_corners": True}),
        }.items()
    }


def functions(module, cases=CASES) -> dict:
    return {case: partial(module.interpolate, **more) for case, (_, more) in cases.items()}


def grids(cases=CASES) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {case: rng.standard_normal((2, *sizes, 2)) for case, (sizes, _) in cases.items()}


@pytest.fixture(scope="module")
def found():
    return by_jax(functions(theirs), grids())


@pytest.fixture(scope="module")
def wanted():
    calls = functions(ours)
    return {case: by_torch(calls[case], x) for case, x in grids().items()}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case, found, wanted):
    assert_same(found[case], wanted[case])


def test_faults_are_found(wanted):
    """What jax.image.resize does where a porter takes it for torch's."""
    methods = {"nearest, up": "nearest", "bilinear, size": "linear", "bilinear, factor": "linear"}
    methods |= {"bicubic, size": "cubic", "bilinear, corners": "linear", "area": "linear"}

    def resized(x, shape, method):
        return jax.image.resize(x, shape, method)

    slips: dict[str, Callable] = {
        case: partial(resized, shape=wanted[case][0].shape, method=method)
        for case, method in methods.items()
    }
    slips["bilinear, antialias"] = partial(theirs.interpolate, size=(9, 3), mode="bilinear")
    for case, wrong in by_jax(slips, grids()).items():
        with pytest.raises(AssertionError):
            assert_same(wrong, wanted[case])


def test_jax_image_agrees_where_it_is_said(wanted):
    """With antialiasing: linear, and the cubic of a = -1/2."""
    for mode, method in (("bilinear", "linear"), ("bicubic", "cubic")):
        case = f"{mode}, antialias"
        shape = wanted[case][0].shape
        found = by_jax({case: lambda x, s=shape, m=method: jax.image.resize(x, s, m)}, grids())
        assert_same(found[case], wanted[case])


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_the_pixel_where_rounding_decides(mode):
    """Images of all sizes up to 60 at which float32 positions are a pixel off."""
    half = mode == "nearest-exact"
    x, calls = {}, {"ours": {}, "theirs": {}}
    for n, m in np.ndindex(60, 60):
        i = 2 * np.arange(m) + half
        if (
            n
            and m
            and np.any((np.float32(i / 2) * np.float32(n / m)).astype(int) != i * n // (2 * m))
        ):
            x[f"{n} to {m}"] = np.tile(np.arange(float(n))[:, None], (1, 2, 1, 1))
            for side, module in (("ours", ours), ("theirs", theirs)):
                call = partial(module.interpolate, size=(2, m), mode=mode)
                calls[side][f"{n} to {m}"] = call
    assert len(x) > 10
    found = by_jax(calls["theirs"], x)
    for size, call in calls["ours"].items():
        assert_same(found[size], by_torch(call, x[size]))


def test_what_torch_does_against_itself(normal):
    """To a width of 1 it repeats the first row; a size that stays has another's gradient."""
    smooth = {"mode": "bilinear", "antialias": True}
    options = {
        "width": {"size": (4, 1), **smooth},
        "stays": {"scale_factor": (1.1, 0.6), **smooth},
        "nearest": {"scale_factor": 1.1},
    }
    x = normal(2, 2, 7, 5, 3)
    x = {"width": x, "stays": x, "nearest": x[..., 0]}
    found = by_jax({k: partial(theirs.interpolate, **more) for k, more in options.items()}, x)

    def rows_first(x):
        return ours.interpolate(ours.interpolate(x, (4, 5), **smooth), (4, 1), **smooth)

    assert_same(found["width"], by_torch(rows_first, x["width"]))
    for name, more in options.items():
        wanted = by_torch(partial(ours.interpolate, **more), x[name])
        right, own = (1, 0) if name == "width" else (0, 1)
        assert_same(found[name][right : right + 1], wanted[right : right + 1])
        if torch.__version__.startswith("2.13"):
            with pytest.raises(AssertionError):
                assert_same(found[name][own : own + 1], wanted[own : own + 1])


@given(data=st.data())
def test_drawn_sizes(data):
    mode = data.draw(st.sampled_from(theirs.MODES[2]))
    more = {"mode": mode}
    if data.draw(st.booleans()):
        more["size"] = data.draw(st.tuples(st.integers(1, 9), st.integers(2, 9)))
        more["antialias"] = mode.startswith("bi") and data.draw(st.booleans())
    else:
        factors = st.sampled_from([0.5, 0.75, 1.0, 1.3, 2.0, 2.7])
        more["scale_factor"] = data.draw(st.tuples(factors, factors))
        more["recompute_scale_factor"] = data.draw(st.booleans())
    if mode.startswith("bi"):
        more["align_corners"] = data.draw(st.booleans())
    sizes = data.draw(st.tuples(st.integers(2, 8), st.integers(4, 8)))
    cases = {"drawn": (sizes, more)}
    wanted = by_torch(functions(ours, cases)["drawn"], grids(cases)["drawn"])
    assert_same(by_jax(functions(theirs, cases), grids(cases))["drawn"], wanted)


def test_shuffles():
    """Against torch, one the inverse of the other, and not `depth_to_space`."""
    x = {"shuffle": np.arange(2.0 * 2 * 3 * 18).reshape(2, 2, 3, 18)}
    x["unshuffle"] = np.arange(2.0 * 6 * 9 * 2).reshape(2, 6, 9, 2)
    calls = {
        side: {
            "shuffle": partial(side.pixel_shuffle, upscale_factor=3),
            "unshuffle": partial(side.pixel_unshuffle, downscale_factor=3),
        }
        for side in (ours, theirs)
    }
    found = by_jax(calls[theirs], x)
    for name, call in calls[ours].items():
        assert_same(found[name], by_torch(call, x[name]))
    usual = x["shuffle"].reshape(2, 2, 3, 3, 3, 2).transpose(0, 1, 3, 2, 4, 5)
    with pytest.raises(AssertionError):
        assert_same(found["shuffle"][:1], [usual.reshape(2, 6, 9, 2)])
    back = theirs.pixel_unshuffle(theirs.pixel_shuffle(jnp.asarray(x["shuffle"]), 3), 3)
    np.testing.assert_array_equal(back, x["shuffle"])


X = jnp.ones((1, 4, 6, 6))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: theirs.pixel_shuffle(X, 4), "upscale_factor"),
        (lambda: theirs.pixel_shuffle(X, 0), "upscale_factor"),
        (lambda: theirs.pixel_unshuffle(X, 4), "downscale_factor"),
        (lambda: theirs.interpolate(X, 3, mode="linear"), "mode"),
        (lambda: theirs.interpolate(X[0, 0], 3), "mode"),
        (lambda: theirs.interpolate(X), "scale_factor"),
        (lambda: theirs.interpolate(X, 3, 2.0), "scale_factor"),
        (lambda: theirs.interpolate(X, (3, 3, 3)), "size"),
        (lambda: theirs.interpolate(X, 0), "size"),
        (lambda: theirs.interpolate(X, scale_factor=0.1), "scale_factor"),
        (lambda: theirs.interpolate(X, 3, align_corners=True), "align_corners"),
        (lambda: theirs.interpolate(X, 3, antialias=True), "antialias"),
        (lambda: theirs.interpolate(X, 3, recompute_scale_factor=True), "recompute_scale_factor"),
    ],
)
def test_bad_arguments(call, said):
    with pytest.raises(ValueError, match=said):
        call()
