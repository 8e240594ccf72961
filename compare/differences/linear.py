"""Linear layers: the kernel's layout, the bias, the two inputs of a bilinear one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import flax64, gaps, jax64, normal
from compare.differences.shared.convolutions import CONV_KINDS, TRANSPOSED_KINDS
from compare.differences.shared.frameworks import F, fnn, jnp, torch
from compare.differences.shared.layers import layer, settings

LINEAR = "weight bias"


def _dense(w: Any, b: Any, x: Any) -> Any:
    return flax64(fnn.Dense(len(b)), {"kernel": w, "bias": b}, x)


def _linear_layout() -> tuple[float, float]:
    x, w, b = normal(4, 6), normal(6, 6), normal(6)
    return gaps(F.linear(x, w, b), _dense(w, b, x), _dense(w.T, b, x))


def _transposed(site: Site) -> Iterator[Edit]:
    yield Edit(
        "{'kernel': weight.T}",
        "layer.weight.data = layer.weight.data.T",
        layer(site, LINEAR, lambda x, s: F.linear(x, s.weight.T, s.bias)),
    )


linear_layout = Difference(
    code="LIN-01",
    title="Linear kernel's layout",
    torch="nn.Linear: weight (out, in)",
    jax="nn.Dense, nnx.Linear: kernel (in, out); a square one gives no shape error",
    fix_torch="F.linear(x, weight.T, bias)",
    fix_jax="{'kernel': weight.T}",
    kinds="Linear|linear",
    measure=_linear_layout,
    edits=_transposed,
)


def _no_bias() -> tuple[float, float]:
    x, w, b = normal(4, 6), normal(5, 6), normal(5)
    return gaps(F.linear(x, w, b), jax64(jnp.dot, x, w.T), _dense(w.T, b, x))


def _other_bias(site: Site) -> Iterator[Edit]:
    bias = settings(site, LINEAR).bias
    if bias is None:
        return
    for right, line, factor in (
        ("add the bias: use_bias=True, {'bias': bias}", "bias=None", 0.0),
        ("add the bias once", "bias=2 * bias", 2.0),
        ("+ bias, not - bias", "bias=-bias", -1.0),
    ):
        value = factor * bias.detach()
        if site.module is not None:
            yield Edit(right, line, site.changed(bias=torch.nn.Parameter(value)))
        elif "bias" in site.kwargs:
            yield Edit(right, line, site.called(bias=value))
        else:
            yield Edit(right, line, site.called(*site.args[:2], value, *site.args[3:]))


linear_bias = Difference(
    code="LIN-02",
    title="The bias left out",
    torch="nn.Linear, nn.Conv2d: bias=True",
    jax="jnp.dot, lax.conv_general_dilated: no bias; nn.Dense: use_bias=True",
    fix_torch="nn.Linear(..., bias=False)",
    fix_jax="+ bias",
    kinds=rf"Linear|linear|Bilinear|{CONV_KINDS}|{TRANSPOSED_KINDS}",
    measure=_no_bias,
    edits=_other_bias,
)


def _bilinear() -> tuple[float, float]:
    x, y, w = normal(4, 3), normal(4, 3, seed=1), normal(5, 3, 3)
    ours = F.bilinear(x, y, w)

    def theirs(formula: str) -> Any:
        return jax64(lambda *a: jnp.einsum(formula, *a), x, w, y)

    return gaps(ours, theirs("bi,oji,bj->bo"), theirs("bi,oij,bj->bo"))


def _bilinear_swapped(site: Site) -> Iterator[Edit]:
    def swapped(weight: Any, bias: Any, x: Any, y: Any) -> Any:
        return F.bilinear(x, y, weight.mT.contiguous(), bias)

    def compute() -> Any:
        if site.module is None:
            return site.called(*site.args[:2], site.args[2].mT.contiguous(), *site.args[3:])()
        weight = torch.nn.Parameter(site.module.weight.detach().mT.contiguous())
        return site.changed(weight=weight)()

    yield Edit("jnp.einsum('bi,oij,bj->bo', x, weight, y)", "weight.mT", compute)


bilinear = Difference(
    code="LIN-03",
    title="Bilinear's two inputs",
    torch="nn.Bilinear: weight (out, first, second)",
    jax="no such layer: an einsum by hand, where the two inputs are easily swapped",
    fix_torch="weight.mT",
    fix_jax="jnp.einsum('bi,oij,bj->bo', x, weight, y)",
    kinds="Bilinear|bilinear",
    measure=_bilinear,
    edits=_bilinear_swapped,
)
