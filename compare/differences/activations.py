"""Activations: forms, slopes and what happens at a kink."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compare.differences import normalisation, recurrent
from compare.differences.calls import after, before, jax_gradient, option, torch_gradient, without
from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import gap, grid, jax64, normal
from compare.share import to_torch


def _gelu() -> tuple[float, float]:
    import jax
    import torch.nn.functional as F

    x = grid(-8, 8)
    return (
        gap(F.gelu(x), jax64(jax.nn.gelu, x)),
        gap(F.gelu(x), jax64(lambda v: jax.nn.gelu(v, approximate=False), x)),
    )


def _gelu_forms(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    exact, tanh = "jax.nn.gelu(x, approximate=False)", "jax.nn.gelu(x)"
    ours = option(site, "approximate", default="none")
    other = "tanh" if ours == "none" else "none"
    right = exact if ours == "none" else tanh
    yield Edit(
        right,
        f"F.gelu(x, approximate={other!r})",
        site.replaced(lambda x, *_: F.gelu(x, approximate=other)),
    )
    yield Edit(right, "x * torch.sigmoid(1.702 * x)", site.replaced(lambda x, *_: _quick_gelu(x)))


def _quick_gelu(x: Any) -> Any:
    return x * (1.702 * x).sigmoid()


gelu = Difference(
    code="ACT-01",
    title="GELU variant",
    torch="nn.GELU(), F.gelu: the exact form, x Phi(x)",
    jax="jax.nn.gelu: the tanh approximation (approximate=True)",
    fix_torch="nn.GELU(approximate='tanh')",
    fix_jax="jax.nn.gelu(x, approximate=False)",
    kinds="gelu|GELU",
    measure=_gelu,
    edits=_gelu_forms,
)


def _slope() -> tuple[float, float]:
    import flax.linen as fnn
    import torch
    from torch import nn

    x = grid(-8, 8)
    layer = nn.PReLU().double()

    def flax(start: float) -> np.ndarray:
        def run(v):
            import jax

            module = fnn.PReLU(negative_slope_init=start)
            return module.apply(module.init(jax.random.key(0), v), v)

        return jax64(run, x)

    with torch.no_grad():
        return gap(layer(x), flax(0.01)), gap(layer(x), flax(0.25))


prelu = Difference(
    code="ACT-02",
    title="PReLU's first slope",
    torch="nn.PReLU(init=0.25)",
    jax="nn.PReLU(negative_slope_init=0.01)",
    fix_torch="nn.PReLU(init=0.01)",
    fix_jax="nn.PReLU(negative_slope_init=0.25)",
    kinds="",  # copied weights hide it: the slope is a parameter
    measure=_slope,
)


def _leaky() -> tuple[float, float]:
    import jax
    import torch.nn.functional as F

    x = grid(-8, 8)
    ours = F.leaky_relu(x, 0.2)
    return gap(ours, jax64(jax.nn.leaky_relu, x)), gap(
        ours, jax64(lambda v: jax.nn.leaky_relu(v, 0.2), x)
    )


def _slopes(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    mean = (option(site, "lower", 1, 1 / 8) + option(site, "upper", 2, 1 / 3)) / 2
    own = option(site, "negative_slope", 1, 0.01) if "leaky" in site.kind.lower() else mean
    for slope in without((site.jax.get("negative_slope"), 0.01, 0.1, 0.2, 0.3, 0.0), own):
        yield Edit(
            f"jax.nn.leaky_relu(x, negative_slope={own:g})",
            f"F.leaky_relu(x, {slope:g})",
            site.replaced(lambda x, *_, s=slope: F.leaky_relu(x, s)),
        )


leaky_relu = Difference(
    code="ACT-03",
    title="leaky ReLU's slope",
    torch="nn.LeakyReLU(0.01); RReLU in evaluation has the mean of its bounds, 0.229",
    jax="jax.nn.leaky_relu(x, negative_slope=0.01); a slope that is not handed over is 0.01",
    fix_torch="nn.LeakyReLU(0.01)",
    fix_jax="jax.nn.leaky_relu(x, negative_slope=0.2), the slope of PyTorch's layer",
    kinds="leaky_relu_?|LeakyReLU|rrelu_?|RReLU",
    measure=_leaky,
    edits=_slopes,
)


def _elu() -> tuple[float, float]:
    import jax
    import torch.nn.functional as F

    x = grid(-8, 8)
    ours = F.celu(x, 0.5)
    return gap(ours, jax64(lambda v: jax.nn.elu(v, 0.5), x)), gap(
        ours, jax64(lambda v: jax.nn.celu(v, 0.5), x)
    )


def _elu_forms(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    name = site.kind.lower().rstrip("_")
    own = option(site, "alpha", 1, 1.0)
    right = "jax.nn.selu(x)" if name == "selu" else f"jax.nn.{name}(x, alpha={own:g})"
    for form, function in (("elu", F.elu), ("celu", F.celu)):
        for alpha in dict.fromkeys((site.jax.get("alpha") or own, own, 1.0, 0.5, 0.1, 1.6732)):
            if (form, alpha) != (name, own):
                yield Edit(
                    right,
                    f"F.{form}(x, {alpha:g})",
                    site.replaced(lambda x, *_, f=function, a=alpha: f(x, a)),
                )
    yield Edit(right, "F.selu(x)", site.replaced(lambda x, *_: F.selu(x)))


elu = Difference(
    code="ACT-04",
    title="ELU, CELU and SELU: form and alpha",
    torch="F.elu: alpha (exp(x) - 1); F.celu: alpha (exp(x / alpha) - 1)",
    jax="jax.nn.elu and jax.nn.celu likewise: they part where alpha is not 1",
    fix_torch="F.elu(x, alpha) where JAX has jax.nn.elu(x, alpha)",
    fix_jax="jax.nn.celu(x, alpha) for F.celu, with PyTorch's alpha",
    kinds="[cs]?elu_?|[CS]?ELU",
    measure=_elu,
    edits=_elu_forms,
)


def _softplus() -> tuple[float, float]:
    import jax
    import torch.nn.functional as F

    x = grid(-8, 8)
    ours = F.softplus(x, beta=2.0)
    return gap(ours, jax64(jax.nn.softplus, x)), gap(
        ours, jax64(lambda v: jax.nn.softplus(2.0 * v) / 2.0, x)
    )


def _softplus_forms(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    if site.kind == "glue":
        if site.towards in ("softplus", "Softplus"):
            for b in (2.0, 0.5, 3.0, 5.0, 10.0):
                line = f"F.softplus(x, beta={b:g})"
                yield Edit("jax.nn.softplus(x)", line, lambda b=b: b * to_torch(site.ours))
        return
    beta, threshold = option(site, "beta", 1, 1.0), option(site, "threshold", 2, 20.0)
    right = f"jax.nn.softplus({beta:g} * x) / {beta:g}"
    for b in dict.fromkeys((site.jax.get("beta") or 1.0, 1.0, beta)):
        yield Edit(
            f"jnp.where({beta:g} * x > {threshold:g}, x, {right})" if b == beta else right,
            f"F.softplus(x, beta={b:g}, threshold=1e9)",
            site.replaced(lambda x, *_, b=b: F.softplus(x, b, 1e9)),
        )
    yield Edit(right, "F.softplus(beta * x)", site.replaced(lambda x, *_: F.softplus(beta * x)))


softplus = Difference(
    code="ACT-05",
    title="softplus: beta and threshold",
    torch="F.softplus(x, beta=1, threshold=20): x itself where beta x > threshold",
    jax="jax.nn.softplus(x): neither argument",
    fix_torch="F.softplus(x, threshold=1e9)",
    fix_jax="jax.nn.softplus(beta * x) / beta",
    kinds="softplus|Softplus|glue",
    measure=_softplus,
    edits=_softplus_forms,
)


def _axis() -> tuple[float, float]:
    import jax
    import torch.nn.functional as F

    x = normal(4, 5, 6)
    ours = F.softmax(x, dim=1)
    return gap(ours, jax64(jax.nn.softmax, x)), gap(
        ours, jax64(lambda v: jax.nn.softmax(v, axis=1), x)
    )


def _softmax_parts(site: Site) -> tuple[str, Any]:
    """JAX's name of a softmax, and its axis, counted from the front."""
    rank = site.inputs[0].ndim
    dim = option(site, "dim", 1)
    if dim is None:  # the axis that nn.functional guesses
        dim = 0 if rank in (0, 1, 3) else 1
    name = {"logsoftmax": "log_softmax"}.get(site.kind.lower(), site.kind.lower())
    return name, dim % max(rank, 1)


