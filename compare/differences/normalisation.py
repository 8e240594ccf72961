"""Normalisation: epsilons, variances, axes, groups, running statistics."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.layers import Form, forms, layer, retold, settings
from compare.differences.measuring import flax64, gap, jax64, normal

EVERYTHING = ("output", "gradient", "param")
NAMES = {
    "batch": "running_mean running_var weight bias training momentum eps",
    "layer": "normalized_shape weight bias eps",
    "group": "num_groups weight bias eps",
    "instance": "running_mean running_var weight bias use_input_stats momentum eps",
    "rms": "normalized_shape weight eps",
}
BATCH = r"BatchNorm[123]d|SyncBatchNorm|batch_norm"
LAYER = "LayerNorm|layer_norm"
GROUP = "GroupNorm|group_norm"
INSTANCE = r"InstanceNorm[123]d|instance_norm"
RMS = "RMSNorm|rms_norm"
KINDS = f"{LAYER}|{GROUP}|{INSTANCE}|{BATCH}|{RMS}"
EPSILONS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 2.0**-23, 2.0**-52, 0.0)


def _family(site: Site) -> str:
    name = site.kind.lower()
    return next(family for family in NAMES if family in name)


def _channels(x: Any, value: Any, axis: int = 1) -> Any:
    return value.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


def _affine(y: Any, s: Any, family: str, axis: int = 1) -> Any:
    trailing = family in ("layer", "rms")
    if s.weight is not None:
        y = y * (s.weight if trailing else _channels(y, s.weight, axis))
    if getattr(s, "bias", None) is not None:
        y = y + (s.bias if trailing else _channels(y, s.bias, axis))
    return y


def _axes(x: Any, s: Any, family: str) -> tuple[int, ...]:
    if family in ("layer", "rms"):
        return tuple(range(x.ndim - len(tuple(s.normalized_shape)), x.ndim))
    return (0, *range(2, x.ndim)) if family == "batch" else tuple(range(2, x.ndim))


def _standard(
    x: Any,
    axes: tuple[int, ...],
    eps: float,
    correction: int = 0,
    outside: bool = False,
    centred: bool = True,
    stop: str = "",
) -> Any:
    """(x - mean) / sqrt(var + eps), or one of its misreadings; `stop`: what gets no gradient."""
    mean = x.mean(axes, keepdim=True)
    spread = x - (mean.detach() if "mean" in stop else mean)
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    if centred:
        square = (spread**2).sum(axes, keepdim=True) / (count - correction)
    else:
        spread, square = x, (x**2).mean(axes, keepdim=True)
    square = square.detach() if "variance" in stop else square
    return spread / (square.sqrt() + eps if outside else (square + eps).sqrt())


def _normalised(x: Any, s: Any, family: str, **how: Any) -> Any:
    """The layer from its formula."""
    eps = 2.0**-52 if s.eps is None else s.eps
    how.setdefault("centred", family != "rms")
    if family == "group":
        split = x.unflatten(1, (s.num_groups, -1))
        y = _standard(split, tuple(range(2, split.ndim)), eps, **how).flatten(1, 2)
    else:
        y = _standard(x, _axes(x, s, family), eps, **how)
    return _affine(y, s, family)


def stopped(site: Site) -> Iterator[Edit]:
    """Edits that end the gradient on its way back through the statistics."""
    family = _family(site)
    if family == "batch" and not settings(site, NAMES[family]).training:
        return
    for what in ("mean and variance", "variance", "mean"):
        row = (
            "no stop_gradient of the statistics",
            f"{what} detached",
            lambda x, s, w=what: _normalised(x, s, family, stop=w),
        )
        yield from forms(site, NAMES[family], row)


def _flax_norm(name: str, x: Any, axis: int = 1, **options: Any) -> Any:
    """flax.linen's normalisation without parameters, channels last."""
    import flax.linen as fnn

    if name != "RMSNorm":
        options |= {"use_bias": False}
    module = getattr(fnn, name)(use_scale=False, **options)
    keywords = {"use_running_average": False} if name == "BatchNorm" else {}
    state = {"mutable": ["batch_stats"]} if name == "BatchNorm" else {}
    y = flax64(module, {}, x.movedim(axis, -1), **keywords, **state)
    return np.moveaxis(y[0] if state else y, -1, axis)


# BatchNorm ------------------------------------------------------------------------------------


