"""What differs between the versions of JAX, each thing in one place."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from jax._src import source_info_util
from jax.extend import core


def opened(program: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr and its constants, which JAX before 0.11 keeps in a ClosedJaxpr around it."""
    jaxpr = program if isinstance(program, core.Jaxpr) else program.jaxpr
    return jaxpr, getattr(program, "consts", ())


def carried(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many of a scan's operands are its constants, and how many its first carry."""
    if "ft_in" in params:  # since JAX 0.11
        consts, carry, _ = params["ft_in"].unpack()
        return len(consts), len(carry)
    return params["num_consts"], params["num_carry"]


def bound(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """What an equation gives for some values."""
    given = eqn.primitive.get_bind_params(eqn.params)
    functions, params = given if isinstance(given, tuple) else ((), given)  # before 0.11 a pair
    result = eqn.primitive.bind(*functions, *values, **params)
    return list(result) if eqn.primitive.multiple_results else [result]


def attributed(eqn: Any, traceback: Any = None) -> contextlib.AbstractContextManager:
    """What is traced meanwhile has the name stack of an equation, and its traceback or another."""
    stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
    context = source_info_util.user_context
    return context(traceback or eqn.source_info.traceback, name_stack=stack)
