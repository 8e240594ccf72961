"""In what order a jaxpr uses its weights, and on which of them each use depends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from jax.extend import core

from compare.capture.jax_forward import forward
from compare.capture.jax_model import Variables, arranged, key_name, structs
from compare.capture.jax_versions import opened
from compare.share import to_jax
from compare.twin import Twin
from compare.weights.link import Path

INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def first_uses(closed: Any, leaves: int) -> list[tuple[int, frozenset[int]]]:
    """The first `leaves` arguments in the order in which each first meets another value.

    Returns:
      Per argument used: its index, and those of the others that this other value is made of.
    """
    found: dict[int, frozenset[int]] = {}
    arguments = [frozenset([i]) for i in range(len(opened(closed)[0].invars))]

    def run(jaxpr: Any, args: Sequence[frozenset[int]]) -> list[frozenset[int]]:
        made = dict(zip(jaxpr.invars, args, strict=True))
        none: frozenset[int] = frozenset()

        def of(atom: Any) -> frozenset[int]:
            return none if isinstance(atom, core.Literal) else made.get(atom, none)

        for eqn in jaxpr.eqns:
            operands = [of(atom) for atom in eqn.invars]
            inner = next((eqn.params[name] for name in INNER if name in eqn.params), None)
            inner = None if inner is None else opened(inner)[0]
            if inner is not None and len(inner.invars) == len(operands):
                outputs = run(inner, operands)
                if eqn.primitive.name in ("scan", "while"):
                    outputs = [none.union(*operands)] * len(outputs)
            else:
                values = [of(atom) for atom in eqn.invars if not isinstance(atom, core.Literal)]
                for operand in values:
                    others = none.union(*(value for value in values if value != operand))
                    if len(operand) == 1 and any(value != operand for value in values):
                        found.setdefault(min(operand), others)
                outputs = [none.union(*operands)] * len(eqn.outvars)
            made |= dict(zip(eqn.outvars, outputs, strict=True))
        return [of(atom) for atom in jaxpr.outvars]

    run(opened(closed)[0], arguments)
    return [(leaf, others) for leaf, others in found.items() if leaf < leaves]


def order(
    twin: Twin, model: Any, batch: Mapping[str, np.ndarray]
) -> tuple[list[Path], dict[Path, frozenset[Path]]]:
    """The variables in the order of their first use; and what that use depends on, beside them."""
    variables = unflatten_dict(structs(twin, model, batch))
    inputs = [to_jax(arranged(twin, name, batch[name])) for name in twin.inputs]

    def output(variables: Variables, inputs: list) -> Any:
        return forward(twin, model, variables, inputs, twin.call, False)[0]

    closed = jax.make_jaxpr(output)(variables, inputs)
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    paths = [tuple(key_name(k) for k in path) for path, _ in flat]
    uses = first_uses(closed, len(paths))
    before = {paths[i]: frozenset(paths[o] for o in others if o < len(paths)) for i, others in uses}
    return list(before), before