def _running(momentum: float, unbiased: bool = False, steps: int = 4) -> tuple[Any, Any]:
    """PyTorch's running mean and variance after some steps, and flax's with this momentum."""
    import flax.linen as fnn
    import jax
    from torch import nn

    ours = nn.BatchNorm1d(3).double()
    batches = [2 * normal(8, 3, seed=step) + 1 for step in range(steps)]
    for batch in batches:
        ours(batch)
    module = fnn.BatchNorm(use_running_average=False, momentum=momentum, param_dtype=float)

    def run(*given: Any) -> Any:
        state = jax.tree.map(lambda a: a.astype(float), module.init(jax.random.key(0), given[0]))
        for x in given:
            before = state["batch_stats"]["var"]
            _, new = module.apply(state, x, mutable=["batch_stats"])
            if unbiased:
                batch = (new["batch_stats"]["var"] - momentum * before) * (8 / 7)
                new["batch_stats"]["var"] = momentum * before + batch
            state = {**state, **new}
        return state["batch_stats"]

    return ours, jax64(run, *batches)


def _momentum() -> tuple[float, float]:
    (ours, wrong), (_, right) = _running(0.99), _running(0.9)
    return gap(ours.running_mean, wrong["mean"]), gap(ours.running_mean, right["mean"])


def _statistic(site: Site, momentum: float, biased: bool) -> Any:
    """A running statistic after one update; `momentum` is the share of the new value."""
    x, own = site.inputs[0], dict(site.module.named_buffers())[site.name]
    axes = (0, *range(2, x.ndim))
    mean = site.name.endswith("running_mean")
    new = x.mean(axes) if mean else x.var(axes, correction=0 if biased else 1)
    return (1 - momentum) * own + momentum * new


def _momenta(site: Site) -> Iterator[Edit]:
    if not site.name.endswith(("running_mean", "running_var")):
        return
    own = getattr(site.module, "momentum", None)
    if own is None:
        return
    known = site.jax.get("momentum")
    shares = [*([1 - known] if known is not None else []), 1 - own, 0.01, 0.1, 0.001, 0.9, 0.99]
    for share in dict.fromkeys(shares):
        for biased in (False, True):
            if share != own and not (biased and site.name.endswith("mean")):
                yield Edit(
                    f"momentum={1 - own:g}" + (", variance by n / (n - 1)" if biased else ""),
                    f"momentum={share:g}" + (", and the biased variance" if biased else ""),
                    lambda m=share, b=biased: _statistic(site, m, b),
                )


momentum = Difference(
    code="BN-01",
    title="BatchNorm's momentum",
    torch="nn.BatchNorm2d(momentum=0.1): the share of the new batch",
    jax="nn.BatchNorm(momentum=0.99): the share of the old value",
    fix_torch="nn.BatchNorm2d(momentum=0.01)",
    fix_jax="momentum=1 - PyTorch's: 0.9",
    kinds=BATCH,
    measure=_momentum,
    edits=_momenta,
    whats=("buffer",),
)


def _running_variance() -> tuple[float, float]:
    (ours, wrong), (_, right) = _running(0.9), _running(0.9, unbiased=True)
    return gap(ours.running_var, wrong["var"]), gap(ours.running_var, right["var"])


def _biased(site: Site) -> Iterator[Edit]:
    if site.name.endswith("running_var") and getattr(site.module, "momentum", None) is not None:
        yield Edit(
            "m * old + (1 - m) * batch_var * n / (n - 1)",
            "x.var(axes, correction=0) into running_var",
            lambda: _statistic(site, site.module.momentum, True),
        )


running_variance = Difference(
    code="BN-02",
    title="BatchNorm's running variance",
    torch="running_var: unbiased, divided by n - 1",
    jax="batch_stats' var: biased, divided by n",
    fix_torch="running_var from x.var(axes, correction=0)",
    fix_jax="m * old + (1 - m) * batch_var * n / (n - 1)",
    kinds=BATCH,
    measure=_running_variance,
    edits=_biased,
    whats=("buffer",),
)


def _batch_axis() -> tuple[float, float]:
    import torch.nn.functional as F

    x = normal(4, 3, 3, 3)
    ours = F.batch_norm(x, None, None, training=True)
    return (
        gap(ours, _flax_norm("BatchNorm", x, -1, epsilon=1e-5)),
        gap(ours, _flax_norm("BatchNorm", x, epsilon=1e-5)),
    )


