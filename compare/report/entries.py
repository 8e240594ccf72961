"""One twin's result as report.json has it."""

from __future__ import annotations

from typing import Any

from compare.ladder import verdict as V
from compare.ladder.result import Result, Stage
from compare.ladder.verdict import Judged

SHOWN = 20  # findings of a stage that are written out; the rest is counted


def number(x: float) -> float | str:
    """A number as JSON can carry it."""
    return x if x == x and abs(x) != float("inf") else str(x)


def findings(stage: Stage) -> list[str]:
    """What is wrong on one rung, a line each, the decisive ones first."""
    lines = [text for _, text in stage.findings]
    for judged in (stage.judged, stage.numerics):
        for wanted in (V.DIVERGED, V.INCONCLUSIVE):
            lines += [_line(j) for j in judged if j.verdict == wanted]
    more = len(lines) - SHOWN
    return lines[:SHOWN] + ([f"and {more} more"] if more > 0 else [])


def _line(judged: Judged) -> str:
    tier = "" if judged.dtype == "float64" else f"{judged.dtype} "
    if judged.label == V.SHAPE:
        return f"{judged.name}: {judged.detail}"
    size = f"{judged.relative:.1e} of {judged.limit:.1e} allowed"
    return f"{tier}{judged.name}: {size}; {judged.detail}"


def _stage(stage: Stage) -> dict[str, Any]:
    worst = stage.worst
    numerics: dict[str, float] = {}
    for judged in stage.numerics:
        numerics[judged.dtype] = max(numerics.get(judged.dtype, 0.0), judged.ratio)
    return {
        "name": stage.name,
        "verdict": stage.verdict,
        "what": stage.compared,
        "compared": len(stage.judged) + len(stage.numerics),
        "worst": number(worst.relative) if worst else None,
        "worst_tensor": worst.name if worst else None,
        "limit": number(worst.limit) if worst else None,
        "f32_worst": number(numerics["float32"]) if "float32" in numerics else None,
        "numerics": {dtype: number(ratio) for dtype, ratio in numerics.items()},
        "zeros": sum(j.label == "zero" for j in stage.judged),
        "findings": findings(stage),
    }


def _rows(result: Result) -> list[dict[str, Any]]:
    """The layers in order of execution, each with its differences, forward and backward."""
    forward = {j.name: j for j in result.stages["forward"].judged}
    backward = {j.name: j for j in result.stages["gradients"].judged}
    numerics = {
        j.name: j
        for name in ("forward", "gradients")
        for j in result.stages[name].numerics
        if j.dtype == "float32"
    }
    rows = []
    for mode, pairing in result.pairing.items():
        if mode == "eval" and len(result.pairing) > 1:
            continue
        for key, other in pairing.pairs.items():
            name, gradient = f"{mode}/layer/{key}", f"{mode}/gradient/layer/{key}"
            tap, theirs = result.info[mode][key], result.others[mode][other]
            judged = [
                forward.get(f"eval/layer/{key}"),
                forward.get(name),
                backward.get(gradient),
            ]
            ratios = [numerics[n].ratio for n in (name, gradient) if n in numerics]
            rows.append(
                {
                    "mode": mode,
                    "torch": key,
                    "jax": other,
                    "kind": tap.kind,
                    "torch_source": tap.source,
                    "jax_source": theirs.source,
                    "paired": "order" if key in pairing.by_order else "name",
                    "shape": list(judged[1].shape) if judged[1] else None,
                    "eval": number(judged[0].relative) if judged[0] else None,
                    "train": number(judged[1].relative) if judged[1] else None,
                    "gradient": number(judged[2].relative) if judged[2] else None,
                    "f32": number(max(ratios)) if ratios else None,
                    "verdict": V.worst(j.verdict for j in judged if j),
                }
            )
    return rows


def _parameters(result: Result) -> list[dict[str, Any]]:
    weights = {j.name: j for j in result.stages["weights"].judged}
    rows = []
    numerics = {j.name: j for j in result.stages["gradients"].numerics if j.dtype == "float32"}
    for judged in result.stages["gradients"].judged:
        if "/gradient/param/" in judged.name:
            name = judged.name.rpartition("/")[2]
            rows.append(
                {
                    "torch": name,
                    "jax": weights[name].other if name in weights else judged.other,
                    "shape": list(judged.shape),
                    "gradient": number(judged.relative),
                    "f32": number(numerics[judged.name].ratio) if judged.name in numerics else None,
                    "zero": judged.label == "zero",
                    "verdict": judged.verdict,
                }
            )
    return rows


def _trajectory(result: Result) -> list[dict[str, Any]]:
    worst: dict[int, float] = {}
    for judged in result.stages["trajectory"].judged:
        head = judged.name.partition(":")[0]
        if head.startswith("step ") and judged.label != "zero":
            step = int(head.removeprefix("step "))
            worst[step] = max(worst.get(step, 0.0), judged.relative)
    return [
        {
            "step": step,
            "phase": mode,
            "torch_loss": number(ours),
            "jax_loss": number(theirs),
            "worst": number(worst.get(step, 0.0)),
        }
        for step, mode, ours, theirs in result.losses
    ]


def _origin(result: Result) -> dict[str, Any] | None:
    """The first layer in order of execution that differs."""
    forward = {j.name: j for j in result.stages["forward"].judged if j.verdict == V.DIVERGED}
    for mode, pairing in result.pairing.items():
        for key, other in pairing.pairs.items():
            judged = forward.get(f"{mode}/layer/{key}")
            if judged:
                return {
                    "stage": "forward",
                    "torch": key,
                    "jax": other,
                    "between": None,
                    "difference": number(judged.relative),
                    "replayed": None,
                    "torch_source": result.info[mode][key].source,
                    "jax_source": result.others[mode][other].source,
                }
    return None


def twin_dict(result: Result, optimizer: str = "") -> dict[str, Any]:
    """One twin on one candidate backend, as report.json has it."""
    ours = sorted({k for p in result.pairing.values() for k in p.torch_only})
    theirs = sorted({k for p in result.pairing.values() for k in p.jax_only})
    return {
        "name": result.name,
        "verdict": result.verdict,
        "class": result.kind,
        "dropout": result.dropout or None,
        "backends": [result.reference, result.candidate],
        "reference": result.reference,
        "optimizer": optimizer,
        "coverage": {
            "leaves": result.leaves,
            "moved": result.moved,
            "buffers": result.buffers,
            "skipped": result.skipped,
            "torch_only": ours,
            "jax_only": theirs,
            "lifted": result.lifted,
            "rounded": result.rounded,
            "notes": result.notes,
            "by_order": result.by_order,
        },
        "unpaired": result.unpaired.to_dict(),
        "stages": [_stage(stage) for stage in result.stages.values()],
        "layers": _rows(result),
        "parameters": _parameters(result),
        "trajectory": _trajectory(result),
        "origin": _origin(result),
        "cause": None,
    }
