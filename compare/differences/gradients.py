"""Gradients: the convention of each framework at a kink, at a tie, and where one is stopped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compare.differences.activations import ACTIVATIONS
from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, gaps, grid, jax_gradient, normal, torch_gradient
from compare.differences.shared import norms, recurrence
from compare.differences.shared.calls import after, option
from compare.differences.shared.frameworks import F, jax, jnp, torch


def _gradients(
    at: Callable[[], Any], ours: Callable, naive: Callable, mended: Callable
) -> Callable[[], tuple[float, float]]:
    """A measure: the gradients of the sums of a torch function and of two JAX functions."""

    def measure() -> tuple[float, float]:
        x = at()
        return gaps(torch_gradient(ours, x), jax_gradient(naive, x), jax_gradient(mended, x))

    return measure


def _safe_root(square: Any) -> Any:
    """A root in JAX whose gradient at 0 is 0."""
    return jnp.where(square == 0, 0.0, jnp.sqrt(jnp.where(square == 0, 1.0, square)))


def _abs_forms(site: Site) -> Iterator[Edit]:
    def one_at_zero(x):
        return torch.where(x < 0, -x, x)

    def l1(x, y):
        values = one_at_zero(x - y)
        reduction = option(site, "reduction", 4, "mean")
        return values.sum() if reduction == "sum" else values.mean()

    form = l1 if "1" in site.kind else lambda x, *_: one_at_zero(x)
    yield Edit("jnp.where(x == 0, 0, jnp.abs(x))", "", site.replaced(form))


absolute = Difference(
    code="GRAD-01",
    title="gradient of the absolute value at 0",
    torch="torch.abs, F.l1_loss: 0",
    jax="jnp.abs: 1",
    fix_torch="torch.where(x < 0, -x, x)",
    fix_jax="jnp.where(x == 0, 0, jnp.abs(x))",
    kinds="abs_?|absolute|l1_loss|L1Loss",
    measure=_gradients(
        lambda: torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64),
        lambda x: x.abs(),
        lambda x: jnp.abs(x),
        lambda x: jnp.where(x == 0, 0.0, jnp.abs(x)),
    ),
    edits=_abs_forms,
    whats=("gradient",),
)


def _bounds(site: Site) -> tuple[Any, Any]:
    if "hardtanh" in site.kind.lower():
        return option(site, "min_val", 1, -1.0), option(site, "max_val", 2, 1.0)
    if site.kind == "clamp_max":
        return None, option(site, "max", 1)
    return option(site, "min", 1), option(site, "max", 2)


def _halves(x: Any, low: Any, high: Any) -> Any:
    if low is not None:
        x = torch.maximum(x, torch.as_tensor(low, dtype=x.dtype).expand_as(x))
    if high is not None:
        x = torch.minimum(x, torch.as_tensor(high, dtype=x.dtype).expand_as(x))
    return x


def _clip_forms(site: Site) -> Iterator[Edit]:
    low, high = _bounds(site)
    within = "=" if torch.__version__ >= "2.14" else ""
    yield Edit(
        f"jnp.where(x <{within} {low}, {low}, jnp.where(x >{within} {high}, {high}, x))",
        "torch.minimum(torch.maximum(x, low), high)",
        site.replaced(lambda x, *_: _halves(x, low, high)),
    )


def _clipped(x: Any, low: float, high: float) -> Any:
    """A clip in JAX with the gradient that the installed PyTorch has on the bounds."""
    if torch.__version__ >= "2.14":
        return jnp.where(x <= low, low, jnp.where(x >= high, high, x))
    return jnp.where(x < low, low, jnp.where(x > high, high, x))


clip = Difference(
    code="GRAD-02",
    title="gradient of a clip at its bounds",
    torch="torch.clamp between numbers: 0 since torch 2.14, before that 1",
    jax="jnp.clip: 0.5, as its minimum and maximum give at ties",
    fix_torch="torch.minimum(torch.maximum(x, low), high)",
    fix_jax="jnp.where(x <= low, low, jnp.where(x >= high, high, x)); < and > before torch 2.14",
    kinds="clamp_?|clip|clamp_min|clamp_max|hardtanh_?|Hardtanh",
    measure=_gradients(
        lambda: torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0], dtype=torch.float64),
        lambda x: x.clamp(0, 1),
        lambda x: jnp.clip(x, 0, 1),
        lambda x: _clipped(x, 0.0, 1.0),
    ),
    edits=_clip_forms,
    whats=("gradient",),
)


def _leaky_kink_forms(site: Site) -> Iterator[Edit]:
    slope = option(site, "negative_slope", 1, 0.01)
    yield Edit(
        f"jnp.where(x > 0, x, {slope:g} * x)",
        f"torch.where(x >= 0, x, {slope:g} * x)",
        site.replaced(lambda x, *_: torch.where(x >= 0, x, slope * x)),
    )


leaky_kink = Difference(
    code="GRAD-03",
    title="gradient of leaky ReLU at 0",
    torch="F.leaky_relu: the negative side's slope",
    jax="jax.nn.leaky_relu: 1",
    fix_torch="torch.where(x >= 0, x, slope * x)",
    fix_jax="jnp.where(x > 0, x, slope * x)",
    kinds="leaky_relu_?|LeakyReLU",
    measure=_gradients(
        lambda: grid(-1, 1, 3),
        lambda x: F.leaky_relu(x),
        lambda x: jax.nn.leaky_relu(x),
        lambda x: jnp.where(x > 0, x, 0.01 * x),
    ),
    edits=_leaky_kink_forms,
    whats=("gradient",),
)


def _hardtanh_forms(site: Site) -> Iterator[Edit]:
    low, high = _bounds(site)
    yield Edit(
        f"jnp.where(x <= {low}, {low}, jnp.where(x >= {high}, {high}, x))",
        f"torch.where(x < {low}, {low}, torch.where(x > {high}, {high}, x))",
        site.replaced(lambda x, *_: torch.where(x < low, low, torch.where(x > high, high, x))),
    )


hardtanh_kink = Difference(
    code="GRAD-04",
    title="gradient of the hard tanh at its bounds",
    torch="F.hardtanh: 0",
    jax="jax.nn.hard_tanh: 1",
    fix_torch="torch.where(x < -1, -1, torch.where(x > 1, 1, x))",
    fix_jax="jnp.where(x <= -1, -1, jnp.where(x >= 1, 1, x))",
    kinds="hardtanh_?|Hardtanh",
    measure=_gradients(
        lambda: grid(-2, 2, 5),
        lambda x: F.hardtanh(x),
        lambda x: jax.nn.hard_tanh(x),
        lambda x: jnp.where(x <= -1, -1.0, jnp.where(x >= 1, 1.0, x)),
    ),
    edits=_hardtanh_forms,
    whats=("gradient",),
)


def _relu_kink_forms(site: Site) -> Iterator[Edit]:
    high = 6.0 if "6" in site.kind else None
    right = "jax.nn.relu6(x)" if high else "jax.nn.relu(x)"
    yield Edit(
        right,
        "torch.maximum(x, torch.zeros_like(x))",
        site.replaced(lambda x, *_: _halves(x, 0.0, high)),
    )
    yield Edit(
        right,
        "torch.where(x >= 0, x, 0)",
        site.replaced(lambda x, *_: torch.where(x >= 0, x, 0.0).clamp(max=high or float("inf"))),
    )


relu_kink = Difference(
    code="GRAD-05",
    title="gradient of ReLU at 0, written as a maximum",
    torch="F.relu: 0",
    jax="jax.nn.relu: 0; jnp.maximum(x, 0): 0.5; jnp.where(x >= 0, x, 0): 1",
    fix_torch="torch.maximum(x, torch.zeros_like(x))",
    fix_jax="jax.nn.relu(x)",
    kinds="relu6?_?|ReLU6?",
    measure=_gradients(
        lambda: grid(-1, 1, 3),
        lambda x: F.relu(x),
        lambda x: jnp.maximum(x, 0),
        lambda x: jax.nn.relu(x),
    ),
    edits=_relu_kink_forms,
    whats=("gradient",),
)


def _ties_forms(site: Site) -> Iterator[Edit]:
    dim, keep = option(site, "dim", 1, ()), option(site, "keepdim", 2, False)
    split, first = (torch.amax, torch.max) if "max" in site.kind else (torch.amin, torch.min)
    yield Edit(
        "jnp.take_along_axis(x, jnp.argmax(x, axis, keepdims=True), axis)",
        f"torch.{split.__name__}(x, dim)",
        site.replaced(lambda x, *_: split(x, dim, keep)),
    )
    if isinstance(dim, int):
        yield Edit(
            "jnp.max(x, axis)",
            f"torch.{first.__name__}(x, dim).values",
            site.replaced(lambda x, *_: first(x, dim, keep)),
        )


ties = Difference(
    code="GRAD-06",
    title="gradient of a maximum at ties",
    torch="x.max(dim): all of it to the index that was chosen; amax splits it evenly",
    jax="jnp.max: split evenly",
    fix_torch="torch.amax(x, dim)",
    fix_jax="jnp.take_along_axis(x, jnp.argmax(x, axis, keepdims=True), axis)",
    kinds="a?max|a?min",
    measure=_gradients(
        lambda: torch.tensor([[1, 3, 3, 2], [0, 0, -1, 0]], dtype=torch.float64),
        lambda x: x.max(1).values,
        lambda x: jnp.max(x, 1),
        lambda x: jnp.take_along_axis(x, jnp.argmax(x, 1, keepdims=True), 1),
    ),
    edits=_ties_forms,
    whats=("gradient",),
)


def _norm_forms(site: Site) -> Iterator[Edit]:
    dim, keep = option(site, "dim", 2), option(site, "keepdim", 3, False)

    def root(x, *_):
        square = x * x
        return (square.sum() if dim is None else square.sum(dim, keepdim=keep)).sqrt()

    yield Edit(
        "jnp.where(s == 0, 0, jnp.sqrt(jnp.where(s == 0, 1, s))) with s = jnp.sum(x * x, axis)",
        "(x * x).sum(dim).sqrt()",
        site.replaced(root),
    )


norm_zero = Difference(
    code="GRAD-07",
    title="gradient of a norm at 0",
    torch="torch.linalg.vector_norm: 0",
    jax="jnp.linalg.norm: NaN",
    fix_torch="(x * x).sum(dim).sqrt()",
    fix_jax="jnp.where(s == 0, 0, jnp.sqrt(jnp.where(s == 0, 1, s))) with s = jnp.sum(x * x)",
    kinds="norm|vector_norm|linalg_vector_norm",
    measure=_gradients(
        lambda: torch.zeros(3, dtype=torch.float64),
        lambda x: torch.linalg.vector_norm(x),
        lambda x: jnp.linalg.norm(x),
        lambda x: _safe_root((x * x).sum()),
    ),
    edits=_norm_forms,
    whats=("gradient",),
)


def _std_forms(site: Site) -> Iterator[Edit]:
    yield Edit(
        "jnp.where(v == 0, 0, jnp.sqrt(jnp.where(v == 0, 1, v))) with v = jnp.var(x, ddof=1)",
        "torch.var(x).sqrt()",
        site.called(function=lambda *args, **kwargs: torch.var(*args, **kwargs).sqrt()),
    )


std_constant = Difference(
    code="GRAD-08",
    title="gradient of the standard deviation of a constant",
    torch="torch.std: 0",
    jax="jnp.std: NaN",
    fix_torch="torch.var(x).sqrt()",
    fix_jax="jnp.where(v == 0, 0, jnp.sqrt(jnp.where(v == 0, 1, v))) with v = jnp.var(x, ddof=1)",
    kinds="std",
    measure=_gradients(
        lambda: torch.ones(3, dtype=torch.float64),
        lambda x: torch.std(x),
        lambda x: jnp.std(x, ddof=1),
        lambda x: _safe_root(jnp.var(x, ddof=1)),
    ),
    edits=_std_forms,
    whats=("gradient",),
)


def _squares(x: Any) -> Any:
    """The squared distances of points from the same points, held constant."""
    return ((x[:, None] - jax.lax.stop_gradient(x)[None]) ** 2).sum(-1)


def _distance_forms(site: Site) -> Iterator[Edit]:
    yield Edit(
        "jnp.where(s == 0, 0, jnp.sqrt(jnp.where(s == 0, 1, s))) with s the squared distances",
        "((x[:, None] - y[None]) ** 2).sum(-1).sqrt()",
        site.replaced(lambda x, y, *_: ((x.unsqueeze(-2) - y.unsqueeze(-3)) ** 2).sum(-1).sqrt()),
    )


distance = Difference(
    code="GRAD-09",
    title="gradient of a distance between equal points",
    torch="torch.cdist: 0",
    jax="jnp.sqrt(jnp.sum((x - y) ** 2)): NaN",
    fix_torch="((x[:, None] - y[None]) ** 2).sum(-1).sqrt()",
    fix_jax="jnp.where(s == 0, 0, jnp.sqrt(jnp.where(s == 0, 1, s))) with s the squared distances",
    kinds="cdist",
    measure=_gradients(
        lambda: normal(4, 3),
        lambda x: torch.cdist(x, x.detach()),
        lambda x: jnp.sqrt(_squares(x)),
        lambda x: _safe_root(_squares(x)),
    ),
    edits=_distance_forms,
    whats=("gradient",),
)


atan2 = Difference(
    code="GRAD-10",
    title="gradient of atan2 at the origin",
    torch="torch.atan2(0, 0): 0",
    jax="jnp.arctan2(0, 0): NaN",
    fix_torch="torch.where(origin, torch.nan, torch.atan2(y, x))",
    fix_jax="jnp.where(origin, 0, jnp.arctan2(jnp.where(origin, 1, y), x))",
    kinds="",  # two inputs: the finder has a place for one gradient
    measure=_gradients(
        lambda: grid(-1, 1, 3),
        lambda x: torch.atan2(x, torch.zeros_like(x)),
        lambda x: jnp.arctan2(x, 0.0),
        lambda x: jnp.where(x == 0, 0.0, jnp.arctan2(jnp.where(x == 0, 1.0, x), 0.0)),
    ),
)


def _median_forms(site: Site) -> Iterator[Edit]:
    dim = option(site, "dim", 1)

    def middle(x, *_):
        return torch.quantile(x, 0.5) if dim is None else torch.quantile(x, 0.5, dim)

    yield Edit(
        "jnp.sort(x, axis)[..., (n - 1) // 2]", "torch.quantile(x, 0.5)", site.replaced(middle)
    )


median = Difference(
    code="GRAD-11",
    title="median of an even number of values",
    torch="torch.median: the lower of the two in the middle",
    jax="jnp.median: their mean",
    fix_torch="torch.quantile(x, 0.5)",
    fix_jax="jnp.sort(x)[(x.size - 1) // 2]",
    kinds="median|nanmedian",
    measure=_gradients(
        lambda: normal(8),
        lambda x: torch.median(x),
        lambda x: jnp.median(x),
        lambda x: jnp.sort(x)[(x.size - 1) // 2],
    ),
    edits=_median_forms,
)


def _sign_nan() -> tuple[float, float]:
    x = torch.tensor([-2.0, float("nan"), 3.0], dtype=torch.float64)
    return against(torch.sign(x), jnp.sign, lambda v: jnp.nan_to_num(jnp.sign(v)), x)


def _sign_forms(site: Site) -> Iterator[Edit]:
    yield Edit(
        "jnp.nan_to_num(jnp.sign(x))",
        "torch.where(x.isnan(), x, x.sign())",
        site.replaced(lambda x, *_: torch.where(x.isnan(), x, x.sign())),
    )


sign_nan = Difference(
    code="GRAD-12",
    title="sign of NaN",
    torch="torch.sign(nan): 0",
    jax="jnp.sign(nan): NaN",
    fix_torch="torch.where(x.isnan(), x, x.sign())",
    fix_jax="jnp.nan_to_num(jnp.sign(x))",
    kinds="sign",
    measure=_sign_nan,
    edits=_sign_forms,
    whats=("output",),
)


def _is_float(value: Any) -> bool:
    return hasattr(value, "is_floating_point") and value.is_floating_point()


def _detached(args: tuple[Any, ...], index: int) -> tuple[Any, ...]:
    """The arguments with one of their tensors detached."""
    from torch.utils._pytree import tree_leaves, tree_map

    floats = [value for value in tree_leaves(args) if _is_float(value)]
    return tree_map(lambda value: value.detach() if value is floats[index] else value, args)


def _stopped_forms(site: Site) -> Iterator[Edit]:
    from torch.utils._pytree import tree_leaves

    text = "no stop_gradient between the two layers"
    if site.kind == "glue":
        nothing, within = np.zeros_like(site.theirs), site.within
        yield Edit(text, "x.detach()", lambda: within(None) if within else nothing)
        return
    if site.within is not None:
        yield Edit(text, f"{site.kind}(…).detach()", after(site, lambda y: y.detach()))
        function: Any = site.function
        for index in range(sum(map(_is_float, tree_leaves(site.args)))):
            yield Edit(
                text,
                f"{site.kind}(…), its argument {index + 1} detached",
                site.called(
                    function=lambda *args, index=index, **given: function(
                        *_detached(args, index), **given
                    )
                ),
            )
        return
    for family in (recurrence, norms):
        if re.fullmatch(family.KINDS, site.kind):
            yield from family.stopped(site)
            return
    yield Edit(
        "no stop_gradient here, or straight through it",
        "x.detach()",
        after(site, lambda y: y.detach() + 0.0 * y),
    )


stopped = Difference(
    code="GRAD-13",
    title="a gradient that is stopped on one side only",
    torch="x.detach(): no gradient through this value",
    jax="jax.lax.stop_gradient(x), forgotten or put elsewhere",
    fix_torch="x.detach() where JAX has jax.lax.stop_gradient",
    fix_jax="jax.lax.stop_gradient(x) where PyTorch has x.detach()",
    kinds=ACTIVATIONS
    + r"|Softmax|LogSoftmax|[a-z]\w*"  # every function, and glue
    + f"|{recurrence.KINDS}|{norms.KINDS}",
    measure=_gradients(
        lambda: normal(4),
        lambda x: x * x.detach().exp(),
        lambda x: x * jnp.exp(x),
        lambda x: x * jnp.exp(jax.lax.stop_gradient(x)),
    ),
    edits=_stopped_forms,
    whats=("gradient", "param"),
)
