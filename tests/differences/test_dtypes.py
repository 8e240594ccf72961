"""Types, integers, statistics and indexing: wrong values of JAX's are recognised."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
import torch

from compare.differences.measuring import normal
from tests.differences.places import GRID, KINKS, X, check, label, place

# code, kind, PyTorch's call, JAX's mistake, arguments[, keywords]
PLACES: list[tuple] = [
    ("DT-03", "std", torch.std, lambda x: jnp.std(x, 1), X, 1),
    (
        "DT-06",
        "floor_divide",
        torch.floor_divide,
        jax.lax.div,
        torch.tensor([-7]),
        torch.tensor([2]),
    ),
    ("DT-07", "remainder", torch.remainder, jax.lax.rem, X, torch.full_like(X, 2.0)),
    ("DT-08", "round", torch.round, jax.lax.round, torch.tensor([0.5, 2.5]).double()),
    (
        "IDX-02",
        "index_put",
        lambda x, i, v: torch.index_put(x, (i,) if isinstance(i, torch.Tensor) else i, v),
        lambda x, v: x.at[jnp.array([0, 0])].add(v),
        GRID,
        (torch.tensor([0, 0]),),
        torch.ones(2).double(),
    ),
    (
        "IDX-03",
        "scatter_reduce",
        torch.scatter_reduce,
        lambda x, i, s: jax.ops.segment_sum(s, i, 2) / 2,
        torch.ones(2).double(),
        0,
        torch.tensor([0, 1, 0, 1]),
        GRID[:4],
        "mean",
    ),
    ("IDX-05", "argsort", torch.argsort, jnp.argsort, torch.arange(999).remainder(3).double()),
    ("IDX-07", "bucketize", torch.bucketize, jnp.digitize, KINKS, KINKS),
    ("IDX-08", "repeat", torch.Tensor.repeat, lambda x: jnp.repeat(x, 2), KINKS, 2),
    ("IDX-08", "repeat_interleave", torch.repeat_interleave, lambda x: jnp.tile(x, 2), KINKS, 2),
    (
        "IDX-09",
        "meshgrid",
        lambda x, y: torch.meshgrid(x, y, indexing="ij")[0],
        lambda x, y: jnp.meshgrid(x, y)[0],
        KINKS,
        GRID,
    ),
    ("IDX-11", "transpose", torch.transpose, jnp.transpose, normal(3, 3, 3), 0, 1),
]


@pytest.mark.parametrize("row", PLACES, ids=label)
def test_a_wrong_output_is_recognised(row: tuple):
    code, kind, call, wrong, *args = row
    check(code, place(kind, call, wrong, *args))