def _axes(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

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
    import jax
    import torch.nn.functional as F

    x = normal(4, 5)
    ours = F.log_softmax(x, dim=-1)
    return gap(ours, jax64(jax.nn.softmax, x)), gap(ours, jax64(jax.nn.log_softmax, x))


def _softmax_forms(site: Site) -> Iterator[Edit]:
    import torch
    import torch.nn.functional as F

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
    for text, form in forms.items():
        yield Edit(right, text, site.replaced(lambda x, *_, f=form: f(x)))


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


def _forms() -> dict[str, Callable]:
    """Activations that take each other's place, as PyTorch spells them."""
    import torch
    import torch.nn.functional as F

    return {
        "F.relu(x)": F.relu,
        "F.silu(x)": F.silu,
        "F.gelu(x)": F.gelu,
        "F.gelu(x, approximate='tanh')": lambda x: F.gelu(x, approximate="tanh"),
        "x * torch.sigmoid(1.702 * x)": _quick_gelu,
        "torch.tanh(x)": torch.tanh,
        "torch.sigmoid(x)": torch.sigmoid,
        "F.logsigmoid(x)": F.logsigmoid,
        "F.leaky_relu(x)": F.leaky_relu,
        "F.leaky_relu(x, 0.2)": lambda x: F.leaky_relu(x, 0.2),
        "F.elu(x)": F.elu,
        "F.selu(x)": F.selu,
        "F.softplus(x, threshold=1e9)": lambda x: F.softplus(x, threshold=1e9),
        "F.mish(x)": F.mish,
        "F.softsign(x)": F.softsign,
        "F.relu(x) ** 2": lambda x: F.relu(x) ** 2,
        "2 * torch.sigmoid(x) - 1": lambda x: 2 * x.sigmoid() - 1,
        "x.abs()": torch.abs,
    }


ACTIVATIONS = (
    "relu6?_?|ReLU6?|silu|SiLU|gelu|GELU|tanh_?|Tanh|sigmoid_?|Sigmoid|logsigmoid|LogSigmoid|"
    "leaky_relu_?|LeakyReLU|[cs]?elu_?|[CS]?ELU|softplus|Softplus|mish|Mish|softsign|Softsign|"
    "hardswish|Hardswish|hardsigmoid|Hardsigmoid|hardtanh_?|Hardtanh|rrelu_?|RReLU|prelu|PReLU"
)


def _swapped() -> tuple[float, float]:
    import jax
    import torch.nn.functional as F

    x = grid(-8, 8)
    return gap(F.silu(x), jax64(jax.nn.gelu, x)), gap(F.silu(x), jax64(jax.nn.swish, x))


def _name_in_jax(site: Site) -> str:
    name = site.kind.lower().rstrip("_")
    return f"jax.nn.{ {'hardswish': 'hard_swish', 'hardsigmoid': 'hard_sigmoid'}.get(name, name) }"


def _others(site: Site) -> Iterator[Edit]:
    for text, form in _forms().items():
        yield Edit(_name_in_jax(site), text, site.replaced(lambda x, *_, f=form: f(x)))


another = Difference(
    code="ACT-08",
    title="another activation",
    torch="F.silu is the swish, x sigmoid(x)",
    jax="jax.nn.swish and jax.nn.silu are one; jax.nn.gelu looks much like them",
    fix_torch="the activation that JAX's side calls",
    fix_jax="the activation that PyTorch's side calls: jax.nn.swish for F.silu",
    kinds=ACTIVATIONS,
    measure=_swapped,
    edits=_others,
)


def _hard() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import torch.nn.functional as F

    x = grid(-8, 8)
    return (
        gap(F.hardsigmoid(x), jax64(lambda v: jnp.clip(0.2 * v + 0.5, 0, 1), x)),
        gap(F.hardsigmoid(x), jax64(jax.nn.hard_sigmoid, x)),
    )


def _hard_forms(site: Site) -> Iterator[Edit]:
    import torch
    import torch.nn.functional as F

    low, high = option(site, "min_val", 1, -1.0), option(site, "max_val", 2, 1.0)
    forms: dict[str, Callable] = {
        "(0.2 * x + 0.5).clamp(0, 1)": lambda x: (0.2 * x + 0.5).clamp(0, 1),
        "x * (0.2 * x + 0.5).clamp(0, 1)": lambda x: x * (0.2 * x + 0.5).clamp(0, 1),
        "F.hardsigmoid(x)": F.hardsigmoid,
        "F.hardswish(x)": F.hardswish,
        "F.relu6(x + 3)": lambda x: F.relu6(x + 3),
        "x * F.relu6(x + 3)": lambda x: x * F.relu6(x + 3),
        "F.relu6(x) / 6": lambda x: F.relu6(x) / 6,
        "x * F.relu6(x) / 6": lambda x: x * F.relu6(x) / 6,
        "F.relu6(x)": F.relu6,
        "F.relu(x)": F.relu,
        "F.hardtanh(x)": F.hardtanh,
        "F.hardtanh(x, 0, 1)": lambda x: F.hardtanh(x, 0.0, 1.0),
        "F.silu(x)": F.silu,
        "torch.sigmoid(x)": torch.sigmoid,
        "torch.tanh(x)": torch.tanh,
    }
    right = _name_in_jax(site)
    right = f"jnp.clip(x, {low:g}, {high:g})" if "hardtanh" in right else f"{right}(x)"
    for text, form in forms.items():
        yield Edit(right, text, site.replaced(lambda x, *_, f=form: f(x)))


hard = Difference(
    code="ACT-09",
    title="hard sigmoid, hard swish, ReLU6, hard tanh",
    torch="F.hardsigmoid: relu6(x + 3) / 6; F.hardswish: x relu6(x + 3) / 6",
    jax="the same in jax.nn; Keras's form, clip(0.2 x + 0.5, 0, 1), is another",
    fix_torch="(0.2 * x + 0.5).clamp(0, 1)",
    fix_jax="jax.nn.hard_sigmoid(x)",
    kinds="relu6|ReLU6?|relu_?|hardswish|Hardswish|hardsigmoid|Hardsigmoid|hardtanh_?|Hardtanh",
    measure=_hard,
    edits=_hard_forms,
)


def _missing() -> tuple[float, float]:
    import jax
    import torch.nn.functional as F

    x = normal(4, 5)
    return gap(F.silu(x), jax64(lambda v: v, x)), gap(F.silu(x), jax64(jax.nn.silu, x))


def _missing_or_twice(site: Site) -> Iterator[Edit]:
    name = _name_in_jax(site)
    yield Edit(
        f"{name} is missing here", "no activation here", site.replaced(lambda x, *_: x * 1.0)
    )
    own: Any = site.module if site.module is not None else site.function
    yield Edit(f"{name} once", "the activation twice", before(site, lambda x: _again(site, own, x)))
    yield Edit(f"{name}(x)", "the activation of -x", before(site, lambda x: -x))
    yield Edit(f"{name}(x)", "x times the activation", site.replaced(lambda x, *_: x * own(x)))


def _again(site: Site, own: Any, x: Any) -> Any:
    return own(x) if site.module is not None else own(x, *site.args[1:], **site.kwargs)


missing = Difference(
    code="ACT-10",
    title="an activation missing or applied twice",
    torch="the layer's output goes through the activation once",
    jax="Dense and Conv have none of their own: forgotten, or called in layer and model",
    fix_torch="leave the activation out",
    fix_jax="call the activation once",
    kinds=ACTIVATIONS + "|dropout|Dropout|clamp(_min|_max)?|clip",
    measure=_missing,
    edits=_missing_or_twice,
)


def _extra() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import torch

    x, y = normal(4, 5), normal(4, 5, seed=1)
    return (
        gap(torch.add(x, y), jax64(lambda v, w: jax.nn.relu(v + w), x, y)),
        gap(torch.add(x, y), jax64(jnp.add, x, y)),
    )


def _extra_forms(site: Site) -> Iterator[Edit]:
    for text, form in _forms().items():
        yield Edit(
            "leave the activation out: PyTorch has none here",
            text,
            lambda f=form: f(to_torch(site.ours)),
        )


extra = Difference(
    code="ACT-11",
    title="an activation that PyTorch's side has not",
    torch="a layer or a residual sum, and nothing behind it",
    jax="the same with an activation behind it",
    fix_torch="F.relu(x + y)",
    fix_jax="x + y",
    kinds="glue|Linear|Conv[123]d|ConvTranspose[123]d|(Batch|Instance)Norm[123]d|(Layer|Group)Norm",
    measure=_extra,
    edits=_extra_forms,
    whats=("output",),
)


def _glu() -> tuple[float, float]:
    import jax
    import torch.nn.functional as F

    x = normal(4, 6)

    def swapped(v):
        a, b = v[:, :3], v[:, 3:]
        return jax.nn.sigmoid(a) * b

    return gap(F.glu(x), jax64(swapped, x)), gap(F.glu(x), jax64(jax.nn.glu, x))


def _glu_forms(site: Site) -> Iterator[Edit]:
    import torch
    import torch.nn.functional as F

    dim = option(site, "dim", 1, -1)
    right = f"jax.nn.glu(x, axis={dim})"
    forms: dict[str, Callable] = {
        "torch.sigmoid(a) * b": lambda a, b: a.sigmoid() * b,
        "a * F.silu(b)": lambda a, b: a * F.silu(b),
        "F.silu(a) * b": lambda a, b: F.silu(a) * b,
        "a * F.gelu(b)": lambda a, b: a * F.gelu(b),
        "a * F.gelu(b, approximate='tanh')": lambda a, b: a * F.gelu(b, approximate="tanh"),
        "a * F.relu(b)": lambda a, b: a * F.relu(b),
        "a * torch.tanh(b)": lambda a, b: a * torch.tanh(b),
        "a * b": lambda a, b: a * b,
    }
    for text, form in forms.items():
        yield Edit(right, text, site.replaced(lambda x, *_, f=form: f(*x.chunk(2, dim))))
    yield Edit(
        right,
        "x[..., ::2] * torch.sigmoid(x[..., 1::2])",
        site.replaced(
            lambda x, *_: _interleaved(x.movedim(dim, -1)).movedim(-1, dim),
        ),
    )
    for other in without(range(site.inputs[0].ndim), dim % site.inputs[0].ndim):
        yield Edit(right, f"F.glu(x, {other})", site.replaced(lambda x, *_, d=other: F.glu(x, d)))


def _interleaved(x: Any) -> Any:
    return x[..., ::2] * x[..., 1::2].sigmoid()


glu = Difference(
    code="ACT-12",
    title="gated linear unit: which half is the gate",
    torch="F.glu(x): the second half of the axis is the gate",
    jax="jax.nn.glu likewise; hand-written ports gate by the first half, or interleave",
    fix_torch="a, b = x.chunk(2, -1); torch.sigmoid(a) * b",
    fix_jax="jax.nn.glu(x)",
    kinds="glu|GLU",
    measure=_glu,
    edits=_glu_forms,
)


def _masked() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import torch

    x = normal(3, 4)
    x[1] = float("-inf")

    def where(v, fill):
        return jax.nn.softmax(v, where=jnp.isfinite(v)) if fill else jax.nn.softmax(v)

    ours = torch.softmax(x, -1)
    return gap(ours, jax64(lambda v: where(v, True), x)), gap(
        ours, jax64(lambda v: where(v, False), x)
    )


def _masked_forms(site: Site) -> Iterator[Edit]:
    import torch

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


def _shrink() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch.nn.functional as F

    x = grid(-3, 3)

    def soft(v, bound):
        return jnp.sign(v) * jnp.maximum(jnp.abs(v) - bound, 0)

    return gap(F.softshrink(x), jax64(lambda v: soft(v, 1.0), x)), gap(
        F.softshrink(x), jax64(lambda v: soft(v, 0.5), x)
    )


def _shrink_forms(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    own = option(site, "lambd", 1, 0.5)
    soft = "jnp.sign(x) * jnp.maximum(jnp.abs(x) - lambd, 0)"
    right = soft if "soft" in site.kind.lower() else "jnp.where(jnp.abs(x) > lambd, x, 0)"
    for bound in dict.fromkeys((own, 0.0, 0.1, 0.5, 1.0)):
        for name, function in (("softshrink", F.softshrink), ("hardshrink", F.hardshrink)):
            yield Edit(
                f"{right} with lambd={own:g}",
                f"F.{name}(x, {bound:g})",
                site.replaced(lambda x, *_, f=function, b=bound: f(x, b)),
            )


shrink = Difference(
    code="ACT-14",
    title="soft and hard shrinkage: form and lambda",
    torch="F.softshrink(x, lambd=0.5) moves values by lambda; F.hardshrink only cuts",
    jax="neither is in jax.nn: written by hand, often with another lambda",
    fix_torch="F.softshrink(x, 1.0)",
    fix_jax="jnp.sign(x) * jnp.maximum(jnp.abs(x) - 0.5, 0)",
    kinds="softshrink|Softshrink|hardshrink|Hardshrink",
    measure=_shrink,
    edits=_shrink_forms,
)


# The gradient at a kink: each framework has a convention, and both are subgradients.


def _kink(ours: Callable, naive: Callable, mended: Callable, points: list[float]) -> Callable:
    """A measure: two gradients at the points where a function has a kink."""

    def measure() -> tuple[float, float]:
        import torch

        x = torch.tensor(points, dtype=torch.float64)
        gradient = torch_gradient(ours, x)
        return gap(gradient, jax_gradient(naive, x)), gap(gradient, jax_gradient(mended, x))

    return measure


def _jnp() -> Any:
    import jax.numpy

    return jax.numpy


def _abs_forms(site: Site) -> Iterator[Edit]:
    import torch

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
    measure=_kink(
        lambda x: x.abs(),
        lambda x: _jnp().abs(x),
        lambda x: _jnp().where(x == 0, 0.0, _jnp().abs(x)),
        [-1.0, 0.0, 2.0],
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
    import torch

    if low is not None:
        x = torch.maximum(x, torch.as_tensor(low, dtype=x.dtype).expand_as(x))
    if high is not None:
        x = torch.minimum(x, torch.as_tensor(high, dtype=x.dtype).expand_as(x))
    return x


def _clip_forms(site: Site) -> Iterator[Edit]:
    import torch

    low, high = _bounds(site)
    within = "=" if torch.__version__ >= (2, 14) else ""
    yield Edit(
        f"jnp.where(x <{within} {low}, {low}, jnp.where(x >{within} {high}, {high}, x))",
        "torch.minimum(torch.maximum(x, low), high)",
        site.replaced(lambda x, *_: _halves(x, low, high)),
    )


def _clipped(x: Any, low: float, high: float) -> Any:
    """A clip in JAX with the gradient that the installed PyTorch has on the bounds."""
    import jax.numpy as jnp
    import torch

    if torch.__version__ >= (2, 14):
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
    measure=_kink(
        lambda x: x.clamp(0, 1),
        lambda x: _jnp().clip(x, 0, 1),
        lambda x: _clipped(x, 0.0, 1.0),
        [-1.0, 0.0, 0.5, 1.0, 2.0],
    ),
    edits=_clip_forms,
    whats=("gradient",),
)


def _leaky_kink() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import torch.nn.functional as F

    x = grid(-1, 1, 3)
    ours = torch_gradient(F.leaky_relu, x)
    return gap(ours, jax_gradient(jax.nn.leaky_relu, x)), gap(
        ours, jax_gradient(lambda v: jnp.where(v > 0, v, 0.01 * v), x)
    )


def _leaky_kink_forms(site: Site) -> Iterator[Edit]:
    import torch

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
    measure=_leaky_kink,
    edits=_leaky_kink_forms,
    whats=("gradient",),
)


def _hardtanh_kink() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import torch.nn.functional as F

    x = grid(-2, 2, 5)
    ours = torch_gradient(F.hardtanh, x)

    def mended(v):
        return jnp.where(v <= -1, -1.0, jnp.where(v >= 1, 1.0, v))

    return gap(ours, jax_gradient(jax.nn.hard_tanh, x)), gap(ours, jax_gradient(mended, x))


def _hardtanh_forms(site: Site) -> Iterator[Edit]:
    import torch

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
    measure=_hardtanh_kink,
    edits=_hardtanh_forms,
    whats=("gradient",),
)


