"""The first place that differs by itself: forward, then backward, then in the update."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from compare.capture.distance import norm, rearranged
from compare.capture.taps import called
from compare.finder.found import Origin, Row
from compare.finder.replay import Replay, axes, compared, place_of, unmasked
from compare.ladder import verdict as V
from compare.share import to_numpy, to_torch

Looked = tuple[Origin | None, list[Row]]


def locate(replay: Replay) -> Looked:
    """The first place that differs by itself, and the table of the places that were replayed."""
    rows: list[Row] = []
    stages = replay.result.stages
    for stage, look in (("forward", _forward), ("gradients", _backward)):
        if stages[stage].verdict == V.DIVERGED:
            origin, seen = look(replay)
            rows = seen or rows
            if origin:
                return origin, rows
    for stage, find in (("step", _update), ("trajectory", _trajectory)):
        if stages[stage].verdict == V.DIVERGED:
            return find(replay), rows
    return None, rows


def _forward(replay: Replay) -> Looked:
    rows: list[Row] = []
    judged = {j.name: j for j in replay.result.stages["forward"].judged}
    diverged = {n.partition("/")[0] for n, j in judged.items() if j.verdict == V.DIVERGED}
    for mode in (m for m in replay.result.pairing if m in diverged):
        origin, rows = _layers(replay, mode, judged)
        if origin := origin or _rest(replay, mode):
            return origin, rows
    return None, rows


def _layers(replay: Replay, mode: str, judged: Mapping[str, V.Judged]) -> Looked:
    rows, origin = [], None
    given = {
        place_of(key)[0]: compared(t, j)[1]
        for key, _, t, j in replay.pairs(mode, "layer")
        if ":in" not in key
    }
    for key, other, t, j in replay.pairs(mode, "layer"):
        glue = ":in" in key
        relative, same = compared(*unmasked(t, j)) if glue else compared(t, j)
        whole = judged.get(f"{mode}/layer/{place_of(key)[0]}")
        if glue and whole and whole.verdict == V.SAME:
            continue  # whatever it is given, -1e9 for -inf, it gives the same
        if t.shape != j.shape and not same:
            # The same numbers; or one side pads before the layer, the other in it.
            same = rearranged(t, j, V.RELATIVE) or (glue and given.get(place_of(key)[0], False))
        before = _before(replay, mode, key) if glue and not same else None
        whole = judged.get(f"{mode}/layer/{key}")
        difference = whole.relative if whole else None
        row = Row(key, other, difference, relative, between=before)
        if not same:
            row.verdict = "ORIGIN"
            if origin is None:
                origin = _at(replay, mode, "forward", key, other, row, t, j, before or "")
        elif whole and whole.verdict == V.DIVERGED:
            row.verdict = "inherited"
        if not glue or not same:
            rows.append(row)
    return origin, rows


def _rest(replay: Replay, mode: str) -> Origin | None:
    """What comes after the layers: the output, the loss, the buffers."""
    ours, theirs = replay.reference(mode), replay.theirs(mode)
    for name, t in ours.items():
        head, _, rest = name.partition("/")
        kind = rest.partition("/")[0].partition(".")[0]
        if head != mode or kind not in ("out", "loss", "buffer") or name not in theirs:
            continue
        j = theirs[name]
        j = axes(j, t.shape, replay.pair.twin.layout) if kind == "out" else j
        relative, same = compared(t, j)
        if t.dtype.kind != "f" or same:
            continue
        place = {"out": "the output", "loss": "the loss"}.get(kind, rest.partition("/")[2])
        what = {"out": "output"}.get(kind, kind)
        between = (_before(replay, mode, rest), place) if kind == "out" else None
        return Origin(
            "forward", place, place, mode, what, relative, relative, between,
            ours=t, theirs=j, key=rest,
        )  # fmt: skip
    return None


def _backward(replay: Replay) -> Looked:
    diverged = [
        j.name.partition("/")[0]
        for j in replay.result.stages["gradients"].judged
        if j.verdict == V.DIVERGED
    ]
    for mode in dict.fromkeys(diverged):
        scale = max(
            (
                norm(t)
                for n, t in replay.reference(mode).items()
                if n.startswith(f"{mode}/gradient/")
            ),
            default=0.0,
        )
        for key, other, t, j in reversed(list(replay.pairs(mode, "gradient/layer"))):
            relative, same = compared(t, j, scale)
            if not same and t.shape == j.shape:
                row = Row(key, other, None, relative, "ORIGIN")
                origin = _at(replay, mode, "gradients", key, other, row, t, j, "")
                origin.what = "gradient"
                if ":in" not in key:
                    place = called(key, replay.result.info[mode][key])
                    origin.between = (place, _after(replay, mode, key, t, j))
                return origin, [row]
            place, _ = place_of(key)
            if ":in" in key and (wrong := _parameters(replay, mode, place, scale)):
                return wrong, []
        if wrong := _parameters(replay, mode, None, scale) or _inputs(replay, mode, scale):
            return wrong, []
    return None, []


def _after(replay: Replay, mode: str, key: str, t: np.ndarray, j: np.ndarray) -> str:
    """Where a layer's output goes; of several places the one that explains the difference."""
    program, known = replay.program(mode)
    source, missing = program.source(key), (j - t).ravel()

    def unexplained(place: Any, gradient: np.ndarray) -> float:
        cotangents = {place: to_torch(gradient)}
        try:
            part = to_numpy(program.gradient(source, cotangents, known, {})).ravel()
        except (
            RuntimeError
        ):  # a packed sequence: its gradient is not recorded, its lengths have none
            return np.inf
        size = part @ part
        return norm(missing - part * (missing @ part / size)) if size else np.inf

    users = replay.used(mode, key)
    best = min(users, key=lambda user: unexplained(*users[user]), default="loss")
    return {"loss": "the loss"}.get(best) or program.modules.get(best) or place_of(best)[0]


