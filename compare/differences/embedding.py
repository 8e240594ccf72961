"""Embedding: rows without a gradient, ids, bags, factors and norms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, flax64, gap, gaps, jax64, normal
from compare.differences.shared.frameworks import F, fnn, jax, jnp, torch
from compare.differences.shared.layers import EVERYTHING, forms, layer, settings

# Embedding ------------------------------------------------------------------------------------
EMBED = "weight padding_idx max_norm norm_type scale_grad_by_freq"
EMBED_KINDS = "Embedding|embedding"


def _ids() -> Any:
    return torch.tensor([[0, 1, 0, 2], [3, 4, 1, 1]])


def _embedding_gradient(**options: Any) -> tuple[Any, Any, Any]:
    """PyTorch's gradient of an embedding's weight, the weight and the output's gradient."""
    weight, cotangent = normal(5, 3).requires_grad_(), normal(2, 4, 3, seed=1)
    (F.embedding(_ids(), weight, **options) * cotangent).sum().backward()
    return weight.grad, weight.detach(), cotangent


def _take_gradient(weight: Any, cotangent: Any, stopped: int | None = None) -> Any:
    def run(w: Any, ids: Any, g: Any) -> Any:
        def loss(w: Any) -> Any:
            rows = w if stopped is None else w.at[stopped].set(jax.lax.stop_gradient(w[stopped]))
            return (jnp.take(rows, ids, axis=0) * g).sum()

        return jax.grad(loss)(w)

    return jax64(run, weight, _ids(), cotangent)


def _padding_row() -> tuple[float, float]:
    ours, weight, cotangent = _embedding_gradient(padding_idx=0)
    return gaps(ours, _take_gradient(weight, cotangent), _take_gradient(weight, cotangent, 0))


def _padding_rows(site: Site) -> Iterator[Edit]:
    if site.kind == "glue":
        yield from _padding_zeros(site)
        return
    index = settings(site, EMBED).padding_idx
    if index is None:
        return
    yield from forms(
        site,
        EMBED,
        (
            f"w.at[{index}].set(lax.stop_gradient(w[{index}]))",
            "padding_idx=None",
            lambda ids, s: F.embedding(ids, s.weight),
        ),
        (
            f"the row {index} of the weight as PyTorch has it",
            "y.masked_fill((ids == padding_idx)[..., None], 0)",
            lambda ids, s: F.embedding(ids, s.weight).masked_fill((ids == index)[..., None], 0),
        ),
    )


def _padding_zeros(site: Site) -> Iterator[Edit]:
    """After the embedding: the rows of one id are zero."""
    rows: Any = site.inputs[0] if site.inputs else None
    for ids in site.inputs[1:]:
        if ids.is_floating_point() or tuple(ids.shape) != site.ours.shape[:-1]:
            continue
        for index in sorted(set(ids.flatten().tolist())):
            yield Edit(
                f"no mask of the id {index} here",
                f"nn.Embedding(…, padding_idx={index}), its row zero",
                lambda i=ids, pad=index: rows.masked_fill((i == pad)[..., None], 0),
            )


padding_idx = Difference(
    code="EMB-01",
    title="padding_idx",
    torch="nn.Embedding(padding_idx=i): row i gets no gradient; its value is used",
    jax="nn.Embed: no such argument; the row is trained, or masked to zero by hand",
    fix_torch="padding_idx=None",
    fix_jax="w.at[i].set(lax.stop_gradient(w[i])), the row's value as it is",
    kinds=f"{EMBED_KINDS}|glue",
    measure=_padding_row,
    edits=_padding_rows,
    whats=("output", "param"),
)


def _out_of_range() -> tuple[float, float]:
    weight, ids = normal(5, 3), torch.tensor([1, 7, -1])

    def ours(ids: Any) -> Any:
        try:
            return F.embedding(ids, weight)
        except IndexError:
            return torch.empty(0)

    def theirs(ids: Any) -> Any:
        return jax64(lambda w, i: jnp.take(w, i, axis=0), weight, ids)

    valid = ids.clamp(0, 4)
    return gap(ours(ids), theirs(ids)), gap(ours(valid), theirs(valid))


def _other_ids(site: Site) -> Iterator[Edit]:
    shifts = {
        "ids that start where PyTorch's do (JAX took one less)": lambda i, n: (i - 1) % n,
        "ids that start where PyTorch's do (JAX took one more)": lambda i, n: (i + 1) % n,
        "ids - 1 was clipped: start where PyTorch's do": lambda i, n: (i - 1).clamp(0),
        "ids + 1 was clipped: start where PyTorch's do": lambda i, n: (i + 1).clamp(max=n - 1),
        "the weight's rows in PyTorch's order": lambda i, n: n - 1 - i,
    }
    for line, change in shifts.items():
        yield Edit(
            line,
            "the same shift of the ids",
            layer(
                site, EMBED, lambda ids, s, f=change: F.embedding(f(ids, len(s.weight)), s.weight)
            ),
        )


ids = Difference(
    code="EMB-02",
    title="Ids out of range, or off by one",
    torch="F.embedding: IndexError for ids below 0 or beyond the table",
    jax="jnp.take: -1 is the last row, beyond the table is NaN: an offset goes unseen",
    fix_torch="ids % len(weight)",
    fix_jax="check the ids: 0 <= ids < len(weight)",
    kinds=EMBED_KINDS,
    measure=_out_of_range,
    edits=_other_ids,
)


