"""What a traced JAX program holds, and what it makes of that alone, whatever it is given."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from compare.capture.jax_masks import INLINED
from compare.capture.jax_versions import bound, opened
from compare.capture.jaxpr import source
from compare.capture.tables import Value

MOST = 2**22  # elements: what is larger is no table


def constants(program: Any, computed: bool) -> Iterator[Value]:
    """The floating constants of a program and, if asked, the values that depend on nothing else."""
    yield from _run(program, [None] * len(opened(program)[0].invars), computed)


def _run(
    program: Any, args: Sequence[Any], computed: bool
) -> Generator[Value, None, list[Any | None]]:
    """Gives the values, and returns the outputs; None where they depend on an argument."""
    jaxpr, consts = opened(program)
    env: dict[Any, Any] = dict(zip(jaxpr.invars, args, strict=True))
    env |= dict(zip(jaxpr.constvars, consts, strict=True))
    users = {v: source(eqn) for eqn in reversed(jaxpr.eqns) for v in _variables(eqn.invars)}
    for variable, value in zip(jaxpr.constvars, consts, strict=True):
        if _is_floating(value):
            yield Value(users.get(variable, ""), _array(value), held=True)
    for eqn in jaxpr.eqns:
        literals = [v.val for v in eqn.invars if isinstance(v, core.Literal)]
        where = source(eqn)
        yield from (Value(where, _array(v), held=True) for v in literals if _is_floating(v))
        values = [v.val if isinstance(v, core.Literal) else env.get(v) for v in eqn.invars]
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if inner is not None and eqn.primitive.name in INLINED:
            outputs = yield from _run(inner, values, computed)
        elif (
            not computed
            or any(value is None for value in values)
            or any(_size(variable) > MOST for variable in eqn.outvars)
        ):
            outputs = [None] * len(eqn.outvars)
        else:
            outputs = bound(eqn, values)
            yield from (Value(where, _array(x)) for x in outputs if _is_floating(x))
        env |= dict(zip(eqn.outvars, outputs, strict=True))
    return [v.val if isinstance(v, core.Literal) else env.get(v) for v in jaxpr.outvars]


def _variables(atoms: Sequence[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, core.Literal)]


def _is_floating(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating)


def _array(value: Any) -> np.ndarray:
    return np.asarray(value).astype(np.float64)


def _size(variable: Any) -> int:
    return int(np.prod(getattr(variable.aval, "shape", ())))