def _relu_kink() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import torch.nn.functional as F

    x = grid(-1, 1, 3)
    ours = torch_gradient(F.relu, x)
    return gap(ours, jax_gradient(lambda v: jnp.maximum(v, 0), x)), gap(
        ours, jax_gradient(jax.nn.relu, x)
    )


def _relu_kink_forms(site: Site) -> Iterator[Edit]:
    import torch

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
    measure=_relu_kink,
    edits=_relu_kink_forms,
    whats=("gradient",),
)


def _ties() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    x = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, -1.0, 0.0]], dtype=torch.float64)
    ours = torch_gradient(lambda v: v.max(1).values, x)

    def mended(v):
        return jnp.take_along_axis(v, jnp.argmax(v, 1, keepdims=True), 1)

    return gap(ours, jax_gradient(lambda v: jnp.max(v, 1), x)), gap(ours, jax_gradient(mended, x))


def _ties_forms(site: Site) -> Iterator[Edit]:
    import torch

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
    measure=_ties,
    edits=_ties_forms,
    whats=("gradient",),
)


def _norm_zero() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    x = torch.zeros(3, dtype=torch.float64)
    ours = torch_gradient(torch.linalg.vector_norm, x)

    def safe(v):
        square = (v * v).sum()
        return jnp.where(square == 0, 0.0, jnp.sqrt(jnp.where(square == 0, 1.0, square)))

    return gap(ours, jax_gradient(jnp.linalg.norm, x)), gap(ours, jax_gradient(safe, x))


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
    measure=_norm_zero,
    edits=_norm_forms,
    whats=("gradient",),
)


