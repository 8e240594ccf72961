"""Types, integers, statistics and indexing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compare.differences.calls import option, without
from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import gap, jax64, normal
from compare.share import to_jax, to_numpy
from compare.twin import generator


def _against(ours: Any, naive: Callable, mended: Callable, *arrays: Any) -> tuple[float, float]:
    """The gaps of two JAX functions of the same arrays."""
    return gap(ours, jax64(naive, *arrays)), gap(ours, jax64(mended, *arrays))


def _double() -> tuple[float, float]:
    import jax

    x = 10 * normal(50)
    with jax.enable_x64(False):
        single = to_numpy(to_jax(to_numpy(x)))
    return gap(x, single), gap(x, jax64(lambda v: v, x))


double = Difference(
    code="DT-01",
    title="float64 becomes float32",
    torch="a float64 array stays float64",
    jax="float32, without a word, unless x64 is enabled",
    fix_torch="x.float()",
    fix_jax="jax.config.update('jax_enable_x64', True)",
    kinds="",  # the check runs both sides in float64 and names what is lower
    measure=_double,
)


def _long() -> tuple[float, float]:
    import jax
    import torch

    x = torch.tensor([1, 2**31, 2**40 + 3])
    with jax.enable_x64(False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            short = to_numpy(to_jax(to_numpy(x)))
    return gap(x, short.astype(np.int64)), gap(x, jax64(lambda v: v, x))


long = Difference(
    code="DT-02",
    title="int64 becomes int32",
    torch="integers are int64",
    jax="int32 unless x64 is enabled: 2**31 is -2**31",
    fix_torch="x.int()",
    fix_jax="jax.config.update('jax_enable_x64', True)",
    kinds="",  # identifiers and hashes, no layer's values
    measure=_long,
)


def _deviation() -> tuple[float, float]:
    import torch

    x = normal(3, 10)
    return _against(torch.std(x, dim=1), lambda v: v.std(1), lambda v: v.std(1, ddof=1), x)


def _deviation_forms(site: Site) -> Iterator[Edit]:
    import torch

    name = {"std_mean": "std", "var_mean": "var"}.get(site.kind, site.kind)
    unbiased = option(site, "unbiased", default=True)
    own = option(site, "correction", default=int(unbiased))
    dim, keep = option(site, "dim", 1), option(site, "keepdim", 3, False)
    for correction in without((0, 1), own):
        for form, function in (("std", torch.std), ("var", torch.var)):
            yield Edit(
                f"jnp.{name}(x, axis, ddof={own})",
                f"torch.{form}(x, dim, correction={correction})",
                site.replaced(
                    lambda x, *_, f=function, c=correction: f(
                        x, dim=dim, correction=c, keepdim=keep
                    )
                ),
            )
    other = torch.var if name == "std" else torch.std
    yield Edit(
        f"jnp.{name}(x, axis, ddof={own})",
        f"torch.{other.__name__}(x, dim)",
        site.replaced(lambda x, *_: other(x, dim=dim, correction=own, keepdim=keep)),
    )


deviation = Difference(
    code="DT-03",
    title="standard deviation and variance: n or n - 1",
    torch="torch.std, torch.var: divide by n - 1",
    jax="jnp.std, jnp.var: divide by n",
    fix_torch="torch.std(x, correction=0)",
    fix_jax="jnp.std(x, ddof=1)",
    kinds="std|var",
    measure=_deviation,
    edits=_deviation_forms,
)


def _integer_sum() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    x = torch.full((5,), 100, dtype=torch.int8)
    return _against(
        torch.cumsum(x, 0),
        lambda v: jnp.cumsum(v).astype(int),
        lambda v: jnp.cumsum(v.astype(int)),
        x,
    )


integer_sum = Difference(
    code="DT-04",
    title="cumulative sums of small integers",
    torch="torch.cumsum of int8: int64",
    jax="jnp.cumsum of int8: int8, which wraps",
    fix_torch="torch.cumsum(x, 0, dtype=torch.int8)",
    fix_jax="jnp.cumsum(x.astype(int))",
    kinds="",  # float64 has no small integers
    measure=_integer_sum,
)


def _cast() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    x = torch.tensor([-1.0, 300.0, 17.5], dtype=torch.float64)
    return _against(
        x.long().remainder(256).to(torch.uint8).double(),
        lambda v: v.astype(jnp.uint8).astype(float),
        lambda v: (v.astype(int) % 256).astype(jnp.uint8).astype(float),
        x,
    )


cast = Difference(
    code="DT-05",
    title="floats that do not fit an unsigned integer",
    torch="x.to(torch.uint8): wraps around, -1.0 is 255 and 300.0 is 44",
    jax="x.astype(jnp.uint8): saturates, -1.0 is 0 and 300.0 is 255",
    fix_torch="x.clamp(0, 255).to(torch.uint8)",
    fix_jax="jnp.clip(x, 0, 255) on both sides",
    kinds="",  # images before the first layer
    measure=_cast,
)


def _division() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import torch

    x, y = torch.tensor([-7, 7, -7, 7]), torch.tensor([3, -3, -3, 3])
    return _against(x // y, jax.lax.div, jnp.floor_divide, x, y)


def _division_forms(site: Site) -> Iterator[Edit]:
    import torch

    yield Edit(
        "x // y, jnp.floor_divide",
        "torch.div(x, y, rounding_mode='trunc')",
        site.called(function=lambda x, y, **_: torch.div(x, y, rounding_mode="trunc")),
    )


division = Difference(
    code="DT-06",
    title="integer division: rounded down or towards 0",
    torch="x // y: down",
    jax="x // y: down; jax.lax.div, jax.lax.rem: towards 0",
    fix_torch="torch.div(x, y, rounding_mode='trunc')",
    fix_jax="jnp.floor_divide(x, y)",
    kinds="floor_divide|__floordiv__",
    measure=_division,
    edits=_division_forms,
    whats=("output",),
)


def _remainder() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import torch

    x, y = normal(9, scale=3.0), torch.full((9,), 2.0, dtype=torch.float64)
    return _against(x % y, jax.lax.rem, jnp.remainder, x, y)


def _remainder_forms(site: Site) -> Iterator[Edit]:
    import torch

    other = torch.remainder if site.kind == "fmod" else torch.fmod
    yield Edit(
        "jnp.fmod(x, y)" if site.kind == "fmod" else "jnp.remainder(x, y)",
        f"torch.{other.__name__}(x, y)",
        site.called(function=other),
    )


remainder = Difference(
    code="DT-07",
    title="remainder: the sign of the divisor or of the dividend",
    torch="x % y, torch.remainder: the divisor's sign; torch.fmod: the dividend's",
    jax="x % y, jnp.remainder: the divisor's; jax.lax.rem, jnp.fmod: the dividend's",
    fix_torch="torch.fmod(x, y)",
    fix_jax="jnp.remainder(x, y)",
    kinds="remainder|__mod__|fmod",
    measure=_remainder,
    edits=_remainder_forms,
)


def _rounding() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import torch

    x = torch.tensor([-2.5, -0.5, 0.5, 1.5, 2.5], dtype=torch.float64)
    return _against(torch.round(x), jax.lax.round, jnp.round, x)


def _rounding_forms(site: Site) -> Iterator[Edit]:
    import torch

    forms: dict[str, Callable] = {
        "torch.sign(x) * torch.floor(x.abs() + 0.5)": lambda x: x.sign() * (x.abs() + 0.5).floor(),
        "torch.floor(x + 0.5)": lambda x: (x + 0.5).floor(),
        "torch.floor(x)": torch.floor,
        "torch.trunc(x)": torch.trunc,
    }
    for text, form in forms.items():
        yield Edit("jnp.round(x)", text, site.replaced(lambda x, *_, f=form: f(x)))


rounding = Difference(
    code="DT-08",
    title="rounding of halves",
    torch="torch.round: to the even neighbour",
    jax="jnp.round: to the even one; jax.lax.round: away from 0",
    fix_torch="torch.sign(x) * torch.floor(x.abs() + 0.5)",
    fix_jax="jnp.round(x)",
    kinds="round_?",
    measure=_rounding,
    edits=_rounding_forms,
    whats=("output",),
)


def _param_dtype() -> tuple[float, float]:
    import flax.linen as fnn
    import jax
    import jax.numpy as jnp
    import torch.nn.functional as F

    x, w = normal(4, 3), normal(5, 3, seed=1)

    def run(dtype):
        def dense(v, kernel):
            layer = fnn.Dense(5, use_bias=False, param_dtype=dtype)
            start = jax.tree.leaves(layer.init(jax.random.key(0), v))[0]
            return layer.apply({"params": {"kernel": kernel.T.astype(start.dtype)}}, v)

        return dense

    return _against(F.linear(x, w), run(jnp.float32), run(jnp.float64), x, w)


param_dtype = Difference(
    code="DT-09",
    title="the type of Flax's parameters",
    torch="parameters follow model.double()",
    jax="param_dtype=jnp.float32, with x64 as well",
    fix_torch="model.float()",
    fix_jax="nn.Dense(features, param_dtype=jnp.float64)",
    kinds="",  # copied weights bring their own type
    measure=_param_dtype,
)


def _promotion() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    x = normal(9).half()
    part = torch.tensor(0.75, dtype=torch.float32)

    def product(v, scalar):
        return (v * scalar).astype(jnp.float64)

    return _against(
        (x * part).double(),
        lambda v: product(v, jnp.float32(0.75)),
        lambda v: product(v, 0.75),
        x,
    )


promotion = Difference(
    code="DT-10",
    title="a scalar array raises the type",
    torch="float16 array times float32 scalar tensor: float16",
    jax="float16 array times float32 scalar array: float32; a Python number leaves float16",
    fix_torch="x.float() * scalar",
    fix_jax="a Python number, or scalar.astype(x.dtype)",
    kinds="",  # the check runs both sides in float64
    measure=_promotion,
)


def _rewritten() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import torch

    x = torch.tensor([1.0, 1000.0], dtype=torch.float64)

    def function(v):
        return jnp.log(jnp.exp(v))

    return _against(x.exp().log(), jax.jit(function), function, x)


rewritten = Difference(
    code="DT-11",
    title="log(exp(x)) under jit",
    torch="inf where exp overflows",
    jax="jax.jit rewrites it to x: finite; since jaxlib 0.11.2 as in PyTorch",
    fix_torch="x",
    fix_jax="call the function outside of jax.jit",
    kinds="",  # two functions in a row: neither alone shows it
    measure=_rewritten,
    gone="jaxlib 0.11.2",
)


# Indexing.


def _beyond() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    x, i = normal(5), torch.tensor([0, 7])
    ours = x[i.clamp(max=4)]
    return _against(
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
    import torch

    x, i = normal(4), torch.tensor([0, 0, 2])
    ours = x.clone()
    ours[i] += 1
    return _against(ours, lambda v, k: v.at[k].add(1), lambda v, k: v.at[k].set(v[k] + 1), x, i)


def _duplicate_forms(site: Site) -> Iterator[Edit]:
    import torch

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
    import jax
    import jax.numpy as jnp
    import torch

    x, i = normal(6), torch.tensor([0, 1, 0, 2, 1, 0])
    ours = torch.zeros(4, dtype=torch.float64).scatter_reduce(0, i, x, "mean")

    def mean(v, k, more):
        total = jax.ops.segment_sum(v, k, 4)
        return total / jnp.maximum(jnp.bincount(k, length=4) + more, 1)

    return _against(ours, lambda v, k: mean(v, k, 0), lambda v, k: mean(v, k, 1), x, i)


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
    import jax
    import jax.numpy as jnp
    import torch

    x, i = normal(5), torch.tensor([0, 2, 2, 0, 0])
    ours = torch.zeros(3, dtype=torch.float64)
    ours = ours.scatter_reduce(0, i, x, "amax", include_self=False)

    def largest(v, k):
        return jax.ops.segment_max(v, k, 3)

    return _against(
        ours,
        largest,
        lambda v, k: jnp.where(jnp.bincount(k, length=3) > 0, largest(v, k), 0.0),
        x,
        i,
    )


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
    import jax.numpy as jnp
    import torch

    x = torch.from_numpy(generator(0, "ties").integers(0, 3, 1000).astype(np.float64))
    theirs = jax64(jnp.argsort, x)
    return gap(torch.argsort(x), theirs), gap(torch.argsort(x, stable=True), theirs)


def _stability_forms(site: Site) -> Iterator[Edit]:
    import torch

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
    import jax
    import torch

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
    import jax.numpy as jnp
    import torch

    x = torch.tensor([1.0, 2.0, 2.5], dtype=torch.float64)
    edges = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    return _against(
        torch.bucketize(x, edges),
        jnp.digitize,
        lambda v, e: jnp.digitize(v, e, right=True),
        x,
        edges,
    )


def _edge_forms(site: Site) -> Iterator[Edit]:
    import torch

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
    import jax.numpy as jnp

    x = normal(3)
    return _against(x.repeat(2), lambda v: jnp.repeat(v, 2), lambda v: jnp.tile(v, 2), x)


def _repeat_forms(site: Site) -> Iterator[Edit]:
    import torch

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
    import jax.numpy as jnp
    import torch

    x, y = normal(3), normal(3, seed=1)
    ours = torch.stack(torch.meshgrid(x, y, indexing="ij"))

    def points(indexing):
        return lambda a, b: jnp.stack(jnp.meshgrid(a, b, indexing=indexing))

    return _against(ours, points("xy"), points("ij"), x, y)


def _grid_forms(site: Site) -> Iterator[Edit]:
    import torch

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
    import jax.numpy as jnp
    import torch

    x = normal(6)
    return _against(
        torch.split(x, 2)[0],
        lambda v: jnp.split(v, 2)[0],
        lambda v: jnp.split(v, 3)[0],
        x,
    )


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
    import jax.numpy as jnp

    x = normal(3, 2, 3)
    return _against(
        x.transpose(1, 2).transpose(0, 1),
        jnp.transpose,
        lambda v: jnp.transpose(v, (2, 0, 1)),
        x,
    )


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
