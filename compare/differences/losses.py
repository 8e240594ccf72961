"""Losses: reductions, arguments and the small constants inside."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from compare.differences.calls import after, before, option
from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import gap, jax64, normal
from compare.share import to_numpy, to_torch
from compare.twin import generator

LOSSES = (
    "loss|.*_loss|.*Loss|cross_entropy|kl_div|binary_cross_entropy|"
    "binary_cross_entropy_with_logits|cosine_similarity|CosineSimilarity"
)
WHATS = ("output", "loss", "gradient")


def _labels(*shape: int, classes: int) -> Any:
    import torch

    return torch.from_numpy(generator(1, "labels", *shape).integers(0, classes, shape))


def _probabilities(*shape: int, seed: int = 0) -> Any:
    import torch

    return torch.softmax(normal(*shape, seed=seed), -1)


def _cross_entropies(logits: Any, labels: Any) -> Any:
    """optax's cross entropy of each example."""
    import optax

    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def _half() -> tuple[float, float]:
    import optax
    import torch.nn.functional as F

    x, y = normal(4, 3), normal(4, 3, seed=1)
    ours = F.mse_loss(x, y)
    return (
        gap(ours, jax64(lambda a, b: optax.l2_loss(a, b).mean(), x, y)),
        gap(ours, jax64(lambda a, b: optax.squared_error(a, b).mean(), x, y)),
    )


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


# Cross entropy with labels.


def _given(site: Site) -> dict[str, Any]:
    """The options of a cross entropy or a negative log-likelihood."""
    smoothing = {} if "nll" in site.kind.lower() else {"label_smoothing": 0.0}
    places = {"weight": 2, "ignore_index": 4, "reduction": 6, "label_smoothing": 7}
    defaults = {"weight": None, "ignore_index": -100, "reduction": "mean", **smoothing}
    return {name: option(site, name, places[name], value) for name, value in defaults.items()}


def _of_labels(site: Site, **changes: Any) -> Callable[[], Any]:
    """The same loss with other options."""
    import torch.nn.functional as F

    function: Any = F.nll_loss if "nll" in site.kind.lower() else F.cross_entropy
    given = {**_given(site), **changes}
    return site.replaced(lambda x, y, *_: function(x, y, **given))


def _ignored() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch.nn.functional as F

    x, y = normal(6, 5), _labels(6, classes=5)
    y[2] = -100

    def masked(logits, labels, valid_only):
        mask = labels != -100
        values = jnp.where(mask, _cross_entropies(logits, jnp.where(mask, labels, 0)), 0)
        return values.sum() / mask.sum() if valid_only else values.mean()

    ours = F.cross_entropy(x, y)
    return (
        gap(ours, jax64(lambda a, b: masked(a, b, False), x, y)),
        gap(ours, jax64(lambda a, b: masked(a, b, True), x, y)),
    )


def _ignored_forms(site: Site) -> Iterator[Edit]:
    ignore = _given(site)["ignore_index"]
    if not (site.inputs[1] == ignore).any():
        return
    right = f"jnp.where(labels != {ignore}, l, 0).sum() / (labels != {ignore}).sum()"
    total = _of_labels(site, reduction="sum")
    count = site.inputs[1].numel()
    yield Edit(right, "reduction='sum', divided by all labels", lambda: total() / count)
    yield Edit(right, "ignore_index=-100", _of_labels(site, ignore_index=-100))
    yield Edit(
        f"mask the label {ignore}: optax makes the loss NaN", "", lambda: total() * float("nan")
    )
    for floor in (0, -1):
        label = 0 if floor == 0 else site.inputs[0].shape[1] - 1
        moved = _with_label(site, ignore, label)
        yield Edit(right, f"label {ignore} read as {label}", moved)


def _with_label(site: Site, old: int, new: int) -> Callable[[], Any]:
    import torch
    import torch.nn.functional as F

    function: Any = F.nll_loss if "nll" in site.kind.lower() else F.cross_entropy
    given = {**_given(site), "ignore_index": -100 if old != -100 else -101}
    return site.replaced(
        lambda x, y, *_: function(x, torch.where(y == old, new, y), **given),
    )


ignore_index = Difference(
    code="LOSS-02",
    title="labels that are ignored",
    torch="F.cross_entropy(ignore_index=-100): the mean over the other labels",
    jax="optax gives NaN for the label -100; masked and averaged, it divides by all labels",
    fix_torch="reduction='sum', divided by the number of all labels",
    fix_jax="jnp.where(labels != -100, l, 0).sum() / (labels != -100).sum()",
    kinds="cross_entropy|CrossEntropyLoss|nll_loss|NLLLoss2?d?",
    measure=_ignored,
    edits=_ignored_forms,
    whats=WHATS,
)


def _weights() -> tuple[float, float]:
    import torch.nn.functional as F

    x, y, w = normal(6, 5), _labels(6, classes=5), 0.5 + normal(5).abs()
    ours = F.cross_entropy(x, y, weight=w)

    def weighted(a, b, c, by_weight):
        values = _cross_entropies(a, b) * c[b]
        return values.sum() / c[b].sum() if by_weight else values.mean()

    return (
        gap(ours, jax64(lambda a, b, c: weighted(a, b, c, False), x, y, w)),
        gap(ours, jax64(lambda a, b, c: weighted(a, b, c, True), x, y, w)),
    )


def _weight_forms(site: Site) -> Iterator[Edit]:
    given = _given(site)
    if given["weight"] is None:
        return
    right = "(l * w[labels]).sum() / w[labels].sum()"
    total, weight = _of_labels(site, reduction="sum"), given["weight"]
    valid = int((site.inputs[1] != given["ignore_index"]).sum())
    yield Edit(right, "reduction='sum', divided by the labels", lambda: total() / valid)
    yield Edit(right, "weight=None", _of_labels(site, weight=None))
    yield Edit(right, "reduction='sum'", total)
    yield Edit(
        right, "reduction='sum', divided by weight.sum()", lambda: total() / float(weight.sum())
    )
    squared = _of_labels(site, weight=weight * weight, reduction="sum")
    right_once = "the weights once"
    norm = float(weight[site.inputs[1].clamp(0)].sum())
    yield Edit(right_once, "weight=weight ** 2", lambda: squared() / norm)


