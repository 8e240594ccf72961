"""Activations: forms and slopes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, gaps, grid, jax64, normal
from compare.differences.shared.calls import alternatives, before, option, without
from compare.differences.shared.frameworks import F, fnn, jax, jnp, nn, torch
from compare.share import to_torch


def _gelu() -> tuple[float, float]:
    x = grid(-8, 8)
    return against(F.gelu(x), jax.nn.gelu, lambda v: jax.nn.gelu(v, approximate=False), x)


def _gelu_forms(site: Site) -> Iterator[Edit]:
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
    x = grid(-8, 8)
    layer = nn.PReLU().double()

    def flax(start: float) -> np.ndarray:
        def run(v):
            module = fnn.PReLU(negative_slope_init=start)
            return module.apply(module.init(jax.random.key(0), v), v)

        return jax64(run, x)

    with torch.no_grad():
        return gaps(layer(x), flax(0.01), flax(0.25))


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
    x = grid(-8, 8)
    return against(F.leaky_relu(x, 0.2), jax.nn.leaky_relu, lambda v: jax.nn.leaky_relu(v, 0.2), x)


def _slopes(site: Site) -> Iterator[Edit]:
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
    x = grid(-8, 8)
    return against(F.celu(x, 0.5), lambda v: jax.nn.elu(v, 0.5), lambda v: jax.nn.celu(v, 0.5), x)


def _elu_forms(site: Site) -> Iterator[Edit]:
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
    x = grid(-8, 8)
    return against(
        F.softplus(x, beta=2.0), jax.nn.softplus, lambda v: jax.nn.softplus(2.0 * v) / 2.0, x
    )


def _softplus_forms(site: Site) -> Iterator[Edit]:
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


def _forms() -> dict[str, Callable]:
    """Activations that take each other's place, as PyTorch spells them."""
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
    x = grid(-8, 8)
    return against(F.silu(x), jax.nn.gelu, jax.nn.swish, x)


def _name_in_jax(site: Site) -> str:
    name = site.kind.lower().rstrip("_")
    return f"jax.nn.{ {'hardswish': 'hard_swish', 'hardsigmoid': 'hard_sigmoid'}.get(name, name) }"


def _others(site: Site) -> Iterator[Edit]:
    yield from alternatives(site, _name_in_jax(site), _forms())


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
    x = grid(-8, 8)
    return against(
        F.hardsigmoid(x), lambda v: jnp.clip(0.2 * v + 0.5, 0, 1), jax.nn.hard_sigmoid, x
    )


def _hard_forms(site: Site) -> Iterator[Edit]:
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
    yield from alternatives(site, right, forms)


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
    x = normal(4, 5)
    return against(F.silu(x), lambda v: v, jax.nn.silu, x)


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
    x, y = normal(4, 5), normal(4, 5, seed=1)
    return against(torch.add(x, y), lambda v, w: jax.nn.relu(v + w), jnp.add, x, y)


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
    x = normal(4, 6)

    def swapped(v):
        a, b = v[:, :3], v[:, 3:]
        return jax.nn.sigmoid(a) * b

    return against(F.glu(x), swapped, jax.nn.glu, x)


def _glu_forms(site: Site) -> Iterator[Edit]:
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
        site.replaced(lambda x, *_: _interleaved(x.movedim(dim, -1)).movedim(-1, dim)),
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


def _shrink() -> tuple[float, float]:
    x = grid(-3, 3)

    def soft(v, bound):
        return jnp.sign(v) * jnp.maximum(jnp.abs(v) - bound, 0)

    return against(F.softshrink(x), lambda v: soft(v, 1.0), lambda v: soft(v, 0.5), x)


def _shrink_forms(site: Site) -> Iterator[Edit]:
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
