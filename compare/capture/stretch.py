"""The smallest stretch of a program that compiled gives something else than uncompiled."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend import core

from compare.capture.compiler import DTYPES
from compare.capture.jax_masks import INLINED
from compare.capture.jax_versions import bound, opened
from compare.capture.jaxpr import source
from compare.share import to_jax, to_numpy
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


@dataclass(frozen=True)
class Stretch:
    """Operations in a row that compiled give something else.

    Args:
      operations: the names of the primitives.
      source: "file:line" of the last one that user code made.
      before: how far the compiled values are from those operation by operation, relative.
      after: the same compiled with the options that the harness has for it.
    """

    operations: tuple[str, ...]
    source: str
    before: float
    after: float


def smallest(program: Any, args: Sequence[Any], options: dict[str, Any]) -> Stretch | None:
    """Where a compiled program goes wrong; None where no stretch of it can be blamed.

    Args:
      program: a jaxpr.
      args: the arrays that it is given.
      options: of the compilation that may be right.
    """
    operations, values, outputs = _spelled_out(program, args)
    for operation in operations:
        read = [values[i] if _is_key(i) else i for i in operation.inputs]
        values |= dict(zip(operation.outputs, bound(operation.eqn, read), strict=True))

    def apart(first: int, last: int, targets: Sequence[Key], how: Any = None) -> float:
        return _apart(operations[first:last], values, targets, how)

    targets = [key for key in outputs if _is_float(values.get(key))]
    worst = max(targets, key=lambda key: apart(0, len(operations), [key]), default=None)
    if worst is None or not apart(0, len(operations), [worst]):
        return None
    # From the last operation at which it still goes wrong: the shorter, the fewer are left.
    first, too_late = 0, len(operations)
    while too_late - first > 1:
        middle = (first + too_late) // 2
        if apart(middle, len(operations), [worst]):
            first = middle
        else:
            too_late = middle
    for last in range(first + 1, min(first + LONGEST, len(operations)) + 1):
        keys = [key for key in operations[last - 1].outputs if _is_float(values[key])]
        if keys and (before := apart(first, last, keys)):
            return _found(operations[first:last], values, keys, before, options)
    before = apart(first, len(operations), [worst])
    return _found(operations[first:], values, [worst], before, options)


def _found(
    operations: Sequence[Operation],
    values: Mapping[Key, Any],
    targets: Sequence[Key],
    before: float,
    options: dict[str, Any],
) -> Stretch:
    used = _needed(operations, targets)
    lines = [source(operation.eqn) for operation in used]
    names = tuple(operation.eqn.primitive.name for operation in used)
    after = _apart(used, values, targets, options)
    return Stretch(names, next((line for line in lines[::-1] if line), ""), before, after)


def _spelled_out(
    program: Any, args: Sequence[Any]
) -> tuple[list[Operation], dict[Key, Any], list[Any]]:
    """The operations of a program and of the functions that it calls, in one list."""
    operations: list[Operation] = []
    values: dict[Key, Any] = {}
    number = itertools.count()

    def spell(program: Any, args: Sequence[Any]) -> list[Any]:
        jaxpr, consts = opened(program)
        call = next(number)
        known: dict[Any, Any] = dict(zip(jaxpr.invars, args, strict=True))
        for variable, value in zip(jaxpr.constvars, consts, strict=True):
            known[variable] = call, variable
            values[call, variable] = value

        def key(atom: Any) -> Any:
            return atom.val if isinstance(atom, core.Literal) else known[atom]

        for eqn in jaxpr.eqns:
            read = tuple(map(key, eqn.invars))
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            if inner is not None and eqn.primitive.name in INLINED:
                given = spell(inner, read)
            else:
                given = [(call, variable) for variable in eqn.outvars]
                operations.append(Operation(eqn, read, tuple(given)))
            known |= dict(zip(eqn.outvars, given, strict=True))
        return [key(atom) for atom in jaxpr.outvars]

    jaxpr, _ = opened(program)
    keys = [(-1, variable) for variable in jaxpr.invars]
    values |= dict(zip(keys, args, strict=True))
    return operations, values, spell(program, keys)


def _is_key(value: Any) -> bool:
    return isinstance(value, tuple)


def _is_float(value: Any) -> bool:
    return value is not None and jax.dtypes.issubdtype(value.dtype, np.floating)


def _needed(operations: Sequence[Operation], targets: Sequence[Key]) -> list[Operation]:
    """The operations that the targets are made of."""
    wanted, used = set(targets), []
    for operation in reversed(operations):
        if wanted & set(operation.outputs):
            used.append(operation)
            wanted |= {key for key in operation.inputs if _is_key(key)}
    return used[::-1]


def _apart(
    operations: Sequence[Operation],
    values: Mapping[Key, Any],
    targets: Sequence[Key],
    options: dict[str, Any] | None,
) -> float:
    """How far the compiled targets are from the values that are known, relative; 0 for rounding."""
    used = _needed(operations, targets)
    made = {key for operation in used for key in operation.outputs}
    given = [k for operation in used for k in operation.inputs if _is_key(k) and k not in made]
    given = list(dict.fromkeys(given))

    def run(arrays: Sequence[Any], rounded: Callable[[Any], Any] = lambda x: x) -> list[Any]:
        known = dict(zip(given, map(rounded, arrays), strict=True))
        for operation in used:
            read = [known[i] if _is_key(i) else i for i in operation.inputs]
            results = map(rounded, bound(operation.eqn, read))
            known |= dict(zip(operation.outputs, results, strict=True))
        return [known[key] for key in targets]

    wanted = [to_numpy(values[key]) for key in targets]
    arrays = [values[key] for key in given]
    try:
        found = jax.jit(run, compiler_options=options)(arrays)
    except jax.errors.JaxRuntimeError:
        return float("inf")
    apart, noise = _distance(wanted, found), _distance(wanted, run(arrays, _rounding()))
    limit = DTYPES.get(wanted[0].dtype.name, DTYPES["float32"])
    return apart if not apart <= max(limit, NOISE * noise) else 0.0


def _rounding() -> Callable[[Any], Any]:
    """What rounding may do to a value: each element is moved by one ulp, up or down."""
    rng = generator(0, "stretch")

    def moved(value: Any) -> Any:
        if not _is_float(value):
            return value
        array = to_numpy(value)
        far = np.where(rng.random(array.shape) < 0.5, np.inf, -np.inf).astype(array.dtype)
        return to_jax(np.nextafter(array, far), array.dtype)

    return moved


def _distance(wanted: Sequence[np.ndarray], found: Sequence[Any]) -> float:
    pairs = [(t.astype(np.float64), to_numpy(j)) for t, j in zip(wanted, found, strict=True)]
    size = np.sqrt(sum(np.sum(t * t) for t, _ in pairs))
    return float(np.sqrt(sum(np.sum((t - j) ** 2) for t, j in pairs)) / (size or 1.0))
