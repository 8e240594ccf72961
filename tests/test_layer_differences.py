"""Layers' mistakes, made in JAX: the catalogue names each, and not a value that is near."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax import lax
from torch import nn

from compare.differences import pooling
from compare.differences.catalogue import Edit, Site, catalogue
from compare.differences.measuring import first, flax64, jax64, last, normal
from compare.differences.recurrent import imitation as recurrent_imitation
from compare.share import to_numpy

CATALOGUE = catalogue()
CASES: list[tuple[str, str, Callable[[], Site]]] = []


def case(code: str, name: str) -> Callable[[Callable[[], Site]], Callable[[], Site]]:
    """Adds a place where JAX's side made the mistake `code`."""

    def add(build: Callable[[], Site]) -> Callable[[], Site]:
        CASES.append((code, name, build))
        return build

    return add


def cases(code: str, build: Callable[..., Site], **rows: tuple[Any, ...]) -> None:
    """Adds one place for each row of arguments."""
    for name, row in rows.items():
        CASES.append((code, name, lambda row=row: build(*row)))


def filled(module: nn.Module) -> Any:
    """A module with generic float64 parameters and positive variances."""
    module = module.double()
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=index, scale=0.7))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(normal(*buffer.shape, seed=7))
            elif name.endswith("running_var"):
                buffer.copy_(normal(*buffer.shape, seed=8).square() + 0.5)
    return module


def module_site(module: Any, theirs: Any, *inputs: Any, **more: Any) -> Site:
    """The site of a module's output."""
    import copy

    with torch.no_grad():
        ours = copy.deepcopy(module)(*inputs)
    while isinstance(ours, tuple):
        ours = ours[0]
    kind = type(module).__name__
    return Site(kind, "output", np.asarray(theirs), to_numpy(ours), inputs, module, **more)


def function_site(function: Any, theirs: Any, *args: Any, **kwargs: Any) -> Site:
    """The site of a function's output."""
    inputs = tuple(a for a in args if isinstance(a, torch.Tensor))
    ours = to_numpy(function(*args, **kwargs))
    theirs = np.asarray(theirs)
    name = function.__name__.lstrip("_")
    return Site(name, "output", theirs, ours, inputs, None, function, args, kwargs)


def glue_site(ours: Any, theirs: Any, *inputs: Any) -> Site:
    return Site("glue", "output", np.asarray(theirs), to_numpy(ours), inputs)


def confirming(code: str, site: Site) -> list[Edit]:
    """The edits of a difference that give JAX's value."""
    edits = CATALOGUE[code].edits
    assert edits is not None
    found = []
    for edit in edits(site):
        try:
            value = to_numpy(edit.compute())
        except (RuntimeError, ValueError, IndexError, TypeError):
            continue  # a candidate that does not fit this place
        bound = 1e-12 * max(1.0, np.abs(site.theirs).max())
        if value.shape == site.theirs.shape and np.abs(value - site.theirs).max() <= bound:
            found.append(edit)
    return found


# Linear, convolution --------------------------------------------------------------------------

X, IMAGE = normal(4, 6), normal(2, 4, 8, 8)


def numbers(module: Any) -> list[Any]:
    return [p.detach() for p in module.parameters()]


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


# Pooling --------------------------------------------------------------------------------------


def flax_pool(name: str, *args: Any, **options: Any) -> Any:
    return first(jax64(lambda a: getattr(fnn, name)(a, *args, **options), last(IMAGE)))


def pool(module: nn.Module, name: str, *args: Any, **options: Any) -> Site:
    return module_site(module, flax_pool(name, *args, **options), IMAGE)


W3, W2, ONES = (3, 3), (2, 2), ((1, 1), (1, 1))
cases(
    "POOL-01",
    pool,
    default=(nn.MaxPool2d(3), "max_pool", W3),
    average=(nn.AvgPool2d(2), "avg_pool", W2),
    window=(nn.MaxPool2d(3, 2), "max_pool", W3, W3),
    stride_one_same=(nn.MaxPool2d(3, 2, 1), "max_pool", W3, (1, 1), "SAME"),
)
cases(
    "POOL-02",
    pool,
    counted=(nn.AvgPool2d(3, 2, 1, count_include_pad=False), "avg_pool", W3, W2, ONES),
)


@case("POOL-02", "not counted")
def _not_counted() -> Site:
    options: dict[str, Any] = {"count_include_pad": False}
    return pool(nn.AvgPool2d(3, 2, 1), "avg_pool", W3, W2, ONES, **options)


cases(
    "POOL-03",
    pool,
    missing=(nn.MaxPool2d(3, 2, ceil_mode=True), "max_pool", W3, W2),
    added=(nn.MaxPool2d(3, 2), "max_pool", W3, W2, ((0, 1), (0, 1))),
)
cases(
    "POOL-04",
    pool,
    whole=(nn.AvgPool2d(3, 2, 1, ceil_mode=True), "avg_pool", W3, W2, ((1, 2), (1, 2))),
)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("counted", [False, True])
def test_the_average_by_windows_is_pytorch_s(ceil: bool, counted: bool):
    """The candidates' own pooling, with nothing changed."""
    module = nn.AvgPool2d(3, 2, 1, ceil_mode=ceil, count_include_pad=counted)
    site = module_site(module, 0.0, IMAGE)
    value = pooling._form(*pooling._own(site))(IMAGE, None)
    np.testing.assert_allclose(value, site.ours, rtol=1e-13, atol=1e-14)


cases(
    "POOL-07",
    pool,
    same=(nn.MaxPool2d(3, 2, 1), "max_pool", W3, W2, "SAME"),
    valid=(nn.AvgPool2d(3, 2, 1), "avg_pool", W3, W2),
    less=(nn.MaxPool2d(4, 2, 2), "max_pool", (4, 4), W2, ONES),
)
cases(
    "POOL-10",
    pool,
    maximum=(nn.AvgPool2d(2), "max_pool", W2, W2),
    average=(nn.MaxPool2d(2), "avg_pool", W2, W2),
    average_padded=(nn.MaxPool2d(3, 2, 1), "avg_pool", W3, W2, ONES),
)


