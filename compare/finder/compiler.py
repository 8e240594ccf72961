"""The compiler as the cause: what `jax.jit` makes of a program is not what the program says.

The harness compiles so that known mistakes do not happen; a user does not. So the forward pass is
compiled as users compile it, too, and where that gives something else than PyTorch, the smallest
stretch of it is looked for that compiled differs from the same operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.capture.distance import distance, finite_norm
from compare.differences.catalogue import Difference, Edit, catalogue
from compare.finder.found import Cause, Found, Origin
from compare.finder.replay import Replay, compared
from compare.ladder import verdict as V
from compare.ladder.pair import REFERENCE, Pair
from compare.layout import align

CODE = "XLA-01"
SHOWN = 4  # operations of a stretch that are named


@dataclass(frozen=True)
class Wrong:
    """An output that compiled is farther from PyTorch's than rounding takes it, uncompiled is not.

    Args:
      ours, theirs: PyTorch's value, and the compiled one, if it could be compiled.
      before, after: how far the compiled and the uncompiled value are from PyTorch's, relative.
      stretch: the smallest that shows it, if one does; see `compare.capture.stretch`.
    """

    ours: np.ndarray
    theirs: np.ndarray | None
    before: float
    after: float
    stretch: Any


def compiled(pair: Pair, found: Found, progress: Callable[[str], None]) -> None:
    """Runs the forward pass as a user compiles it, and where that is wrong blames the compiler."""
    exact = pair.run(REFERENCE).alone(None)
    for dtype in ("float64", "float32"):
        progress(f"forward as jax.jit compiles it, {dtype}")
        rounded = exact if dtype == "float64" else pair.run(REFERENCE, dtype).alone(None)
        if (wrong := _wrong(pair, dtype, exact, rounded)) is not None:
            _blame(found, dtype, wrong)
            return


def excused(replay: Replay, found: Found, progress: Callable[[str], None]) -> None:
    """Blames the compiler for a difference without a cause, if uncompiled it is not there."""
    origin = found.origin
    if origin is None or origin.ours is None or origin.stage not in ("forward", "gradients"):
        return
    theirs = replay.uncompiled(origin.mode).get(_tensor(replay, origin))
    theirs = None if theirs is None else align(theirs, origin.ours.shape, replay.pair.twin.layout)
    if theirs is None:
        return
    after, same = compared(origin.ours, theirs)
    if not same:
        return
    compiled(replay.pair, found, progress)
    if found.cause is None:  # as users compile it, the forward pass is right
        difference = catalogue()[CODE]
        found.result.compiler = True
        found.cause = Cause(difference, _remedy(difference, False), origin.difference, after)


def _tensor(replay: Replay, origin: Origin) -> str:
    """The name of JAX's tensor at the origin."""
    if origin.what == "param":
        return f"{origin.mode}/gradient/param/{origin.torch}"
    gradient = "gradient/" if origin.stage == "gradients" else ""
    place = replay.places(origin.mode).get(origin.key)
    return f"{origin.mode}/{gradient}" + (f"layer/{place}" if place else origin.key)


def _wrong(
    pair: Pair, dtype: str, exact: Mapping[str, np.ndarray], rounded: Mapping[str, np.ndarray]
) -> Wrong | None:
    """The first output that is right uncompiled, and compiled is not."""
    import jax
    from jax.extend import core

    from compare.capture.compiler import REMEDY
    from compare.capture.jax_run import outputs
    from compare.capture.stretch import Uncompiled

    run = pair.run("xla:cpu", dtype)
    with run.context():
        program, args, structure = run.plain()

        def named(flat: Any) -> dict[str, np.ndarray]:
            return outputs("eval", jax.tree.unflatten(structure, flat))

        try:
            theirs = named(jax.jit(core.jaxpr_as_fun(program))(*args))
        except jax.errors.JaxRuntimeError:
            theirs = {}
        uncompiled: Any = None
        for name, t in exact.items():
            if not name.startswith("eval/out") or t.dtype.kind != "f":
                continue
            size = finite_norm(t)
            own = max(distance(t, rounded[name]), 4 * V.UNIT["float32"] * size)
            allowed = V.RELATIVE * size if dtype == "float64" else 4 * own

            def apart(tensors: Mapping[str, np.ndarray], name: str = name, t: Any = t) -> float:
                j = align(tensors[name], t.shape, pair.twin.layout) if name in tensors else None
                return float("inf") if j is None else distance(t, j)

            if apart(theirs) <= allowed:
                continue
            uncompiled = uncompiled or Uncompiled(program, args)
            after = apart(named(uncompiled.outputs))
            if not after <= allowed:
                continue  # what differs is not the compiler's doing
            stretch = uncompiled.smallest(REMEDY)
            if stretch is None and dtype == "float32":
                continue  # a branch that rounding takes, or chaos
            before = apart(theirs) / (size or 1.0)
            return Wrong(t, theirs.get(name), before, after / (size or 1.0), stretch)
    return None


def _blame(found: Found, dtype: str, wrong: Wrong) -> None:
    difference, stretch = catalogue()[CODE], wrong.stretch
    place, source, mended = "the whole program", "", False
    if stretch is not None:
        names, more = stretch.operations[-SHOWN:], len(stretch.operations) - SHOWN
        place = ", ".join(names) + (f" and {more} before" if more > 0 else "")
        source, mended = stretch.source, not stretch.after
    text = f"as jax.jit compiles it in {dtype} it gives something else: {place}"
    found.result.compiler = True
    found.result.stages["forward"].findings.append((V.DIVERGED, text))
    found.rows = []
    found.origin = Origin(
        "forward", "the output", place, "eval", "compiler", wrong.before,
        jax_source=source, ours=wrong.ours, theirs=wrong.theirs,
    )  # fmt: skip
    found.cause = Cause(difference, _remedy(difference, mended), wrong.before, wrong.after)


def _remedy(difference: Difference, mended: bool) -> Edit:
    """What mends it: the option and the versions, if it is the mistake that they mend."""
    if not mended:
        return Edit("run it without jax.jit, or with another jaxlib", "", lambda: None)
    newer = f"; or {difference.gone} or newer" if difference.here else ""
    return Edit(f"{difference.fix_jax}{newer}", "", lambda: None)