def _std_constant() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    x = torch.ones(3, dtype=torch.float64)
    ours = torch_gradient(torch.std, x)

    def safe(v):
        variance = jnp.var(v, ddof=1)
        return jnp.where(variance == 0, 0.0, jnp.sqrt(jnp.where(variance == 0, 1.0, variance)))

    return gap(ours, jax_gradient(lambda v: jnp.std(v, ddof=1), x)), gap(
        ours, jax_gradient(safe, x)
    )


def _std_forms(site: Site) -> Iterator[Edit]:
    import torch

    def root(*args, **kwargs):
        return torch.var(*args, **kwargs).sqrt()

    yield Edit(
        "jnp.where(v == 0, 0, jnp.sqrt(jnp.where(v == 0, 1, v))) with v = jnp.var(x, ddof=1)",
        "torch.var(x).sqrt()",
        site.called(function=root),
    )


std_constant = Difference(
    code="GRAD-08",
    title="gradient of the standard deviation of a constant",
    torch="torch.std: 0",
    jax="jnp.std: NaN",
    fix_torch="torch.var(x).sqrt()",
    fix_jax="jnp.where(v == 0, 0, jnp.sqrt(jnp.where(v == 0, 1, v))) with v = jnp.var(x, ddof=1)",
    kinds="std",
    measure=_std_constant,
    edits=_std_forms,
    whats=("gradient",),
)