def _batch_axes(site: Site) -> Iterator[Edit]:
    x, own = site.inputs[0], settings(site, NAMES["batch"])
    line = "axis=1, or the image as (N, H, W, C)"
    for kept in range(x.ndim):
        if kept != 1 and own.running_mean is not None and x.shape[kept] == len(own.running_mean):

            def stored(x: Any, s: Any, a: int = kept) -> Any:
                mean, var = _channels(x, s.running_mean, a), _channels(x, s.running_var, a)
                return _affine((x - mean) / (var + s.eps).sqrt(), s, "batch", a)

            row = (line, f"the stored statistics along axis {kept}", stored)
            yield from forms(site, NAMES["batch"], row)
    for count in range(1, x.ndim + 1):
        for axes in itertools.combinations(range(x.ndim), count):
            for along in range(x.ndim):
                if own.weight is not None and x.shape[along] != len(own.weight):
                    continue
                if (axes, along) == (_axes(x, own, "batch"), 1):
                    continue
                row = (
                    line,
                    f"statistics over the axes {axes}, scale along {along}",
                    lambda x, s, a=axes, c=along: _affine(_standard(x, a, s.eps), s, "batch", c),
                )
                yield from forms(site, NAMES["batch"], row)


batch_axis = Difference(
    code="BN-03",
    title="BatchNorm's axis",
    torch="nn.BatchNorm2d: channels on axis 1",
    jax="nn.BatchNorm: axis=-1, which of (N, C, H, W) is the width",
    fix_torch="x.movedim(-1, 1) before it",
    fix_jax="axis=1, or the image as (N, H, W, C)",
    kinds=BATCH,
    measure=_batch_axis,
    edits=_batch_axes,
    whats=EVERYTHING,
)


def _single() -> tuple[float, float]:
    import torch
    import torch.nn.functional as F

    x = normal(1, 3)
    mean, var = torch.zeros(3).double(), torch.ones(3).double()

    def ours(training: bool) -> Any:
        try:
            return F.batch_norm(x, mean, var, training=training)
        except ValueError:
            return torch.empty(0)

    def stored(a: Any) -> Any:
        import flax.linen as fnn

        module = fnn.BatchNorm(True, epsilon=1e-5, use_scale=False, use_bias=False)
        return module.apply({"batch_stats": {"mean": a[0] * 0, "var": a[0] * 0 + 1}}, a)

    return (
        gap(ours(True), _flax_norm("BatchNorm", x, epsilon=1e-5)),
        gap(ours(False), jax64(stored, x)),
    )


single = Difference(
    code="BN-04",
    title="BatchNorm of one value",
    torch="nn.BatchNorm1d in train mode: ValueError",
    jax="nn.BatchNorm: zeros, silently",
    fix_torch="model.eval()",
    fix_jax="use_running_average=True, or no batch of one",
    kinds="",  # PyTorch has no result to compare with
    measure=_single,
)


def _cumulative() -> tuple[float, float]:
    import jax.numpy as jnp
    from torch import nn

    ours = nn.BatchNorm1d(3, momentum=None).double()
    batches = [2 * normal(8, 3, seed=step) + 1 for step in range(4)]
    for batch in batches:
        ours(batch)
    _, wrong = _running(0.9)
    right = jax64(lambda *xs: jnp.stack([x.mean(0) for x in xs]).mean(0), *batches)
    return gap(ours.running_mean, wrong["mean"]), gap(ours.running_mean, right)


def _not_cumulative(site: Site) -> Iterator[Edit]:
    if (
        site.module
        and site.module.momentum is None
        and site.name.endswith(("running_mean", "running_var"))
    ):
        known = site.jax.get("momentum")
        for share in ([1 - known] if known is not None else []) + [0.1, 0.01, 0.9, 0.001]:
            for biased in (False, True):
                yield Edit(
                    "momentum = 1 - 1 / (batches + 1): the average over all batches",
                    f"momentum={share:g}" + (", and the biased variance" if biased else ""),
                    lambda m=share, b=biased: _statistic(site, m, b),
                )


cumulative = Difference(
    code="BN-05",
    title="BatchNorm's cumulative average",
    torch="nn.BatchNorm2d(momentum=None): the average over all batches",
    jax="nn.BatchNorm: no such option",
    fix_torch="momentum=0.01",
    fix_jax="momentum = 1 - 1 / (batches + 1), batch by batch",
    kinds=BATCH,
    measure=_cumulative,
    edits=_not_cumulative,
    whats=("buffer",),
)


def _mode() -> tuple[float, float]:
    import torch
    import torch.nn.functional as F

    x = 2 * normal(6, 3) + 1
    ours = F.batch_norm(x, torch.zeros(3).double(), torch.ones(3).double(), training=False)

    def theirs(stored: bool) -> Any:
        def run(a: Any) -> Any:
            import flax.linen as fnn

            module = fnn.BatchNorm(stored, epsilon=1e-5, use_scale=False, use_bias=False)
            state = {"batch_stats": {"mean": a[0] * 0, "var": a[0] * 0 + 1}}
            y = module.apply(state, a, mutable=[] if stored else ["batch_stats"])
            return y[0]

        return jax64(run, x)

    return gap(ours, theirs(False)), gap(ours, theirs(True))