@case("POOL-10", "function")
def _pool_function() -> Site:
    return function_site(F.max_pool2d, flax_pool("avg_pool", W2, W2), IMAGE, 2)


@case("POOL-06", "zeros")
def _pool_zeros() -> Site:
    x = -IMAGE.abs()

    def wrong(a: Any) -> Any:
        return fnn.max_pool(jnp.pad(a, ((0, 0), (1, 1), (1, 1), (0, 0))), W3, W2)

    return module_site(nn.MaxPool2d(3, 2, 1), first(jax64(wrong, last(x))), x)


@case("POOL-08", "plain windows")
def _adaptive() -> Site:
    x = normal(1, 2, 8, 9)
    wrong = first(jax64(lambda a: fnn.avg_pool(a, (4, 3), (2, 3)), last(x)))
    return module_site(nn.AdaptiveAvgPool2d(3), wrong, x)


@case("POOL-08", "the largest")
def _adaptive_max() -> Site:
    wrong = jax64(lambda a: a.max((2, 3), keepdims=True), IMAGE)
    return module_site(nn.AdaptiveAvgPool2d(1), wrong, IMAGE)


@case("POOL-09", "mean")
def _lp_mean() -> Site:
    wrong = jax64(lambda a: fnn.avg_pool(a**2, W2, W2) ** 0.5, last(IMAGE))
    return module_site(nn.LPPool2d(2.0, 2), first(wrong), IMAGE)


# Normalisation --------------------------------------------------------------------------------


def flax_batch(module: Any, x: Any, stored: bool, **options: Any) -> tuple[Any, Any]:
    """flax's BatchNorm with PyTorch's state: its output and its new statistics."""
    options = {"epsilon": 1e-5, "momentum": 0.9, **options}
    w, b = numbers(module)
    statistics = (module.running_mean.clone(), module.running_var.clone())

    def run(x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        layer = fnn.BatchNorm(stored, **options)
        state = {
            "params": {"scale": w, "bias": b},
            "batch_stats": {"mean": mean, "var": var},
        }
        y, new = layer.apply(state, x, mutable=["batch_stats"])
        return y, new.get("batch_stats", state["batch_stats"])

    return jax64(run, x, w, b, *statistics)


def batch(train: bool, stored: bool, **options: Any) -> Site:
    module = filled(nn.BatchNorm2d(4)).train(train)
    return module_site(module, first(flax_batch(module, last(IMAGE), stored, **options)[0]), IMAGE)


def statistic(name: str, train: bool = True, stored: bool = False, **options: Any) -> Site:
    """A running statistic after one step."""
    import copy

    momentum = options.pop("torch_momentum", 0.1)
    module = filled(nn.BatchNorm2d(4, momentum=momentum)).train(train)
    theirs = flax_batch(module, last(IMAGE), stored, **options)[1][name.removeprefix("running_")]
    after = copy.deepcopy(module)
    after(IMAGE)
    ours = to_numpy(getattr(after, name))
    return Site("BatchNorm2d", "buffer", theirs, ours, (IMAGE,), module, name=name)


def momentum_site(name: str, momentum: float) -> Site:
    return statistic(name, momentum=momentum)


cases(
    "BN-01",
    momentum_site,
    share_of_the_new=("running_mean", 0.1),
    default=("running_mean", 0.99),
    variance=("running_var", 0.99),
    one_percent=("running_mean", 0.01),
)


@case("BN-01", "as JAX's module says")
def _known_momentum() -> Site:
    site = statistic("running_mean", momentum=0.73)
    site.jax = {"momentum": 0.73}
    return site


cases("BN-02", statistic, biased=("running_var",))
cases("BN-08", lambda: statistic("running_mean", stored=True), not_stored=())
cases("BN-06", lambda: statistic("running_mean", train=False), stored_in_eval=())
cases("BN-06", batch, train_with_stored=(True, True), eval_with_batch=(False, False))


@case("BN-05", "momentum")
def _cumulative() -> Site:
    module = filled(nn.BatchNorm2d(4, momentum=None)).train()
    theirs = flax_batch(module, last(IMAGE), False)[1]["mean"]
    ours = to_numpy(IMAGE.mean((0, 2, 3)))
    return Site("BatchNorm2d", "buffer", theirs, ours, (IMAGE,), module, name="running_mean")


@case("BN-03", "width")
def _batch_width() -> Site:
    module, x = filled(nn.BatchNorm2d(4)).train(), normal(3, 4, 4, 4)
    return module_site(module, flax_batch(module, x, False)[0], x)


@case("BN-03", "width in eval mode")
def _batch_width_eval() -> Site:
    module, x = filled(nn.BatchNorm2d(4)).eval(), normal(3, 4, 4, 4)
    return module_site(module, flax_batch(module, x, True)[0], x)


@case("BN-03", "pixels by themselves")
def _batch_pixels() -> Site:
    module = filled(nn.BatchNorm2d(4)).train()

    def wrong(x: Any, w: Any, b: Any) -> Any:
        y = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)
        return y * w[:, None, None] + b[:, None, None]

    return module_site(module, jax64(wrong, IMAGE, *numbers(module)), IMAGE)


def flax_layer(module: Any, name: str, x: Any, axis: int = -1, **options: Any) -> Site:
    """flax's normalisation with PyTorch's scale and bias."""
    layer = getattr(fnn, name)(**options)
    params = dict(zip(("scale", "bias"), numbers(module), strict=False))
    params = params or None
    y = flax64(layer, params or {}, x.movedim(axis, -1))
    return module_site(module, np.moveaxis(y, -1, axis), x)


def layer_norm(epsilon: float) -> Site:
    return flax_layer(filled(nn.LayerNorm(6)), "LayerNorm", X, epsilon=epsilon)


cases(
    "LN-01",
    layer_norm,
    flax_default=(1e-6,),
    bert=(1e-12,),
    larger=(1e-3,),
    tiny=(1e-8,),
)


