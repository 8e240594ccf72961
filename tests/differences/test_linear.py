"""Linear layers, shapes, embeddings: mistakes made in JAX are recognised, and nothing near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import pytest
import torch
import torch.nn.functional as F
from jax import lax
from torch import nn

from compare.differences.catalogue import Site
from compare.differences.measuring import first, flax64, jax64, last, normal
from compare.share import to_numpy
from tests.differences.sites import (
    IMAGE,
    Places,
    X,
    filled,
    function_site,
    glue_site,
    module_site,
    numbers,
    recognised,
)

PLACES = Places()
case, cases = PLACES.case, PLACES.cases


def linear(wrong: Callable[..., Any]) -> Site:
    layer = filled(nn.Linear(6, 6))
    return module_site(layer, jax64(wrong, X, *numbers(layer)), X)


cases(
    "LIN-01",
    linear,
    square=(lambda x, w, b: x @ w + b,),
)
cases(
    "LIN-02",
    linear,
    missing=(lambda x, w, b: x @ w.T,),
    doubled=(lambda x, w, b: x @ w.T + b + b,),
)


@case("LIN-01", "function")
def _linear_function() -> Site:
    w, b = normal(6, 6), normal(6)
    return function_site(F.linear, jax64(lambda *a: a[0] @ a[1] + a[2], X, w, b), X, w, b)


@case("LIN-02", "function")
def _linear_function_bias() -> Site:
    w, b = normal(3, 6), normal(3)
    return function_site(F.linear, jax64(lambda x, w: x @ w.T, X, w), X, w, b)


@case("LIN-03", "swapped")
def _bilinear() -> Site:
    layer, y = filled(nn.Bilinear(3, 3, 5, bias=False)), normal(4, 3, seed=3)
    x, w = normal(4, 3), layer.weight.detach()
    return module_site(layer, jax64(lambda *a: jnp.einsum("bi,oji,bj->bo", *a), x, w, y), x, y)


def lax_conv(x: Any, w: Any, b: Any = 0.0, strides: Any = 1, padding: Any = "VALID", **more: Any):
    """A convolution of (N, C, H, W) by lax."""
    n = w.ndim - 2
    strides = (strides,) * n if isinstance(strides, int) else strides
    y = lax.conv_general_dilated(x, w, strides, padding, **more)
    return y + jnp.reshape(b, (-1, *[1] * n))


def conv(wrong: Callable[..., Any], **options: Any) -> Site:
    layer = filled(nn.Conv2d(4, options.pop("out", 4), options.pop("kernel", 3), **options))
    return module_site(layer, jax64(wrong, IMAGE, *numbers(layer)), IMAGE)


@case("CONV-01", "kh and kw swapped")
def _conv_hw() -> Site:
    return conv(lambda x, w, b: lax_conv(x, w.swapaxes(2, 3), b))


@case("CONV-01", "in and out swapped")
def _conv_io() -> Site:
    return conv(lambda x, w, b: lax_conv(x, w.swapaxes(0, 1), b))


@case("CONV-01", "all axes reversed")
def _conv_reversed() -> Site:
    def wrong(x: Any, w: Any, b: Any) -> Any:
        dims = ("NCHW", "HWIO", "NCHW")
        y = lax.conv_general_dilated(x, w.T, (1, 1), "VALID", dimension_numbers=dims)
        return y + b[:, None, None]

    return conv(wrong)


@case("CONV-02", "flipped")
def _conv_flipped() -> Site:
    return conv(lambda x, w, b: lax_conv(x, w[:, :, ::-1, ::-1], b))


@case("CONV-02", "one dimension")
def _conv_1d() -> Site:
    x, w = normal(1, 1, 9), normal(1, 1, 3)
    wrong = jax64(lambda a, b: jnp.convolve(a, b, mode="valid"), x[0, 0], w[0, 0])
    return function_site(F.conv1d, wrong[None, None], x, w)


def flax_conv(x: Any, w: Any, b: Any, **options: Any) -> Any:
    module = fnn.Conv(w.shape[0], tuple(w.shape[2:]), **options)
    params = {"kernel": w.permute(2, 3, 1, 0), "bias": b}
    return first(flax64(module, params, last(x)))


def flax_conv_site(wrong: dict[str, Any], **options: Any) -> Site:
    layer = filled(nn.Conv2d(4, 3, options.pop("kernel", 3), **options))
    return module_site(layer, flax_conv(IMAGE, *numbers(layer), **wrong), IMAGE)


@case("CONV-03", "SAME")
def _conv_same() -> Site:
    return flax_conv_site({"strides": 2}, stride=2, padding=1)


@case("CONV-03", "SAME, the weight's gradient")
def _conv_same_gradient() -> Site:
    site = flax_conv_site({"strides": 2}, stride=2, padding=1)
    site.what, site.name, site.cotangent = "param", "weight", normal(2, 3, 4, 4, seed=5).numpy()

    def gradient(x: Any, w: Any, g: Any) -> Any:
        return jax.grad(lambda w: (lax_conv(x, w, strides=2, padding="SAME") * g).sum())(w)

    site.theirs = jax64(gradient, IMAGE, site.module.weight.detach(), site.cotangent)
    y = site.module(IMAGE)
    (ours,) = torch.autograd.grad(y, site.module.weight, torch.from_numpy(site.cotangent))
    site.ours = to_numpy(ours)
    return site


@case("CONV-03", "SAME_LOWER, a function")
def _conv_same_function() -> Site:
    w, b = normal(3, 4, 3, 3), normal(3)
    wrong = jax64(lambda *a: lax_conv(*a, strides=2, padding="SAME_LOWER"), IMAGE, w, b)
    return function_site(F.conv2d, wrong, IMAGE, w, b, 2, 0)


cases(
    "CONV-04",
    lambda wrong: flax_conv_site(wrong, padding=2, dilation=2),
    missing=({"padding": "SAME"},),
    missing_padding_kept=({"padding": 2},),
    padding_of_one=({"kernel_dilation": 2, "padding": 1},),
)
cases(
    "CONV-05",
    lambda wrong, mode: flax_conv_site({"padding": wrong}, padding=1, padding_mode=mode),
    zeros=(1, "circular"),
    circular=("CIRCULAR", "reflect"),
    reflect=("REFLECT", "zeros"),
)
cases(
    "CONV-06",
    lambda wrong, p: flax_conv_site({"padding": wrong}, padding=p),
    valid=("VALID", 1),
    more=(2, 1),
    less=(1, 2),
    shifted=(((2, 0), (2, 0)), 1),
    same=("SAME", 0),
)


@case("CONV-06", "as JAX's module says")
def _conv_known_padding() -> Site:
    site = flax_conv_site({"padding": ((0, 3), (1, 0))}, padding=1)
    site.jax = {"padding": ((0, 3), (1, 0))}
    return site


@case("CONV-06", "causal")
def _conv_causal() -> Site:
    layer, x = filled(nn.Conv1d(3, 2, 3, padding=1)), normal(2, 3, 7)
    wrong = jax64(lambda *a: lax_conv(*a, padding=[(2, 0)]), x, *numbers(layer))
    return module_site(layer, wrong[:, :, :7], x)


@case("CONV-07", "depthwise multiplier")
def _conv_depthwise() -> Site:
    def wrong(x: Any, w: Any, b: Any) -> Any:
        w = w.reshape(4, 2, 1, 3, 3).swapaxes(0, 1).reshape(8, 1, 3, 3)
        return lax_conv(x, w, b, feature_group_count=4)

    return conv(wrong, out=8, groups=4)


@case("CONV-07", "output channels")
def _conv_group_outputs() -> Site:
    def wrong(x: Any, w: Any, b: Any) -> Any:
        y = lax_conv(x, w, b, feature_group_count=2)
        n, _, h, v = y.shape
        return y.reshape(n, 2, 3, h, v).swapaxes(1, 2).reshape(n, 6, h, v)

    return conv(wrong, out=6, groups=2)


cases(
    "CONV-08",
    lambda wrong: conv(lambda *a: lax_conv(*a, strides=wrong), stride=(2, 1), kernel=(1, 1)),
    swapped=((1, 2),),
    missing=(1,),
)


@case("CONV-08", "strided after")
def _conv_sliced() -> Site:
    return conv(
        lambda *a: lax_conv(*a, padding=[(1, 1)] * 2)[:, :, 1::2, 1::2], stride=2, padding=1
    )


@case("LIN-02", "convolution")
def _conv_bias() -> Site:
    return conv(lambda x, w, b: lax_conv(x, w))


def transposed(wrong: dict[str, Any], order: tuple[int, ...], **options: Any) -> Site:
    """flax's transposed convolution with the weight's axes in this order."""
    layer, x = filled(nn.ConvTranspose2d(3, 3, 3, **options)), normal(1, 3, 4, 5)
    w, b = numbers(layer)
    module = fnn.ConvTranspose(3, (3, 3), (layer.stride), **wrong)
    y = flax64(module, {"kernel": w.permute(order), "bias": b}, last(x))
    return module_site(layer, first(y), x)


cases(
    "CT-01",
    transposed,
    not_flipped=({"padding": "VALID"}, (2, 3, 0, 1)),
    swapped=({"padding": "VALID", "transpose_kernel": True}, (2, 3, 0, 1)),
    not_flipped_explicit=({"padding": ((2, 2), (2, 2))}, (2, 3, 0, 1)),
)


@case("CT-01", "not flipped, SAME")
def _transposed_same() -> Site:
    return transposed({"padding": "SAME"}, (2, 3, 0, 1), stride=2, padding=1)


PADDED = {"transpose_kernel": True}
cases(
    "CT-02",
    lambda wrong: transposed({**PADDED, "padding": wrong}, (2, 3, 1, 0), stride=2, padding=1),
    same=("SAME",),
    valid=("VALID",),
)


@case("CT-02", "the number as it stands")
def _transposed_number() -> Site:
    return transposed({**PADDED, "padding": 0}, (2, 3, 1, 0), stride=2)


@case("CT-03", "missing")
def _no_output_padding() -> Site:
    options = {"stride": 2, "padding": 1, "output_padding": 1}
    return transposed({**PADDED, "padding": 1}, (2, 3, 1, 0), **options)


@case("CT-03", "low side")
def _low_output_padding() -> Site:
    options = {"stride": 2, "padding": 1, "output_padding": 1}
    return transposed({**PADDED, "padding": ((2, 1), (2, 1))}, (2, 3, 1, 0), **options)


@case("CT-04", "swapped over all")
def _transposed_groups() -> Site:
    layer, x = (
        filled(nn.ConvTranspose2d(4, 4, 3, stride=2, groups=2, bias=False)),
        normal(1, 4, 3, 3),
    )
    w = layer.weight.detach().flip(2, 3)
    more = {"lhs_dilation": (2, 2), "feature_group_count": 2}
    wrong = jax64(lambda a, b: lax_conv(a, b, padding=[(2, 2)] * 2, **more), x, w)
    return module_site(layer, wrong, x)


# Shapes ---------------------------------------------------------------------------------------

cases(
    "FLAT-01",
    lambda order: glue_site(
        IMAGE.flatten(1), jax64(lambda a: a.transpose(order).reshape(2, -1), IMAGE), IMAGE
    ),
    hwc=((0, 2, 3, 1),),
    whc=((0, 3, 2, 1),),
    cwh=((0, 1, 3, 2),),
)


@case("FLAT-01", "module")
def _flatten_module() -> Site:
    return module_site(nn.Flatten(), jax64(lambda a: a.reshape(2, -1), last(IMAGE)), IMAGE)


cases(
    "FLAT-02",
    lambda wrong: glue_site(
        normal(3, 4, 4).mT.reshape(3, 16), jax64(wrong, normal(3, 4, 4)), normal(3, 4, 4)
    ),
    no_transpose=(lambda a: a.reshape(3, 16),),
    all_axes=(lambda a: a.T.reshape(3, 16),),
)


def shuffle(axes: tuple[int, ...], shape: tuple[int, ...]) -> Site:
    x = normal(1, 12, 3, 2)

    def wrong(a: Any) -> Any:
        return a.reshape(1, 3, 2, *shape).transpose(axes).reshape(1, 6, 4, 3)

    return module_site(nn.PixelShuffle(2), first(jax64(wrong, last(x))), x)


cases(
    "PS-01",
    shuffle,
    channels_last=((0, 1, 3, 2, 4, 5), (2, 2, 3)),
    factors_swapped=((0, 1, 5, 2, 4, 3), (3, 2, 2)),
)


@case("PS-01", "unshuffle")
def _unshuffle() -> Site:
    x = normal(1, 3, 4, 6)

    def wrong(a: Any) -> Any:
        return a.reshape(1, 2, 2, 3, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(1, 2, 3, 12)

    return module_site(nn.PixelUnshuffle(2), first(jax64(wrong, last(x))), x)


@case("PS-01", "function")
def _unshuffle_function() -> Site:
    def wrong(a: Any) -> Any:
        return a.reshape(1, 8, 3, 2, 4, 2).transpose(0, 3, 5, 1, 2, 4).reshape(1, 32, 3, 4)

    x = normal(1, 8, 6, 8)
    return function_site(F.pixel_unshuffle, jax64(wrong, x), x, 2)


@case("PS-01", "channels first")
def _shuffle_first() -> Site:
    def wrong(a: Any) -> Any:
        return a.reshape(1, 2, 2, 2, 6, 8).transpose(0, 3, 4, 1, 5, 2).reshape(1, 2, 12, 16)

    x = normal(1, 8, 6, 8)
    return module_site(nn.PixelShuffle(2), jax64(wrong, x), x)


cases(
    "PAD-01",
    lambda widths: function_site(
        F.pad, jax64(lambda a: jnp.pad(a, widths), IMAGE), IMAGE, (1, 2, 0, 3)
    ),
    axes=(((0, 0), (0, 0), (1, 2), (0, 3)),),
    sides=(((0, 0), (0, 0), (3, 0), (2, 1)),),
)


@case("PAD-01", "one side of each axis")
def _pad_sides() -> Site:
    wrong = jax64(lambda a: jnp.pad(a, ((0, 0), (0, 0), (1, 0), (0, 1))), IMAGE)
    return function_site(F.pad, wrong, IMAGE, (1, 0, 0, 1))


@case("PAD-01", "module")
def _pad_module() -> Site:
    wrong = jax64(lambda a: jnp.pad(a, ((0, 0), (0, 0), (1, 2), (0, 3)), "reflect"), IMAGE)
    return module_site(nn.ReflectionPad2d((1, 2, 0, 3)), wrong, IMAGE)


cases(
    "PAD-02",
    lambda mode: module_site(
        nn.ReflectionPad2d(2),
        jax64(lambda a: jnp.pad(a, ((0, 0), (0, 0), (2, 2), (2, 2)), mode), IMAGE),
        IMAGE,
    ),
    symmetric=("symmetric",),
    edge=("edge",),
    wrap=("wrap",),
    constant=("constant",),
)


@case("PAD-02", "function")
def _pad_function() -> Site:
    widths = ((0, 0), (0, 0), (1, 2), (1, 2))
    wrong = jax64(lambda a: jnp.pad(a, widths, mode="symmetric"), IMAGE)
    return function_site(F.pad, wrong, IMAGE, (1, 2, 1, 2), "reflect")


@case("PAD-02", "and their order")
def _pad_both() -> Site:
    widths = ((0, 0), (0, 0), (1, 2), (2, 1))
    wrong = jax64(lambda a: jnp.pad(a, widths, mode="symmetric"), IMAGE)
    return function_site(F.pad, wrong, IMAGE, (1, 2, 2, 1), "reflect")


# Embedding ------------------------------------------------------------------------------------

IDS = torch.tensor([[0, 1, 0, 2], [3, 4, 1, 1]])


def embedding(wrong: Callable[..., Any], **options: Any) -> Site:
    layer = filled(nn.Embedding(5, 4, **options))
    return module_site(layer, jax64(wrong, layer.weight.detach().clone(), IDS), IDS)


cases(
    "EMB-02",
    embedding,
    one_less=(lambda w, i: w[i - 1],),
    one_more_clipped=(lambda w, i: jnp.take(w, i + 1, axis=0, mode="clip"),),
)
cases(
    "EMB-04",
    embedding,
    root=(lambda w, i: w[i] * 2,),
    inverse_root=(lambda w, i: w[i] / 2,),
)


@case("EMB-04", "glue")
def _glue_scale() -> Site:
    return glue_site(X, jax64(lambda a: a * jnp.sqrt(6.0), X), X)


@case("EMB-05", "no max_norm")
def _no_max_norm() -> Site:
    return embedding(lambda w, i: w[i], max_norm=0.8)


@case("EMB-01", "row masked")
def _masked_row() -> Site:
    return embedding(lambda w, i: w[i] * (i != 1)[..., None], padding_idx=1)


def embedding_gradient(**options: Any) -> Site:
    layer, g = filled(nn.Embedding(5, 4, **options)), normal(2, 4, 4, seed=4)
    (layer(IDS) * g).sum().backward()
    wrong = jax64(
        lambda w, i, g: jax.grad(lambda w: (w[i] * g).sum())(w), layer.weight.detach(), IDS, g
    )
    ours, layer.weight.grad = to_numpy(layer.weight.grad), None
    return Site(
        "Embedding", "param", wrong, ours, (IDS,), layer, cotangent=g.numpy(), name="weight"
    )


cases("EMB-01", lambda: embedding_gradient(padding_idx=0), gradient=())
cases("EMB-06", lambda: embedding_gradient(scale_grad_by_freq=True), gradient=())


@case("EMB-03", "sum")
def _bag() -> Site:
    layer = filled(nn.EmbeddingBag(5, 4))
    return module_site(layer, jax64(lambda w, i: w[i].sum(1), layer.weight.detach(), IDS), IDS)


@pytest.mark.parametrize(("code", "name", "build"), PLACES, ids=PLACES.names)
def test_the_mistake_is_recognised(code: str, name: str, build: Callable[[], Site]):
    recognised(code, build())


@pytest.mark.parametrize("family", "LIN CONV CT FLAT PS PAD EMB".split())
def test_every_difference_with_candidates_has_a_place(family: str):
    assert PLACES.have(family)