def _other_mode(site: Site) -> Iterator[Edit]:
    import torch
    import torch.nn.functional as F

    own = settings(site, NAMES["batch"])
    if site.what == "buffer":
        if site.module is None:
            return
        if not site.module.training and site.module.momentum is not None:
            for biased in (False, True):
                yield Edit(
                    "use_running_average=True, in eval mode nothing is stored",
                    "train(): the buffers move",
                    lambda b=biased: _statistic(site, site.module.momentum, b),
                )
        return
    stored, batch = (
        lambda x, s: F.batch_norm(
            x, s.running_mean, s.running_var, s.weight, s.bias, False, 0.0, s.eps
        ),
        lambda x, s: F.batch_norm(x, None, None, s.weight, s.bias, True, 0.0, s.eps),
    )
    if own.training or own.running_mean is None:
        if own.running_mean is not None:
            yield Edit(
                "use_running_average=False",
                "module.eval()",
                layer(site, NAMES["batch"], stored),
            )

            def updated(x: Any, s: Any) -> Any:
                mean, var = s.running_mean.clone(), s.running_var.clone()
                with torch.no_grad():
                    F.batch_norm(x, mean, var, None, None, True, s.momentum, s.eps)
                return F.batch_norm(x, mean, var, s.weight, s.bias, False, 0.0, s.eps)

            yield Edit(
                "use_running_average=False",
                "the statistics updated first, then used",
                layer(site, NAMES["batch"], updated),
            )
        row = ("use_running_average=False", "no normalisation", lambda x, s: _affine(x, s, "batch"))
        yield from forms(site, NAMES["batch"], row)
    else:
        yield Edit(
            "use_running_average=True; nnx: model.eval()",
            "module.train()",
            layer(site, NAMES["batch"], batch),
        )

        def biased(x: Any, s: Any) -> Any:
            mean, scale = _channels(x, s.running_mean), _channels(x, s.running_var)
            return _affine((x - mean) / (scale + s.eps), s, "batch")

        row = ("(x - mean) / sqrt(var + eps)", "running_var taken for a deviation", biased)
        yield from forms(site, NAMES["batch"], row)


mode = Difference(
    code="BN-06",
    title="Which statistics BatchNorm uses",
    torch="module.train(), module.eval()",
    jax="use_running_average= in Linen; in nnx the batch's, until model.eval()",
    fix_torch="module.train()",
    fix_jax="use_running_average=True; nnx: model.eval()",
    kinds=BATCH,
    measure=_mode,
    edits=_other_mode,
    whats=("output", "gradient", "param", "buffer"),
)


def _far() -> Any:
    """Rows of two values far from zero: their mean is exact in float64, their squares are not."""
    import torch

    middle = 2.0**27 + torch.arange(1, 9, dtype=torch.float64)
    half = torch.arange(3, 11, dtype=torch.float64)
    return torch.stack([middle - half, middle + half], dim=1)


def _fast_batch() -> tuple[float, float]:
    """Of the variance itself: so far from zero PyTorch's output is rounded too."""
    import flax.linen as fnn
    import jax
    import torch
    import torch.nn.functional as F

    x = _far().T.contiguous()
    ours = torch.ones(8).double()
    F.batch_norm(x, torch.zeros(8).double(), ours, training=True, momentum=1.0)

    def theirs(fast: bool) -> Any:
        def run(a: Any) -> Any:
            module = fnn.BatchNorm(False, momentum=0.0, use_fast_variance=fast)
            state = module.init(jax.random.key(0), a)
            return module.apply(state, a, mutable=["batch_stats"])[1]["batch_stats"]["var"]

        return jax64(run, x)

    return gap(ours / 2, theirs(True)), gap(ours / 2, theirs(False))


fast_batch = Difference(
    code="BN-07",
    title="BatchNorm's fast variance",
    torch="nn.BatchNorm2d: the mean of squared deviations",
    jax="nn.BatchNorm(use_fast_variance=True): E[x^2] - E[x]^2, lost far from zero",
    fix_torch="(x**2).mean() - x.mean()**2",
    fix_jax="use_fast_variance=False",
    kinds="",  # what is lost is rounding: no two programs lose the same
    measure=_fast_batch,
)


