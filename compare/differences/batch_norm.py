"""Batch normalisation: running statistics, the mode and the axis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import gap, gaps, jax64, normal
from compare.differences.shared.frameworks import F, fnn, jax, jnp, nn, torch
from compare.differences.shared.layers import EVERYTHING, layer, settings
from compare.differences.shared.norms import (
    BATCH,
    NAMES,
    affine,
    axes_of,
    channels,
    far,
    flax_norm,
    standard,
)


def _running(momentum: float, unbiased: bool = False, steps: int = 4) -> tuple[Any, Any]:
    """PyTorch's running mean and variance after some steps, and flax's with this momentum."""
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
    return gaps(ours.running_mean, wrong["mean"], right["mean"])


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
    return gaps(ours.running_var, wrong["var"], right["var"])


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
    x = normal(4, 3, 3, 3)
    naive = flax_norm("BatchNorm", x, -1, epsilon=1e-5)
    mended = flax_norm("BatchNorm", x, epsilon=1e-5)
    return gaps(F.batch_norm(x, None, None, training=True), naive, mended)


def _batch_axes(site: Site) -> Iterator[Edit]:
    x, own = site.inputs[0], settings(site, NAMES["batch"])
    line = "axis=1, or the image as (N, H, W, C)"
    for kept in range(x.ndim):
        if kept != 1 and own.running_mean is not None and x.shape[kept] == len(own.running_mean):

            def stored(x: Any, s: Any, a: int = kept) -> Any:
                mean, var = channels(x, s.running_mean, a), channels(x, s.running_var, a)
                return affine((x - mean) / (var + s.eps).sqrt(), s, "batch", a)

            yield Edit(
                line,
                f"the stored statistics along axis {kept}",
                layer(site, NAMES["batch"], stored),
            )
    for count in range(1, x.ndim + 1):
        for axes in itertools.combinations(range(x.ndim), count):
            for along in range(x.ndim):
                if own.weight is not None and x.shape[along] != len(own.weight):
                    continue
                if (axes, along) == (axes_of(x, own, "batch"), 1):
                    continue
                yield Edit(
                    line,
                    f"statistics over the axes {axes}, scale along {along}",
                    layer(
                        site,
                        NAMES["batch"],
                        lambda x, s, a=axes, c=along: affine(standard(x, a, s.eps), s, "batch", c),
                    ),
                )


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


def _by_flax(x: Any, stored: bool) -> Any:
    """flax's layer with a stored mean of 0 and a variance of 1, or with the batch's."""

    def run(a: Any) -> Any:
        module = fnn.BatchNorm(stored, epsilon=1e-5, use_scale=False, use_bias=False)
        state = {"batch_stats": {"mean": a[0] * 0, "var": a[0] * 0 + 1}}
        return module.apply(state, a, mutable=[] if stored else ["batch_stats"])[0]

    return jax64(run, x)


def _by_torch(x: Any, training: bool) -> Any:
    mean, var = torch.zeros(3).double(), torch.ones(3).double()
    return F.batch_norm(x, mean, var, training=training)


def _single() -> tuple[float, float]:
    x = normal(1, 3)
    try:
        ours = _by_torch(x, training=True)
    except ValueError:
        ours = torch.empty(0)
    return gap(ours, _by_flax(x, False)), gap(_by_torch(x, training=False), _by_flax(x, True))


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
    ours = nn.BatchNorm1d(3, momentum=None).double()
    batches = [2 * normal(8, 3, seed=step) + 1 for step in range(4)]
    for batch in batches:
        ours(batch)
    _, wrong = _running(0.9)
    right = jax64(lambda *xs: jnp.stack([x.mean(0) for x in xs]).mean(0), *batches)
    return gaps(ours.running_mean, wrong["mean"], right)


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
    x = 2 * normal(6, 3) + 1
    return gaps(_by_torch(x, training=False), _by_flax(x, False), _by_flax(x, True))


def _other_mode(site: Site) -> Iterator[Edit]:
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
                "use_running_average=False", "module.eval()", layer(site, NAMES["batch"], stored)
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
        yield Edit(
            "use_running_average=False",
            "no normalisation",
            layer(site, NAMES["batch"], lambda x, s: affine(x, s, "batch")),
        )
    else:
        yield Edit(
            "use_running_average=True; nnx: model.eval()",
            "module.train()",
            layer(site, NAMES["batch"], batch),
        )

        def biased(x: Any, s: Any) -> Any:
            mean, scale = channels(x, s.running_mean), channels(x, s.running_var)
            return affine((x - mean) / (scale + s.eps), s, "batch")

        yield Edit(
            "(x - mean) / sqrt(var + eps)",
            "running_var taken for a deviation",
            layer(site, NAMES["batch"], biased),
        )


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


def _fast_batch() -> tuple[float, float]:
    """Of the variance itself: so far from zero PyTorch's output is rounded too."""
    x = far().T.contiguous()
    ours = torch.ones(8).double()
    F.batch_norm(x, torch.zeros(8).double(), ours, training=True, momentum=1.0)

    def theirs(fast: bool) -> Any:
        def run(a: Any) -> Any:
            module = fnn.BatchNorm(False, momentum=0.0, use_fast_variance=fast)
            state = module.init(jax.random.key(0), a)
            return module.apply(state, a, mutable=["batch_stats"])[1]["batch_stats"]["var"]

        return jax64(run, x)

    return gaps(ours / 2, theirs(True), theirs(False))


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

    return gaps(ours.running_mean, theirs(False), theirs(True))


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
