"""JAX's masks at the sampler: one that cannot be given is said."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
import torch

from compare import Array, Twin
from compare.ladder.verdict import INCONCLUSIVE, SAME
from tests.dropouts import findings
from tests.toys import climb, trouble


@pytest.mark.parametrize("where", ["cond", "nowhere"])
def test_masks_that_cannot_be_given_are_said(where: str):
    """A branch is not walked; what leads nowhere is no matter."""

    def theirs(x):
        key = jax.random.key(0)
        jax.random.normal(key, x.shape)
        if where == "nowhere":
            return jnp.sin(x)
        drop = lambda x: x * jax.random.bernoulli(key, 0.7, x.shape)  # noqa: E731
        return jnp.sin(jax.lax.cond(x[0, 0] > 1e9, drop, lambda x: x, x))

    result = climb(Twin(torch=torch.sin, jax=theirs, inputs={"x": Array((9, 3))}))
    assert result.verdict == (SAME if where == "nowhere" else INCONCLUSIVE), trouble(result)
    assert ("JAX draws at" in findings(result)) == (where == "cond")