@case("LN-01", "as JAX's module says")
def _known_epsilon() -> Site:
    site = layer_norm(3.7e-5)
    site.jax = {"epsilon": 3.7e-5}
    return site


@case("LN-01", "BatchNorm")
def _batch_epsilon() -> Site:
    return batch(False, True, epsilon=1e-3)


@case("LN-01", "GroupNorm")
def _group_epsilon() -> Site:
    return flax_layer(filled(nn.GroupNorm(2, 4)), "GroupNorm", IMAGE, 1, num_groups=2)


@case("LN-01", "InstanceNorm")
def _instance_epsilon() -> Site:
    return flax_layer(filled(nn.InstanceNorm2d(4, affine=True)), "InstanceNorm", IMAGE, 1)


@case("LN-01", "function")
def _layer_norm_function() -> Site:
    w, b = normal(6), normal(6, seed=1)
    wrong = flax64(fnn.LayerNorm(), {"scale": w, "bias": b}, X)
    return function_site(F.layer_norm, wrong, X, (6,), w, b)


@case("LN-01", "gradient")
def _layer_norm_gradient() -> Site:
    site = layer_norm(1e-6)
    site.what, site.cotangent = "gradient", normal(4, 6, seed=5).numpy()

    def gradient(x: Any, g: Any, w: Any, b: Any) -> Any:
        layer = fnn.LayerNorm(epsilon=1e-6)
        return jax.grad(lambda x: (layer.apply({"params": {"scale": w, "bias": b}}, x) * g).sum())(
            x
        )

    x = X.clone().requires_grad_()
    (ours,) = torch.autograd.grad(site.module(x), x, torch.from_numpy(site.cotangent))
    site.ours, site.theirs = (
        to_numpy(ours),
        jax64(gradient, X, site.cotangent, *numbers(site.module)),
    )
    return site


def detached_statistics(stop_mean: bool) -> Site:
    """Layer norm with its statistics behind a stop_gradient."""
    module, g = filled(nn.LayerNorm(6)), normal(4, 6, seed=3)

    def wrong(x: Any, g: Any, w: Any, b: Any) -> Any:
        def value(x: Any) -> Any:
            mean = x.mean(-1, keepdims=True)
            root = lax.stop_gradient(jnp.sqrt(x.var(-1, keepdims=True) + 1e-5))
            mean = lax.stop_gradient(mean) if stop_mean else mean
            return (g * ((x - mean) / root * w + b)).sum()

        return jax.grad(value)(x)

    theirs = jax64(wrong, X, g, *numbers(module))
    site = Site("LayerNorm", "gradient", theirs, theirs, (X,), module, cotangent=to_numpy(g))
    site.ours = to_numpy(site.result(module, X))
    return site


cases("GRAD-13", detached_statistics, both_statistics=(True,), variance=(False,))


@case("LN-02", "last axis alone")
def _layer_axes() -> Site:
    module, x = nn.LayerNorm([4, 6], elementwise_affine=False), normal(2, 4, 6)
    y = jax64(lambda a: jax.nn.standardize(a, epsilon=1e-5), x)
    return module_site(module, y, x)


@case("LN-02", "time axis")
def _layer_time() -> Site:
    module, x = filled(nn.LayerNorm(6)), normal(2, 4, 6)

    def wrong(x: Any, w: Any, b: Any) -> Any:
        return jax.nn.standardize(x, axis=1, epsilon=1e-5) * w + b

    return module_site(module, jax64(wrong, x, *numbers(module)), x)


def by_hand(formula: Callable[..., Any]) -> Site:
    module = filled(nn.LayerNorm(6))

    def wrong(x: Any, w: Any, b: Any) -> Any:
        return formula(x, x.mean(-1, keepdims=True)) * w + b

    return module_site(module, jax64(wrong, X, *numbers(module)), X)


cases(
    "LN-04",
    by_hand,
    ddof=(lambda x, m: (x - m) / jnp.sqrt(x.var(-1, keepdims=True, ddof=1) + 1e-5),),
    both=(lambda x, m: (x - m) / (x.std(-1, keepdims=True, ddof=1) + 1e-5),),
    no_mean=(lambda x, m: x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5),),
)


cases(
    "LN-01",
    by_hand,
    beside_the_root=(lambda x, m: (x - m) / (x.std(-1, keepdims=True) + 1e-5),),
    beside_another=(lambda x, m: (x - m) / (x.std(-1, keepdims=True) + 1e-6),),
)


@case("LN-04", "GroupNorm")
def _group_ddof() -> Site:
    module = filled(nn.GroupNorm(2, 4))

    def wrong(x: Any, w: Any, b: Any) -> Any:
        a = x.reshape(2, 2, -1)
        y = (a - a.mean(-1, keepdims=True)) / jnp.sqrt(a.var(-1, keepdims=True, ddof=1) + 1e-5)
        return y.reshape(x.shape) * w[:, None, None] + b[:, None, None]

    return module_site(module, jax64(wrong, IMAGE, *numbers(module)), IMAGE)


cases(
    "GN-01",
    lambda count: flax_layer(
        filled(nn.GroupNorm(2, 4)), "GroupNorm", IMAGE, 1, epsilon=1e-5, num_groups=count
    ),
    one=(1,),
    each=(4,),
)


@case("GN-01", "flax's default")
def _default_groups() -> Site:
    x = normal(1, 64, 2, 2)
    return flax_layer(filled(nn.GroupNorm(8, 64)), "GroupNorm", x, 1, epsilon=1e-5)


@case("GN-02", "every second channel")
def _strided_groups() -> Site:
    module = filled(nn.GroupNorm(2, 4))

    def wrong(x: Any, w: Any, b: Any) -> Any:
        a = x.reshape(2, 8, 8, 2, 2)
        mean, var = a.mean((1, 2, 3), keepdims=True), a.var((1, 2, 3), keepdims=True)
        return ((a - mean) / jnp.sqrt(var + 1e-5)).reshape(x.shape) * w + b

    return module_site(module, first(jax64(wrong, last(IMAGE), *numbers(module))), IMAGE)


