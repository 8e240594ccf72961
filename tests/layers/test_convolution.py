"""Convolutions, transposed ones and patches against torch, in float64."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from compare import Image, Twin, check, find
from compare.share import to_jax, to_numpy, to_torch
from jaxnn.layers import convolution, patches, transposed
from jaxnn.layers.container import Sequential
from tests.arrays import kernel
from torchref.layers import convolution as tconvolution
from torchref.layers import patches as tpatches
from torchref.layers import transposed as ttransposed

LAYERS = {
    "1d": ("Conv1d", (9,), (4, 6, 3), {}),
    "1d same": ("Conv1d", (9,), (4, 6, 4), {"padding": "same", "dilation": 2}),
    "1d circular": (
        "Conv1d",
        (4,),
        (2, 3, 3),
        {"padding": 4, "padding_mode": "circular", "stride": 2},
    ),
    "2d depthwise": ("Conv2d", (6, 5), (4, 8, 3), {"groups": 4, "padding": 1, "bias": False}),
    "2d valid": ("Conv2d", (7, 6), (4, 6, (3, 2)), {"padding": "valid", "stride": (2, 1)}),
    "2d reflect": ("Conv2d", (4, 5), (2, 3, 3), {"padding": (3, 1), "padding_mode": "reflect"}),
    "2d replicate": ("Conv2d", (2, 1), (2, 3, 3), {"padding": 4, "padding_mode": "replicate"}),
    "2d same, circular": (
        "Conv2d",
        (5, 4),
        (4, 2, (2, 4)),
        {"padding": "same", "padding_mode": "circular", "groups": 2},
    ),
    "3d": ("Conv3d", (3, 4, 5), (2, 3, (1, 2, 3)), {"dilation": (1, 2, 1), "padding": (0, 1, 2)}),
    "1d transposed": ("ConvTranspose1d", (5,), (4, 3, 4), {"stride": 3, "output_padding": 2}),
    "2d transposed": (
        "ConvTranspose2d",
        (3, 4),
        (4, 6, (3, 2)),
        {"stride": 2, "padding": (2, 1), "groups": 2, "output_padding": 1, "dilation": (1, 3)},
    ),
    "beyond a stride": ("ConvTranspose1d", (5,), (2, 3, 3), {"dilation": 3, "output_padding": 2}),
    "2d depthwise, transposed": ("ConvTranspose2d", (3, 3), (4, 4, 2), {"groups": 4, "stride": 2}),
    "3d transposed": ("ConvTranspose3d", (2, 3, 2), (3, 2, 2), {"padding": 1, "bias": False}),
}
# What the shared rule computes by patches: small maps of many channels, and 1x1 windows.
PATCHED = {
    "2x2": ((2, 2, 2, 64), (3, 3, 64, 128), (1, 1), ((1, 1), (1, 1))),
    "strided": ((1, 8, 7, 96), (4, 3, 96, 64), (2, 2), ((1, 2), (0, 1))),
    "pointwise": ((2, 9, 6, 256), (1, 1, 256, 256), (2, 1), "VALID"),
    "same": ((1, 4, 3, 128), (2, 3, 128, 128), (2, 1), "SAME"),
    "one axis": ((2, 4, 128), (5, 128, 128), (1,), ((2, 2),)),
    "cropped": ((1, 6, 6, 96), (3, 3, 96, 96), (1, 1), ((-1, 0), (0, -1))),
}


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12 * np.abs(other).max())


def last(array):
    """(N, C, ...) -> (N, ..., C)."""
    return np.moveaxis(to_numpy(array), 1, -1)


def kernel_last(array):
    """(O, C, ...) -> (..., C, O)."""
    return kernel(to_numpy(array))


def both(kind, sizes, given, options, change=lambda x: x):
    """Values and gradients of input, kernel and bias: (jax's, torch's), with jax's axes.

    Args:
      change: what is done to JAX's input, by which a fault is planted.
    """
    ours, theirs = (ttransposed, transposed) if "Transpose" in kind else (tconvolution, convolution)
    rng = np.random.default_rng(0)
    layer = getattr(ours, kind)(*given, **options).double()
    x = to_torch(rng.standard_normal((2, given[0], *sizes))).requires_grad_()
    y = layer(x)
    pull = rng.standard_normal(tuple(y.shape))
    parameters = dict(layer.named_parameters())
    gradients = torch.autograd.grad(y, [x, *parameters.values()], to_torch(pull))
    wanted = [last(y.detach()), last(gradients[0]), kernel_last(gradients[1])]
    wanted += [to_numpy(each) for each in gradients[2:]]

    module = getattr(theirs, kind)(*given, **options)
    with jax.enable_x64(True):
        params: dict[str, Any] = {"kernel": to_jax(kernel_last(layer.weight.detach()))}
        if layer.bias is not None:
            params["bias"] = to_jax(to_numpy(parameters["bias"].detach()))
        z, vjp = jax.vjp(
            lambda x, params: module.apply({"params": params}, change(x)),
            to_jax(last(x.detach())),
            params,
        )
        slope, slopes = vjp(to_jax(last(pull)))
        found = [z, slope, *(slopes[name] for name in params)]
        return [to_numpy(each) for each in found], wanted


@pytest.mark.parametrize("case", LAYERS)
def test_values_and_gradients(case):
    assert_same(*both(*LAYERS[case]))


def test_a_fault_is_found():
    kind, sizes, given, options = LAYERS["2d same, circular"]
    with pytest.raises(AssertionError):
        assert_same(*both(kind, sizes, given, options, change=lambda x: jnp.roll(x, 1, axis=1)))


@given(data=st.data())
def test_drawn_options(data):
    draw = data.draw
    rank, across = draw(st.integers(1, 2)), draw(st.booleans())
    stride, dilation, groups = (draw(st.integers(1, 2)) for _ in range(3))
    options = {
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    options["padding"] = draw(st.integers(0, 2))
    if across:
        options["output_padding"] = draw(st.integers(0, max(stride, dilation) - 1))
    else:
        options["padding_mode"] = draw(st.sampled_from(sorted(convolution.MODES)))
    kind = f"Conv{'Transpose' * across}{rank}d"
    assert_same(*both(kind, (5, 6)[:rank], (2, 4, draw(st.integers(1, 3))), options))


def test_parameters_start_as_in_torch():
    """Uniform in +-1/sqrt(fan_in), of the same fan_in; and with the same shapes."""
    for case in ("2d depthwise", "2d transposed", "3d"):
        kind, sizes, given, options = LAYERS[case]
        transposes = "Transpose" in kind
        ours = getattr(ttransposed if transposes else tconvolution, kind)(*given, **options)
        module = getattr(transposed if transposes else convolution, kind)(*given, **options)
        x = jnp.ones((1, *sizes, given[0]))
        params = module.init(jax.random.key(0), x)["params"]
        for name, parameter in ours.named_parameters():
            one = to_numpy(parameter.detach())
            one = kernel_last(one) if name == "weight" else one
            other = params["kernel" if name == "weight" else name]
            assert one.shape == other.shape
            if one.size > 20:
                bound = np.abs(one).max()
                assert bound * 0.8 < np.abs(other).max() < bound / 0.8


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda **o: convolution.Conv2d(2, 4, 3, **o), {"padding": "full"}),
        (lambda **o: convolution.Conv2d(2, 4, 3, **o), {"padding": "same", "stride": 2}),
        (lambda **o: convolution.Conv2d(2, 4, 3, **o), {"padding_mode": "edge"}),
        (lambda **o: convolution.Conv2d(2, 4, 3, **o), {"padding": 5, "padding_mode": "reflect"}),
        (lambda **o: convolution.Conv2d(2, 4, 3, **o), {"padding": 6, "padding_mode": "circular"}),
        (lambda **o: convolution.Conv2d(2, 3, 3, **o), {"groups": 2}),
        (lambda **o: transposed.ConvTranspose2d(2, 3, 3, **o), {"groups": 2}),
        (lambda **o: transposed.ConvTranspose2d(2, 4, 3, **o), {"padding_mode": "reflect"}),
        (lambda **o: transposed.ConvTranspose2d(2, 4, 3, **o), {"output_padding": 1}),
        (lambda **o: transposed.ConvTranspose2d(2, 4, 3, **o), {"padding": 4}),
    ],
)
def test_bad_arguments(make, said):
    """torch refuses them, too."""
    name = "channels" if "groups" in said else next(iter(said))
    with pytest.raises(ValueError, match=name):
        make(**said).init(jax.random.key(0), jnp.ones((1, 5, 5, 2)))
    module = make(**said)
    ours = ttransposed if "Transpose" in type(module).__name__ else tconvolution
    image = torch.ones(1, 2, 5, 5)
    with pytest.raises((ValueError, RuntimeError, AssertionError)):
        getattr(ours, type(module).__name__)(2, module.out_channels, 3, **said)(image)


@pytest.mark.parametrize("more", [{}, {"stride": 2, "padding": 1}, {"dilation": (2, 1)}])
def test_patches(more):
    rng = np.random.default_rng(1)
    x, kernel = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3, 3, 2))
    wanted = tpatches.conv_by_patches(to_torch(x), to_torch(kernel), **more)
    direct = tpatches.conv(to_torch(x), to_torch(kernel), **more)
    with jax.enable_x64(True):
        found = patches.conv_by_patches(to_jax(last(x)), to_jax(kernel_last(kernel)), **more)
        assert_same([to_numpy(found), last(direct)], [last(wanted)] * 2)


@pytest.mark.parametrize("shape", [(3, 3, 2, 4), (6, 1, 3, 4), (3, 3, 4)])
def test_patches_refuse_a_kernel_that_does_not_fit(shape):
    with pytest.raises(ValueError, match="kernel"):
        patches.conv_by_patches(jnp.ones((1, 5, 5, 3)), jnp.ones(shape))


@pytest.mark.parametrize("case", PATCHED)
def test_the_choice_changes_nothing(case):
    """Values and gradients, and second derivatives of the one that is linear in each."""
    shape, kernel, strides, padding = PATCHED[case]
    axes = "HW"[: len(strides)]
    options = {"dimension_numbers": (f"N{axes}C", f"{axes}IO", f"N{axes}C")}
    rng = np.random.default_rng(2)

    def all_of(conv, x, w):
        y, vjp = jax.vjp(lambda x, w: conv(x, w, strides, padding, **options), x, w)
        return y, *vjp(y)

    with jax.enable_x64(True):
        x, w = (to_jax(rng.standard_normal(each)) for each in (shape, kernel))
        jaxpr = str(
            jax.make_jaxpr(lambda x, w: patches.conv(x, w, strides, padding, **options))(x, w)
        )
        assert "platform_index" in jaxpr
        found, wanted = (all_of(each, x, w) for each in (patches.conv, lax.conv_general_dilated))
        assert_same(*(list(map(to_numpy, each)) for each in (found, wanted)))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 8, 8, 64), {}),  # a map that is large enough
        ((2, 2, 2, 64), {"precision": lax.Precision.HIGHEST}),
        ((2, 2, 2, 64), {"lhs_dilation": (2, 2)}),
        ((2, 2, 2, 128), {"feature_group_count": 2}),
        ((2, 64, 2, 2), {"dimension_numbers": ("NCHW", "HWIO", "NCHW")}),
    ],
)
def test_what_is_left_to_xla(shape, options):
    options: dict[str, Any] = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), **options}
    kernel = (3, 3, 64, 128)

    def program(x, w):
        return patches.conv(x, w, (1, 1), [(1, 1), (1, 1)], **options)

    jaxpr = jax.make_jaxpr(program)(
        *(jax.ShapeDtypeStruct(s, jnp.float32) for s in (shape, kernel))
    )
    assert [eqn.primitive.name for eqn in jaxpr.eqns] == ["conv_general_dilated"]


def test_each_platform_gets_its_own():
    layer = nn.Conv(128, (3, 3), padding=1, use_bias=False, conv_general_dilated=patches.conv)
    x = jax.ShapeDtypeStruct((2, 2, 2, 64), jnp.float32)
    variables = jax.eval_shape(lambda x: layer.init(jax.random.key(0), x), x)
    traced = jax.jit(layer.apply).trace(variables, x)
    texts = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda")}
    assert "stablehlo.convolution" in texts["cuda"]
    assert "stablehlo.dot_general" in texts["cpu"]
    for platform, other in (("cpu", "convolution"), ("cuda", "dot_general")):
        assert f"stablehlo.{other}" not in texts[platform]


def test_the_transposed_layer_is_the_transpose():
    """<conv(y), x> = <y, transposed(x)> with one kernel, on the maps that are taken by patches."""
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        kernel = to_jax(rng.standard_normal((4, 4, 64, 96)))
        x, y = (
            to_jax(rng.standard_normal((2, 1, 1, 96))),
            to_jax(rng.standard_normal((2, 4, 4, 64))),
        )
        variables = {"params": {"kernel": kernel}}
        down = convolution.Conv2d(64, 96, 4, bias=False).apply(variables, y)
        up = transposed.ConvTranspose2d(96, 64, 4, bias=False).apply(variables, x)
        np.testing.assert_allclose((down * x).sum(), (y * up).sum(), rtol=1e-9)


def test_the_finder_sees_through_the_choice():
    """A wrong padding inside of what is computed by patches is found, and named."""

    def pair(padding):
        layer = nn.Conv(128, (3, 3), padding=padding, conv_general_dilated=patches.conv, name="0")
        return Twin(
            torch=torch.nn.Sequential(torch.nn.Conv2d(64, 128, 3, padding=1), torch.nn.ReLU()),
            jax=Sequential((layer, nn.relu)),
            inputs={"x": Image(2, 64, 3, 3)},
        )

    found = find(pair(((1, 1), (0, 2))))
    assert (found.verdict, found.origin["jax"], found.cause["code"]) == ("DIVERGED", "0", "CONV-06")
    assert found.cause["confirmed"]
    assert check(pair(1)).verdict == "SAME"
