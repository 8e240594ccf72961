"""No hidden float32: casts that JAX code itself names are lifted to float64 while it is traced.

After the trace it would be too late: constants are rounded already, and custom rules are traced for
the narrow type. The one function that all of JAX's casts pass through is replaced meanwhile, and
the one that all types pass through which are named to what makes arrays (`arange`, `array`, …).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.core.scope import Scope
from jax._src import dtypes
from jax._src.lax import lax
from jax.extend.core import primitives

from compare.capture.taps import caller, files_of

AS_BITS = ("view", "bitcast_convert_type")  # no cast: the same bits, of the type that is named
HIDDEN = files_of("flax", "jax", "jaxlib", "optax", "equinox")


def narrow(dtype: Any) -> bool:
    """Whether a dtype is a floating one below float64."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 64


@contextlib.contextmanager
def lifted(found: dict[str, None]) -> Iterator[None]:
    """Inside, what a narrow type is named to gives float64, and is listed as "source: type".

    Parameters' initialisers are left alone: Flax runs them for their shapes only.
    """
    convert, param = lax._convert_element_type, Scope.param
    named = dtypes.check_and_canonicalize_user_dtype
    depth = 0

    def widened(dtype: Any) -> Any:
        if dtype is not None and not depth:
            with contextlib.suppress(TypeError):  # extended dtypes, of random keys
                if narrow(np.dtype(dtype)):
                    found[f"{caller(HIDDEN)}: {np.dtype(dtype).name}"] = None
                    return np.dtype(np.float64)
        return dtype

    def wide(operand: Any, new_dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        return convert(operand, widened(new_dtype), *args, **kwargs)

    def wide_named(dtype: Any, fun_name: str | None = None, **options: Any) -> Any:
        return named(dtype if fun_name in AS_BITS else widened(dtype), fun_name, **options)

    def unlifted(*args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        depth += 1
        try:
            return param(*args, **kwargs)
        finally:
            depth -= 1

    def accumulating(bind: Any) -> Any:
        def wide_bind(*args: Any, preferred_element_type: Any = None, **params: Any) -> Any:
            if preferred_element_type is not None and narrow(preferred_element_type):
                found[f"{caller(HIDDEN)}: {np.dtype(preferred_element_type).name}"] = None
                preferred_element_type = np.dtype(np.float64)
            return bind(*args, preferred_element_type=preferred_element_type, **params)

        return wide_bind

    products = (primitives.dot_general_p, primitives.conv_general_dilated_p)
    lax._convert_element_type, Scope.param = wide, unlifted
    dtypes.check_and_canonicalize_user_dtype = wide_named
    for product in products:
        product.bind = accumulating(product.bind)
    try:
        yield
    finally:
        lax._convert_element_type, Scope.param = convert, param
        dtypes.check_and_canonicalize_user_dtype = named
        for product in products:
            del product.bind  # the class's own again
