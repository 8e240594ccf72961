"""Attention: mistakes made in JAX are recognised, and nothing near."""

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
from torch import nn

from compare.differences.catalogue import Site
from compare.differences.measuring import flax64, jax64, normal
from compare.share import to_numpy
from tests.differences.sites import (
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


@pytest.mark.parametrize(("code", "name", "build"), PLACES, ids=PLACES.names)
def test_the_mistake_is_recognised(code: str, name: str, build: Callable[[], Site]):
    recognised(code, build())


@pytest.mark.parametrize("family", ["ATT"])
def test_every_difference_with_candidates_has_a_place(family: str):
    assert PLACES.have(family)
