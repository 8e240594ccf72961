"""The equations of one pass of JAX's, evaluated one by one, with their fingerprints.

Functions that are called, custom rules too, are gone into, and the body of a scan step by step; a
`while` is one operation. Compiled in one piece, with every fingerprint as an output, nothing could
be fused, and layers that are repeated would be compiled as often; one by one they are compiled
once, and a value is dropped when nothing reads it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from compare.capture.dataflow import INNER
from compare.capture.fingerprint import Fingerprint, fingerprint, ordered
from compare.capture.jax_masks import INLINED, Sampler, samples
from compare.capture.jax_versions import bound, carried, opened
from compare.capture.jaxpr import Walk, last_uses, source, theirs
from compare.capture.operations import Operation, Operations
from compare.share import to_numpy

CUSTOM = ("custom_jvp_call", "custom_vjp_call")
REARRANGING = frozenset("reshape transpose squeeze expand_dims copy copy_p rev".split())
MOVING = REARRANGING | frozenset(
    "slice dynamic_slice concatenate pad broadcast_in_dim convert_element_type split gather".split()
)

Known = tuple[Any, int]  # a value and its number


class Watcher:
    """Evaluates a jaxpr, and keeps its operations.

    Args:
      sampler: gives the masks of dropout.

    Attributes:
      found: the operations so far.
    """

    def __init__(self, sampler: Sampler):
        self.sampler = sampler
        self.found = Operations()
        self._line = ""

    def run(
        self, program: Any, args: Sequence[Known], scope: str = "", line: str = ""
    ) -> list[Known]:
        """The outputs of a jaxpr.

        Args:
          scope: the name stack around it.
          line: of user code that called it, if it is a library's. What a library compiles is traced
            once: its own equations tell the line of the first call.
        """
        jaxpr, consts = opened(program)
        env: dict[Any, Known] = {}
        env |= {v: self._constant(x) for v, x in zip(jaxpr.constvars, consts, strict=True)}
        env |= dict(zip(jaxpr.invars, args, strict=True))
        last = last_uses(jaxpr)

        def read(atom: Any) -> Known:
            return self._constant(atom.val) if isinstance(atom, core.Literal) else env[atom]

        for position, eqn in enumerate(jaxpr.eqns):
            here = "/".join(filter(None, (scope, str(eqn.source_info.name_stack))))
            self._line = line or source(eqn)
            outputs = self._equation(eqn, [read(atom) for atom in eqn.invars], here)
            env |= dict(zip(eqn.outvars, outputs, strict=True))
            for variable in last.get(position, ()):
                env.pop(variable, None)
        return [read(atom) for atom in jaxpr.outvars]

    def _constant(self, value: Any) -> Known:
        return value, self.found.value(None)

    def _equation(self, eqn: Any, args: list[Known], scope: str) -> list[Known]:
        name, params, values = eqn.primitive.name, eqn.params, [x for x, _ in args]
        if name == "name":
            return args
        if samples(eqn):
            return [self._constant(self.sampler.draw(eqn, values, source(eqn), bound))]
        key = next((key for key in INNER if key in params), None)
        if key is not None and name in (*INLINED, *CUSTOM):
            line = self._line if theirs(params[key]) else ""
            return self.run(params[key], args, scope, line)
        if name == "cond":
            index = min(max(int(values[0]), 0), len(params["branches"]) - 1)
            return self.run(params["branches"][index], args[1:], scope)
        if name == "scan" and params["length"]:
            return self._scan(eqn, args, scope)
        return self._ran(eqn, name, args, bound(eqn, values), scope)

    def _ran(
        self, eqn: Any, name: str, args: list[Known], outputs: Sequence[Any], scope: str
    ) -> list[Known]:
        """Keeps an operation that has been run."""
        reads = tuple(number for _, number in args)
        prints = [self.found.prints[number] for number in reads]
        if not any(prints):
            given = [self._constant(x) for x in outputs]
        elif name in REARRANGING:
            given = [(outputs[0], self.found.value(prints[0]))]
        else:
            given = [(x, self.found.value(_print(x))) for x in outputs]
        order = {
            args[i][1]: ordered(to_numpy(args[i][0]), axis)
            for i, axis in _summed(eqn)
            if prints[i] is not None
        }
        gives, moves = tuple(number for _, number in given), name in MOVING
        self.found.operations.append(
            Operation(name, self._line, scope, reads, gives, moves=moves, order=order)
        )
        return given

    def _scan(self, eqn: Any, args: list[Known], scope: str) -> list[Known]:
        params = eqn.params
        body, (n_consts, n_carry), length = params["jaxpr"], carried(params), params["length"]
        consts, carry, xs = args[:n_consts], args[n_consts:][:n_carry], args[n_consts + n_carry :]
        inside = Walk(sampler=self.sampler.inner())  # what the body draws, before it is run
        first = [x for x, _ in (*consts, *carry)] + [x[0] for x, _ in xs]
        jax.eval_shape(lambda: inside.run(body, first))
        masks = self.sampler.enter(inside.sampler, length, params["reverse"])
        rows: dict[int, list[Known]] = {}
        for step in reversed(range(length)) if params["reverse"] else range(length):
            slices = [self._ran(eqn, "slice", [x], [x[0][step]], scope)[0] for x in xs]
            outer = self.sampler
            self.sampler = outer.inner(None if masks is None else [mask[step] for mask in masks])
            results = self.run(body, [*consts, *carry, *slices], scope)
            self.sampler = outer
            carry, rows[step] = results[:n_carry], results[n_carry:]
        stacked = zip(*(rows[step] for step in range(length)), strict=True)
        return carry + [
            self._ran(eqn, "concatenate", list(ys), [jnp.stack([y for y, _ in ys])], scope)[0]
            for ys in stacked
        ]


def recorded(
    closed: Any,
    given: Sequence[tuple[str, Any]],
    ends: Callable[[Sequence[Any]], dict[str, Any]],
    sampler: Sampler,
) -> Operations:
    """The operations of a traced pass.

    Args:
      given: a kind ("weight/…", "data", `INTEGERS`, "seed") and a value for each of its arguments.
      ends: names those of its outputs that the pass comes to.
      sampler: of the masks.
    """
    watcher = Watcher(sampler)
    args = []
    for kind, value in given:
        args.append((value, watcher.found.value(None if kind == "seed" else _print(value))))
        if kind == "seed":
            watcher.found.seed = args[-1][1]
        else:
            watcher.found.given[args[-1][1]] = kind
    outputs = watcher.run(closed, args)
    watcher.found.ends = ends([number for _, number in outputs])
    return watcher.found


def _print(value: Any) -> Fingerprint | None:
    """None for a random key."""
    key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
    return None if key else fingerprint(to_numpy(value))


def _summed(eqn: Any) -> list[tuple[int, int]]:
    """The operands of a product whose elements are summed over along one axis, and that axis."""
    if eqn.primitive.name == "conv_general_dilated":
        return [(0, eqn.params["dimension_numbers"].lhs_spec[1])]
    if eqn.primitive.name == "dot_general":
        axes = enumerate(eqn.params["dimension_numbers"][0])
        return [(i, along[0]) for i, along in axes if len(along) == 1]
    return []