@case("IN-01", "the image's own")
def _instance_own() -> Site:
    module = filled(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)).eval()
    return flax_layer(module, "InstanceNorm", IMAGE, 1, epsilon=1e-5)


@case("IN-01", "the batch's")
def _instance_batch() -> Site:
    module = nn.InstanceNorm2d(4).double()
    wrong = jax64(lambda a: jax.nn.standardize(a, axis=(0, 2, 3), epsilon=1e-5), IMAGE)
    return module_site(module, wrong, IMAGE)


def rms(epsilon: float, own: float | None = None) -> Site:
    return flax_layer(filled(nn.RMSNorm(6, eps=own)), "RMSNorm", X, epsilon=epsilon)


cases("RMS-01", rms, default=(1e-6,), larger=(1e-5,), float32=(float(np.finfo("f4").eps),))


@case("RMS-02", "scale + 1")
def _rms_scale() -> Site:
    module = filled(nn.RMSNorm(6, eps=1e-6))
    return module_site(module, flax64(fnn.RMSNorm(), {"scale": 1 + module.weight}, X), X)


@case("LN-04", "RMSNorm with the mean taken off")
def _rms_centred() -> Site:
    module = filled(nn.RMSNorm(6, eps=1e-6))
    wrong = flax64(fnn.LayerNorm(use_bias=False), {"scale": module.weight}, X)
    return module_site(module, wrong, X)


cases(
    "NRM-01",
    lambda wrong: function_site(F.normalize, jax64(wrong, 1e-7 * X), 1e-7 * X, dim=-1),
    rsqrt=(lambda a: a * lax.rsqrt((a**2).sum(-1, keepdims=True) + 1e-12),),
    added=(lambda a: a / (jnp.linalg.norm(a, axis=-1, keepdims=True) + 1e-8),),
    square_bounded=(lambda a: a / jnp.sqrt(jnp.maximum((a**2).sum(-1, keepdims=True), 1e-12)),),
    whole=(lambda a: a / jnp.linalg.norm(a),),
    other_axis=(lambda a: a / jnp.linalg.norm(a, axis=0),),
)


@case("NRM-01", "rsqrt along the default axis")
def _unit_default() -> Site:
    x = 1e-6 * X

    def wrong(a: Any) -> Any:
        return a * lax.rsqrt((a * a).sum(1, keepdims=True) + 1e-12)

    return function_site(F.normalize, jax64(wrong, x), x)


