"""Pooling: mistakes made in JAX are recognised, and nothing near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as fnn
import jax.numpy as jnp
import numpy as np
import pytest
import torch.nn.functional as F
from torch import nn

from compare.differences import pooling
from compare.differences.catalogue import Site
from compare.differences.measuring import first, jax64, last, normal
from tests.differences.sites import IMAGE, Places, function_site, module_site, recognised

PLACES = Places()
case, cases = PLACES.case, PLACES.cases


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


@pytest.mark.parametrize(("code", "name", "build"), PLACES, ids=PLACES.names)
def test_the_mistake_is_recognised(code: str, name: str, build: Callable[[], Site]):
    recognised(code, build())


@pytest.mark.parametrize("family", ["POOL"])
def test_every_difference_with_candidates_has_a_place(family: str):
    assert PLACES.have(family)
