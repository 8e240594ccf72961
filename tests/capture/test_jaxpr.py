"""The walk of a jaxpr: JAX's named functions are recorded, each once."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare.capture.jaxpr import Walk
from compare.capture.taps import BRANCHES, FUNCTIONS
from tests.arrays import close


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["", "jit", "remat"])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_named_functions_of_jax_are_recorded_once(name: str, wrap: Callable, normal):
    pools = {"max_pool": fnn.max_pool}

    def model(x):
        if name in pools:
            return pools[name](x, (2, 2), (2, 2))
        return getattr(jax.nn, name)(x)

    call = wrap(model)
    with jax.enable_x64(True):
        x = jnp.asarray(normal(0, 2, 4, 4, 3))
        closed = jax.make_jaxpr(call)(x)
        walk = Walk(root=False)
        (out,) = walk.run(closed, [x])
        wanted = np.asarray(call(x))
    assert list(walk.info) == [name]
    assert walk.info[name].source.startswith("tests/")
    close(walk.taps[name], wanted)
    close(out, wanted)
    assert list(walk.branches) == ([name] if name in BRANCHES else [])