def _kept() -> tuple[float, float]:
    import flax.linen as fnn
    import jax
    from torch import nn

    ours = nn.BatchNorm1d(3).double()
    x = 2 * normal(8, 3) + 1
    ours(x)

    def theirs(kept: bool) -> Any:
        def run(a: Any) -> Any:
            module = fnn.BatchNorm(False, momentum=0.9, param_dtype=float)
            old = module.init(jax.random.key(0), a)
            _, new = module.apply(old, a, mutable=["batch_stats"])
            return (new if kept else old)["batch_stats"]["mean"]

        return jax64(run, x)

    return gap(ours.running_mean, theirs(False)), gap(ours.running_mean, theirs(True))


def _dropped(site: Site) -> Iterator[Edit]:
    if site.module is not None and site.module.training:
        yield Edit(
            kept.fix_jax,
            kept.fix_torch,
            lambda: dict(site.module.named_buffers())[site.name].clone(),
        )


kept = Difference(
    code="BN-08",
    title="BatchNorm's new statistics are not kept",
    torch="nn.BatchNorm2d in train mode: updates its buffers itself",
    jax="apply(..., mutable=['batch_stats']) returns the new ones: dropped, the old ones stay",
    fix_torch="momentum=0.0",
    fix_jax="y, updated = model.apply(..., mutable=['batch_stats']); variables |= updated",
    kinds=BATCH,
    measure=_kept,
    edits=_dropped,
    whats=("buffer",),
)

# LayerNorm ------------------------------------------------------------------------------------


def _epsilon() -> tuple[float, float]:
    import torch.nn.functional as F

    x = 0.01 * normal(4, 8)
    ours = F.layer_norm(x, (8,))
    return (
        gap(ours, _flax_norm("LayerNorm", x)),
        gap(ours, _flax_norm("LayerNorm", x, epsilon=1e-5)),
    )


def _epsilons(site: Site) -> Iterator[Edit]:
    names = NAMES[_family(site)]
    own = settings(site, names).eps
    own = (2.0**-52 if "rms" in site.kind.lower() else 1e-5) if own is None else own
    known = [site.jax[name] for name in ("epsilon", "eps") if name in site.jax]
    for eps in dict.fromkeys((*known, *EPSILONS)):
        if eps != own:
            yield Edit(f"epsilon={own:g}", f"eps={eps:g}", retold(site, names, eps=eps))
    for eps in dict.fromkeys((own, *known, *EPSILONS)):
        if eps:
            row = ("eps inside the square root", f"std + {eps:g}", _beside(_family(site), eps))
            yield from forms(site, names, row)


def _beside(family: str, eps: float) -> Form:
    """The eps added to the deviation."""

    def form(x: Any, s: Any) -> Any:
        s.eps = eps
        if family == "batch" and not s.training:
            mean, var = _channels(x, s.running_mean), _channels(x, s.running_var)
            return _affine((x - mean) / (var.sqrt() + eps), s, family)
        return _normalised(x, s, family, outside=True)

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
    import torch.nn.functional as F

    x = normal(2, 4, 8)
    ours = F.layer_norm(x, (4, 8))
    both = {"reduction_axes": (-2, -1), "feature_axes": (-2, -1)}
    return (
        gap(ours, _flax_norm("LayerNorm", x, -1, epsilon=1e-5)),
        gap(ours, _flax_norm("LayerNorm", x, -1, epsilon=1e-5, **both)),
    )


def _other_layer_axes(site: Site) -> Iterator[Edit]:
    x, family = site.inputs[0], _family(site)
    own = _axes(x, settings(site, NAMES[family]), family)
    for count in range(1, x.ndim + 1):
        for axes in itertools.combinations(range(x.ndim), count):
            if axes != own:
                form: Form = lambda x, s, a=axes: _affine(  # noqa: E731
                    _standard(x, a, 2.0**-52 if s.eps is None else s.eps, centred=family != "rms"),
                    s,
                    family,
                )
                row = (f"reduction_axes={own}", f"the mean over the axes {axes}", form)
                yield from forms(site, NAMES[family], row)


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
    import torch.nn.functional as F

    x = _far()
    ours = F.layer_norm(x, (2,))
    return (
        gap(ours, _flax_norm("LayerNorm", x, epsilon=1e-5)),
        gap(ours, _flax_norm("LayerNorm", x, epsilon=1e-5, use_fast_variance=False)),
    )


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
    import jax.numpy as jnp

    x = normal(4, 8)
    ours = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)

    def theirs(ddof: int) -> Any:
        def run(a: Any) -> Any:
            spread = jnp.std(a, axis=-1, keepdims=True, ddof=ddof)
            return (a - a.mean(-1, keepdims=True)) / (spread + 1e-6)

        return jax64(run, x)

    return gap(ours, theirs(0)), gap(ours, theirs(1))


