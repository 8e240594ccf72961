"""Normalisation: mistakes made in JAX are recognised, and nothing near."""

from __future__ import annotations

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

from compare.differences.catalogue import Site
from compare.differences.measuring import first, flax64, jax64, last, normal
from compare.share import to_numpy
from tests.differences.sites import (
    IMAGE,
    Places,
    X,
    filled,
    function_site,
    module_site,
    numbers,
    recognised,
)

PLACES = Places()
case, cases = PLACES.case, PLACES.cases


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


@pytest.mark.parametrize(("code", "name", "build"), PLACES, ids=PLACES.names)
def test_the_mistake_is_recognised(code: str, name: str, build: Callable[[], Site]):
    recognised(code, build())


@pytest.mark.parametrize("family", "BN LN GN IN RMS SN WN NRM".split())
def test_every_difference_with_candidates_has_a_place(family: str):
    assert PLACES.have(family)