def _bag() -> tuple[float, float]:
    weight, ids, bags = normal(5, 3), torch.tensor([0, 1, 2, 4, 4]), torch.tensor([0, 0, 0, 1, 1])
    ours = F.embedding_bag(ids, weight, torch.tensor([0, 3]))

    def theirs(w: Any, i: Any, b: Any) -> Any:
        return jax.ops.segment_sum(w[i], b, 2)

    sums = jax64(theirs, weight, ids, bags)
    means = jax64(lambda w, i, b: theirs(w, i, b) / theirs(w * 0 + 1, i, b), weight, ids, bags)
    return gaps(ours, sums, means)


def _bag_modes(site: Site) -> Iterator[Edit]:
    own = getattr(site.module, "mode", None) or site.kwargs.get("mode", "mean")
    for mode in ("sum", "mean", "max"):
        if mode != own:
            change = site.changed if site.module is not None else site.called
            yield Edit(f"the {own} of each bag", f"mode={mode!r}", change(mode=mode))


embedding_bag = Difference(
    code="EMB-03",
    title="EmbeddingBag's reduction",
    torch="nn.EmbeddingBag: mode='mean'",
    jax="no such layer: jax.ops.segment_sum sums",
    fix_torch="mode='sum'",
    fix_jax="segment_sum(w[ids], bags) / segment_sum(ones, bags)",
    kinds="EmbeddingBag|embedding_bag",
    measure=_bag,
    edits=_bag_modes,
)


def _embedding_scale() -> tuple[float, float]:
    weight = normal(5, 3)
    ours = F.embedding(_ids(), weight)
    theirs = flax64(fnn.Embed(5, 3), {"embedding": weight}, _ids())
    return gaps(ours, theirs * 3**0.5, theirs)


def _scales(site: Site) -> Iterator[Edit]:
    if site.kind in ("glue", "add") and site.ours.ndim > 3:
        return  # images, no embedded tokens
    for name, power in {
        "sqrt(dim)": 0.5,
        "dim": 1.0,
        "1 / sqrt(dim)": -0.5,
        "1 / dim": -1.0,
    }.items():
        factor = site.ours.shape[-1] ** power if site.ours.ndim else 1.0
        if site.within is not None:  # and then something is added, positions for one
            for line, form in {
                "(x * {}) + y": lambda x, y, f=factor: x * f + y,
                "x + y * {}": lambda x, y, f=factor: x + y * f,
            }.items():
                yield Edit(f"without the factor {name}", line.format(name), site.replaced(form))
            continue
        yield Edit(
            f"without the factor {name}",
            f"* {name}",
            lambda f=factor: torch.as_tensor(site.ours) * f,
        )


embedding_scale = Difference(
    code="EMB-04",
    title="A factor sqrt(dim) after the embedding",
    torch="nn.Embedding: the row as it is",
    jax="nn.Embed: the same; many Transformers multiply by sqrt(dim)",
    fix_torch="embedding(ids) * dim**0.5",
    fix_jax="without the factor",
    kinds=f"{EMBED_KINDS}|glue|add",
    measure=_embedding_scale,
    edits=_scales,
    whats=EVERYTHING,
)


def _max_norm() -> tuple[float, float]:
    weight = normal(5, 3, scale=3.0)
    ours = F.embedding(_ids(), weight.clone(), max_norm=1.0)

    def capped(w: Any, i: Any) -> Any:
        norm = jnp.linalg.norm(w[i], axis=-1, keepdims=True)
        return jnp.where(norm > 1.0, w[i] / (norm + 1e-7), w[i])

    return against(ours, lambda w, i: w[i], capped, weight, _ids())


def _without_max_norm(site: Site) -> Iterator[Edit]:
    own = settings(site, EMBED)
    if own.max_norm is None:
        return
    p = own.norm_type or 2.0

    def exact(ids: Any, s: Any) -> Any:
        rows = F.embedding(ids, s.weight)
        norm = torch.linalg.vector_norm(rows, p, dim=-1, keepdim=True)
        return torch.where(norm > own.max_norm, rows * own.max_norm / norm, rows)

    line = "rows longer than max_norm times max_norm / (norm + 1e-7)"
    yield from forms(
        site,
        EMBED,
        (line, "max_norm=None", lambda ids, s: F.embedding(ids, s.weight)),
        (line, "max_norm / norm, without the 1e-7", exact),
    )


max_norm = Difference(
    code="EMB-05",
    title="Embedding's max_norm",
    torch="nn.Embedding(max_norm=c): longer rows are shortened in place, with 1e-7 added",
    jax="nn.Embed: no such argument",
    fix_torch="max_norm=None",
    fix_jax="jnp.where(norm > c, w * c / (norm + 1e-7), w)",
    kinds=EMBED_KINDS,
    measure=_max_norm,
    edits=_without_max_norm,
)


def _by_frequency() -> tuple[float, float]:
    ours, weight, cotangent = _embedding_gradient(scale_grad_by_freq=True)
    counts = torch.bincount(_ids().flatten(), minlength=5).clamp(min=1)
    theirs = _take_gradient(weight, cotangent)
    return gaps(ours, theirs, theirs / counts.numpy()[:, None])


def _not_by_frequency(site: Site) -> Iterator[Edit]:
    own = settings(site, EMBED)
    if own.scale_grad_by_freq:
        yield Edit(
            "divide each row's gradient by the count of its id",
            "scale_grad_by_freq=False",
            layer(site, EMBED, lambda i, s: F.embedding(i, s.weight, own.padding_idx)),
        )


by_frequency = Difference(
    code="EMB-06",
    title="scale_grad_by_freq",
    torch="nn.Embedding(scale_grad_by_freq=True): row gradients are divided by the id's count",
    jax="nn.Embed: no such argument",
    fix_torch="scale_grad_by_freq=False",
    fix_jax="divide each row's gradient by the count of its id",
    kinds=EMBED_KINDS,
    measure=_by_frequency,
    edits=_not_by_frequency,
    whats=("param",),
)
