"""Similarities, margins and alignments: cosine, triplet, hinge and CTC."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, gaps, jax64, normal
from compare.differences.shared.calls import option
from compare.differences.shared.frameworks import F, jnp, optax, torch
from compare.differences.shared.losses import REDUCTIONS, WHATS, class_labels, reduced


def _cosine() -> tuple[float, float]:
    x, y = normal(3, 4, scale=1e-5), normal(3, 4, seed=1, scale=1e-5)
    naive = jax64(lambda a, b: optax.cosine_similarity(a, b, epsilon=1e-8), x, y)
    mended = jax64(lambda a, b: optax.cosine_similarity(a, b, epsilon=1e-16), x, y)
    return gaps(F.cosine_similarity(x, y, dim=-1), naive, mended)


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
    a, p, n = (normal(5, 4, seed=seed) for seed in range(3))
    ours = F.triplet_margin_loss(a, p, n, reduction="none")

    def distances(a, p, n):
        far, near = (jnp.linalg.norm(a - v + 1e-6, axis=-1) for v in (n, p))
        return jnp.maximum(near - far + 1, 0)

    naive = jax64(lambda *v: optax.losses.triplet_margin_loss(*v), a, p, n)
    return gaps(ours, naive, jax64(distances, a, p, n))


def _triplet_forms(site: Site) -> Iterator[Edit]:
    margin, eps = option(site, "margin", 3, 1.0), option(site, "eps", 5, 1e-6)
    reduce = reduced(site, 8)
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
    x, y = normal(7), normal(7, seed=1).sign()
    naive = jax64(lambda a, b: (optax.hinge_loss(a, b) ** 2).mean(), x, y)
    mended = jax64(lambda a, b: optax.hinge_loss(a, b).mean(), x, y)
    return gaps((1 - x * y).clamp(min=0).mean(), naive, mended)


def _hinge_forms(site: Site) -> Iterator[Edit]:
    targets: dict[str, Callable] = {"y": lambda y: y, "2 y - 1": lambda y: 2 * y - 1}
    forms: dict[str, Callable] = {
        "relu(m - x y)": lambda v: v.relu(),
        "relu(m - x y) ** 2": lambda v: v.relu() ** 2,
        "0.5 relu(m - x y) ** 2": lambda v: 0.5 * v.relu() ** 2,
        "m - x y": lambda v: v,
        "softplus(m - x y)": lambda v: F.softplus(v, threshold=1e9),
    }
    for (t, target), (text, form), (how, end), m in itertools.product(
        targets.items(), forms.items(), REDUCTIONS.items(), (1.0, 0.0)
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
    x, z, y = normal(7), normal(7, seed=2), normal(7, seed=1).sign()
    ours = F.margin_ranking_loss(x, z, y)

    def ranking(a, b, c, margin):
        return jnp.maximum(margin - c * (a - b), 0).mean()

    return against(
        ours, lambda a, b, c: ranking(a, b, c, 1.0), lambda a, b, c: ranking(a, b, c, 0.0), x, z, y
    )


def _margin_forms(site: Site) -> Iterator[Edit]:
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
            site.replaced(lambda *x, m=margin, p=power: function(*x, margin=m, **p, **given)),
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
    logits = normal(7, 2, 4)
    labels = 1 + class_labels(2, 3, classes=3)
    lengths, sizes = torch.tensor([7, 6]), torch.tensor([3, 2])
    ours = F.ctc_loss(logits.log_softmax(-1), labels, lengths, sizes)

    def loss(divide, x, y, n, k):
        padded = (jnp.arange(7)[None] >= n[:, None]).astype(x.dtype)
        unused = (jnp.arange(3)[None] >= k[:, None]).astype(x.dtype)
        values = optax.ctc_loss(jnp.swapaxes(x, 0, 1), padded, y, unused)
        return (values / k if divide else values).mean()

    arrays = (logits, labels, lengths, sizes)
    return against(ours, lambda *a: loss(False, *a), lambda *a: loss(True, *a), *arrays)


def _ctc_forms(site: Site) -> Iterator[Edit]:
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