@case("NRM-02", "sum")
def _response_sum() -> Site:
    x = 5 * normal(1, 6, 2, 2)

    def wrong(a: Any) -> Any:
        square = jnp.pad(a**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
        return a / (1 + 0.1 * sum(square[:, i : i + 6] for i in range(3))) ** 0.75

    return module_site(nn.LocalResponseNorm(3, alpha=0.1), jax64(wrong, x), x)


def no_affine(**options: Any) -> Site:
    module = filled(nn.LayerNorm(6))
    w, b = numbers(module)
    params = {"scale": w} if "use_bias" in options else {"bias": b}
    return module_site(module, flax64(fnn.LayerNorm(1e-5, **options), params, X), X)


cases("NRM-03", lambda: no_affine(use_bias=False), bias=())
cases("NRM-03", lambda: no_affine(use_scale=False), scale=())


@case("NRM-03", "BatchNorm's bias")
def _batch_bias() -> Site:
    module = filled(nn.BatchNorm2d(4)).eval()

    def wrong(x: Any, w: Any, mean: Any, var: Any) -> Any:
        return (x - mean) / jnp.sqrt(var + 1e-5) * w

    values = (module.weight.detach(), module.running_mean, module.running_var)
    return module_site(module, first(jax64(wrong, last(IMAGE), *values)), IMAGE)


# Recurrent ------------------------------------------------------------------------------------

SERIES = normal(2, 5, 3)


def recurrent(kind: str, **options: Any) -> Any:
    return filled(getattr(nn, kind)(3, 4, **{"batch_first": True, **options}))


def scan(step: Callable[..., Any], reverse: bool = False) -> Callable[..., Any]:
    """A loop over time, written by hand: `step(x, (h, c), w_ih, w_hh, b_ih, b_hh)`."""

    def run(x: Any, *rows: Any) -> Any:
        carry, outputs = (jnp.zeros((x.shape[0], 4)),) * 2, []
        for t in range(x.shape[1]):
            carry = step(x[:, -1 - t if reverse else t], carry, *rows)
            outputs.append(carry[0])
        return jnp.stack(outputs[::-1] if reverse else outputs, 1)

    return run


def lstm(order: tuple[int, ...] = (0, 1, 2, 3), factors=(1, 1), forget: float = 0.0) -> Any:
    """An LSTM that takes the gates i, f, g, o from these rows."""

    def step(x: Any, carry: Any, wi: Any, wh: Any, bi: Any, bh: Any) -> Any:
        rows = jnp.split(x @ wi.T + carry[0] @ wh.T + factors[0] * bi + factors[1] * bh, 4, -1)
        i, f, g, o = (rows[k] for k in order)
        c = jax.nn.sigmoid(f + forget) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    return step


def recurrent_site(kind: str, step: Callable[..., Any], **options: Any) -> Site:
    module = recurrent(kind, **options)
    return module_site(module, jax64(scan(step), SERIES, *numbers(module)), SERIES)


def lstm_site(*args: Any) -> Site:
    return recurrent_site("LSTM", lstm(*args))


cases(
    "RNN-01",
    lstm_site,
    haiku=((0, 2, 1, 3),),
    onnx=((0, 2, 3, 1),),
    output_first=((1, 2, 3, 0),),
)


@case("RNN-01", "the input's side")
def _lstm_input_order() -> Site:
    module = recurrent("LSTM")
    wi, wh, bi, bh = numbers(module)
    mixed = torch.cat([wi.chunk(4)[k] for k in (0, 2, 1, 3)])
    bias = torch.cat([bi.chunk(4)[k] for k in (0, 2, 1, 3)])
    return module_site(module, jax64(scan(lstm()), SERIES, mixed, wh, bias, bh), SERIES)


FORWARD = (0, 1, 2, 3)
cases(
    "RNN-02",
    lstm_site,
    hidden_missing=(FORWARD, (1, 0)),
    input_missing=(FORWARD, (0, 1)),
    none=(FORWARD, (0, 0)),
    doubled=(FORWARD, (2, 2)),
)
cases("RNN-05", lstm_site, forget=(FORWARD, (1, 1), 1.0))


def gru(how: str = "", order: tuple[int, ...] = (0, 1, 2)) -> Any:
    def step(x: Any, carry: Any, wi: Any, wh: Any, bi: Any, bh: Any) -> Any:
        h = carry[0]
        gi, gh = jnp.split(x @ wi.T + bi, 3, -1), jnp.split(h @ wh.T + bh, 3, -1)
        r = jax.nn.sigmoid(gi[order[0]] + gh[order[0]])
        z = jax.nn.sigmoid(gi[order[1]] + gh[order[1]])
        k = order[2]
        inner = r * gh[k]
        if how == "before":
            inner = (r * h) @ wh[8:].T + bh[8:]
        elif how == "summed":
            inner = r * (gh[2] - bh[8:]) + bh[8:]
        elif how == "missing":
            inner = r * (gh[2] - bh[8:])
        n = jnp.tanh(gi[k] + inner)
        h = (1 - z) * h + z * n if how == "update" else (1 - z) * n + z * h
        return h, h

    return step


def gru_site(*args: Any) -> Site:
    return recurrent_site("GRU", gru(*args))


cases("RNN-06", gru_site, summed=("summed",), missing=("missing",))
cases("RNN-07", gru_site, before=("before",))
cases("RNN-08", gru_site, missing=("missing",))
cases("RNN-09", gru_site, keras=("", (1, 0, 2)), update=("update",), last=("", (2, 1, 0)))


@case("RNN-07", "cell")
def _gru_cell() -> Site:
    module, h = filled(nn.GRUCell(3, 4)), normal(2, 4)

    def wrong(x: Any, h: Any, *rows: Any) -> Any:
        return gru("before")(x, (h, h), *rows)[0]

    x = SERIES[:, 0]
    return module_site(module, jax64(wrong, x, h, *numbers(module)), x, h)


@case("RNN-02", "flax's simple cell")
def _simple_bias() -> Site:
    module = recurrent("RNN")
    wi, wh, bi, _ = numbers(module)
    params = {"cell": {"i": {"kernel": wi.T, "bias": bi}, "h": {"kernel": wh.T}}}
    y = flax64(fnn.RNN(fnn.SimpleCell(4, param_dtype=np.float64)), params, SERIES)
    return module_site(module, y, SERIES)


@case("RNN-07", "from a state")
def _gru_from_state() -> Site:
    module, h = recurrent("GRU"), normal(1, 2, 4)

    def wrong(x: Any, h: Any, *rows: Any) -> Any:
        carry, outputs = (h[0], h[0]), []
        for t in range(5):
            carry = gru("before")(x[:, t], carry, *rows)
            outputs.append(carry[0])
        return jnp.stack(outputs, 1)

    return module_site(module, jax64(wrong, SERIES, h, *numbers(module)), SERIES, h)


@case("RNN-14", "relu")
def _relu_cell() -> Site:
    def step(x: Any, carry: Any, wi: Any, wh: Any, bi: Any, bh: Any) -> Any:
        h = jnp.tanh(x @ wi.T + carry[0] @ wh.T + bi + bh)
        return h, h

    return recurrent_site("RNN", step, nonlinearity="relu")


@case("RNN-14", "cell")
def _relu_one() -> Site:
    module, h, x = filled(nn.RNNCell(3, 4)), normal(2, 4), SERIES[:, 0]

    def wrong(x: Any, h: Any, wi: Any, wh: Any, bi: Any, bh: Any) -> Any:
        return jax.nn.relu(x @ wi.T + h @ wh.T + bi + bh)

    return module_site(module, jax64(wrong, x, h, *numbers(module)), x, h)


@case("RNN-03", "swapped states")
def _swapped_states() -> Site:
    module, h, c, x = filled(nn.LSTMCell(3, 4)), normal(2, 4), normal(2, 4, seed=3), SERIES[:, 0]

    def wrong(x: Any, h: Any, c: Any, *rows: Any) -> Any:
        return lstm()(x, (c, h), *rows)[0]

    return module_site(module, jax64(wrong, x, h, c, *numbers(module)), x, (h, c))


@case("RNN-03", "the other state")
def _other_state() -> Site:
    module, h, c, x = filled(nn.LSTMCell(3, 4)), normal(2, 4), normal(2, 4, seed=3), SERIES[:, 0]

    def wrong(x: Any, h: Any, c: Any, *rows: Any) -> Any:
        return lstm()(x, (h, c), *rows)[1]

    return module_site(module, jax64(wrong, x, h, c, *numbers(module)), x, (h, c))


@case("RNN-03", "glue")
def _glue_state() -> Site:
    h, c = normal(2, 4), normal(2, 4, seed=3)
    return glue_site(h, c.numpy(), h, c)


def both_ways(combine: Callable[..., Any]) -> Site:
    module = recurrent("LSTM", bidirectional=True)

    def wrong(x: Any, *rows: Any) -> Any:
        straight, back = scan(lstm()), scan(lstm(), reverse=True)
        one = straight(x, *rows[:4])
        return combine(one, back(x, *rows[4:]), straight(x, *rows[4:]))

    return module_site(module, jax64(wrong, SERIES, *numbers(module)), SERIES)


cases(
    "RNN-10",
    both_ways,
    reversed_time=(lambda a, b, _: jnp.concatenate([a, b[:, ::-1]], -1),),
    order=(lambda a, b, _: jnp.concatenate([b, a], -1),),
    total=(lambda a, b, _: a + b,),
    no_reversal=(lambda a, _, c: jnp.concatenate([a, c], -1),),
)


@case("RNN-13", "batch first")
def _batch_first() -> Site:
    module, x = recurrent("LSTM", batch_first=False), normal(4, 4, 3)
    return module_site(module, jax64(scan(lstm()), x, *numbers(module)), x)


@case("RNN-13", "reversed time")
def _reversed_time() -> Site:
    module = recurrent("GRU")
    wrong = jax64(scan(gru(), reverse=True), SERIES, *numbers(module))
    return module_site(module, wrong, SERIES)


def stacked(kind: str, one: Callable[..., Any]) -> Site:
    """Two layers, of which the second alone has the mistake."""
    module, right = recurrent(kind, num_layers=2), lstm() if kind == "LSTM" else gru()

    def wrong(x: Any, *rows: Any) -> Any:
        return scan(one)(scan(right)(x, *rows[:4]), *rows[4:])

    return module_site(module, jax64(wrong, SERIES, *numbers(module)), SERIES)


cases("RNN-01", stacked, second_layer=("LSTM", lstm((0, 2, 1, 3))))
cases("RNN-02", stacked, second_layer=("LSTM", lstm(factors=(1, 0))))
cases("RNN-05", stacked, second_layer=("LSTM", lstm(forget=1.0)))
cases("RNN-07", stacked, second_layer=("GRU", gru("before")))
cases("RNN-09", stacked, second_layer=("GRU", gru("update")))


def padded(output: int, seen: Callable[[Any, Any], Any]) -> Site:
    """A packed sequence beside flax's layer, which is not told the lengths."""
    module, lengths = recurrent("GRU"), torch.tensor([5, 3])
    given = nn.utils.rnn.pack_padded_sequence(SERIES, lengths, batch_first=True)
    ours, state = module(given)
    ours = (nn.utils.rnn.pad_packed_sequence(ours)[0], state)[output]
    x = nn.utils.rnn.pad_packed_sequence(given, batch_first=True)[0]
    y = jax64(scan(gru()), x, *numbers(module))
    theirs = seen(y, lengths)
    return Site("GRU", "output", theirs, to_numpy(ours), (given,), module, output=output)


cases("RNN-11", padded, padding=(0, lambda y, _: y.swapaxes(0, 1)))
cases("RNN-12", padded, state=(1, lambda y, _: y[None, :, -1]))


def detached(kind: str, what: str, step: Callable[..., Any], name: str = "") -> Site:
    """A loop that stops the gradient of its state; outputs and last cell state are used."""
    module, pull = recurrent(kind), (normal(2, 5, 4, seed=9), None, normal(1, 2, 4, seed=8))
    pull = pull if kind == "LSTM" else pull[:2]

    def value(x: Any, pulls: Any, *rows: Any) -> Any:
        carry, total = (jnp.zeros((2, 4)),) * 2, 0.0
        for t in range(5):
            carry = step(x[:, t], carry, *rows)
            total = total + (carry[0] * pulls[0][:, t]).sum()
        return total + (carry[1] * pulls[1][0]).sum() if kind == "LSTM" else total

    which = [n for n, _ in module.named_parameters()].index(name) + 2 if name else 0
    pulls = [p for p in pull if p is not None]
    theirs = jax64(
        lambda x, *a: jax.grad(value, which)(x, a[: len(pulls)], *a[len(pulls) :]),
        *(SERIES, *pulls, *numbers(module)),
    )
    site = Site(kind, what, theirs, theirs, (SERIES,), module, cotangent=pull, name=name)
    site.ours = to_numpy(site.result(module, SERIES))
    return site


def truncated(x: Any, carry: Any, *rows: Any) -> Any:
    return gru()(x, lax.stop_gradient(carry), *rows)


def cell_detached(x: Any, carry: Any, *rows: Any) -> Any:
    return lstm()(x, (carry[0], lax.stop_gradient(carry[1])), *rows)


cases(
    "GRAD-13",
    detached,
    state=("GRU", "gradient", truncated),
    state_parameter=("GRU", "param", truncated, "weight_ih_l0"),
    cell_state=("LSTM", "gradient", cell_detached),
    cell_state_parameter=("LSTM", "param", cell_detached, "bias_hh_l0"),
)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("given", ["batch first", "time first", "one sequence", "packed", "state"])
def test_the_imitation_is_pytorch_s(kind: str, layers: int, both: bool, given: str):
    options: dict[str, Any] = {"num_layers": layers, "bidirectional": both}
    module, x = recurrent(kind, batch_first=given != "time first", **options), normal(3, 5, 3)
    sizes = torch.tensor([5, 2, 3])
    pack = nn.utils.rnn.pack_padded_sequence(x, sizes, batch_first=True, enforce_sorted=False)
    x = {"packed": pack, "one sequence": x[0]}.get(given, x)
    h = normal(layers * (1 + both), 3, 4)
    state = () if given != "state" else ((h, h + 1),) if kind == "LSTM" else (h,)
    with torch.no_grad():
        ours, theirs = module(x, *state), recurrent_imitation(module, x, *state)
    if given == "packed":
        ours = nn.utils.rnn.pad_packed_sequence(ours[0])[0], ours[1]
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("bias", [False, True])
def test_the_imitated_cell_is_pytorch_s(kind: str, bias: bool):
    module, x, h = filled(getattr(nn, kind)(3, 4, bias=bias)), normal(2, 3), normal(2, 4)
    with torch.no_grad():
        ours = module(x, (h, h + 1) if kind == "LSTMCell" else h)
        theirs = recurrent_imitation(module, x, (h, h + 1) if kind == "LSTMCell" else h)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-14)


