"""Losses of any kind, and of the error: reductions, factors, roots, another loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import gaps, jax64, normal
from compare.differences.shared.calls import after, before, option
from compare.differences.shared.frameworks import F, jnp, optax, torch
from compare.differences.shared.losses import (
    LOSSES,
    REDUCTIONS,
    WHATS,
    class_labels,
    cross_entropies,
    probabilities,
    reduced,
)
from compare.share import to_numpy, to_torch


def _half() -> tuple[float, float]:
    x, y = normal(4, 3), normal(4, 3, seed=1)
    naive = jax64(lambda a, b: optax.l2_loss(a, b).mean(), x, y)
    mended = jax64(lambda a, b: optax.squared_error(a, b).mean(), x, y)
    return gaps(F.mse_loss(x, y), naive, mended)


def _half_forms(site: Site) -> Iterator[Edit]:
    for factor, right in (
        (0.5, "optax.squared_error: optax.l2_loss is half of it"),
        (2.0, "optax.l2_loss: optax.squared_error is twice as much"),
    ):
        yield Edit(right, f"{factor:g} * loss", after(site, lambda v, f=factor: f * v))


half = Difference(
    code="LOSS-01",
    title="squared error: with a factor of 1/2 or without",
    torch="F.mse_loss: (x - y)^2",
    jax="optax.l2_loss: (x - y)^2 / 2",
    fix_torch="0.5 * F.mse_loss(x, y)",
    fix_jax="optax.squared_error(x, y).mean()",
    # before the reductions: in a batch of two, half a squared error is the likelier mistake
    kinds="loss|mse_loss|MSELoss|gaussian_nll_loss",
    measure=_half,
    edits=_half_forms,
    whats=WHATS,
)


def _reduction() -> tuple[float, float]:
    x, y = normal(6, 5), class_labels(6, classes=5)
    naive = jax64(lambda a, b: cross_entropies(a, b).sum(), x, y)
    mended = jax64(lambda a, b: cross_entropies(a, b).mean(), x, y)
    return gaps(F.cross_entropy(x, y), naive, mended)


def _factors(site: Site) -> Iterator[Edit]:
    sizes: dict[int, str] = {}
    for value in site.inputs:
        shape = tuple(getattr(value, "shape", ()))
        axes = [range(i, j) for i in range(len(shape)) for j in range(i + 1, len(shape) + 1)]
        # without the classes, which are axis 1 of PyTorch's logits
        axes += [[0, *range(2, len(shape))]] if len(shape) > 2 else []
        for group in axes:
            size = int(np.prod([shape[i] for i in group]))
            if size > 1:
                sizes.setdefault(size, "x".join(str(shape[i]) for i in group))
    for size, text in sizes.items():
        for factor, sign in ((float(size), "times"), (1.0 / size, "divided by")):
            yield Edit(
                f"the same reduction: JAX's is PyTorch's {sign} {text} elements (sum or mean?)",
                f"loss {'*' if factor > 1 else '/'} {size}",
                lambda f=factor: to_torch(np.asarray(site.ours * f)),
            )


reduction = Difference(
    code="LOSS-14",
    title="reduction: mean, sum, and over which axes",
    torch="F.cross_entropy, F.mse_loss, …: reduction='mean' over all elements or labels",
    jax="optax's losses return one value per example: the port sums or averages them",
    fix_torch="reduction='sum'",
    fix_jax="optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()",
    kinds=LOSSES,
    measure=_reduction,
    edits=_factors,
    whats=WHATS,
)


def _huber() -> tuple[float, float]:
    x, y = 3 * normal(4, 3), normal(4, 3, seed=1)
    naive = jax64(lambda a, b: optax.huber_loss(a, b, delta=0.5).mean(), x, y)
    mended = jax64(lambda a, b: optax.huber_loss(a, b, delta=0.5).mean() / 0.5, x, y)
    return gaps(F.smooth_l1_loss(x, y, beta=0.5), naive, mended)


def _log_cosh(d: Any) -> Any:
    return d.abs() + F.softplus(-2 * d.abs(), threshold=1e9) - float(np.log(2.0))


def _hubers(bounds: Iterable[float]) -> dict[str, Callable]:
    """Huber losses of a difference, element by element."""
    forms: dict[str, Callable] = {}
    for b in bounds:
        forms[f"F.huber_loss(delta={b:g})"] = lambda d, b=b: F.huber_loss(
            d, torch.zeros_like(d), delta=b, reduction="none"
        )
        forms[f"F.smooth_l1_loss(beta={b:g})"] = lambda d, b=b: F.smooth_l1_loss(
            d, torch.zeros_like(d), beta=b, reduction="none"
        )
    return forms


def _huber_forms(site: Site) -> Iterator[Edit]:
    smooth = "smooth" in site.kind.lower()
    own = option(site, "beta", 5, 1.0) if smooth else option(site, "delta", 3, 1.0)
    reduce = reduced(site, 4 if smooth else 2)
    right = f"optax.huber_loss(x, y, delta={own:g})" + (f" / {own:g}" if smooth else "")
    bounds = dict.fromkeys((own, 1.0, 0.5, 0.1, 2.0, 1 / 9, 0.01))
    for text, form in _hubers(bounds).items():
        yield Edit(right, text, site.replaced(lambda x, y, *_, f=form: reduce(f(x - y))))


huber = Difference(
    code="LOSS-10",
    title="Huber loss against smooth L1: delta and beta",
    torch="F.smooth_l1_loss(beta) is F.huber_loss(delta) / delta; both are 1 by default",
    jax="optax.huber_loss(delta=1.0): there is no smooth L1",
    fix_torch="F.huber_loss(x, y, delta=beta)",
    fix_jax="optax.huber_loss(x, y, delta=beta) / beta",
    kinds="smooth_l1_loss|SmoothL1Loss|huber_loss|HuberLoss",
    measure=_huber,
    edits=_huber_forms,
    whats=WHATS,
)


def _regression() -> tuple[float, float]:
    x, y = normal(4, 3), normal(4, 3, seed=1)
    naive = jax64(lambda a, b: optax.log_cosh(a, b).mean(), x, y)
    mended = jax64(lambda a, b: abs(a - b).mean(), x, y)
    return gaps(F.l1_loss(x, y), naive, mended)


def _regression_forms(site: Site) -> Iterator[Edit]:
    forms: dict[str, Callable] = {
        "the squared error": lambda d: d * d,
        "half the squared error": lambda d: 0.5 * d * d,
        "the absolute error": torch.abs,
        "the logarithm of the cosh": _log_cosh,
        **_hubers([1.0]),
    }
    rooted: dict[str, Callable] = {
        "root of the mean": lambda v: v.mean().sqrt(),
        "root of the sum": lambda v: v.sum().sqrt(),
        "root of each example's sum, then mean": lambda v: v.flatten(1).sum(1).sqrt().mean(),
    }

    def of(form: Callable, reduce: Callable) -> Callable[[], Any]:
        return site.replaced(lambda x, y, *_: reduce(form(x - y)))

    for text, form in forms.items():
        own = (to_numpy(of(form, REDUCTIONS[how])()) for how in ("mean", "sum"))
        same = any(np.allclose(value, site.ours, 1e-9, 0) for value in own)
        # the same loss, reduced otherwise, is not another
        for how, reduce in (rooted if same else REDUCTIONS | rooted).items():
            yield Edit("the loss of PyTorch's side", f"{text}: {how}", of(form, reduce))


regression = Difference(
    code="LOSS-12",
    title="another loss of the error",
    torch="F.l1_loss, F.mse_loss",
    jax="optax.squared_error, optax.log_cosh, optax.huber_loss look alike in a port",
    fix_torch="the loss that JAX's side calls",
    fix_jax="the loss that PyTorch's side calls: jnp.abs(x - y).mean() for F.l1_loss",
    kinds="loss|mse_loss|MSELoss|l1_loss|L1Loss|smooth_l1_loss|SmoothL1Loss|huber_loss|HuberLoss",
    measure=_regression,
    edits=_regression_forms,
    whats=WHATS,
)


def _rooted() -> tuple[float, float]:
    x, y = normal(4, 3), normal(4, 3, seed=1)
    naive = jax64(lambda a, b: ((a - b) ** 2).mean(), x, y)
    mended = jax64(lambda a, b: jnp.sqrt(((a - b) ** 2).mean()), x, y)
    return gaps(torch.sqrt(F.mse_loss(x, y)), naive, mended)


def _rooted_forms(site: Site) -> Iterator[Edit]:
    yield Edit("jnp.sqrt(loss)", "loss ** 2", after(site, lambda v: v * v))
    yield Edit("the loss without its root", "loss.sqrt()", after(site, torch.sqrt))
    for eps in (1e-12, 1e-8, 1e-6, 1e-5):
        yield Edit(
            "the loss without eps in its root",
            f"(loss ** 2 + {eps:g}).sqrt()",
            after(site, lambda v, e=eps: (v * v + e).sqrt()),
        )
    yield Edit("the loss itself, not its logarithm", "loss.log()", after(site, torch.log))
    yield Edit("jnp.log(loss)", "loss.exp()", after(site, torch.exp))
    yield Edit("the loss with the other sign", "-loss", after(site, torch.neg))
    yield Edit("1 - the value", "1 - loss", after(site, lambda v: 1 - v))


rooted = Difference(
    code="LOSS-11",
    title="a root, a logarithm or a sign that is missing",
    torch="a root mean square is torch.sqrt(F.mse_loss(x, y))",
    jax="jnp.sqrt(optax.squared_error(x, y).mean()), with the root forgotten",
    fix_torch="leave the root out",
    fix_jax="jnp.sqrt(optax.squared_error(x, y).mean())",
    kinds=LOSSES,
    measure=_rooted,
    edits=_rooted_forms,
    whats=WHATS,
)


def _broadcast() -> tuple[float, float]:
    x, y = normal(5, 1), normal(5, seed=1)
    naive = jax64(lambda a, b: ((a - b) ** 2).mean(), x, y)
    mended = jax64(lambda a, b: ((a[:, 0] - b) ** 2).mean(), x, y)
    return gaps(F.mse_loss(x[:, 0], y), naive, mended)


def _broadcast_forms(site: Site) -> Iterator[Edit]:
    reduce = reduced(site)
    names = {"mse": lambda d: d * d, "l1": lambda d: d.abs()}
    for name, form in names.items():
        yield Edit(
            "targets of the shape of the outputs: (N,) and (N, 1) broadcast to (N, N)",
            f"{name}: x.reshape(-1, 1) - y.reshape(1, -1)",
            site.replaced(lambda x, y, *_, f=form: reduce(f(x.reshape(-1, 1) - y.reshape(1, -1)))),
        )
        yield Edit(
            "(N,) and (N, 1) broadcast to (N, N), as PyTorch's side does with a warning",
            f"{name}: x.reshape(-1) - y.reshape(-1)",
            site.replaced(lambda x, y, *_, f=form: reduce(f(x.reshape(-1) - y.reshape(-1)))),
        )


broadcast = Difference(
    code="LOSS-13",
    title="outputs (N, 1) against targets (N,)",
    torch="F.mse_loss: broadcast to (N, N), with a warning",
    jax="optax raises; (x - y) ** 2 is broadcast without a word",
    fix_torch="y.unsqueeze(1)",
    fix_jax="x[:, 0] - y",
    kinds="loss|mse_loss|MSELoss|l1_loss|L1Loss",
    measure=_broadcast,
    edits=_broadcast_forms,
    whats=WHATS,
)


def _swapped() -> tuple[float, float]:
    x, y = normal(6, 5), probabilities(6, 5, seed=1)
    naive = jax64(lambda a, b: optax.softmax_cross_entropy(b, a).mean(), x, y)
    mended = jax64(lambda a, b: optax.softmax_cross_entropy(a, b).mean(), x, y)
    return gaps(F.cross_entropy(x, y), naive, mended)


def _swapped_forms(site: Site) -> Iterator[Edit]:
    yield Edit(
        "outputs first, targets second",
        "the loss with its first two arguments swapped",
        _exchanged(site),
    )
    yield Edit("the outputs' sign", "the loss of -x", before(site, lambda x: -x))
    for factor in (0.5, 2.0, 255.0, 1 / 255):
        yield Edit(
            "the outputs as they are",
            f"the loss of {factor:g} * x",
            before(site, lambda x, f=factor: f * x),
        )


def _exchanged(site: Site) -> Callable[[], Any]:
    function: Any = site.module if site.module is not None else site.function
    given = {} if site.module is not None else site.kwargs

    def call(*inputs):
        more = () if site.module is not None else site.args[2:]
        return function(inputs[1], inputs[0], *more, **given)

    return site.replaced(call)


swapped = Difference(
    code="LOSS-24",
    title="outputs and targets swapped, negated or scaled",
    torch="loss(input, target)",
    jax="optax's losses: (predictions, targets) as well; scikit-learn and Keras have (y, x)",
    fix_torch="loss(target, input)",
    fix_jax="outputs first, targets second",
    kinds=LOSSES,
    measure=_swapped,
    edits=_swapped_forms,
    whats=WHATS,
)