def _distance() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    x = normal(4, 3)
    ours = torch_gradient(lambda v: torch.cdist(v, v.detach()), x)

    def distances(v, safe):
        square = ((v[:, None] - to_constant(v)[None]) ** 2).sum(-1)
        if not safe:
            return jnp.sqrt(square)
        return jnp.where(square == 0, 0.0, jnp.sqrt(jnp.where(square == 0, 1.0, square)))

    def to_constant(v):
        import jax

        return jax.lax.stop_gradient(v)

    return gap(ours, jax_gradient(lambda v: distances(v, False), x)), gap(
        ours, jax_gradient(lambda v: distances(v, True), x)
    )


def _distance_forms(site: Site) -> Iterator[Edit]:
    def root(x, y, *_):
        return ((x.unsqueeze(-2) - y.unsqueeze(-3)) ** 2).sum(-1).sqrt()

    yield Edit(
        "jnp.where(s == 0, 0, jnp.sqrt(jnp.where(s == 0, 1, s))) with s the squared distances",
        "((x[:, None] - y[None]) ** 2).sum(-1).sqrt()",
        site.replaced(root),
    )


distance = Difference(
    code="GRAD-09",
    title="gradient of a distance between equal points",
    torch="torch.cdist: 0",
    jax="jnp.sqrt(jnp.sum((x - y) ** 2)): NaN",
    fix_torch="((x[:, None] - y[None]) ** 2).sum(-1).sqrt()",
    fix_jax="jnp.where(s == 0, 0, jnp.sqrt(jnp.where(s == 0, 1, s))) with s the squared distances",
    kinds="cdist",
    measure=_distance,
    edits=_distance_forms,
    whats=("gradient",),
)


