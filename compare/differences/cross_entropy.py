"""Cross entropy with labels: what is ignored, weighed and smoothed, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, gaps, jax64, normal
from compare.differences.shared.calls import alternatives, option
from compare.differences.shared.frameworks import F, jax, jnp, optax, torch
from compare.differences.shared.losses import WHATS, class_labels, cross_entropies


def _given(site: Site) -> dict[str, Any]:
    """The options of a cross entropy or a negative log-likelihood."""
    smoothing = {} if "nll" in site.kind.lower() else {"label_smoothing": 0.0}
    places = {"weight": 2, "ignore_index": 4, "reduction": 6, "label_smoothing": 7}
    defaults = {"weight": None, "ignore_index": -100, "reduction": "mean", **smoothing}
    return {name: option(site, name, places[name], value) for name, value in defaults.items()}


def _of_labels(
    site: Site, labels: Callable[[Any], Any] = lambda y: y, **changes: Any
) -> Callable[[], Any]:
    """The same loss with other options, or of other labels."""
    function: Any = F.nll_loss if "nll" in site.kind.lower() else F.cross_entropy
    given = {**_given(site), **changes}
    return site.replaced(lambda x, y, *_: function(x, labels(y), **given))


def _ignored() -> tuple[float, float]:
    x, y = normal(6, 5), class_labels(6, classes=5)
    y[2] = -100

    def masked(logits, labels, valid_only):
        mask = labels != -100
        values = jnp.where(mask, cross_entropies(logits, jnp.where(mask, labels, 0)), 0)
        return values.sum() / mask.sum() if valid_only else values.mean()

    return gaps(F.cross_entropy(x, y), jax64(masked, x, y, False), jax64(masked, x, y, True))


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
    other = -100 if ignore != -100 else -101
    for label in (0, site.inputs[0].shape[1] - 1):
        moved = _of_labels(
            site, lambda y, new=label: torch.where(y == ignore, new, y), ignore_index=other
        )
        yield Edit(right, f"label {ignore} read as {label}", moved)


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
    x, y, w = normal(6, 5), class_labels(6, classes=5), 0.5 + normal(5).abs()
    ours = F.cross_entropy(x, y, weight=w)

    def weighted(a, b, c, by_weight):
        values = cross_entropies(a, b) * c[b]
        return values.sum() / c[b].sum() if by_weight else values.mean()

    return gaps(ours, jax64(weighted, x, y, w, False), jax64(weighted, x, y, w, True))


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
    x, y = normal(6, 5), class_labels(6, classes=5)
    ours = F.cross_entropy(x, y, label_smoothing=0.1)

    def smoothed(logits, labels, alpha):
        one_hot = jax.nn.one_hot(labels, 5, dtype=logits.dtype)
        return optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, alpha)).mean()

    return against(ours, lambda a, b: smoothed(a, b, 0.0), lambda a, b: smoothed(a, b, 0.1), x, y)


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
    x, y, w = normal(6, 5), class_labels(6, classes=5), 0.5 + normal(5).abs()
    ours = F.cross_entropy(x, y, weight=w, label_smoothing=0.1)

    def by_example(a, b, c):
        one_hot = jax.nn.one_hot(b, 5, dtype=a.dtype)
        values = optax.softmax_cross_entropy(a, optax.smooth_labels(one_hot, 0.1))
        return (values * c[b]).sum() / c[b].sum()

    def by_class(a, b, c):
        logs = jax.nn.log_softmax(a)
        one_hot = optax.smooth_labels(jax.nn.one_hot(b, 5, dtype=a.dtype), 0.1)
        return -jnp.sum(one_hot * c * logs) / c[b].sum()

    return against(ours, by_example, by_class, x, y, w)


def _smoothed_weight_forms(site: Site) -> Iterator[Edit]:
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
    x, y = normal(6, 5), class_labels(6, classes=5)
    naive = jax64(lambda a, b: cross_entropies(jax.nn.softmax(a), b).mean(), x, y)
    mended = jax64(lambda a, b: cross_entropies(a, b).mean(), x, y)
    return gaps(F.cross_entropy(x, y), naive, mended)


def _probable_forms(site: Site) -> Iterator[Edit]:
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
    yield from alternatives(site, right, forms, inputs=2)


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
    x, y = normal(4, 5), class_labels(4, classes=3)
    x[:, 4] = float("-inf")

    def one_hot(loss):
        return lambda a, b: loss(a, jax.nn.one_hot(b, 5, dtype=a.dtype)).mean()

    naive = jax64(one_hot(optax.softmax_cross_entropy), x, y)
    mended = jax64(one_hot(optax.safe_softmax_cross_entropy), x, y)
    return gaps(F.cross_entropy(x, y), naive, mended)


def _infinite_forms(site: Site) -> Iterator[Edit]:
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
    x, y = normal(2, 4, 4), class_labels(2, 4, classes=4)
    naive = jax64(lambda a, b: cross_entropies(a, b).mean(), x, y)
    mended = jax64(lambda a, b: cross_entropies(jnp.moveaxis(a, 1, -1), b).mean(), x, y)
    return gaps(F.cross_entropy(x, y), naive, mended)


def _class_axis_forms(site: Site) -> Iterator[Edit]:
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