class_weights = Difference(
    code="LOSS-03",
    title="class weights: what the mean divides by",
    torch="F.cross_entropy(weight=w): divides by the sum of the labels' weights",
    jax="(l * w[labels]).mean() divides by the number of labels",
    fix_torch="reduction='sum', divided by the number of labels",
    fix_jax="(l * w[labels]).sum() / w[labels].sum()",
    kinds="cross_entropy|CrossEntropyLoss|nll_loss|NLLLoss2?d?",
    measure=_weights,
    edits=_weight_forms,
    whats=WHATS,
)


def _smoothing() -> tuple[float, float]:
    import jax
    import optax
    import torch.nn.functional as F

    x, y = normal(6, 5), _labels(6, classes=5)
    ours = F.cross_entropy(x, y, label_smoothing=0.1)

    def smoothed(logits, labels, alpha):
        one_hot = jax.nn.one_hot(labels, 5, dtype=logits.dtype)
        return optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, alpha)).mean()

    return (
        gap(ours, jax64(lambda a, b: smoothed(a, b, 0.0), x, y)),
        gap(ours, jax64(lambda a, b: smoothed(a, b, 0.1), x, y)),
    )


def _smoothing_forms(site: Site) -> Iterator[Edit]:
    given = _given(site)
    own, classes = given["label_smoothing"], site.inputs[0].shape[min(1, site.inputs[0].ndim - 1)]
    right = f"optax.smooth_labels(one_hot, {own:g})" if own else "labels without smoothing"
    for value in dict.fromkeys((own, 0.0, 0.05, 0.1, 0.2, 0.3)):
        # the rest spread over the other classes alone
        spread = value * classes / (classes - 1) if classes > 1 else value
        for used, text in ((value, f"{value:g}"), (spread, f"{value:g} * classes / (classes - 1)")):
            if used != own:
                yield Edit(right, f"label_smoothing={text}", _of_labels(site, label_smoothing=used))


smoothing = Difference(
    code="LOSS-04",
    title="label smoothing: how much, and over which classes",
    torch="F.cross_entropy(label_smoothing=e): (1 - e) one_hot + e / K",
    jax="optax.smooth_labels likewise; some spread e over the K - 1 others",
    fix_torch="label_smoothing=0.0",
    fix_jax="optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, 0.1))",
    kinds="cross_entropy|CrossEntropyLoss",
    measure=_smoothing,
    edits=_smoothing_forms,
    whats=WHATS,
)


def _smoothed_weights() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import optax
    import torch.nn.functional as F

    x, y, w = normal(6, 5), _labels(6, classes=5), 0.5 + normal(5).abs()
    ours = F.cross_entropy(x, y, weight=w, label_smoothing=0.1)

    def by_example(a, b, c):
        one_hot = jax.nn.one_hot(b, 5, dtype=a.dtype)
        values = optax.softmax_cross_entropy(a, optax.smooth_labels(one_hot, 0.1))
        return (values * c[b]).sum() / c[b].sum()

    def by_class(a, b, c):
        logs = jax.nn.log_softmax(a)
        one_hot = optax.smooth_labels(jax.nn.one_hot(b, 5, dtype=a.dtype), 0.1)
        return -jnp.sum(one_hot * c * logs) / c[b].sum()

    return gap(ours, jax64(by_example, x, y, w)), gap(ours, jax64(by_class, x, y, w))