def _atan2() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    x = grid(-1, 1, 3)
    ours = torch_gradient(lambda v: torch.atan2(v, torch.zeros_like(v)), x)

    def safe(v):
        origin = v == 0
        return jnp.where(origin, 0.0, jnp.arctan2(jnp.where(origin, 1.0, v), 0.0))

    return gap(ours, jax_gradient(lambda v: jnp.arctan2(v, 0.0), x)), gap(
        ours, jax_gradient(safe, x)
    )


atan2 = Difference(
    code="GRAD-10",
    title="gradient of atan2 at the origin",
    torch="torch.atan2(0, 0): 0",
    jax="jnp.arctan2(0, 0): NaN",
    fix_torch="torch.where(origin, torch.nan, torch.atan2(y, x))",
    fix_jax="jnp.where(origin, 0, jnp.arctan2(jnp.where(origin, 1, y), x))",
    kinds="",  # two inputs: the finder has a place for one gradient
    measure=_atan2,
)


def _median() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    x = normal(8)
    ours = torch_gradient(torch.median, x)

    def lower(v):
        return jnp.sort(v)[(v.size - 1) // 2]

    return gap(ours, jax_gradient(jnp.median, x)), gap(ours, jax_gradient(lower, x))


def _median_forms(site: Site) -> Iterator[Edit]:
    import torch

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
    measure=_median,
    edits=_median_forms,
)


def _sign_nan() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    x = torch.tensor([-2.0, float("nan"), 3.0], dtype=torch.float64)
    return gap(torch.sign(x), jax64(jnp.sign, x)), gap(
        torch.sign(x), jax64(lambda v: jnp.nan_to_num(jnp.sign(v)), x)
    )


def _sign_forms(site: Site) -> Iterator[Edit]:
    import torch

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


def _stopped() -> tuple[float, float]:
    import jax

    x = normal(4)
    ours = torch_gradient(lambda v: v * v.detach().exp(), x)

    def product(v, stop):
        return v * jax.numpy.exp(jax.lax.stop_gradient(v) if stop else v)

    return gap(ours, jax_gradient(lambda v: product(v, False), x)), gap(
        ours, jax_gradient(lambda v: product(v, True), x)
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
    for family in (recurrent, normalisation):
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
    + f"|{recurrent.KINDS}|{normalisation.KINDS}",
    measure=_stopped,
    edits=_stopped_forms,
    whats=("gradient", "param"),
)