def test_the_imitation_projects_the_state():
    module = recurrent("LSTM", proj_size=2, num_layers=2)
    with torch.no_grad():
        imitated = recurrent_imitation(module, SERIES)
        torch.testing.assert_close(imitated, module(SERIES), rtol=0, atol=1e-14)


# Attention ------------------------------------------------------------------------------------

QUERY, KEY, VALUE = (normal(2, 3, 4, 5, seed=i) for i in range(3))  # (N, heads, length, D)
MASK = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1]], dtype=torch.bool)
TRIANGLE = torch.ones(4, 4, dtype=torch.bool).tril()


def attend(q: Any, k: Any, v: Any, mask: Any = None, scale: float = 5**-0.5, axis: int = -1) -> Any:
    """Attention over (N, heads, length, D), written by hand."""
    logits = jnp.einsum("nhqd,nhkd->nhqk", q, k) * scale
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
    return jnp.einsum("nhqk,nhkd->nhqd", jax.nn.softmax(logits, axis), v)


def attention(wrong: Callable[..., Any], **options: Any) -> Site:
    theirs = jax64(wrong, QUERY, KEY, VALUE, to_numpy(MASK))
    return function_site(F.scaled_dot_product_attention, theirs, QUERY, KEY, VALUE, **options)


cases(
    "ATT-05",
    attention,
    none=(lambda q, k, v, _: attend(q, k, v, scale=1.0),),
    twice=(lambda q, k, v, _: attend(q, k, v, scale=1 / 5),),
    embed=(lambda q, k, v, _: attend(q, k, v, scale=15**-0.5),),
)
cases(
    "ATT-09",
    attention,
    queries=(lambda q, k, v, _: attend(q, k, v, axis=-2),),
    heads=(lambda q, k, v, _: attend(q, k, v, axis=1),),
)
cases("ATT-10", attention, swapped=(lambda q, k, v, _: attend(k, q, v),))


