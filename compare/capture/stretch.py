"""The smallest stretch of a program that compiled gives something else than uncompiled."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from compare.capture.compiler import DTYPES
from compare.capture.distance import distance, finite_norm
from compare.capture.jax_masks import INLINED
from compare.capture.jax_versions import bound, carried, opened
from compare.capture.jaxpr import source
from compare.share import to_numpy
from compare.twin import generator

NOISE = 8.0  # as of a verdict: more than this many times what one ulp in every value does
LONGEST = 64  # operations that are tried one by one, once the first of a stretch is known

Key = tuple[int, Any]  # a variable, in one of the calls that are spelled out


@dataclass(frozen=True)
class Operation:
    """One equation of a program without calls.

    Args:
      inputs: the values that it reads, by key; a literal stands for itself.
      outputs: the keys of what it gives.
    """

    eqn: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Key, ...]

    def run(self, known: Mapping[Key, Any], how: Callable[[Any, Sequence[Any]], Any]) -> Any:
        """What it gives, by key; `how` evaluates one equation."""
        read = [known[i] if _is_key(i) else i for i in self.inputs]
        return dict(zip(self.outputs, how(self.eqn, read), strict=True))


@dataclass(frozen=True)
class Stretch:
    """Operations in a row that compiled give something else.

    Args:
      operations: the names of the primitives.
      source: "file:line" of the last one that user code made.
      before: how far the compiled values are from those operation by operation, relative.
      after: the same compiled with other options; 0 for no farther than rounding.
    """

    operations: tuple[str, ...]
    source: str
    before: float
    after: float


class Uncompiled:
    """A program run operation by operation, the functions that it calls spelled out.

    Args:
      program: a jaxpr.
      args: the arrays that it is given.

    Attributes:
      outputs: what it gives, in order.
    """

    def __init__(self, program: Any, args: Sequence[Any]):
        self.operations: list[Operation] = []
        self.values: dict[Key, Any] = {}
        self._calls = itertools.count()
        keys = [(-1, variable) for variable in opened(program)[0].invars]
        self.values |= dict(zip(keys, args, strict=True))
        self._outputs = self._spelled(program, keys)
        for operation in self.operations:
            self.values |= operation.run(self.values, _alone)

    @property
    def outputs(self) -> list[Any]:
        return [self.values[key] if _is_key(key) else key for key in self._outputs]

    def _spelled(self, program: Any, args: Sequence[Any]) -> list[Any]:
        jaxpr, consts = opened(program)
        call = next(self._calls)
        known: dict[Any, Any] = dict(zip(jaxpr.invars, args, strict=True))
        for variable, value in zip(jaxpr.constvars, consts, strict=True):
            known[variable] = call, variable
            self.values[call, variable] = value

        def key(atom: Any) -> Any:
            return atom.val if isinstance(atom, core.Literal) else known[atom]

        for eqn in jaxpr.eqns:
            read = tuple(map(key, eqn.invars))
            inner = _called(eqn)
            if inner is not None:
                given = self._spelled(inner, read)
            else:
                given = [(call, variable) for variable in eqn.outvars]
                self.operations.append(Operation(eqn, read, tuple(given)))
            known |= dict(zip(eqn.outvars, given, strict=True))
        return [key(atom) for atom in jaxpr.outvars]

    def smallest(self, options: dict[str, Any]) -> Stretch | None:
        """Where the compiled program goes wrong; None where no stretch of it can be blamed.

        Args:
          options: of a compilation that may be right.
        """
        operations, whole = self.operations, len(self.operations)
        made = {key for operation in operations for key in operation.outputs}
        targets = [k for k in self._outputs if _is_key(k) and k in made and self._is_float(k)]
        worst = max(targets, key=lambda key: self._apart(operations, [key]), default=None)
        if worst is None or not self._apart(operations, [worst]):
            return None
        # From the last operation at which it still goes wrong: the shorter, the fewer are left.
        first, too_late = 0, whole
        while too_late - first > 1:
            middle = (first + too_late) // 2
            if self._apart(operations[middle:], [worst]):
                first = middle
            else:
                too_late = middle
        for last in range(first + 1, min(first + LONGEST, whole) + 1):
            keys = [key for key in operations[last - 1].outputs if self._is_float(key)]
            if keys and self._apart(operations[first:last], keys):
                return self._found(operations[first:last], keys, options)
        return self._found(operations[first:], [worst], options)

    def _found(
        self, operations: Sequence[Operation], targets: Sequence[Key], options: dict[str, Any]
    ) -> Stretch:
        used = _needed(operations, targets)
        lines = [line for operation in used if (line := source(operation.eqn))]
        return Stretch(
            tuple(operation.eqn.primitive.name for operation in used),
            lines[-1] if lines else "",
            self._apart(used, targets),
            self._apart(used, targets, options),
        )

    def _apart(
        self,
        operations: Sequence[Operation],
        targets: Sequence[Key],
        options: dict[str, Any] | None = None,
    ) -> float:
        """How far the compiled targets are from the uncompiled ones, relative; 0 for rounding."""
        used = _needed(operations, targets)
        made = {key for operation in used for key in operation.outputs}
        read = (key for operation in used for key in operation.inputs if _is_key(key))
        given = list(dict.fromkeys(key for key in read if key not in made))

        def run(arrays: Sequence[Any], how: Callable = bound, moved: Callable = _same) -> list[Any]:
            known = dict(zip(given, map(moved, arrays), strict=True))
            for operation in used:
                results = operation.run(known, how)
                known |= {key: moved(value) for key, value in results.items()}
            return [known[key] for key in targets]

        arrays = [self.values[key] for key in given]
        wanted = [self.values[key] for key in targets]
        try:
            found = jax.jit(run, compiler_options=options)(arrays)
        except jax.errors.JaxRuntimeError:
            return float("inf")
        limit = max(
            DTYPES.get(value.dtype.name, 16 * float(jnp.finfo(value.dtype).eps)) for value in wanted
        )
        noise = _distance(wanted, run(arrays, _alone, _rounding()))
        apart = _distance(wanted, found)
        return 0.0 if apart <= max(limit, NOISE * noise) else apart

    def _is_float(self, key: Key) -> bool:
        return _floating(self.values[key])


def _is_key(value: Any) -> bool:
    return isinstance(value, tuple)


def _floating(value: Any) -> bool:
    return jax.dtypes.issubdtype(value.dtype, np.floating)


def _same(value: Any) -> Any:
    return value


def _called(eqn: Any) -> Any | None:
    """The function that an equation calls, where nothing but its body is run."""
    inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    return inner if eqn.primitive.name in INLINED else None


def _needed(operations: Sequence[Operation], targets: Sequence[Key]) -> list[Operation]:
    """The operations that the targets are made of."""
    wanted, used = set(targets), []
    for operation in reversed(operations):
        if wanted & set(operation.outputs):
            used.append(operation)
            wanted |= {key for key in operation.inputs if _is_key(key)}
    return used[::-1]


def _alone(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """One equation by itself; of a loop or a branch, which JAX compiles, each operation."""
    params = eqn.params
    if eqn.primitive.name == "scan" and params["length"]:
        return _looped(params, values)
    if eqn.primitive.name == "cond":
        index, *operands = values
        last = len(params["branches"]) - 1
        return _run(params["branches"][min(max(int(index), 0), last)], operands)
    if eqn.primitive.name == "while":
        asked, made = params["cond_nconsts"], params["body_nconsts"]
        carry = list(values[asked + made :])
        while bool(_run(params["cond_jaxpr"], [*values[:asked], *carry])[0]):
            carry = _run(params["body_jaxpr"], [*values[asked : asked + made], *carry])
        return carry
    return bound(eqn, values)


def _looped(params: Mapping[str, Any], values: Sequence[Any]) -> list[Any]:
    consts, first = carried(params)
    carry, xs = list(values[consts : consts + first]), values[consts + first :]
    steps = range(params["length"])
    rows: dict[int, list[Any]] = {}
    for step in reversed(steps) if params["reverse"] else steps:
        given = [*values[:consts], *carry, *(x[step] for x in xs)]
        results = _run(params["jaxpr"], given)
        carry, rows[step] = results[:first], results[first:]
    return [*carry, *(jnp.stack(ys) for ys in zip(*(rows[s] for s in steps), strict=True))]


def _run(program: Any, args: Sequence[Any]) -> list[Any]:
    """The outputs of a jaxpr, operation by operation."""
    jaxpr, consts = opened(program)
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        read, inner = [value(atom) for atom in eqn.invars], _called(eqn)
        results = _alone(eqn, read) if inner is None else _run(inner, read)
        known |= dict(zip(eqn.outvars, results, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _rounding() -> Callable[[Any], Any]:
    """What rounding may do to a value: each element is moved by one ulp of its own type."""
    rng = generator(0, "stretch")

    def moved(value: Any) -> Any:
        if not _floating(value):
            return value
        value = jnp.asarray(value)
        far = jnp.where(rng.random(value.shape) < 0.5, jnp.inf, -jnp.inf).astype(value.dtype)
        return jnp.where(jnp.isfinite(value), jnp.nextafter(value, far), value)

    return moved


def _distance(wanted: Sequence[Any], found: Sequence[Any]) -> float:
    pairs: Iterator = ((to_numpy(t), to_numpy(j)) for t, j in zip(wanted, found, strict=True))
    apart, size = zip(*((distance(t, j), finite_norm(t)) for t, j in pairs), strict=True)
    return float(np.hypot.reduce(apart) / (np.hypot.reduce(size) or 1.0))