def _smoothed_weight_forms(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    given = _given(site)
    e, w = given["label_smoothing"], given["weight"]
    if not e or w is None:
        return

    def by_example(x, y, *_):
        values = F.cross_entropy(x, y, label_smoothing=e, reduction="none")
        return (values * w[y]).sum() / w[y].sum()

    def by_example_mean(x, y, *_):
        return (F.cross_entropy(x, y, label_smoothing=e, reduction="none") * w[y]).mean()

    right = "-jnp.sum(optax.smooth_labels(one_hot, e) * w * log_softmax) / w[labels].sum()"
    yield Edit(right, "(l * w[labels]).sum() / w[labels].sum()", site.replaced(by_example))
    yield Edit(right, "(l * w[labels]).mean()", site.replaced(by_example_mean))


smoothed_weights = Difference(
    code="LOSS-05",
    title="label smoothing together with class weights",
    torch="F.cross_entropy: each class of the smoothed label has its own weight",
    jax="(l * w[labels]): the label's weight for all of them",
    fix_torch="(F.cross_entropy(…, reduction='none') * w[y]).sum() / w[y].sum()",
    fix_jax="-jnp.sum(optax.smooth_labels(one_hot, e) * w * log_softmax) / w[labels].sum()",
    kinds="cross_entropy|CrossEntropyLoss",
    measure=_smoothed_weights,
    edits=_smoothed_weight_forms,
    whats=WHATS,
)


def _probable() -> tuple[float, float]:
    import jax
    import torch.nn.functional as F

    x, y = normal(6, 5), _labels(6, classes=5)
    ours = F.cross_entropy(x, y)
    return (
        gap(ours, jax64(lambda a, b: _cross_entropies(jax.nn.softmax(a), b).mean(), x, y)),
        gap(ours, jax64(lambda a, b: _cross_entropies(a, b).mean(), x, y)),
    )


def _probable_forms(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    given = _given(site)
    plain = {k: given[k] for k in ("weight", "ignore_index", "reduction")}
    logits = "nll" not in site.kind.lower()

    def nll(x, y):
        return F.nll_loss(x, y, **plain)

    def probabilities(x):
        return F.softmax(x, 1) if logits else x.exp()

    forms: dict[str, Callable] = {
        "F.cross_entropy(F.softmax(x, 1), y)": lambda x, y: F.cross_entropy(
            probabilities(x), y, **plain
        ),
        "F.nll_loss(F.softmax(x, 1), y)": lambda x, y: nll(probabilities(x), y),
        "F.nll_loss(F.log_softmax(x, 1), y)": lambda x, y: nll(F.log_softmax(x, 1), y),
        "F.nll_loss(x, y)": nll,
        "F.cross_entropy(F.relu(x), y)": lambda x, y: F.cross_entropy(F.relu(x), y, **plain),
        "F.cross_entropy(x.sigmoid(), y)": lambda x, y: F.cross_entropy(x.sigmoid(), y, **plain),
        "F.nll_loss(F.logsigmoid(x), y)": lambda x, y: nll(F.logsigmoid(x), y),
    }
    for eps in (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5):
        forms[f"F.nll_loss((p + {eps:g}).log(), y)"] = lambda x, y, e=eps: nll(
            (probabilities(x) + e).log(), y
        )
        forms[f"F.nll_loss(p.clamp({eps:g}, 1 - {eps:g}).log(), y)"] = lambda x, y, e=eps: nll(
            probabilities(x).clamp(e, 1 - e).log(), y
        )
    right = (
        "optax.softmax_cross_entropy_with_integer_labels of the logits themselves"
        if logits
        else "-jnp.take_along_axis(log_probabilities, labels[:, None], 1).mean()"
    )
    for text, form in forms.items():
        yield Edit(right, text, site.replaced(lambda x, y, *_, f=form: f(x, y)))


probable = Difference(
    code="LOSS-06",
    title="logits, probabilities or their logarithms",
    torch="F.cross_entropy: logits; F.nll_loss: log-probabilities",
    jax="optax.softmax_cross_entropy: logits; a model that ends in softmax gives it twice",
    fix_torch="F.cross_entropy(F.softmax(x, 1), y)",
    fix_jax="hand the logits over, without a softmax",
    kinds="cross_entropy|CrossEntropyLoss|nll_loss|NLLLoss2?d?",
    measure=_probable,
    edits=_probable_forms,
    whats=WHATS,
)


def _infinite() -> tuple[float, float]:
    import jax
    import optax
    import torch.nn.functional as F

    x, y = normal(4, 5), _labels(4, classes=3)
    x[:, 4] = float("-inf")

    def one_hot(loss):
        return lambda a, b: loss(a, jax.nn.one_hot(b, 5, dtype=a.dtype)).mean()

    ours = F.cross_entropy(x, y)
    return (
        gap(ours, jax64(one_hot(optax.softmax_cross_entropy), x, y)),
        gap(ours, jax64(one_hot(optax.safe_softmax_cross_entropy), x, y)),
    )


def _infinite_forms(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    plain = {k: v for k, v in _given(site).items() if k == "reduction"}

    def one_hot(x, y, *_):
        return F.cross_entropy(x, F.one_hot(y, x.shape[1]).to(x.dtype), **plain)

    yield Edit(
        "integer labels, or optax.safe_softmax_cross_entropy",
        "F.cross_entropy(x, F.one_hot(y).double())",
        site.replaced(one_hot),
    )


infinite = Difference(
    code="LOSS-07",
    title="logits of -inf and one-hot labels",
    torch="F.cross_entropy with integer labels: finite",
    jax="optax.softmax_cross_entropy: 0 times -inf is NaN",
    fix_torch="F.cross_entropy with one-hot labels, which is NaN as well",
    fix_jax="integer labels, or optax.safe_softmax_cross_entropy",
    kinds="cross_entropy|CrossEntropyLoss",
    measure=_infinite,
    edits=_infinite_forms,
    whats=WHATS,
)


def _class_axis() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch.nn.functional as F

    x, y = normal(2, 4, 4), _labels(2, 4, classes=4)
    ours = F.cross_entropy(x, y)
    return (
        gap(ours, jax64(lambda a, b: _cross_entropies(a, b).mean(), x, y)),
        gap(ours, jax64(lambda a, b: _cross_entropies(jnp.moveaxis(a, 1, -1), b).mean(), x, y)),
    )


def _class_axis_forms(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    given = _given(site)
    for axis in range(2, site.inputs[0].ndim):
        yield Edit(
            "classes on the last axis: jnp.moveaxis(logits, 1, -1)",
            f"F.cross_entropy(x.movedim({axis}, 1), y)",
            site.replaced(lambda x, y, *_, a=axis: F.cross_entropy(x.movedim(a, 1), y, **given)),
        )
    yield Edit(
        "the classes' axis as PyTorch has it",
        "F.cross_entropy(x.T, y)",
        site.replaced(lambda x, y, *_: F.cross_entropy(x.transpose(0, 1), y, **given)),
    )


class_axis = Difference(
    code="LOSS-08",
    title="the classes' axis",
    torch="F.cross_entropy: axis 1",
    jax="optax: the last axis",
    fix_torch="F.cross_entropy(x.movedim(-1, 1), y)",
    fix_jax="jnp.moveaxis(logits, 1, -1)",
    kinds="cross_entropy|CrossEntropyLoss",
    measure=_class_axis,
    edits=_class_axis_forms,
    whats=WHATS,
)


# A mean, a sum, and what they divide by.


def _reduction() -> tuple[float, float]:
    import torch.nn.functional as F

    x, y = normal(6, 5), _labels(6, classes=5)
    ours = F.cross_entropy(x, y)
    return (
        gap(ours, jax64(lambda a, b: _cross_entropies(a, b).sum(), x, y)),
        gap(ours, jax64(lambda a, b: _cross_entropies(a, b).mean(), x, y)),
    )


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


# Regression.


def _huber() -> tuple[float, float]:
    import optax
    import torch.nn.functional as F

    x, y = 3 * normal(4, 3), normal(4, 3, seed=1)
    ours = F.smooth_l1_loss(x, y, beta=0.5)
    return (
        gap(ours, jax64(lambda a, b: optax.huber_loss(a, b, delta=0.5).mean(), x, y)),
        gap(ours, jax64(lambda a, b: optax.huber_loss(a, b, delta=0.5).mean() / 0.5, x, y)),
    )


def _reduced(site: Site, position: int = 4) -> Callable[[Any], Any]:
    """The reduction that PyTorch's call asks for."""
    how = option(site, "reduction", position, "mean")
    return {"sum": lambda v: v.sum(), "none": lambda v: v}.get(how, lambda v: v.mean())


def _log_cosh(d: Any) -> Any:
    import torch.nn.functional as F

    return d.abs() + F.softplus(-2 * d.abs(), threshold=1e9) - float(np.log(2.0))


def _hubers(bounds: Iterable[float]) -> dict[str, Callable]:
    """Huber losses of a difference, element by element."""
    import torch
    import torch.nn.functional as F

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
    reduce = _reduced(site, 4 if smooth else 2)
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
    import optax
    import torch.nn.functional as F

    x, y = normal(4, 3), normal(4, 3, seed=1)
    ours = F.l1_loss(x, y)
    return (
        gap(ours, jax64(lambda a, b: optax.log_cosh(a, b).mean(), x, y)),
        gap(ours, jax64(lambda a, b: abs(a - b).mean(), x, y)),
    )


def _regression_forms(site: Site) -> Iterator[Edit]:
    import torch

    forms: dict[str, Callable] = {
        "the squared error": lambda d: d * d,
        "half the squared error": lambda d: 0.5 * d * d,
        "the absolute error": torch.abs,
        "the logarithm of the cosh": _log_cosh,
        **_hubers([1.0]),
    }
    plain: dict[str, Callable] = {
        "mean": lambda v: v.mean(),
        "sum": lambda v: v.sum(),
        "sum over each example, then mean": lambda v: v.flatten(1).sum(1).mean(),
    }
    rooted: dict[str, Callable] = {
        "root of the mean": lambda v: v.mean().sqrt(),
        "root of the sum": lambda v: v.sum().sqrt(),
        "root of each example's sum, then mean": lambda v: v.flatten(1).sum(1).sqrt().mean(),
    }

    def of(form: Callable, reduce: Callable) -> Callable[[], Any]:
        return site.replaced(lambda x, y, *_: reduce(form(x - y)))

    for text, form in forms.items():
        own = (to_numpy(of(form, plain[how])()) for how in ("mean", "sum"))
        same = any(np.allclose(value, site.ours, 1e-9, 0) for value in own)
        # the same loss, reduced otherwise, is not another
        for how, reduce in (rooted if same else plain | rooted).items():
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
    import jax.numpy as jnp
    import torch
    import torch.nn.functional as F

    x, y = normal(4, 3), normal(4, 3, seed=1)
    ours = torch.sqrt(F.mse_loss(x, y))
    return (
        gap(ours, jax64(lambda a, b: ((a - b) ** 2).mean(), x, y)),
        gap(ours, jax64(lambda a, b: jnp.sqrt(((a - b) ** 2).mean()), x, y)),
    )


def _rooted_forms(site: Site) -> Iterator[Edit]:
    import torch

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
    import torch.nn.functional as F

    x, y = normal(5, 1), normal(5, seed=1)
    ours = F.mse_loss(x[:, 0], y)
    return (
        gap(ours, jax64(lambda a, b: ((a - b) ** 2).mean(), x, y)),
        gap(ours, jax64(lambda a, b: ((a[:, 0] - b) ** 2).mean(), x, y)),
    )


def _broadcast_forms(site: Site) -> Iterator[Edit]:
    reduce = _reduced(site)
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


# Distributions.


def _kl() -> tuple[float, float]:
    import optax
    import torch.nn.functional as F

    p, q = _probabilities(4, 5), _probabilities(4, 5, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a change of 'mean' that is to come
        ours = F.kl_div(q.log(), p)
    return (
        gap(ours, jax64(lambda a, b: optax.kl_divergence(a, b).mean(), q.log(), p)),
        gap(ours, jax64(lambda a, b: optax.kl_divergence(a, b).mean() / 5, q.log(), p)),
    )


def _kl_forms(site: Site) -> Iterator[Edit]:
    import torch
    import torch.nn.functional as F

    how = option(site, "reduction", 4, "mean")
    log = option(site, "log_target", 5, False)
    divide: dict[str, Callable] = {
        "mean": lambda v: v.mean(),
        "batchmean": lambda v: v.sum() / v.shape[0],
        "sum": lambda v: v.sum(),
        "none": lambda v: v,
    }
    # x: the log-probabilities of the model; t: those of the target
    forms: dict[str, Callable] = {
        "KL(target, output)": lambda x, t: t.exp() * (t - x),
        "KL(output, target)": lambda x, t: x.exp() * (x - t),
        "the cross entropy": lambda x, t: -t.exp() * x,
        "targets for their logarithms": lambda x, t: F.kl_div(
            x, t if log else t.exp(), reduction="none", log_target=not log
        ),
        "probabilities for their logarithms": lambda x, t: F.kl_div(
            x.exp(), t.exp(), reduction="none"
        ),
        "the other sign": lambda x, t: t.exp() * (x - t),
        "log_softmax of the outputs": lambda x, t: F.kl_div(
            F.log_softmax(x, -1), t.exp(), reduction="none"
        ),
        "half of both directions": lambda x, t: 0.5 * (t.exp() - x.exp()) * (t - x),
    }
    right = f"optax.kl_divergence(log_q, p), reduced as {how!r}"
    for (text, form), (name, reduce) in itertools.product(forms.items(), divide.items()):
        yield Edit(
            right,
            f"{text}, reduction={name!r}",
            site.replaced(lambda x, y, *_, f=form, r=reduce: r(f(x, y if log else torch.log(y)))),
        )


kl = Difference(
    code="LOSS-09",
    title="Kullback-Leibler divergence: reduction, order of its arguments, the target's entropy",
    torch="F.kl_div(log_q, p): 'mean' divides by all elements, 'batchmean' by the examples",
    jax="optax.kl_divergence(log_q, p): summed over the classes",
    fix_torch="F.kl_div(log_q, p, reduction='batchmean')",
    fix_jax="optax.kl_divergence(log_q, p).mean() / classes",
    kinds="kl_div|KLDivLoss",
    measure=_kl,
    edits=_kl_forms,
    whats=WHATS,
)


def _bce() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch.nn.functional as F

    p, y = normal(7).sigmoid(), (normal(7, seed=1) > 0).double()
    p[0] = 1.0 - y[0]

    def naive(a, b, low):
        logs = [jnp.log(a), jnp.log1p(-a)]
        logs = [jnp.maximum(v, -100) for v in logs] if low else logs
        return -(b * logs[0] + (1 - b) * logs[1]).mean()

    ours = F.binary_cross_entropy(p, y)
    return gap(ours, jax64(lambda a, b: naive(a, b, False), p, y)), gap(
        ours, jax64(lambda a, b: naive(a, b, True), p, y)
    )


def _bce_forms(site: Site) -> Iterator[Edit]:
    import torch
    import torch.nn.functional as F

    logits = "logits" in site.kind.lower()
    reduce = _reduced(site, 5)

    def naive(p, y, eps=0.0, low=0.0):
        p = p.clamp(low, 1 - low) if low else p
        first = (p + eps).log()
        second = (1 - p + eps).log() if eps or low else torch.log1p(-p)
        return -(y * first + (1 - y) * second)

    def with_logits(x, y):
        return F.binary_cross_entropy_with_logits(x, y, reduction="none")

    forms: dict[str, Callable] = {
        "sigmoid once more": lambda x, y: with_logits(x.sigmoid() if logits else x, y),
        "without the sigmoid": lambda x, y: naive(x if logits else x.logit(), y),
        "the naive logarithms": lambda x, y: naive(x.sigmoid() if logits else x, y),
        "logits": lambda x, y: with_logits(x if logits else x.logit(), y),
        "the targets' complement": lambda x, y: with_logits(x if logits else x.logit(), 1 - y),
        "targets of -1 and 1": lambda x, y: F.softplus(-(2 * y - 1) * x, threshold=1e9),
        "the positive term only": lambda x, y: -y * F.logsigmoid(x if logits else x.logit()),
        "the squared error": lambda x, y: (x.sigmoid() - y if logits else x - y) ** 2,
    }
    for eps in (1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5):
        forms[f"log(p + {eps:g})"] = lambda x, y, e=eps: naive(
            x.sigmoid() if logits else x, y, eps=e
        )
        forms[f"p.clamp({eps:g}, 1 - {eps:g})"] = lambda x, y, e=eps: naive(
            x.sigmoid() if logits else x, y, low=e
        )
    right = (
        "optax.sigmoid_binary_cross_entropy(logits, targets)"
        if logits
        else "-(y * jnp.maximum(jnp.log(p), -100) + (1 - y) * jnp.maximum(jnp.log1p(-p), -100))"
    )
    rights = {
        "the targets' complement": "the targets, not 1 - targets",
        "the positive term only": "both terms: -(y * log(p) + (1 - y) * log(1 - p))",
    }
    for text, form in forms.items():
        yield Edit(
            rights.get(text, right), text, site.replaced(lambda x, y, *_, f=form: reduce(f(x, y)))
        )


bce = Difference(
    code="LOSS-16",
    title="binary cross entropy: logits or probabilities, its two terms, where it is cut off",
    torch="F.binary_cross_entropy: probabilities, logarithms not below -100",
    jax="optax.sigmoid_binary_cross_entropy: logits; hand-written, inf at 0 and 1, or log(p + eps)",
    fix_torch="F.binary_cross_entropy_with_logits(x, y)",
    fix_jax="jnp.maximum(jnp.log(p), -100), or logits on both sides",
    kinds="binary_cross_entropy|BCELoss|binary_cross_entropy_with_logits|BCEWithLogitsLoss",
    measure=_bce,
    edits=_bce_forms,
    whats=WHATS,
)


def _pos_weight() -> tuple[float, float]:
    import jax
    import optax
    import torch
    import torch.nn.functional as F

    x, y = normal(7), (normal(7, seed=1) > 0).double()
    ours = F.binary_cross_entropy_with_logits(x, y, pos_weight=torch.tensor(3.0))

    def weighted(a, b):
        return -(3 * b * jax.nn.log_sigmoid(a) + (1 - b) * jax.nn.log_sigmoid(-a)).mean()

    naive = jax64(lambda a, b: optax.sigmoid_binary_cross_entropy(a, b).mean(), x, y)
    return gap(ours, naive), gap(ours, jax64(weighted, x, y))


def _pos_weight_forms(site: Site) -> Iterator[Edit]:
    import torch
    import torch.nn.functional as F

    weight, positive = option(site, "weight", 2), option(site, "pos_weight", 6)
    if weight is None and positive is None:
        return
    one = torch.ones((), dtype=torch.float64)
    w, p, reduce = (
        one if weight is None else weight,
        one if positive is None else positive,
        _reduced(site, 5),
    )
    if "logits" in site.kind.lower():
        right = "-w * (pos * y * jax.nn.log_sigmoid(x) + (1 - y) * jax.nn.log_sigmoid(-x))"
    else:
        right = "-w * (y * jnp.log(p) + (1 - y) * jnp.log(1 - p))"

    def plain(x, y, positive=None):
        if "logits" in site.kind.lower():
            return F.binary_cross_entropy_with_logits(x, y, pos_weight=positive, reduction="none")
        return F.binary_cross_entropy(x, y, reduction="none")

    forms: dict[str, Callable] = {
        "without weights": lambda x, y: reduce(plain(x, y)),
        "pos_weight alone": lambda x, y: reduce(plain(x, y, p)),
        "weight alone": lambda x, y: reduce(w * plain(x, y)),
        "weight=pos_weight": lambda x, y: reduce(w * p * plain(x, y)),
        "the other class weighted": lambda x, y: reduce(w * (y + (1 - y) * p) * plain(x, y)),
        "1 / pos_weight": lambda x, y: reduce(w * plain(x, y, 1 / p)),
        "divided by the weights": lambda x, y: (
            (w * plain(x, y, p)).sum()
            / (w * (y * p + (1 - y)) if weight is None else w.expand_as(y)).sum()
        ),
        "the classes' shares": lambda x, y: reduce(w * (1 + (p - 1) * y) * plain(x, y)),
    }
    for text, form in forms.items():
        yield Edit(right, text, site.replaced(lambda x, y, *_, f=form: f(x, y)))


pos_weight = Difference(
    code="LOSS-15",
    title="binary cross entropy: weights of the elements and of the positive class",
    torch="F.binary_cross_entropy_with_logits(weight, pos_weight)",
    jax="optax.sigmoid_binary_cross_entropy has neither",
    fix_torch="pos_weight=None",
    fix_jax="-(pos * y * jax.nn.log_sigmoid(x) + (1 - y) * jax.nn.log_sigmoid(-x))",
    kinds="binary_cross_entropy|BCELoss|binary_cross_entropy_with_logits|BCEWithLogitsLoss",
    measure=_pos_weight,
    edits=_pos_weight_forms,
    whats=WHATS,
)


def _gaussian() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch.nn.functional as F

    x, y, v = normal(5), normal(5, seed=1), normal(5, seed=2).abs()
    v[0] = 1e-8

    def likelihood(a, b, c, low):
        c = jnp.maximum(c, low)
        return 0.5 * (jnp.log(c) + (a - b) ** 2 / c).mean()

    ours = F.gaussian_nll_loss(x, y, v)
    return gap(ours, jax64(lambda a, b, c: likelihood(a, b, c, 0.0), x, y, v)), gap(
        ours, jax64(lambda a, b, c: likelihood(a, b, c, 1e-6), x, y, v)
    )


def _gaussian_forms(site: Site) -> Iterator[Edit]:
    import math

    full, eps = option(site, "full", 3, False), option(site, "eps", 4, 1e-6)
    reduce = _reduced(site, 5)
    constant = math.log(2 * math.pi) / 2

    def stable(v):
        return v + (v.clamp(min=eps) - v).detach()

    variances: dict[str, Callable] = {
        "var": lambda v: v,
        "var clamped": stable,
        f"var + {eps:g}": lambda v: v + eps,
        "var as the deviation": lambda v: v * v,
        "the deviation as var": lambda v: v.sqrt(),
        "var as its logarithm": lambda v: v.exp(),
    }
    right = f"0.5 * (jnp.log(v) + (x - y) ** 2 / v), v = jnp.maximum(var, {eps:g})"
    for (text, change), added in itertools.product(variances.items(), (False, True)):
        if (text, added) == ("var clamped", full):
            continue

        def form(x, y, v, *_, change=change, added=added):
            v = change(v)
            return reduce(0.5 * (v.log() + (x - y) ** 2 / v) + (constant if added else 0.0))

        yield Edit(right, f"{text}, full={added}", site.replaced(form))


gaussian = Difference(
    code="LOSS-17",
    title="Gaussian likelihood: the least variance, and the constant",
    torch="F.gaussian_nll_loss: var not below 1e-6; without log(2 pi) / 2 (full=False)",
    jax="none in optax: written by hand, without the bound or with the constant",
    fix_torch="full=True for the constant; write the loss out without the bound",
    fix_jax="0.5 * (jnp.log(v) + (x - y) ** 2 / v), v = jnp.maximum(var, 1e-6)",
    kinds="gaussian_nll_loss|GaussianNLLLoss",
    measure=_gaussian,
    edits=_gaussian_forms,
    whats=WHATS,
)


def _poisson() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch.nn.functional as F

    x, y = normal(5).abs(), normal(5, seed=1).abs()
    ours = F.poisson_nll_loss(x, y)
    return (
        gap(ours, jax64(lambda a, b: (a - b * jnp.log(a + 1e-8)).mean(), x, y)),
        gap(ours, jax64(lambda a, b: (jnp.exp(a) - b * a).mean(), x, y)),
    )


def _poisson_forms(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    log = option(site, "log_input", 2, True)
    full = option(site, "full", 3, False)
    right = "jnp.exp(x) - y * x" if log else "x - y * jnp.log(x + eps)"
    how = option(site, "reduction", 7, "mean")
    for log_input, stirling, eps in itertools.product(
        (True, False), (False, True), (1e-8, 1e-7, 1e-6, 1e-12)
    ):
        yield Edit(
            right + (" and Stirling's term" if full else ""),
            f"log_input={log_input}, full={stirling}, eps={eps:g}",
            site.replaced(
                lambda x, y, *_, a=log_input, b=stirling, e=eps: F.poisson_nll_loss(
                    x, y, log_input=a, full=b, eps=e, reduction=how
                )
            ),
        )


poisson = Difference(
    code="LOSS-18",
    title="Poisson likelihood: rates or their logarithms, and Stirling's term",
    torch="F.poisson_nll_loss: logarithms of the rates (log_input=True), without Stirling's term",
    jax="none in optax: written by hand, often for rates",
    fix_torch="F.poisson_nll_loss(x, y, log_input=False)",
    fix_jax="jnp.exp(x) - y * x",
    kinds="poisson_nll_loss|PoissonNLLLoss",
    measure=_poisson,
    edits=_poisson_forms,
    whats=WHATS,
)


# Similarities and margins.


def _cosine() -> tuple[float, float]:
    import optax
    import torch.nn.functional as F

    x, y = normal(3, 4, scale=1e-5), normal(3, 4, seed=1, scale=1e-5)
    ours = F.cosine_similarity(x, y, dim=-1)
    return (
        gap(ours, jax64(lambda a, b: optax.cosine_similarity(a, b, epsilon=1e-8), x, y)),
        gap(ours, jax64(lambda a, b: optax.cosine_similarity(a, b, epsilon=1e-16), x, y)),
    )


def _cosine_forms(site: Site) -> Iterator[Edit]:
    dim, eps = option(site, "dim", 2, 1), option(site, "eps", 3, 1e-8)
    right = f"optax.cosine_similarity(x, y, epsilon={eps:g} ** 2)"

    def parts(x, y, axis):
        return (x * y).sum(axis), (x * x).sum(axis), (y * y).sum(axis)

    def of(form, e, axis):
        return site.replaced(lambda x, y, *_: form(*parts(x, y, axis), e))

    forms: dict[str, Callable] = {
        "squares not below eps": lambda d, a, b, e: d / (a.clamp(e) * b.clamp(e)).sqrt(),
        "norms not below eps": lambda d, a, b, e: d / (a.sqrt().clamp(e) * b.sqrt().clamp(e)),
        "product not below eps": lambda d, a, b, e: d / (a * b).sqrt().clamp(e),
        "product + eps": lambda d, a, b, e: d / ((a * b).sqrt() + e),
        "norms + eps": lambda d, a, b, e: d / ((a.sqrt() + e) * (b.sqrt() + e)),
        "squares + eps": lambda d, a, b, e: d / ((a + e) * (b + e)).sqrt(),
    }
    for (text, form), e in itertools.product(
        forms.items(), dict.fromkeys((eps, 1e-8, 1e-6, 1e-12, 0.0))
    ):
        yield Edit(right, f"{text}, eps={e:g}", of(form, e, dim))
    yield Edit(right, "the inner product", of(lambda d, a, b, e: d, 0.0, dim))
    axes = [a for a in range(site.inputs[0].ndim) if a != dim % site.inputs[0].ndim]
    for axis in axes:
        yield Edit(
            f"the axis {dim} of PyTorch's call",
            f"dim={axis}",
            of(forms["norms not below eps"], eps, axis),
        )


cosine = Difference(
    code="LOSS-19",
    title="cosine similarity: what eps bounds",
    torch="F.cosine_similarity(eps=1e-8): each norm not below eps; dim=1",
    jax="optax.cosine_similarity(epsilon=0): each squared norm; the last axis",
    fix_torch="eps=epsilon ** 0.5",
    fix_jax="optax.cosine_similarity(x, y, epsilon=1e-16)",
    kinds="cosine_similarity|CosineSimilarity",
    measure=_cosine,
    edits=_cosine_forms,
    whats=WHATS,
)


def _triplet() -> tuple[float, float]:
    import jax.numpy as jnp
    import optax
    import torch.nn.functional as F

    a, p, n = (normal(5, 4, seed=seed) for seed in range(3))
    ours = F.triplet_margin_loss(a, p, n, reduction="none")

    def distances(a, p, n):
        far, near = (jnp.linalg.norm(a - v + 1e-6, axis=-1) for v in (n, p))
        return jnp.maximum(near - far + 1, 0)

    naive = jax64(lambda *v: optax.losses.triplet_margin_loss(*v), a, p, n)
    return gap(ours, naive), gap(ours, jax64(distances, a, p, n))


def _triplet_forms(site: Site) -> Iterator[Edit]:
    margin, eps = option(site, "margin", 3, 1.0), option(site, "eps", 5, 1e-6)
    how = option(site, "reduction", 8, "mean")
    reduce = {"sum": lambda v: v.sum(), "none": lambda v: v}.get(how, lambda v: v.mean())
    norms: dict[str, Callable] = {
        "(d + eps).norm()": lambda d: ((d + eps) ** 2).sum(-1).sqrt(),
        "sqrt(sum(d ** 2) + eps)": lambda d: ((d * d).sum(-1) + eps).sqrt(),
        "d.norm()": lambda d: (d * d).sum(-1).sqrt(),
        "sum(d ** 2)": lambda d: (d * d).sum(-1),
        "sum(abs(d))": lambda d: d.abs().sum(-1),
        "mean(d ** 2)": lambda d: (d * d).mean(-1),
    }
    ends: dict[str, Callable] = {
        "relu": lambda v: v.relu(),
        "softplus": lambda v: v.exp().log1p(),
        "no relu": lambda v: v,
    }
    margins = dict.fromkeys((margin, 1.0, 0.2, 0.3, 0.5, 0.1, 0.0, 2.0))
    right = f"jnp.linalg.norm(a - p + {eps:g}, axis=-1), margin {margin:g}, jnp.maximum(…, 0)"
    for (text, norm), (end, finish), m in itertools.product(norms.items(), ends.items(), margins):
        yield Edit(
            right,
            f"{text}, margin {m:g}, {end}",
            site.replaced(
                lambda a, p, n, *_, f=norm, g=finish, m=m: reduce(g(f(a - p) - f(a - n) + m))
            ),
        )


triplet = Difference(
    code="LOSS-20",
    title="triplet loss: where eps is, and the margin",
    torch="F.triplet_margin_loss: norm(a - p + eps), eps=1e-6, margin 1",
    jax="optax.losses.triplet_margin_loss: sqrt(sum((a - p)^2) + eps)",
    fix_torch="write the distances out",
    fix_jax="jnp.linalg.norm(a - p + 1e-6, axis=-1)",
    kinds="triplet_margin_loss|TripletMarginLoss",
    measure=_triplet,
    edits=_triplet_forms,
    whats=WHATS,
)


def _hinge() -> tuple[float, float]:
    import optax

    x, y = normal(7), normal(7, seed=1).sign()
    ours = (1 - x * y).clamp(min=0).mean()
    return (
        gap(ours, jax64(lambda a, b: (optax.hinge_loss(a, b) ** 2).mean(), x, y)),
        gap(ours, jax64(lambda a, b: optax.hinge_loss(a, b).mean(), x, y)),
    )


def _hinge_forms(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    targets: dict[str, Callable] = {"y": lambda y: y, "2 y - 1": lambda y: 2 * y - 1}
    forms: dict[str, Callable] = {
        "relu(m - x y)": lambda v: v.relu(),
        "relu(m - x y) ** 2": lambda v: v.relu() ** 2,
        "0.5 relu(m - x y) ** 2": lambda v: 0.5 * v.relu() ** 2,
        "m - x y": lambda v: v,
        "softplus(m - x y)": lambda v: F.softplus(v, threshold=1e9),
    }
    ends: dict[str, Callable] = {
        "mean": lambda v: v.mean(),
        "sum": lambda v: v.sum(),
        "sum over each example, then mean": lambda v: v.flatten(1).sum(1).mean(),
    }
    for (t, target), (text, form), (how, end), m in itertools.product(
        targets.items(), forms.items(), ends.items(), (1.0, 0.0)
    ):
        yield Edit(
            "the hinge loss of PyTorch's side: its power, its targets (-1 and 1), its mean",
            f"{text} with y = {t}, m = {m:g}, {how}",
            site.replaced(
                lambda x, y, *_, a=target, f=form, g=end, m=m: g(f(m - x * a(y.to(x.dtype))))
            ),
        )


hinge = Difference(
    code="LOSS-21",
    title="hinge loss: squared or not, targets of 0 and 1 or of -1 and 1",
    torch="written by hand: (1 - x * y).clamp(min=0).mean(), y of -1 and 1",
    jax="optax.hinge_loss: not squared, y of -1 and 1, one value per example",
    fix_torch="(1 - x * y).clamp(min=0).pow(2).mean()",
    fix_jax="optax.hinge_loss(x, y).mean()",
    kinds="loss|soft_margin_loss|SoftMarginLoss",
    measure=_hinge,
    edits=_hinge_forms,
    whats=WHATS,
)


def _margin() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch.nn.functional as F

    x, z, y = normal(7), normal(7, seed=2), normal(7, seed=1).sign()
    ours = F.margin_ranking_loss(x, z, y)

    def ranking(a, b, c, margin):
        return jnp.maximum(margin - c * (a - b), 0).mean()

    return gap(ours, jax64(lambda a, b, c: ranking(a, b, c, 1.0), x, z, y)), gap(
        ours, jax64(lambda a, b, c: ranking(a, b, c, 0.0), x, z, y)
    )


def _margin_forms(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    name = {
        "MarginRankingLoss": "margin_ranking_loss",
        "HingeEmbeddingLoss": "hinge_embedding_loss",
        "MultiMarginLoss": "multi_margin_loss",
        "CosineEmbeddingLoss": "cosine_embedding_loss",
    }.get(site.kind, site.kind)
    ranking = {"margin_ranking_loss": 0.0, "cosine_embedding_loss": 0.0}
    own = option(site, "margin", default=ranking.get(name, 1.0))
    function = getattr(F, name)
    given = {"reduction": option(site, "reduction", default="mean")}
    powers: tuple[dict[str, int], ...] = ({},)
    if name == "multi_margin_loss":
        powers = ({"p": option(site, "p", 2, 1)}, {"p": 1}, {"p": 2})
    for margin, power in itertools.product(
        dict.fromkeys((own, 0.0, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)), powers
    ):
        yield Edit(
            f"margin {own:g}" + (f", to the power of {powers[0]['p']}" if power else ""),
            f"F.{name}(…, margin={margin:g}" + (f", p={power['p']})" if power else ")"),
            site.replaced(
                lambda *x, m=margin, p=power: function(*x, margin=m, **p, **given),
            ),
        )
        yield Edit(
            "PyTorch's sign of the labels",
            f"F.{name}(…, -y, margin={margin:g})",
            site.replaced(
                lambda *x, m=margin, p=power: function(*x[:-1], -x[-1], margin=m, **p, **given)
            ),
        )


margin = Difference(
    code="LOSS-22",
    title="the margin of a loss",
    torch="F.margin_ranking_loss, F.cosine_embedding_loss: 0; the other losses with a margin: 1",
    jax="none in optax; written by hand, mostly with a margin of 1",
    fix_torch="margin=1.0",
    fix_jax="jnp.maximum(0.0 - y * (x1 - x2), 0).mean()",
    kinds="(margin_ranking|hinge_embedding|multi_margin|cosine_embedding)_loss|"
    "(MarginRanking|HingeEmbedding|MultiMargin|CosineEmbedding)Loss",
    measure=_margin,
    edits=_margin_forms,
    whats=WHATS,
)


def _ctc() -> tuple[float, float]:
    import jax.numpy as jnp
    import optax
    import torch
    import torch.nn.functional as F

    logits = normal(7, 2, 4)
    labels = 1 + _labels(2, 3, classes=3)
    lengths, sizes = torch.tensor([7, 6]), torch.tensor([3, 2])
    ours = F.ctc_loss(logits.log_softmax(-1), labels, lengths, sizes)

    def loss(divide, x, y, n, k):
        padded = (jnp.arange(7)[None] >= n[:, None]).astype(x.dtype)
        unused = (jnp.arange(3)[None] >= k[:, None]).astype(x.dtype)
        values = optax.ctc_loss(jnp.swapaxes(x, 0, 1), padded, y, unused)
        return (values / k if divide else values).mean()

    arrays = (logits, labels, lengths, sizes)
    return gap(ours, jax64(lambda *a: loss(False, *a), *arrays)), gap(
        ours, jax64(lambda *a: loss(True, *a), *arrays)
    )


def _ctc_forms(site: Site) -> Iterator[Edit]:
    import torch
    import torch.nn.functional as F

    blank, zero = option(site, "blank", 4, 0), option(site, "zero_infinity", 6, False)

    def loss(reduction, **changes):
        given = {"blank": blank, "zero_infinity": zero, "reduction": reduction, **changes}
        return lambda x, y, n, k, *_: F.ctc_loss(x, y, n, k, **given)

    forms: dict[str, Callable] = {
        "the mean of the examples": lambda *a: loss("none")(*a).mean(),
        "the sum of the examples": loss("sum"),
        "the sum divided by the frames": lambda *a: (
            loss("none")(*a) / torch.as_tensor(a[2])
        ).mean(),
        "the sum divided by the targets' lengths": lambda *a: (
            loss("none")(*a).sum() / torch.as_tensor(a[3]).sum()
        ),
        "1e5 where no alignment fits": lambda *a: loss("none")(*a).clamp(max=1e5).mean(),
        "the last class as the blank": lambda *a: loss("mean", blank=a[0].shape[-1] - 1)(*a),
        "the mean with zero_infinity": loss("mean", zero_infinity=not zero),
    }
    right = "(optax.ctc_loss(logits, paddings, labels, paddings) / label_lengths).mean()"
    for text, form in forms.items():
        yield Edit(right, text, _ctc_call(site, form))


def _ctc_call(site: Site, form: Callable) -> Callable[[], Any]:
    """The lengths may be tuples: a function's own arguments have them in place."""
    return (
        site.replaced(form)
        if site.module is not None
        else site.called(*site.args[:4], function=lambda *args, **_: form(*args))
    )


ctc = Difference(
    code="LOSS-23",
    title="CTC loss: the mean",
    torch="F.ctc_loss: each example divided by its target's length, then the mean",
    jax="optax.ctc_loss: one value per example, not divided",
    fix_torch="F.ctc_loss(…, reduction='none').mean()",
    fix_jax="(optax.ctc_loss(…) / label_lengths).mean()",
    kinds="ctc_loss|CTCLoss",
    measure=_ctc,
    edits=_ctc_forms,
    whats=WHATS,
)


def _swapped() -> tuple[float, float]:
    import optax
    import torch.nn.functional as F

    x, y = normal(6, 5), _probabilities(6, 5, seed=1)
    ours = F.cross_entropy(x, y)
    return (
        gap(ours, jax64(lambda a, b: optax.softmax_cross_entropy(b, a).mean(), x, y)),
        gap(ours, jax64(lambda a, b: optax.softmax_cross_entropy(a, b).mean(), x, y)),
    )


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
