"""What dropout's masks tell of the two sides: how often, at what rate, over which axes."""

from __future__ import annotations

from collections.abc import Sequence

from compare.capture.masks import SIDES, Draw, Plan, differ
from compare.ladder import verdict as V


def findings(plan: Plan) -> list[tuple[str, str]]:
    """What the masks themselves tell, with the verdict that it makes."""
    head = "" if plan.mode == "train" else f"{plan.mode}: "
    if len(plan.ours) != len(plan.theirs):
        text = f"{head}PyTorch drops {_times(plan.ours)}, JAX {_times(plan.theirs)}"
        lines = [d.source for d in max(plan.ours, plan.theirs, key=len) if d.source]
        where = f" ({', '.join(dict.fromkeys(lines))})" if lines else ""
        return [(V.DIVERGED, text + where)]
    found = []
    for index, (t, j) in enumerate(zip(plan.ours, plan.theirs, strict=True)):
        name = f"{head}dropout {index + 1}"
        where = ", ".join(s for s in (t.source, j.source) if s)
        where = f" ({where})" if where else ""
        arranged = plan.fits[index]
        if arranged is None:
            text = f"{name}: a mask of shape {t.shape} in PyTorch, {j.shape} in JAX{where}"
            found.append((V.DIVERGED, text))
            continue
        shapes = (arranged.moved, j.shape)
        for side, axes in enumerate(arranged.shared()):
            if axes:
                over = f"shares its mask over axes {', '.join(map(str, axes))}"
                text = f"{name}: {SIDES[side]} {over}: {shapes[side]}, not {shapes[1 - side]}"
                found.append((V.DIVERGED, text + where))
        if differ(t.keep, j.keep) and not plan.inverted(index):
            found.append((V.DIVERGED, f"{name}: {_rates(t, j)}{where}"))
    return found


def suspicions(plan: Plan) -> list[tuple[str, str]]:
    """What is said only where the values differ, for it need not be wrong."""
    found = []
    for index, (t, j) in enumerate(zip(plan.ours, plan.theirs, strict=False)):
        name, arranged = f"dropout {index + 1}", plan.fits[index]
        if plan.inverted(index):
            found.append((V.DIVERGED, f"{name}: {_rates(t, j)}: kept for dropped?"))
        if t.keep == 0.5 and not differ(t.keep, j.keep):
            text = f"{name}: at rate 0.5 a mask of what is dropped looks like one of what is"
            found.append((V.INCONCLUSIVE, f"{text} kept: try another rate"))
        if arranged is not None and arranged.ambiguous:
            text = f"{name}: the mask's axes {t.shape} fit JAX's in two orders"
            found.append((V.INCONCLUSIVE, f"{text}: choose sizes that differ"))
    return found


def _rates(t: Draw, j: Draw) -> str:
    rates = [f"{1 - (d.keep or 0):.6g} in {side}" for d, side in zip((t, j), SIDES, strict=True)]
    return f"rate {', '.join(rates)}"


def _times(draws: Sequence[Draw]) -> str:
    return f"{len(draws)} time{'' if len(draws) == 1 else 's'}"
