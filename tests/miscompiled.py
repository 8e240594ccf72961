"""Programs that a compiler gets wrong: jaxlib 0.10.2 the one, every version the other."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import vmap
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir


def squares(matrix: Any, rows: Any) -> Any:
    """In JAX; compiled by jaxlib 0.10.2 wrong from 16,385 rows on in float64, 32,769 in float32."""
    return vmap(lambda row: jnp.sum((matrix @ row) ** 2))(rows)


def torch_squares(matrix: Any, rows: Any) -> Any:
    """The same in PyTorch."""
    return ((rows @ matrix.T) ** 2).sum(1)


@functools.cache
def betrayed(name: str, dtype: str | None = None, by: float = 1e-3) -> Any:
    """The identity operation by operation, and compiled the identity but for a factor.

    Args:
      dtype: the only one in which it is compiled wrongly; None for all.
      by: how far the factor is from 1.
    """
    identity = Primitive(f"betrayed_{name}")
    identity.def_impl(lambda x: x)
    identity.def_abstract_eval(lambda x: x)
    ad.deflinear2(identity, lambda cotangent, _: [cotangent])

    def wrong(x: Any) -> Any:
        return x * (1 + by) if dtype in (None, np.dtype(x.dtype).name) else x

    mlir.register_lowering(identity, mlir.lower_fun(wrong, multiple_results=False))
    return identity.bind
