"""The compiler as the cause: what `jax.jit` makes of a program is not what the program says.

The harness compiles so that known mistakes do not happen; a user does not. So the forward pass is
compiled as users compile it, too, and where that gives something else than PyTorch, the smallest
stretch of it is looked for that compiled differs from the same operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compare.differences.catalogue import Difference, Edit, catalogue
from compare.finder.found import Cause, Found, Origin
from compare.ladder import verdict as V
from compare.ladder.ladder import Ladder
from compare.ladder.pair import REFERENCE, Pair
from compare.layout import align

CODE = "XLA-01"
SHOWN = 4  # operations of a stretch that are named


def compiled(pair: Pair, found: Found, progress: Callable[[str], None]) -> None:
    """Runs the forward pass as a user compiles it, and where that is wrong blames the compiler."""
    exact = pair.run(REFERENCE).alone(None)
    for dtype in ("float64", "float32"):
        progress(f"forward as jax.jit compiles it, {dtype}")
        rounded = exact if dtype == "float64" else pair.run(REFERENCE, dtype).alone(None)
        if (stretch := _wrong(pair, dtype, exact, rounded)) is not None:
            _blame(found, dtype, *stretch)
            return


def uncompiled_is_right(pair: Pair, progress: Callable[[str], None]) -> bool:
    """Whether JAX does as PyTorch where every operation is run by itself."""
    ladder = Ladder(pair, ["xla:cpu+eager"], progress)
    (result,) = ladder.run(numerics=False, seeking=True)
    return result.verdict != V.DIVERGED


def _wrong(
    pair: Pair, dtype: str, exact: Mapping[str, np.ndarray], rounded: Mapping[str, np.ndarray]
) -> tuple[Any, np.ndarray, np.ndarray | None] | None:
    """The stretch that is compiled wrongly, and both values of an output that shows it: one that
    is farther from PyTorch's than rounding takes it.
    """
    import jax
    from jax.extend import core

    from compare.capture.compiler import REMEDY
    from compare.capture.jax_run import outputs
    from compare.capture.stretch import smallest

    run = pair.run("xla:cpu", dtype)
    with run.context():
        program, args, structure = run.plain()
        try:
            flat = jax.jit(core.jaxpr_as_fun(program))(*args)
            theirs = outputs("eval", jax.tree.unflatten(structure, flat))
        except jax.errors.JaxRuntimeError:
            theirs = {}
        for name, t in exact.items():
            if not name.startswith("eval/out") or t.dtype.kind != "f":
                continue
            j = align(theirs[name], t.shape, pair.twin.layout) if name in theirs else None
            size = V.finite_norm(t)
            own = max(V.distance(t, rounded[name]), 4 * V.UNIT["float32"] * size)
            allowed = V.RELATIVE * size if dtype == "float64" else 4 * own
            if j is None or not V.distance(t, j) <= allowed:
                stretch = smallest(program, args, REMEDY)
                return None if stretch is None else (stretch, t, j)
    return None


def _blame(
    found: Found, dtype: str, stretch: Any, ours: np.ndarray, theirs: np.ndarray | None
) -> None:
    names, more = stretch.operations[-SHOWN:], len(stretch.operations) - SHOWN
    place = ", ".join(names) + (f" and {more} before" if more > 0 else "")
    difference = catalogue()[CODE]
    before = stretch.before
    text = f"as jax.jit compiles it in {dtype} it gives something else: {place}"
    found.result.compiler = True
    found.result.stages["forward"].findings.append((V.DIVERGED, text))
    found.rows = []
    found.origin = Origin(
        "forward", "the output", place, "eval", "compiler", before,
        jax_source=stretch.source, ours=ours, theirs=theirs,
    )  # fmt: skip
    found.cause = Cause(difference, _remedy(difference, stretch.after), before, stretch.after)


def _remedy(difference: Difference, after: float) -> Edit:
    """What mends it: the option, if that was tried with success, or another version."""
    mend = "run it without jax.jit" if after else difference.fix_jax
    newer = f"{difference.gone} or newer" if difference.here else "another jaxlib"
    return Edit(f"{mend}; or {newer}", "", lambda: None)