def _formulas(site: Site) -> Iterator[Edit]:
    family = _family(site)
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
            row = (right, what, lambda x, s, how=how: _normalised(x, s, family, **how))
            yield from forms(site, NAMES[family], row)


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

# GroupNorm, InstanceNorm, RMSNorm -------------------------------------------------------------


def _groups() -> tuple[float, float]:
    import torch.nn.functional as F

    x = normal(2, 64, 3, 3)
    ours = F.group_norm(x, 8)
    return (
        gap(ours, _flax_norm("GroupNorm", x, epsilon=1e-5)),
        gap(ours, _flax_norm("GroupNorm", x, epsilon=1e-5, num_groups=8)),
    )


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
    import torch.nn.functional as F

    x = normal(2, 6, 3, 3)
    ours = F.group_norm(x, 2)

    def theirs(shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
        def run(a: Any) -> Any:
            b = a.reshape(2, *shape, 3, 3)
            y = (b - b.mean(axes, keepdims=True)) / (b.var(axes, keepdims=True) + 1e-5) ** 0.5
            return y.reshape(2, 6, 3, 3)

        return jax64(run, x)

    return gap(ours, theirs((3, 2), (1, 3, 4))), gap(ours, theirs((2, 3), (2, 3, 4)))


def _other_members(site: Site) -> Iterator[Edit]:
    def mixed(x: Any, s: Any) -> Any:
        split = x.unflatten(1, (-1, s.num_groups))
        y = _standard(split, (1, *range(3, split.ndim)), s.eps)
        return _affine(y.flatten(1, 2), s, "group")

    line = "x.reshape(n, h, w, groups, -1): neighbouring channels, over all pixels"
    yield from forms(
        site,
        NAMES["group"],
        (line, "every num_groups-th channel in a group", mixed),
    )


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
    import torch
    import torch.nn.functional as F

    x = 2 * normal(2, 3, 4, 4) + 1
    mean, var = normal(3), normal(3) ** 2 + 0.5
    ours = F.instance_norm(x, mean, var, use_input_stats=False)
    right = jax64(
        lambda a, m, v: (a - m[:, None, None]) / (v[:, None, None] + 1e-5) ** 0.5,
        x,
        mean,
        torch.as_tensor(var),
    )
    return gap(ours, _flax_norm("InstanceNorm", x, epsilon=1e-5)), gap(ours, right)


def _instance_statistics(site: Site) -> Iterator[Edit]:
    yield from forms(
        site,
        NAMES["instance"],
        (
            "the stored mean and variance, as a BatchNorm in eval mode",
            "track_running_stats=False",
            lambda x, s: _normalised(x, s, "instance"),
        ),
        (
            "reduction_axes: the pixels of one image",
            "the statistics of the batch",
            lambda x, s: _affine(_standard(x, (0, *range(2, x.ndim)), s.eps), s, "instance"),
        ),
        (
            "reduction_axes: the pixels of one channel",
            "the statistics of all channels",
            lambda x, s: _affine(_standard(x, tuple(range(1, x.ndim)), s.eps), s, "instance"),
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
    import torch.nn.functional as F

    x = 1e-3 * normal(4, 8)
    ours = F.rms_norm(x, (8,))
    return (
        gap(ours, _flax_norm("RMSNorm", x)),
        gap(ours, _flax_norm("RMSNorm", x, epsilon=2.0**-52)),
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
    import flax.linen as fnn
    import torch.nn.functional as F

    x, w = normal(4, 8), normal(8)
    ours = F.rms_norm(x, (8,), w, 1e-6)
    module = fnn.RMSNorm()
    return (
        gap(ours, flax64(module, {"scale": 1 + w}, x)),
        gap(ours, flax64(module, {"scale": w}, x)),
    )


def _rms_scales(site: Site) -> Iterator[Edit]:
    family = _family(site)
    if settings(site, NAMES[family]).weight is None:
        return
    for jax, torch, change in (
        ("x * scale, not x * (1 + scale)", "weight + 1", lambda w: w + 1),
        ("x * (1 + scale), or weight itself as the scale", "weight - 1", lambda w: w - 1),
        ("x * scale", "weight**2", lambda w: w**2),
    ):

        def form(x: Any, s: Any, change: Any = change) -> Any:
            s.weight = change(s.weight)
            return _normalised(x, s, family)

        yield from forms(site, NAMES[family], (jax, torch, form))


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

# Weights that are normalised ------------------------------------------------------------------


def _spectral(u: Any, w: Any, update: bool) -> Any:
    """flax.linen.SpectralNorm's weight (out, in) from a stored u."""
    import flax.linen as fnn
    import jax
    import torch

    class Model(fnn.Module):
        @fnn.compact
        def __call__(self, x: Any, update_stats: bool) -> Any:
            dense = fnn.Dense(w.shape[0], use_bias=False, param_dtype=float)
            return fnn.SpectralNorm(dense)(x, update_stats=update_stats)

    def run(eye: Any, u: Any, kernel: Any) -> Any:
        model = Model()
        state = model.init(jax.random.key(0), eye, False)
        params = jax.tree.map(lambda _: kernel, state["params"])
        stats = {
            group: {name: u[None] if name.endswith("/u") else v for name, v in values.items()}
            for group, values in state["batch_stats"].items()
        }
        variables = {"params": params, "batch_stats": stats}
        return model.apply(variables, eye, update, mutable=["batch_stats"])[0].T

    return jax64(run, torch.eye(w.shape[1]).double(), u, w.T)


def _spectral_torch() -> tuple[Any, Any, Any, Any, Any]:
    """A spectrally normalised layer whose u, v have not converged, with w, u, v and sigma."""
    import torch
    from torch import nn

    w, u, v = normal(5, 4), normal(5), normal(4)
    linear: Any = nn.Linear(4, 5, bias=False).double()
    linear.weight.data.copy_(w)
    nn.utils.parametrizations.spectral_norm(linear)
    state: Any = linear.parametrizations.weight[0]
    u, v = u / u.norm(), v / v.norm()
    with torch.no_grad():
        state._u.copy_(u)
        state._v.copy_(v)
    return linear, w, u, v, state


def _own_spectral(w: Any, u: Any, v: Any, iterate: bool) -> Any:
    """PyTorch's spectral norm, written in JAX."""
    import jax.numpy as jnp

    def unit(z: Any) -> Any:
        return z / jnp.maximum(jnp.linalg.norm(z), 1e-12)

    def run(w: Any, u: Any, v: Any) -> Any:
        if iterate:
            u = unit(w @ v)
            v = unit(w.T @ u)
        return w / (u @ w @ v)

    return jax64(run, w, u, v)


def _spectral_state() -> tuple[float, float]:
    import torch
    from torch import nn

    w = normal(5, 4)  # iterated to the end: flax, which iterates once more, changes nothing
    linear: Any = nn.Linear(4, 5, bias=False).double()
    linear.weight.data.copy_(w)
    nn.utils.parametrizations.spectral_norm(linear, n_power_iterations=500)
    linear.eval()
    u = normal(5, seed=1)
    state: Any = linear.parametrizations.weight[0]
    with torch.no_grad():
        return (
            gap(linear.weight, _spectral(u / u.norm(), w, False)),
            gap(linear.weight, _spectral(state._u, w, False)),
        )


spectral_state = Difference(
    code="SN-01",
    title="SpectralNorm's first vectors",
    torch="parametrizations.spectral_norm: u and v, after 15 iterations at the start",
    jax="nn.SpectralNorm: u alone, random, no iteration at the start",
    fix_torch="_u and _v set to flax's",
    fix_jax="u of batch_stats set to PyTorch's _u",
    kinds="",  # a state, not a computation: copied with the weights
    measure=_spectral_state,
)


def _spectral_eval() -> tuple[float, float]:
    linear, w, u, v, _ = _spectral_torch()
    linear.eval()
    ours = linear.weight
    return gap(ours, _spectral(u, w, False)), gap(ours, _own_spectral(w, u, v, False))


spectral_eval = Difference(
    code="SN-02",
    title="SpectralNorm in eval mode",
    torch="parametrizations.spectral_norm: the stored u and v as they are",
    jax="nn.SpectralNorm(update_stats=False): iterates, and only does not store",
    fix_torch="module.train()",
    fix_jax="w / (u @ w @ v) with the stored u and v",
    kinds="",  # the layer is replayed with its weight as it came out
    measure=_spectral_eval,
)


def _spectral_order() -> tuple[float, float]:
    linear, w, u, v, _ = _spectral_torch()
    ours = linear.train().weight
    return gap(ours, _spectral(u, w, True)), gap(ours, _own_spectral(w, u, v, True))


spectral_order = Difference(
    code="SN-03",
    title="Order of SpectralNorm's half steps",
    torch="u = W v, then v = W.T u",
    jax="nn.SpectralNorm: v = W.T u, then u = W v",
    fix_torch="v from the stored u first",
    fix_jax="u = unit(w @ v), v = unit(w.T @ u), w / (u @ w @ v)",
    kinds="",  # the layer is replayed with its weight as it came out
    measure=_spectral_order,
)


def _weight_norm() -> tuple[float, float]:
    import flax.linen as fnn
    import jax
    import torch
    from torch import nn

    w, x = normal(5, 4), normal(3, 4)
    linear: Any = nn.Linear(4, 5, bias=False).double()
    linear.weight.data.copy_(w)
    ours = nn.utils.parametrizations.weight_norm(linear)(x)

    def theirs(scale: Any) -> Any:
        def run(x: Any, kernel: Any, scale: Any) -> Any:
            module = fnn.WeightNorm(fnn.Dense(5, use_bias=False, param_dtype=float), epsilon=0.0)
            state = module.init(jax.random.key(0), x)
            leaves = jax.tree.map(lambda a: kernel if a.ndim == 2 else scale, state)
            return module.apply(leaves, x)

        return jax64(run, x, w.T, scale)

    return gap(ours, theirs(torch.ones(5).double())), gap(ours, theirs(w.norm(dim=1)))


weight_norm = Difference(
    code="WN-01",
    title="WeightNorm's first scale",
    torch="parametrizations.weight_norm: g is the rows' norm, the output stays",
    jax="nn.WeightNorm: the scale starts as 1, the output changes",
    fix_torch="original0 set to 1",
    fix_jax="scale = the kernel's column norms, epsilon=0",
    kinds="",  # a parameter: copied with the weights
    measure=_weight_norm,
)


def _unit() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch.nn.functional as F
    from flax.linen.normalization import _l2_normalize

    x = 1e-7 * normal(3, 4)
    ours = F.normalize(x, dim=-1)

    def right(a: Any) -> Any:
        return a / jnp.maximum(jnp.linalg.norm(a, axis=-1, keepdims=True), 1e-12)

    return gap(ours, jax64(lambda a: _l2_normalize(a, axis=-1), x)), gap(ours, jax64(right, x))


def _units(site: Site) -> Iterator[Edit]:
    import torch

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
                yield from forms(
                    site,
                    "p dim eps",
                    (
                        line,
                        f"dim={axis}, p={power:g}",
                        lambda x, _, a=axis, p=power: x / norm(x, a, p).clamp(min=floor),
                    ),
                )
    whole: Form = lambda x, _: x / norm(x, tuple(range(x.ndim)))  # noqa: E731
    yield from forms(site, "p dim eps", (line, "the norm of the whole array", whole))


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
    import jax.numpy as jnp

    def run(a: Any) -> Any:
        square = jnp.pad(a**2, ((0, 0), (size // 2, (size - 1) // 2), (0, 0), (0, 0)))
        total = sum(square[:, i : i + a.shape[1]] for i in range(size))
        return a / (k + alpha * total) ** beta

    return jax64(run, x)


def _local_response() -> tuple[float, float]:
    import torch.nn.functional as F

    x = 3 * normal(1, 6, 2, 2)
    ours = F.local_response_norm(x, 5, alpha=1e-2)
    return gap(ours, _neighbours(x, 5, 1e-2, 0.75, 1.0)), gap(
        ours, _neighbours(x, 5, 1e-2 / 5, 0.75, 1.0)
    )


def _local_responses(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    names = "size alpha beta k"
    own = settings(site, names)
    size, alpha = own.size, 1e-4 if own.alpha is None else own.alpha
    beta, k = (0.75 if own.beta is None else own.beta), (1.0 if own.k is None else own.k)
    for factor, offset, power in itertools.product(
        (1, size, size**2, 1 / size), (k, 1.0, 2.0), (beta, 0.5, 0.75)
    ):
        if (factor, offset, power) != (1, k, beta):
            row = (
                "x / (k + alpha / size * the sum of squares) ** beta",
                f"alpha={alpha * factor:g}, k={offset:g}, beta={power:g}",
                lambda x, _, f=factor, o=offset, p=power: F.local_response_norm(
                    x, size, alpha * f, p, o
                ),
            )
            yield from forms(site, names, row)


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
    import flax.linen as fnn
    import torch.nn.functional as F

    x, w, b = normal(4, 8), normal(8), normal(8, seed=1)
    ours = F.layer_norm(x, (8,), w, b)
    right = flax64(fnn.LayerNorm(epsilon=1e-5), {"scale": w, "bias": b}, x)
    return gap(ours, _flax_norm("LayerNorm", x, epsilon=1e-5)), gap(ours, right)


def _other_scale(site: Site) -> Iterator[Edit]:
    names = NAMES[_family(site)]
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