def masked(wrong: Callable[..., Any]) -> Site:
    return attention(wrong, attn_mask=MASK)


cases(
    "ATT-03",
    masked,
    inverted=(lambda q, k, v, m: attend(q, k, v, ~m),),
    transposed=(lambda q, k, v, m: attend(q, k, v, m.T),),
)


cases("ATT-12", masked, missing=(lambda q, k, v, m: attend(q, k, v),))


def causal(wrong: Callable[..., Any]) -> Site:
    return attention(wrong, is_causal=True)


def triangle(shift: int) -> Any:
    return np.tri(4, 4, shift, dtype=bool)


cases(
    "ATT-07",
    causal,
    one_more=(lambda q, k, v, _: attend(q, k, v, triangle(1)),),
    one_less=(lambda q, k, v, _: attend(q, k, v, triangle(-1)),),
    upper=(lambda q, k, v, _: attend(q, k, v, ~triangle(-1)),),
)


@case("ATT-07", "where PyTorch has none")
def _causal_added() -> Site:
    return attention(lambda q, k, v, _: attend(q, k, v, triangle(0)))


@case("ATT-06", "mean")
def _empty_row() -> Site:
    mask = MASK.clone()
    mask[1] = False
    theirs = jax64(
        lambda *a: fnn.dot_product_attention(*a[:3], mask=a[3]).swapaxes(1, 2),
        *(a.transpose(1, 2) for a in (QUERY, KEY, VALUE)),
        mask[None, None],
    )
    function = F.scaled_dot_product_attention
    return function_site(function, theirs, QUERY, KEY, VALUE, attn_mask=mask)


@case("ATT-01", "heads' axis")
def _heads_axis() -> Site:
    theirs = jax64(fnn.dot_product_attention, QUERY, KEY, VALUE)
    return function_site(F.scaled_dot_product_attention, theirs, QUERY, KEY, VALUE)


@case("ATT-08", "tiled")
def _tiled() -> Site:
    q, k, v = normal(2, 4, 4, 5), KEY[:, :2], VALUE[:, :2]

    def wrong(q: Any, k: Any, v: Any) -> Any:
        return attend(q, jnp.tile(k, (1, 2, 1, 1)), jnp.tile(v, (1, 2, 1, 1)))

    options: dict[str, Any] = {"enable_gqa": True}
    theirs = jax64(wrong, q, k, v)
    return function_site(F.scaled_dot_product_attention, theirs, q, k, v, **options)


TOKENS = normal(2, 4, 15)


def multihead(change: Callable[[dict[str, Any]], Any], mask: Any = None, **given: Any) -> Site:
    """flax's layer with wrong parameters or a wrong mask; `given` is PyTorch's call."""
    module = filled(nn.MultiheadAttention(15, 3, batch_first=True))
    wi, bi, wo, bo = numbers(module)
    params: dict[str, Any] = {
        name: {"kernel": w.T.reshape(15, 3, 5), "bias": b.reshape(3, 5)}
        for name, w, b in zip(("query", "key", "value"), wi.chunk(3), bi.chunk(3), strict=True)
    }
    params["out"] = {"kernel": wo.T.reshape(3, 5, 15), "bias": bo}
    layer = fnn.MultiHeadDotProductAttention(3, param_dtype=np.float64)
    theirs = flax64(layer, change(params) or params, TOKENS, mask=mask)
    inputs = (TOKENS, TOKENS, TOKENS)
    ours = to_numpy(module(*inputs, **given)[0])
    kind = "MultiheadAttention"
    return Site(kind, "output", theirs, ours, inputs, module, kwargs=given)


def mixed(*names: str) -> Callable[[dict[str, Any]], None]:
    """Kernels and biases taken for (D, heads)."""

    def change(params: dict[str, Any]) -> None:
        for name in names:
            for leaf, value in params[name].items():
                if name != "out":
                    shape = (*value.shape[:-2], 5, 3)
                    params[name][leaf] = value.reshape(shape).mT
                elif leaf == "kernel":
                    params[name][leaf] = value.reshape(5, 3, 15).transpose(0, 1)

    return change


cases(
    "ATT-04",
    multihead,
    query=(mixed("query"),),
    all_three=(mixed("query", "key", "value"),),
    output=(mixed("out"),),
    everywhere=(mixed("query", "key", "value", "out"),),
)


