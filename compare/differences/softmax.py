"""Softmax: its axis, its logarithm and rows that are masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, normal
from compare.differences.shared.calls import alternatives, option, without
from compare.differences.shared.frameworks import F, jax, jnp, torch


def _axis() -> tuple[float, float]:
    x = normal(4, 5, 6)
    return against(F.softmax(x, dim=1), jax.nn.softmax, lambda v: jax.nn.softmax(v, axis=1), x)


def _softmax_parts(site: Site) -> tuple[str, Any]:
    """JAX's name of a softmax, and its axis, counted from the front."""
    rank = site.inputs[0].ndim
    dim = option(site, "dim", 1)
    if dim is None:  # the axis that nn.functional guesses
        dim = 0 if rank in (0, 1, 3) else 1
    name = {"logsoftmax": "log_softmax"}.get(site.kind.lower(), site.kind.lower())
    return name, dim % max(rank, 1)


def _axes(site: Site) -> Iterator[Edit]:
    name, own = _softmax_parts(site)
    functions: dict[str, Any] = {
        "softmax": F.softmax,
        "log_softmax": F.log_softmax,
        "softmin": F.softmin,
    }
    function = functions[name]
    rank = site.inputs[0].ndim
    for dim in without(range(rank - 1, -1, -1), own):
        yield Edit(
            f"jax.nn.{name}(x, axis=...): the axis that PyTorch's dim={own} has in JAX's layout",
            f"F.{name}(x, dim={dim})",
            site.replaced(lambda x, *_, d=dim: function(x, dim=d)),
        )
    yield Edit(
        f"jax.nn.{name}(x, axis=...) over one axis only",
        f"F.{name}(x.flatten(1), dim=1).view_as(x)",
        site.replaced(lambda x, *_: function(x.flatten(1), dim=1).view_as(x)),
    )


softmax_axis = Difference(
    code="ACT-06",
    title="softmax: the axis",
    torch="F.softmax(x, dim): classes are axis 1 of (N, C, H, W)",
    jax="jax.nn.softmax(x, axis=-1)",
    fix_torch="F.softmax(x, dim=-1)",
    fix_jax="jax.nn.softmax(x, axis=1)",
    kinds="softmax|log_softmax|softmin|Softmax|LogSoftmax|Softmin|Softmax2d",
    measure=_axis,
    edits=lambda site: _axes(site) if site.kind != "Softmax2d" else iter(()),
)


def _log_softmax() -> tuple[float, float]:
    x = normal(4, 5)
    return against(F.log_softmax(x, dim=-1), jax.nn.softmax, jax.nn.log_softmax, x)


def _softmax_forms(site: Site) -> Iterator[Edit]:
    name, dim = _softmax_parts(site)
    right = f"jax.nn.{name}(x)" if name != "softmin" else "jax.nn.softmax(-x)"
    forms: dict[str, Callable] = {
        "F.softmax(x, dim)": lambda x: F.softmax(x, dim),
        "F.log_softmax(x, dim)": lambda x: F.log_softmax(x, dim),
        "F.softmax(-x, dim)": lambda x: F.softmax(-x, dim),
        "-F.log_softmax(x, dim)": lambda x: -F.log_softmax(x, dim),
        "F.softmax(F.softmax(x, dim), dim)": lambda x: F.softmax(F.softmax(x, dim), dim),
        "torch.exp(x)": torch.exp,
        "x": lambda x: x * 1.0,
        "torch.sigmoid(x)": torch.sigmoid,
        "F.logsigmoid(x)": F.logsigmoid,
    }
    for eps in (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5):
        forms[f"(F.softmax(x, dim) + {eps:g}).log()"] = lambda x, e=eps: (
            F.softmax(x, dim) + e
        ).log()
    yield from alternatives(site, right, forms)


log_softmax = Difference(
    code="ACT-07",
    title="softmax, its logarithm, or none",
    torch="nn.LogSoftmax before NLLLoss; nothing before CrossEntropyLoss",
    jax="jax.nn.softmax where the logarithm is due, a second softmax, or log(p + eps)",
    fix_torch="F.softmax(x, dim=-1)",
    fix_jax="jax.nn.log_softmax(x)",
    kinds="softmax|log_softmax|softmin|Softmax|LogSoftmax|Softmin",
    measure=_log_softmax,
    edits=_softmax_forms,
)


def _masked() -> tuple[float, float]:
    x = normal(3, 4)
    x[1] = float("-inf")

    def where(v, fill):
        return jax.nn.softmax(v, where=jnp.isfinite(v)) if fill else jax.nn.softmax(v)

    return against(torch.softmax(x, -1), lambda v: where(v, True), lambda v: where(v, False), x)


def _masked_forms(site: Site) -> Iterator[Edit]:
    _, dim = _softmax_parts(site)
    yield Edit(
        "jax.nn.softmax of the masked values, without where=",
        "torch.softmax(x, dim).nan_to_num(0.0)",
        site.replaced(lambda x, *_: torch.softmax(x, dim).nan_to_num(0.0)),
    )


masked_softmax = Difference(
    code="ACT-13",
    title="softmax of a row that is masked throughout",
    torch="F.softmax of a row of -inf: NaN",
    jax="jax.nn.softmax(x, where=mask): zeros",
    fix_torch="F.softmax(x, -1).nan_to_num(0.0)",
    fix_jax="jax.nn.softmax(jnp.where(mask, x, -jnp.inf))",
    kinds="softmax|Softmax",
    measure=_masked,
    edits=_masked_forms,
)
