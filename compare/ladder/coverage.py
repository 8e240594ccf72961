"""What a comparison has shown: how much was compared, and whether it could have failed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from compare.capture.distance import distance, norm
from compare.capture.taps import Section
from compare.ladder import verdict as V
from compare.ladder.result import Result, Stage

BUFFER = re.compile(r"(?:^|[ /])buffer/(.+)")  # and no slot of an optimizer: "momentum_buffer/"
UNREACHED = "give inputs that reach it, or leave it out by Twin(ignore=...)"
MOVED = 1e-3  # what a trajectory must move the parameters by, relative


def summarise(
    result: Result, trained: list[str], visible: Callable[[str], bool] | None = None
) -> None:
    """Coverage, and the words in the column 'compared'.

    Args:
      trained: names of the parameters.
      visible: whether a parameter without a gradient moves some value of a forward pass; None
        where it went no further than a rung that differs.
    """
    stages = result.stages
    forward, gradients, step = (stages[n] for n in ("forward", "gradients", "step"))
    passed = forward.judged or forward.numerics
    if all(j.name.endswith("/loss") for j in passed) and forward.verdict == V.SAME:
        forward.findings.append(
            (
                V.INCONCLUSIVE,
                "neither side has an output to compare: name one, by torch_call and jax_call",
            )
        )
    layers = sum(1 for j in passed if j.name.startswith("eval/layer/"))
    modes = len({j.name.partition("/")[0] for j in passed})
    forward.compared = f"{layers} layers, {modes} modes" if layers else f"outputs, {modes} modes"
    names = [j.name.partition("/")[2] for j in gradients.judged or gradients.numerics]
    params = sum(n.startswith("gradient/param/") for n in names)
    inputs = sum(n.startswith("gradient/input/") for n in names)
    gradients.compared = f"{params} + {inputs} + {len(names) - params - inputs} tensors"
    gradients.applicable = bool(names or gradients.findings)
    step.applicable = bool(trained)
    stages["trajectory"].applicable = bool(trained and visible)
    if trained:
        updated = [j.name for j in step.judged or step.numerics]
        states = sum("/free/state/" in name for name in updated)
        free = sum("/free/param/" in name for name in updated)
        step.compared = f"{free} params, {states} states"
        taken = {j.name.partition(":")[0] for j in stages["trajectory"].judged if ":" in j.name}
        stages["trajectory"].compared = f"{len(taken)} steps" if visible else "not reached"
    reached = {
        j.name.rpartition("/")[2]
        for j in gradients.judged
        if "/gradient/param/" in j.name and j.size > 0 and j.label != "zero"
    }
    silent = [n for n in trained if n not in reached and not (visible and visible(n))]
    result.leaves, result.moved = len(trained), len(trained) - len(silent)
    taught = any(j.name.startswith("train") for j in passed)
    (gradients if taught else forward).findings += [
        (V.INCONCLUSIVE, f"{n} has no gradient and moves no output: {UNREACHED}")
        for n in (silent if visible else ())
    ]
    kept = [j.name for j in (*forward.judged, *stages["trajectory"].judged)]
    result.buffers = len({found[1] for name in kept if (found := BUFFER.search(name))})


def movement(last: Section, state: Mapping[str, np.ndarray]) -> float:
    """How far a trajectory has moved the parameters, relative to where they were."""
    names = [n.removeprefix("param/") for n in last.tensors if n.startswith("param/")]
    moved = np.hypot.reduce([distance(last.tensors[f"param/{n}"], state[n]) for n in names])
    size = np.hypot.reduce([norm(state[n]) for n in names])
    return float(moved / size if size else moved)


def judge_movement(stage: Stage, last: Section, state: Mapping[str, np.ndarray]) -> None:
    """A trajectory counts only if it moved the parameters."""
    moved = movement(last, state)
    if not moved >= MOVED:
        text = f"the parameters moved by {moved:.1e} only: raise the learning rate"
        stage.findings.append((V.INCONCLUSIVE, text))