def _inputs(replay: Replay, mode: str, scale: float) -> Origin | None:
    """The gradient of an input of the model, lost before the first layer."""
    ours, theirs = replay.reference(mode), replay.theirs(mode)
    for name, t in ours.items():
        if name.startswith(f"{mode}/gradient/input/") and name in theirs:
            j = theirs[name]
            relative, same = compared(t, j, scale)
            if not same:
                place, key = name.rpartition("/")[2], name.removeprefix(f"{mode}/gradient/")
                between = ("the input", _after(replay, mode, key, t, j))
                return Origin(
                    "gradients", place, place, mode, "gradient", relative, relative, between,
                    ours=t, theirs=j, key=key,
                )  # fmt: skip
    return None


def _parameters(replay: Replay, mode: str, place: str | None, scale: float) -> Origin | None:
    """The first parameter of a layer (None: of all) whose own gradient differs."""
    ours, theirs = replay.reference(mode), replay.theirs(mode)
    prefix = f"{mode}/gradient/param/"
    for name, t in ours.items():
        parameter = name.removeprefix(prefix)
        owner = parameter.rpartition(".")[0]
        if not name.startswith(prefix) or name not in theirs:
            continue
        if place is not None and owner != place.partition("#")[0]:
            continue
        relative, same = compared(t, theirs[name], scale)
        if not same:
            other = replay.judge.jax_name(parameter)
            return Origin(
                "gradients", parameter, other, mode, "param", relative, relative,
                ours=t, theirs=theirs[name],
            )  # fmt: skip
    return None


def _update(replay: Replay) -> Origin:
    wrong = [j for j in replay.result.stages["step"].judged if j.verdict == V.DIVERGED]
    for judged in wrong:
        mode, _, rest = judged.name.partition("/")
        if rest.startswith("forced/"):
            return Origin(
                "step", rest.removeprefix("forced/"), judged.other, mode, "update",
                judged.relative, judged.relative,
            )  # fmt: skip
    if not wrong:  # a tensor of the state that one side alone has
        text = next(text for _, text in replay.result.stages["step"].findings)
        mode, _, rest = text.partition(" ")[0].partition("/")
        return Origin("step", re.sub("^(free|forced)/", "", rest), "", mode, "start")
    judged = wrong[0]
    mode, _, rest = judged.name.partition("/")
    return Origin("step", rest.removeprefix("free/"), judged.other, mode, "start", judged.relative)


def _trajectory(replay: Replay) -> Origin:
    wrong = next(j for j in replay.result.stages["trajectory"].judged if j.verdict == V.DIVERGED)
    step, _, name = wrong.name.rpartition(": ")
    return Origin("trajectory", name, wrong.other, step, "update", wrong.relative)


def _at(
    replay: Replay,
    mode: str,
    stage: str,
    key: str,
    other: str,
    row: Row,
    t: Any,
    j: Any,
    before: str,
) -> Origin:
    place, _ = place_of(key)
    glue = stage == "forward" and ":in" in key
    tap = replay.result.info[mode].get(place)
    theirs = replay.result.others[mode].get(replay.result.pairing[mode].pairs.get(place, ""))
    return Origin(
        stage,
        place if stage == "forward" else key.replace(":in", ""),
        other.replace(":in", ""),
        mode,
        "output",
        row.difference or row.replayed,
        row.replayed,
        (before, place) if glue else None,
        tap.source if tap else "",
        theirs.source if theirs else "",
        t,
        j,
        key,
    )


def _before(replay: Replay, mode: str, key: str) -> str:
    """The layer that an input comes from, the latest of several."""
    program, known = replay.program(mode)
    used = program.stretch([program.inputs[key]], known)[1]
    latest = next((r for r in reversed(known) if r in used), None)
    if latest is None:
        return "the input"
    name = program.name(latest, replay.result.pairing[mode].pairs)
    return called(name, replay.result.info[mode][name])
