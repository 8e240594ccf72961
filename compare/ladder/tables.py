"""The tables that one side rounds to float32 and the other computes: found, and unrounded."""

from __future__ import annotations

from typing import Any

import numpy as np

from compare.capture.tables import Table, Value, is_rounded, unrounded


def unround(pair: Any, run: Any) -> list[str]:
    """Takes the numbers of the other side in place of a table that agrees with them in float32.

    From then on every float64 run of the pair has them.

    Args:
      pair: a `compare.ladder.pair.Pair`.
      run: JAX's, in float64.

    Returns: a line for each.
    """
    from compare.capture import torch_tables
    from compare.capture.jax_tables import constants

    def jax_values(run: Any, computed: bool) -> list[Value]:
        with run.context():
            return list(constants(run.plain()[0], computed))

    def torch_values(dtype: str, tables: list[Value]) -> list[Value]:
        made = torch_tables.Made([table.array for table in tables])
        with made:
            pair.run("torch:cpu", dtype).alone(None)
        return made.found

    held = torch_tables.held(pair.model, pair.weights.named)
    ours = [table for table in held if is_rounded(table.array)]
    theirs, found = jax_values(run, bool(ours)), list[Table]()
    if ours:
        in_float32 = _arrays(jax_values(pair.run("xla:cpu", "float32"), True))
        found = unrounded(ours, theirs, in_float32)
    for table in found:
        values = pair.given.state if table.name in pair.given.state else pair.given.attributes
        values[table.name] = table.exact
    lines = [table.line("torch", "JAX") for table in found]
    known = [table.exact for table in found]
    tables = {v.array.tobytes(): v for v in theirs if v.held and is_rounded(v.array)}
    others = [v for v in tables.values() if not any(np.array_equal(v.array, k) for k in known)]
    if others:
        made = torch_values("float64", others)
        parts = unrounded(others, made, _arrays(torch_values("float32", others)))
        pair.given.constants += [(table.rounded, table.exact) for table in parts]
        lines += [table.line("jax", "PyTorch") for table in parts]
    return lines


def _arrays(values: list[Value]) -> list[np.ndarray]:
    return [value.array for value in values]