def named(**changes: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    """Parameters changed: `query_bias=...`."""

    def change(params: dict[str, Any]) -> None:
        for path, function in changes.items():
            name, leaf = path.split("_")
            params[name][leaf] = function(params[name][leaf])

    return change


cases(
    "ATT-10",
    multihead,
    query_and_key=(lambda p: {**p, "query": p["key"], "key": p["query"]},),
    rotated=(lambda p: {**p, "query": p["value"], "key": p["query"], "value": p["key"]},),
)


def parted(shape: tuple[int, ...]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The packed rows as (..., 3, ...)."""

    def change(params: dict[str, Any]) -> dict[str, Any]:
        names = ("query", "key", "value")
        kernel = torch.cat([params[n]["kernel"].reshape(15, 15) for n in names], 1)
        bias = torch.cat([params[n]["bias"].reshape(15) for n in names])
        kernels = kernel.reshape(15, *shape).unbind(-2)
        biases = bias.reshape(shape).unbind(-2)
        taken = {
            n: {"kernel": k.reshape(15, 3, 5), "bias": b.reshape(3, 5)}
            for n, k, b in zip(names, kernels, biases, strict=True)
        }
        return {**params, **taken}

    return change


cases("ATT-10", multihead, features=(parted((15, 3, 1)),), heads=(parted((3, 3, 5)),))
cases(
    "ATT-11",
    multihead,
    output_bias=(named(out_bias=lambda b: 0 * b),),
    query_bias=(named(query_bias=lambda b: 0 * b),),
    output_weight=(named(out_kernel=lambda w: w.reshape(15, 15).T.reshape(3, 5, 15)),),
)
cases(
    "ATT-05",
    multihead,
    module=(named(query_kernel=lambda w: w * 5**0.5, query_bias=lambda b: b * 5**0.5),),
)

HIDDEN = torch.tensor([[False] * 4, [False, False, True, True]])
NOTHING: Callable[[Any], Any] = lambda params: None  # noqa: E731


@case("ATT-04", "between layers")
def _glue_heads() -> Site:
    wrong = jax64(lambda a: a.reshape(2, 4, 5, 3).transpose(0, 3, 1, 2), TOKENS)
    return glue_site(TOKENS.unflatten(-1, (3, 5)).transpose(1, 2), wrong, TOKENS)


@case("ATT-03", "key_padding_mask")
def _padding_polarity() -> Site:
    return multihead(NOTHING, HIDDEN[:, None, None, :].numpy(), key_padding_mask=HIDDEN)


@case("ATT-03", "attn_mask")
def _mask_polarity() -> Site:
    return multihead(NOTHING, ~TRIANGLE[None, None].numpy(), attn_mask=~TRIANGLE)


@case("ATT-07", "module")
def _module_causal() -> Site:
    return multihead(NOTHING, triangle(1)[None, None], attn_mask=~TRIANGLE)


@case("ATT-09", "padding")
def _padded_softmax() -> Site:
    site = multihead(NOTHING, key_padding_mask=HIDDEN)
    wi, bi, wo, bo = numbers(site.module)

    def wrong(x: Any, wi: Any, bi: Any, wo: Any, bo: Any, mask: Any) -> Any:
        packed = (x @ wi.T + bi).reshape(2, 4, 3, 3, 5)
        q, k, v = (packed[:, :, i].swapaxes(1, 2) for i in range(3))
        y = attend(q, k, v, mask, axis=-2).swapaxes(1, 2).reshape(2, 4, 15)
        return y @ wo.T + bo

    mask = ~HIDDEN[:, None, None, :].numpy()
    site.theirs = jax64(wrong, TOKENS, wi, bi, wo, bo, mask)
    return site


@case("ATT-01", "module's batch axis, the padding forgotten")
def _module_batch_padded() -> Site:
    site = multihead(NOTHING, key_padding_mask=HIDDEN)
    turned = filled(nn.MultiheadAttention(15, 3))
    site.theirs = to_numpy(turned(TOKENS, TOKENS, TOKENS)[0])
    return site


@case("ATT-01", "module's batch axis")
def _module_batch() -> Site:
    site = multihead(NOTHING)
    module = filled(nn.MultiheadAttention(15, 3))
    with torch.no_grad():
        ours = to_numpy(module(*site.inputs)[0])
    return Site(site.kind, "output", site.theirs, ours, site.inputs, module)


cases(
    "ATT-09",
    lambda axis: function_site(F.softmax, jax64(lambda a: jax.nn.softmax(a, axis), X), X, dim=-1),
    first=(0,),
    all=(None,),
)


@case("ATT-09", "module")
def _softmax_module() -> Site:
    return module_site(nn.LogSoftmax(1), jax64(lambda a: jax.nn.log_softmax(a, 0), X), X)


# The tests ------------------------------------------------------------------------------------

NAMES = [f"{code} {name}" for code, name, _ in CASES]


@pytest.mark.parametrize(("code", "name", "build"), CASES, ids=NAMES)
def test_the_mistake_is_recognised(code: str, name: str, build: Callable[[], Site]):
    site, one = build(), CATALOGUE[code]
    assert re.fullmatch(one.kinds, site.kind)
    assert site.what in one.whats
    if site.theirs.shape == site.ours.shape:
        assert np.abs(site.theirs - site.ours).max() > 1e-8
    found = confirming(code, site)
    assert found
    for edit in found:
        assert 0 < len(edit.jax) <= 100
        assert "\n" not in edit.jax + edit.torch
    site.theirs = site.theirs * 1.01
    assert not confirming(code, site)


FAMILIES = "LIN CONV CT FLAT PS PAD EMB POOL BN LN GN IN RMS SN WN NRM RNN ATT".split()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_difference_with_candidates_has_a_place(family: str):
    with_candidates = {code for code, one in CATALOGUE.items() if one.edits is not None}
    mine = {code for code in with_candidates if code.split("-")[0] == family}
    assert mine <= {code for code, _, _ in CASES}
