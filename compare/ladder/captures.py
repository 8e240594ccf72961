"""Captures that travel: one side on one backend as a bundle, and two bundles held together.

Two machines that capture the same twin with the same seed have the same weights and inputs; the
bundles carry their hashes, and two that differ in them are not compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compare.capture.taps import Section, Tap
from compare.errors import DiptychError
from compare.ladder import verdict as V
from compare.ladder.branches import branches
from compare.ladder.bundle import Bundle, fingerprints
from compare.ladder.coverage import summarise
from compare.ladder.judge import Judge
from compare.ladder.noise import Noise
from compare.ladder.result import Result

KINKS = ("relu", "leaky_relu")


def capture(pair: Any, backend: str, dtype: str, progress: Callable[[str], None]) -> Bundle:
    """Runs one backend and keeps everything that passes.

    Args:
      pair: a `compare.ladder.ladder.Pair`.
      backend: as in `check`.
      dtype: "float64" (the same mathematics), or "float32", "bfloat16" or "float16" (the same
        numerics).
    """
    from compare.capture.environment import environment
    from compare.ladder import ladder

    whole, dtypes = dtype == "float64", {}
    stored = dtype if whole else pair.stored(dtype)
    run = pair.run(backend, stored)
    tensors: dict[str, np.ndarray] = {}
    for index, section in enumerate(run.sections(whole)):
        progress(f"{section.stage} {section.step or ''}".strip())
        place = f"{index:03d}.{section.stage}.{section.step}"
        tensors |= {f"{place}|{name}": value for name, value in section.tensors.items()}
    if whole:
        noise: dict[str, float] = {}
        shaken = [moved.sections() for moved in ladder.moved(pair)]
        for index, section in enumerate(pair.run(ladder.REFERENCE).sections()):
            progress(f"noise of {section.stage}")
            place = f"{index:03d}.{section.stage}.{section.step}"
            found = ladder.mathematical_noise(section, shaken)
            noise |= {f"{place}|{name}": value for name, value in found.items()}
    else:
        rounding = ladder.numerical_noise(pair, dtype, progress)
        noise, dtypes = rounding.errors, rounding.dtypes
    trained = [name for name, leaf in pair.leaves.items() if leaf.trains]
    torch = ladder.parse(backend)[0] == "torch"
    meta = {
        "kind": "capture",
        "twin": pair.twin.name,
        "backend": backend,
        "dtype": dtype,
        "seed": pair.seed,
        "layout": pair.twin.layout,
        "rename": dict(pair.rename),
        "weights": fingerprints(pair.given.state),
        "inputs": fingerprints(pair.given.batch),
        "trained": {n: n if torch else pair.weights.jax_name(n) for n in trained},
        "uncounted": pair.uncounted(backend),
        "taps": {
            mode: {key: dataclasses.astuple(tap) for key, tap in info.items()}
            for mode, info in run.info.items()
        },
        "noise": noise,
        "stored": stored,
        "dtypes": dtypes,
        "environment": environment(),
    }
    return Bundle(tensors, meta)


def _sections(bundle: Bundle) -> Iterator[tuple[str, Section]]:
    grouped: dict[str, dict[str, np.ndarray]] = {}
    for name, value in bundle.tensors.items():
        place, _, tensor = name.partition("|")
        grouped.setdefault(place, {})[tensor] = value
    for place, tensors in grouped.items():
        _, stage, step = place.split(".")
        yield place, Section(stage, tensors, int(step))


def _taps(bundle: Bundle) -> dict[str, dict[str, Tap]]:
    return {
        mode: {key: Tap(*fields) for key, fields in info.items()}
        for mode, info in bundle.meta["taps"].items()
    }


def diff(ours: Bundle, theirs: Bundle, names: tuple[str, str] = ("A", "B")) -> Result:
    """Compares two captures of one twin; a PyTorch one, if there is one, is the reference.

    In float64 the limits are those of `check`. In a lower dtype each side may be off by the noise
    of the reference runs, so the two may be twice as far apart; where they are farther and took
    different branches at a kink, the verdict is INCONCLUSIVE.

    Raises:
      DiptychError: if one is no capture, or they are of different twins, weights, inputs or dtypes.
    """
    for bundle, name in zip((ours, theirs), names, strict=True):
        if bundle.meta.get("kind") != "capture":
            raise DiptychError(f"{name} is no capture; make one with `diptych capture`")
    for key, what in {
        "twin": "twins",
        "dtype": "dtypes",
        "weights": "weights",
        "inputs": "inputs",
    }.items():
        if ours.meta[key] != theirs.meta[key]:
            shown = f" ({ours.meta[key]}, {theirs.meta[key]})" if key in ("twin", "dtype") else ""
            raise DiptychError(
                f"{names[0]} and {names[1]} are of different {what}{shown}; capture both with one"
                " version of the twin and one --seed"
            )
    if ours.meta["backend"].startswith("xla") and theirs.meta["backend"].startswith("torch"):
        ours, theirs = theirs, ours
    same_side = ours.meta["backend"].partition(":")[0] == theirs.meta["backend"].partition(":")[0]
    result = Result(ours.meta["twin"], ours.meta["backend"], theirs.meta["backend"])
    shown = theirs.meta["trained"]
    judge = Judge(
        result,
        "same" if same_side else ours.meta["layout"],
        {} if same_side else ours.meta["rename"],
        lambda name: shown.get(name, name),
        theirs.meta["uncounted"],
    )
    judge.meet(_taps(ours), _taps(theirs))
    result.stages["weights"].applicable = False
    if ours.meta["dtype"] == "float64":
        _mathematics(judge, ours, theirs)
    else:
        _numerics(judge, ours, theirs)
    summarise(judge.result, list(ours.meta["trained"]), lambda name: True)
    for stage in result.stages.values():
        stage.applicable = bool(stage.judged or stage.numerics or stage.findings)
        stage.compared = stage.compared if stage.applicable else ""
    return result


def _mathematics(judge: Judge, ours: Bundle, theirs: Bundle) -> None:
    others = dict(_sections(theirs))
    for place, section in _sections(ours):
        noise = {
            name: max(b.meta["noise"].get(f"{place}|{name}", 0.0) for b in (ours, theirs))
            for name in section.tensors
        }
        judge.judge(section, others.get(place, Section(section.stage, {}, section.step)), noise)


def _numerics(judge: Judge, ours: Bundle, theirs: Bundle) -> None:
    others, flips = dict(_sections(theirs)), 0
    dtype, dtypes = ours.meta["dtype"], {}
    stored = ours.meta.get("stored", dtype)
    for bundle in (ours, theirs):
        dtypes |= bundle.meta.get("dtypes", {})  # of bundles written since there are any
    for place, section in _sections(ours):
        other = others.get(place, Section(section.stage, {}, section.step))
        noise = {
            name: 2 * max(b.meta["noise"].get(name, 0.0) for b in (ours, theirs))
            for name in section.tensors
        }
        flips += _flips(judge, section, other)
        judge.judge_numerics(other, section, Noise(dtype, stored, noise, dtypes=dtypes, sides=2))
    if flips:
        for stage in judge.result.stages.values():
            stage.numerics = [_uncertain(judged, flips) for judged in stage.numerics]


def _flips(judge: Judge, ours: Section, theirs: Section) -> int:
    """How many elements are on different sides of a kink, seen in what the kink gives."""
    count = 0
    for mode, info in judge.result.info.items():
        keys = [key for key, tap in info.items() if tap.kind in KINKS]
        values = {key: ours.tensors.get(f"{mode}/layer/{key}") for key in keys}
        mine = {key: value for key, value in values.items() if value is not None}
        shapes = {key: value.shape for key, value in mine.items()}
        prefix = f"{mode}/layer/"
        others = {
            name.removeprefix(prefix): value
            for name, value in theirs.tensors.items()
            if name.startswith(prefix)
        }
        pairing = judge.result.pairing[mode]
        for key, value in branches(others, shapes, pairing, judge.layout).items():
            count += int(np.count_nonzero((value > 0) != (mine[key] > 0)))
    return count


def _uncertain(judged: V.Judged, flips: int) -> V.Judged:
    if judged.verdict != V.DIVERGED:
        return judged
    detail = f"{flips} branches differ between the two; {judged.detail}"
    return dataclasses.replace(judged, verdict=V.INCONCLUSIVE, detail=detail)
