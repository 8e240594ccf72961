"""Normalisation: epsilons, variances, axes, groups and scales."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, flax64, gaps, jax64, normal
from compare.differences.shared.frameworks import F, fnn, jnp, torch
from compare.differences.shared.layers import EVERYTHING, Form, forms, layer, retold, settings
from compare.differences.shared.norms import (
    BATCH,
    EPSILONS,
    GROUP,
    INSTANCE,
    KINDS,
    LAYER,
    NAMES,
    RMS,
    affine,
    axes_of,
    channels,
    family_of,
    far,
    flax_norm,
    normalised,
    standard,
)


def _epsilon() -> tuple[float, float]:
    x = 0.01 * normal(4, 8)
    return gaps(
        F.layer_norm(x, (8,)), flax_norm("LayerNorm", x), flax_norm("LayerNorm", x, epsilon=1e-5)
    )


def _epsilons(site: Site) -> Iterator[Edit]:
    names = NAMES[family_of(site)]
    own = settings(site, names).eps
    own = (2.0**-52 if "rms" in site.kind.lower() else 1e-5) if own is None else own
    known = [site.jax[name] for name in ("epsilon", "eps") if name in site.jax]
    for eps in dict.fromkeys((*known, *EPSILONS)):
        if eps != own:
            yield Edit(f"epsilon={own:g}", f"eps={eps:g}", retold(site, names, eps=eps))
    for eps in dict.fromkeys((own, *known, *EPSILONS)):
        if eps:
            yield Edit(
                "eps inside the square root",
                f"std + {eps:g}",
                layer(site, names, _beside(family_of(site), eps)),
            )


def _beside(family: str, eps: float) -> Form:
    """The eps added to the deviation."""

    def form(x: Any, s: Any) -> Any:
        s.eps = eps
        if family == "batch" and not s.training:
            mean, var = channels(x, s.running_mean), channels(x, s.running_var)
            return affine((x - mean) / (var.sqrt() + eps), s, family)
        return normalised(x, s, family, outside=True)

    return form


epsilon = Difference(
    code="LN-01",
    title="A normalisation's eps",
    torch="nn.LayerNorm, GroupNorm, InstanceNorm, BatchNorm: eps=1e-5",
    jax="nn.LayerNorm, GroupNorm, InstanceNorm: epsilon=1e-6; BatchNorm: 1e-5",
    fix_torch="eps=1e-6",
    fix_jax="epsilon=1e-5",
    kinds=f"{LAYER}|{GROUP}|{INSTANCE}|{BATCH}",
    measure=_epsilon,
    edits=_epsilons,
    whats=EVERYTHING,
)


def _layer_axes() -> tuple[float, float]:
    x = normal(2, 4, 8)
    ours = F.layer_norm(x, (4, 8))
    both = {"reduction_axes": (-2, -1), "feature_axes": (-2, -1)}
    naive = flax_norm("LayerNorm", x, -1, epsilon=1e-5)
    mended = flax_norm("LayerNorm", x, -1, epsilon=1e-5, **both)
    return gaps(ours, naive, mended)


def _other_layer_axes(site: Site) -> Iterator[Edit]:
    x, family = site.inputs[0], family_of(site)
    own = axes_of(x, settings(site, NAMES[family]), family)
    for count in range(1, x.ndim + 1):
        for axes in itertools.combinations(range(x.ndim), count):
            if axes != own:
                form: Form = lambda x, s, a=axes: affine(  # noqa: E731
                    standard(x, a, 2.0**-52 if s.eps is None else s.eps, centred=family != "rms"),
                    s,
                    family,
                )
                yield Edit(
                    f"reduction_axes={own}",
                    f"the mean over the axes {axes}",
                    layer(site, NAMES[family], form),
                )


layer_axes = Difference(
    code="LN-02",
    title="LayerNorm's axes",
    torch="nn.LayerNorm(shape): over as many last axes as the shape has",
    jax="nn.LayerNorm: over the last axis alone",
    fix_torch="nn.LayerNorm(shape[-1])",
    fix_jax="reduction_axes=(-2, -1), feature_axes=(-2, -1)",
    kinds=f"{LAYER}|{RMS}|{INSTANCE}",
    measure=_layer_axes,
    edits=_other_layer_axes,
    whats=EVERYTHING,
)


def _fast_layer() -> tuple[float, float]:
    x = far()
    naive = flax_norm("LayerNorm", x, epsilon=1e-5)
    mended = flax_norm("LayerNorm", x, epsilon=1e-5, use_fast_variance=False)
    return gaps(F.layer_norm(x, (2,)), naive, mended)


fast_layer = Difference(
    code="LN-03",
    title="LayerNorm's fast variance",
    torch="nn.LayerNorm: the mean of squared deviations",
    jax="nn.LayerNorm(use_fast_variance=True): E[x^2] - E[x]^2, lost far from zero",
    fix_torch="(x**2).mean(-1) - x.mean(-1)**2",
    fix_jax="use_fast_variance=False",
    kinds="",  # what is lost is rounding: no two programs lose the same
    measure=_fast_layer,
)


def _deviation() -> tuple[float, float]:
    x = normal(4, 8)
    ours = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)

    def theirs(ddof: int) -> Any:
        def run(a: Any) -> Any:
            spread = jnp.std(a, axis=-1, keepdims=True, ddof=ddof)
            return (a - a.mean(-1, keepdims=True)) / (spread + 1e-6)

        return jax64(run, x)

    return gaps(ours, theirs(0), theirs(1))


def _formulas(site: Site) -> Iterator[Edit]:
    family = family_of(site)
    own = settings(site, NAMES[family])
    if family == "batch" and not own.training:
        return
    right = "the biased variance, eps inside the square root"
    tried: dict[str, dict[str, Any]] = {
        "the mean not taken off": {"centred": False},
        "the mean not taken off, eps outside the root": {"centred": False, "outside": True},
        "the variance by n - 1": {"centred": True, "correction": 1},
        "std + eps, std by n - 1": {"centred": True, "correction": 1, "outside": True},
        "the mean taken off": {"centred": True},
        "the mean taken off, std + eps": {"centred": True, "outside": True},
    }
    for what, how in tried.items():
        if how.get("correction") or how["centred"] != (family != "rms"):
            yield Edit(
                right,
                what,
                layer(site, NAMES[family], lambda x, s, how=how: normalised(x, s, family, **how)),
            )


formula = Difference(
    code="LN-04",
    title="The standard deviation's divisor",
    torch="x.std(), x.var(): by n - 1; nn.LayerNorm itself by n",
    jax="jnp.std, jnp.var: by n",
    fix_torch="x.std(-1, correction=0)",
    fix_jax="jnp.std(x, ddof=1)",
    kinds=KINDS,
    measure=_deviation,
    edits=_formulas,
    whats=EVERYTHING,
)


def _groups() -> tuple[float, float]:
    x = normal(2, 64, 3, 3)
    naive = flax_norm("GroupNorm", x, epsilon=1e-5)
    mended = flax_norm("GroupNorm", x, epsilon=1e-5, num_groups=8)
    return gaps(F.group_norm(x, 8), naive, mended)


def _other_groups(site: Site) -> Iterator[Edit]:
    own, channels = settings(site, NAMES["group"]).num_groups, site.inputs[0].shape[1]
    known = [site.jax["num_groups"]] if site.jax.get("num_groups") else []
    size = channels // own
    for count in dict.fromkeys((*known, 32, size, *range(1, channels + 1))):
        if channels % count == 0 and count != own:
            change = retold(site, NAMES["group"], num_groups=count)
            yield Edit(f"num_groups={own}", f"num_groups={count}", change)


groups = Difference(
    code="GN-01",
    title="GroupNorm's number of groups",
    torch="nn.GroupNorm(num_groups, ...): must be said",
    jax="nn.GroupNorm: num_groups=32",
    fix_torch="nn.GroupNorm(32, ...)",
    fix_jax="num_groups as in PyTorch",
    kinds=GROUP,
    measure=_groups,
    edits=_other_groups,
    whats=EVERYTHING,
)


def _members() -> tuple[float, float]:
    x = normal(2, 6, 3, 3)
    ours = F.group_norm(x, 2)

    def theirs(shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
        def run(a: Any) -> Any:
            b = a.reshape(2, *shape, 3, 3)
            y = (b - b.mean(axes, keepdims=True)) / (b.var(axes, keepdims=True) + 1e-5) ** 0.5
            return y.reshape(2, 6, 3, 3)

        return jax64(run, x)

    return gaps(ours, theirs((3, 2), (1, 3, 4)), theirs((2, 3), (2, 3, 4)))


def _other_members(site: Site) -> Iterator[Edit]:
    def mixed(x: Any, s: Any) -> Any:
        split = x.unflatten(1, (-1, s.num_groups))
        y = standard(split, (1, *range(3, split.ndim)), s.eps)
        return affine(y.flatten(1, 2), s, "group")

    line = "x.reshape(n, h, w, groups, -1): neighbouring channels, over all pixels"
    yield Edit(line, "every num_groups-th channel in a group", layer(site, NAMES["group"], mixed))


members = Difference(
    code="GN-02",
    title="Which channels make a group",
    torch="nn.GroupNorm: neighbouring channels",
    jax="nn.GroupNorm: the same; a reshape to (..., -1, groups) by hand takes every g-th",
    fix_torch="x.unflatten(1, (-1, groups)).transpose(1, 2)",
    fix_jax="x.reshape(n, h, w, groups, -1)",
    kinds=GROUP,
    measure=_members,
    edits=_other_members,
    whats=EVERYTHING,
)


def _instance() -> tuple[float, float]:
    x = 2 * normal(2, 3, 4, 4) + 1
    mean, var = normal(3), normal(3) ** 2 + 0.5
    ours = F.instance_norm(x, mean, var, use_input_stats=False)
    right = jax64(
        lambda a, m, v: (a - m[:, None, None]) / (v[:, None, None] + 1e-5) ** 0.5,
        x,
        mean,
        torch.as_tensor(var),
    )
    return gaps(ours, flax_norm("InstanceNorm", x, epsilon=1e-5), right)


def _instance_statistics(site: Site) -> Iterator[Edit]:
    yield from forms(
        site,
        NAMES["instance"],
        (
            "the stored mean and variance, as a BatchNorm in eval mode",
            "track_running_stats=False",
            lambda x, s: normalised(x, s, "instance"),
        ),
        (
            "reduction_axes: the pixels of one image",
            "the statistics of the batch",
            lambda x, s: affine(standard(x, (0, *range(2, x.ndim)), s.eps), s, "instance"),
        ),
        (
            "reduction_axes: the pixels of one channel",
            "the statistics of all channels",
            lambda x, s: affine(standard(x, tuple(range(1, x.ndim)), s.eps), s, "instance"),
        ),
    )


instance = Difference(
    code="IN-01",
    title="InstanceNorm's stored statistics",
    torch="nn.InstanceNorm2d(track_running_stats=True): eval mode uses the stored ones",
    jax="nn.InstanceNorm: always the image's own",
    fix_torch="track_running_stats=False",
    fix_jax="(x - mean) / sqrt(var + eps) with the stored ones",
    kinds=INSTANCE,
    measure=_instance,
    edits=_instance_statistics,
    whats=EVERYTHING,
)


def _rms_epsilon() -> tuple[float, float]:
    x = 1e-3 * normal(4, 8)
    return gaps(
        F.rms_norm(x, (8,)), flax_norm("RMSNorm", x), flax_norm("RMSNorm", x, epsilon=2.0**-52)
    )


rms_epsilon = Difference(
    code="RMS-01",
    title="RMSNorm's eps",
    torch="nn.RMSNorm: eps=None, the dtype's own (1.2e-7 in float32)",
    jax="nn.RMSNorm: epsilon=1e-6",
    fix_torch="eps=1e-6",
    fix_jax="epsilon=jnp.finfo(dtype).eps",
    kinds=RMS,
    measure=_rms_epsilon,
    edits=_epsilons,
    whats=EVERYTHING,
)


def _rms_scale() -> tuple[float, float]:
    x, w = normal(4, 8), normal(8)
    ours = F.rms_norm(x, (8,), w, 1e-6)
    module = fnn.RMSNorm()
    return gaps(ours, flax64(module, {"scale": 1 + w}, x), flax64(module, {"scale": w}, x))


def _rms_scales(site: Site) -> Iterator[Edit]:
    family = family_of(site)
    if settings(site, NAMES[family]).weight is None:
        return
    for right, line, change in (
        ("x * scale, not x * (1 + scale)", "weight + 1", lambda w: w + 1),
        ("x * (1 + scale), or weight itself as the scale", "weight - 1", lambda w: w - 1),
        ("x * scale", "weight**2", lambda w: w**2),
    ):

        def form(x: Any, s: Any, change: Any = change) -> Any:
            s.weight = change(s.weight)
            return normalised(x, s, family)

        yield Edit(right, line, layer(site, NAMES[family], form))


rms_scale = Difference(
    code="RMS-02",
    title="A scale that is stored less one",
    torch="nn.RMSNorm, nn.LayerNorm: x * weight",
    jax="nn.RMSNorm: x * scale; some models hold scale - 1 and use x * (1 + scale)",
    fix_torch="x * (1 + weight)",
    fix_jax="x * scale",
    kinds=f"{RMS}|{LAYER}",
    measure=_rms_scale,
    edits=_rms_scales,
)


def _unit() -> tuple[float, float]:
    from flax.linen.normalization import _l2_normalize

    x = 1e-7 * normal(3, 4)
    ours = F.normalize(x, dim=-1)

    def right(a: Any) -> Any:
        return a / jnp.maximum(jnp.linalg.norm(a, axis=-1, keepdims=True), 1e-12)

    return against(ours, lambda a: _l2_normalize(a, axis=-1), right, x)


def _units(site: Site) -> Iterator[Edit]:
    own = settings(site, "p dim eps")
    p, dim = own.p or 2.0, 1 if own.dim is None else own.dim
    floor = 1e-12 if own.eps is None else own.eps
    line = f"x / jnp.maximum(jnp.linalg.norm(x, axis={dim}, keepdims=True), {floor:g})"

    def norm(x: Any, dim: Any = dim, p: float = p) -> Any:
        return torch.linalg.vector_norm(x, p, dim, keepdim=True)

    for eps in dict.fromkeys((floor, 1e-12, 1e-8, 1e-6, 1e-5, 1e-10, 0.0)):
        yield from forms(
            site,
            "p dim eps",
            (
                line,
                f"x * rsqrt(sum(x**2) + {eps:g})",
                lambda x, _, e=eps: x * (norm(x) ** 2 + e).rsqrt(),
            ),
            (line, f"x / (norm + {eps:g})", lambda x, _, e=eps: x / (norm(x) + e)),
            (
                line,
                f"x / sqrt(max(sum(x**2), {eps:g}))",
                lambda x, _, e=eps: x / (norm(x) ** 2).clamp(min=e).sqrt(),
            ),
            (line, f"eps={eps:g}", lambda x, _, e=eps: x / norm(x).clamp(min=e)),
        )
    for axis in range(site.inputs[0].ndim):
        for power in (1.0, 2.0):
            if (axis % site.inputs[0].ndim, power) != (dim % site.inputs[0].ndim, p):
                yield Edit(
                    line,
                    f"dim={axis}, p={power:g}",
                    layer(
                        site,
                        "p dim eps",
                        lambda x, _, a=axis, p=power: x / norm(x, a, p).clamp(min=floor),
                    ),
                )
    whole: Form = lambda x, _: x / norm(x, tuple(range(x.ndim)))  # noqa: E731
    yield Edit(line, "the norm of the whole array", layer(site, "p dim eps", whole))


unit = Difference(
    code="NRM-01",
    title="Normalising to length one",
    torch="F.normalize: x / max(norm, 1e-12), along axis 1",
    jax="jnp.linalg.norm: of the whole array, no eps; x * rsqrt(sum + 1e-12) in flax",
    fix_torch="x * (x.square().sum(-1, True) + 1e-12).rsqrt()",
    fix_jax="x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-12)",
    kinds="normalize",
    measure=_unit,
    edits=_units,
)


def _neighbours(x: Any, size: int, alpha: float, beta: float, k: float) -> Any:
    def run(a: Any) -> Any:
        square = jnp.pad(a**2, ((0, 0), (size // 2, (size - 1) // 2), (0, 0), (0, 0)))
        total = sum(square[:, i : i + a.shape[1]] for i in range(size))
        return a / (k + alpha * total) ** beta

    return jax64(run, x)


def _local_response() -> tuple[float, float]:
    x = 3 * normal(1, 6, 2, 2)
    naive = _neighbours(x, 5, 1e-2, 0.75, 1.0)
    mended = _neighbours(x, 5, 1e-2 / 5, 0.75, 1.0)
    return gaps(F.local_response_norm(x, 5, alpha=1e-2), naive, mended)


def _local_responses(site: Site) -> Iterator[Edit]:
    names = "size alpha beta k"
    own = settings(site, names)
    size, alpha = own.size, 1e-4 if own.alpha is None else own.alpha
    beta, k = (0.75 if own.beta is None else own.beta), (1.0 if own.k is None else own.k)
    for factor, offset, power in itertools.product(
        (1, size, size**2, 1 / size), (k, 1.0, 2.0), (beta, 0.5, 0.75)
    ):
        if (factor, offset, power) != (1, k, beta):
            yield Edit(
                "x / (k + alpha / size * the sum of squares) ** beta",
                f"alpha={alpha * factor:g}, k={offset:g}, beta={power:g}",
                layer(
                    site,
                    names,
                    lambda x, _, f=factor, o=offset, p=power: F.local_response_norm(
                        x, size, alpha * f, p, o
                    ),
                ),
            )


local_response = Difference(
    code="NRM-02",
    title="LocalResponseNorm's alpha",
    torch="nn.LocalResponseNorm: alpha times the mean over size channels",
    jax="no such layer; the paper's formula has alpha times the sum",
    fix_torch="alpha=alpha * size",
    fix_jax="alpha / size times the sum of squares",
    kinds="LocalResponseNorm|local_response_norm",
    measure=_local_response,
    edits=_local_responses,
)


def _no_scale() -> tuple[float, float]:
    x, w, b = normal(4, 8), normal(8), normal(8, seed=1)
    ours = F.layer_norm(x, (8,), w, b)
    right = flax64(fnn.LayerNorm(epsilon=1e-5), {"scale": w, "bias": b}, x)
    return gaps(ours, flax_norm("LayerNorm", x, epsilon=1e-5), right)


def _other_scale(site: Site) -> Iterator[Edit]:
    names = NAMES[family_of(site)]
    own = settings(site, names)
    bias = getattr(own, "bias", None)
    if bias is not None:
        yield Edit("use_bias=True", "bias=None", retold(site, names, bias=None))
    if own.weight is not None:
        yield Edit("use_scale=True", "weight=None", retold(site, names, weight=None))
    if bias is not None and own.weight is not None:
        both = retold(site, names, weight=None, bias=None)
        yield Edit("use_scale=True, use_bias=True", "weight=None, bias=None", both)
        if own.weight.shape == bias.shape:
            swapped = retold(site, names, weight=own.bias, bias=own.weight)
            yield Edit("{'scale': weight, 'bias': bias}", "weight and bias swapped", swapped)


scale = Difference(
    code="NRM-03",
    title="A normalisation's scale or bias left out",
    torch="nn.LayerNorm, BatchNorm, GroupNorm: weight and bias; InstanceNorm: neither",
    jax="nn.LayerNorm ...: use_scale=True, use_bias=True; jax.nn.standardize: neither",
    fix_torch="elementwise_affine=False, or affine=False",
    fix_jax="use_scale=True, use_bias=True, {'scale': weight, 'bias': bias}",
    kinds=KINDS,
    measure=_no_scale,
    edits=_other_scale,
)
