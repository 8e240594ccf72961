"""Losses of distributions: divergences, binary cross entropy and likelihoods."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, gaps, jax64, normal
from compare.differences.shared.calls import alternatives, option
from compare.differences.shared.frameworks import F, jax, jnp, optax, torch
from compare.differences.shared.losses import WHATS, probabilities, reduced


def _kl() -> tuple[float, float]:
    p, q = probabilities(4, 5), probabilities(4, 5, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a change of 'mean' that is to come
        ours = F.kl_div(q.log(), p)
    naive = jax64(lambda a, b: optax.kl_divergence(a, b).mean(), q.log(), p)
    mended = jax64(lambda a, b: optax.kl_divergence(a, b).mean() / 5, q.log(), p)
    return gaps(ours, naive, mended)


def _kl_forms(site: Site) -> Iterator[Edit]:
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
    p, y = normal(7).sigmoid(), (normal(7, seed=1) > 0).double()
    p[0] = 1.0 - y[0]

    def naive(a, b, low):
        logs = [jnp.log(a), jnp.log1p(-a)]
        logs = [jnp.maximum(v, -100) for v in logs] if low else logs
        return -(b * logs[0] + (1 - b) * logs[1]).mean()

    return against(
        F.binary_cross_entropy(p, y),
        lambda a, b: naive(a, b, False),
        lambda a, b: naive(a, b, True),
        p,
        y,
    )


def _bce_forms(site: Site) -> Iterator[Edit]:
    logits = "logits" in site.kind.lower()
    reduce = reduced(site, 5)

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
    x, y = normal(7), (normal(7, seed=1) > 0).double()
    ours = F.binary_cross_entropy_with_logits(x, y, pos_weight=torch.tensor(3.0))

    def weighted(a, b):
        return -(3 * b * jax.nn.log_sigmoid(a) + (1 - b) * jax.nn.log_sigmoid(-a)).mean()

    naive = jax64(lambda a, b: optax.sigmoid_binary_cross_entropy(a, b).mean(), x, y)
    return gaps(ours, naive, jax64(weighted, x, y))


def _pos_weight_forms(site: Site) -> Iterator[Edit]:
    weight, positive = option(site, "weight", 2), option(site, "pos_weight", 6)
    if weight is None and positive is None:
        return
    one = torch.ones((), dtype=torch.float64)
    w, p, reduce = (
        one if weight is None else weight,
        one if positive is None else positive,
        reduced(site, 5),
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
    yield from alternatives(site, right, forms, inputs=2)


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
    x, y, v = normal(5), normal(5, seed=1), normal(5, seed=2).abs()
    v[0] = 1e-8

    def likelihood(a, b, c, low):
        c = jnp.maximum(c, low)
        return 0.5 * (jnp.log(c) + (a - b) ** 2 / c).mean()

    naive = jax64(likelihood, x, y, v, 0.0)
    mended = jax64(likelihood, x, y, v, 1e-6)
    return gaps(F.gaussian_nll_loss(x, y, v), naive, mended)


def _gaussian_forms(site: Site) -> Iterator[Edit]:
    import math

    full, eps = option(site, "full", 3, False), option(site, "eps", 4, 1e-6)
    reduce = reduced(site, 5)
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
    x, y = normal(5).abs(), normal(5, seed=1).abs()
    naive = jax64(lambda a, b: (a - b * jnp.log(a + 1e-8)).mean(), x, y)
    mended = jax64(lambda a, b: (jnp.exp(a) - b * a).mean(), x, y)
    return gaps(F.poisson_nll_loss(x, y), naive, mended)


def _poisson_forms(site: Site) -> Iterator[Edit]:
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
