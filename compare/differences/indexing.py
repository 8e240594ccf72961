"""Indexing, sorting and the order of elements."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, gap, gaps, jax64, normal
from compare.differences.shared.calls import option
from compare.differences.shared.frameworks import jax, jnp, torch
from compare.twin import generator


def _beyond() -> tuple[float, float]:
    x, i = normal(5), torch.tensor([0, 7])
    ours = x[i.clamp(max=4)]
    return against(
        ours, lambda v, k: jnp.take(v, k), lambda v, k: jnp.take(v, k, mode="clip"), x, i
    )


beyond = Difference(
    code="IDX-01",
    title="indices beyond the end, read",
    torch="x[i]: IndexError",
    jax="jnp.take: NaN; x[i]: the last element; dynamic_slice: an earlier slice",
    fix_torch="x[i.clamp(max=len(x) - 1)]",
    fix_jax="jnp.take(x, i, mode='clip')",
    kinds="",  # PyTorch raises: there is no value to compare
    measure=_beyond,
)


def _duplicates() -> tuple[float, float]:
    x, i = normal(4), torch.tensor([0, 0, 2])
    ours = x.clone()
    ours[i] += 1
    return against(ours, lambda v, k: v.at[k].add(1), lambda v, k: v.at[k].set(v[k] + 1), x, i)


def _duplicate_forms(site: Site) -> Iterator[Edit]:
    def accumulated(x, indices, values, *_):
        return torch.index_put(x, indices, values, accumulate=True)

    yield Edit(
        "x.at[i].set(values)",
        "torch.index_put(x, i, values, accumulate=True)",
        site.called(function=lambda *args, **_: accumulated(*args)),
    )


duplicates = Difference(
    code="IDX-02",
    title="indices that occur twice, written",
    torch="x[i] += 1: once for each index; index_add_ adds for each",
    jax="x.at[i].add(1): adds for each",
    fix_torch="x.index_add_(0, i, torch.ones(len(i)))",
    fix_jax="x.at[i].set(x[i] + 1)",
    kinds="index_put_?",
    measure=_duplicates,
    edits=_duplicate_forms,
    whats=("output",),
)


def _segments() -> tuple[float, float]:
    x, i = normal(6), torch.tensor([0, 1, 0, 2, 1, 0])
    ours = torch.zeros(4, dtype=torch.float64).scatter_reduce(0, i, x, "mean")

    def mean(v, k, more):
        total = jax.ops.segment_sum(v, k, 4)
        return total / jnp.maximum(jnp.bincount(k, length=4) + more, 1)

    return against(ours, lambda v, k: mean(v, k, 0), lambda v, k: mean(v, k, 1), x, i)


def _segment_forms(site: Site) -> Iterator[Edit]:
    ours = option(site, "include_self", 5, True)

    def other(x, dim, index, source, reduce, *_, **__):
        return x.scatter_reduce(dim, index, source, reduce, include_self=not ours)

    yield Edit(
        "count the first value as well" if ours else "leave the first value out",
        f"include_self={not ours}",
        site.called(function=other),
    )


segments = Difference(
    code="IDX-03",
    title="scatter_reduce and segments: the value that was there",
    torch="x.scatter_reduce: counts it (include_self=True)",
    jax="jax.ops.segment_sum and its like: only the values",
    fix_torch="x.scatter_reduce(…, include_self=False)",
    fix_jax="add the first value to the sum and 1 to the count",
    kinds="scatter_reduce_?",
    measure=_segments,
    edits=_segment_forms,
    whats=("output",),
)


def _empty() -> tuple[float, float]:
    x, i = normal(5), torch.tensor([0, 2, 2, 0, 0])
    ours = torch.zeros(3, dtype=torch.float64)
    ours = ours.scatter_reduce(0, i, x, "amax", include_self=False)

    def largest(v, k):
        return jax.ops.segment_max(v, k, 3)

    naive = jax64(largest, x, i)
    mended = jax64(lambda v, k: jnp.where(jnp.bincount(k, length=3) > 0, largest(v, k), 0.0), x, i)
    return gaps(ours, naive, mended)


empty = Difference(
    code="IDX-04",
    title="segments without a value",
    torch="x.scatter_reduce('amax', include_self=False): the value that was there",
    jax="jax.ops.segment_max: -inf",
    fix_torch="start from torch.full(…, -inf)",
    fix_jax="jnp.where(jnp.bincount(i, length=n) > 0, maximum, 0)",
    kinds="",  # IDX-03 holds scatter_reduce's candidates
    measure=_empty,
)


def _stability() -> tuple[float, float]:
    x = torch.from_numpy(generator(0, "ties").integers(0, 3, 1000).astype(np.float64))
    theirs = jax64(jnp.argsort, x)
    return gap(torch.argsort(x), theirs), gap(torch.argsort(x, stable=True), theirs)


def _stability_forms(site: Site) -> Iterator[Edit]:
    def stable(x, dim=-1, descending=False, **_):
        return torch.argsort(x, dim=dim, descending=descending, stable=True)

    yield Edit(
        "jnp.argsort(x, stable=False) orders ties at will: compare a stable order",
        "torch.argsort(x, stable=True)",
        site.called(function=stable),
    )


stability = Difference(
    code="IDX-05",
    title="sorting: the order of ties",
    torch="torch.argsort: any (stable=False)",
    jax="jnp.argsort: as they came (stable=True)",
    fix_torch="torch.argsort(x, stable=True)",
    fix_jax="none: a stable order on both sides",
    kinds="argsort",
    measure=_stability,
    edits=_stability_forms,
    whats=("output",),
)


def _largest() -> tuple[float, float]:
    x = torch.from_numpy(generator(1, "ties").integers(0, 3, 1000).astype(np.float64))
    theirs = jax64(lambda v: jax.lax.top_k(v, 40)[1], x)
    return (
        gap(torch.topk(x, 40).indices, theirs),
        gap(torch.argsort(x, descending=True, stable=True)[:40], theirs),
    )


largest = Difference(
    code="IDX-06",
    title="the largest k: the order of ties",
    torch="torch.topk: any",
    jax="jax.lax.top_k: the lower index first",
    fix_torch="torch.argsort(x, descending=True, stable=True)[:k]",
    fix_jax="none: a stable order on both sides",
    kinds="",  # a pair of values and indices is no one place's
    measure=_largest,
)


def _edges() -> tuple[float, float]:
    x = torch.tensor([1.0, 2.0, 2.5], dtype=torch.float64)
    edges = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    naive = jax64(jnp.digitize, x, edges)
    mended = jax64(lambda v, e: jnp.digitize(v, e, right=True), x, edges)
    return gaps(torch.bucketize(x, edges), naive, mended)


def _edge_forms(site: Site) -> Iterator[Edit]:
    right = option(site, "right", default=False)
    first = torch.bucketize if site.kind == "bucketize" else torch.searchsorted
    yield Edit(
        f"jnp.digitize(x, edges, right={not right})",
        f"right={not right}",
        site.called(function=lambda x, y, **_: first(x, y, right=not right)),
    )


edges = Difference(
    code="IDX-07",
    title="bins: a value on an edge",
    torch="torch.bucketize(right=False): edges[i - 1] < x <= edges[i]",
    jax="jnp.digitize(right=False): edges[i - 1] <= x < edges[i]",
    fix_torch="torch.bucketize(x, edges, right=True)",
    fix_jax="jnp.digitize(x, edges, right=True)",
    kinds="bucketize|searchsorted",
    measure=_edges,
    edits=_edge_forms,
    whats=("output",),
)


def _repeat() -> tuple[float, float]:
    x = normal(3)
    return against(x.repeat(2), lambda v: jnp.repeat(v, 2), lambda v: jnp.tile(v, 2), x)


def _repeat_forms(site: Site) -> Iterator[Edit]:
    if site.kind == "repeat_interleave":
        count, dim = option(site, "repeats", 1), option(site, "dim", 2)

        def tiled(x, *_):
            if dim is None:
                return x.flatten().repeat(count)
            return x.repeat(*[count if i == dim % x.ndim else 1 for i in range(x.ndim)])

        yield Edit("jnp.repeat(x, n, axis)", "x.repeat(n)", site.replaced(tiled))
        return
    counts = site.args[1:]
    counts = counts[0] if len(counts) == 1 and not isinstance(counts[0], int) else counts

    def interleaved(x, *_):
        x = x.reshape((1,) * (len(counts) - x.ndim) + tuple(x.shape))
        for axis, count in enumerate(counts):
            x = torch.repeat_interleave(x, count, axis)
        return x

    yield Edit("jnp.tile(x, n)", "torch.repeat_interleave(x, n, dim)", site.replaced(interleaved))


repeat = Difference(
    code="IDX-08",
    title="repeat: the whole, or each element",
    torch="x.repeat(n): the whole; torch.repeat_interleave: each element",
    jax="jnp.repeat: each element; jnp.tile: the whole",
    fix_torch="torch.repeat_interleave(x, n)",
    fix_jax="jnp.tile(x, n)",
    kinds="repeat|tile|repeat_interleave",
    measure=_repeat,
    edits=_repeat_forms,
)


def _grid() -> tuple[float, float]:
    x, y = normal(3), normal(3, seed=1)
    ours = torch.stack(torch.meshgrid(x, y, indexing="ij"))

    def points(indexing):
        return lambda a, b: jnp.stack(jnp.meshgrid(a, b, indexing=indexing))

    return against(ours, points("xy"), points("ij"), x, y)


def _grid_forms(site: Site) -> Iterator[Edit]:
    ours = option(site, "indexing", default="ij")
    other = "xy" if ours == "ij" else "ij"
    yield Edit(
        f"jnp.meshgrid(x, y, indexing={ours!r})",
        f"torch.meshgrid(x, y, indexing={other!r})",
        site.replaced(lambda *xs: torch.meshgrid(*xs, indexing=other)),
    )


mesh = Difference(
    code="IDX-09",
    title="meshgrid: rows or columns first",
    torch="torch.meshgrid: indexing='ij'",
    jax="jnp.meshgrid: indexing='xy'",
    fix_torch="torch.meshgrid(x, y, indexing='xy')",
    fix_jax="jnp.meshgrid(x, y, indexing='ij')",
    kinds="meshgrid",
    measure=_grid,
    edits=_grid_forms,
)


def _split() -> tuple[float, float]:
    x = normal(6)
    naive = jax64(lambda v: jnp.split(v, 2)[0], x)
    mended = jax64(lambda v: jnp.split(v, 3)[0], x)
    return gaps(torch.split(x, 2)[0], naive, mended)


split = Difference(
    code="IDX-10",
    title="split: the size of the parts or their number",
    torch="torch.split(x, n): parts of n",
    jax="jnp.split(x, n): n parts",
    fix_torch="torch.chunk(x, n)",
    fix_jax="jnp.split(x, len(x) // n)",
    kinds="",  # the parts have another shape
    measure=_split,
)


def _transpose() -> tuple[float, float]:
    x = normal(3, 2, 3)
    naive = jax64(jnp.transpose, x)
    mended = jax64(lambda v: jnp.transpose(v, (2, 0, 1)), x)
    return gaps(x.transpose(1, 2).transpose(0, 1), naive, mended)


def _transpose_forms(site: Site) -> Iterator[Edit]:
    from itertools import permutations

    rank = site.inputs[0].ndim
    for order in permutations(range(rank)) if rank <= 4 else ():
        yield Edit(
            "PyTorch's order of the axes: jnp.swapaxes swaps two, jnp.transpose takes them all",
            f"x.permute{order}",
            site.replaced(lambda x, *_, o=order: x.permute(o)),
        )


transpose = Difference(
    code="IDX-11",
    title="transpose: two axes or all",
    torch="x.transpose(i, j): swaps two axes; x.permute(...) orders all",
    jax="jnp.transpose(x): reverses all; jnp.swapaxes swaps two",
    fix_torch="x.permute(2, 1, 0)",
    fix_jax="jnp.transpose(x, (2, 0, 1))",
    kinds="transpose|permute|swapaxes|t|movedim",
    measure=_transpose,
    edits=_transpose_forms,
)
