"""What the page shows of a report: plain dicts, cut to what fits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from compare.ladder.verdict import DIVERGED, INCONCLUSIVE, NOT_APPLICABLE, RELATIVE, SAME
from compare.report import figures, plots

Dict = dict[str, Any]
Plotted = dict[int, tuple[list[plots.Plot], list[plots.Plot]]]  # by the index of the twin
STAGES = ("weights", "forward", "gradients", "step", "trajectory")
SIGN = {SAME: "=", DIVERGED: "≠", INCONCLUSIVE: "?", NOT_APPLICABLE: "–"}
KIND = {SAME: "same", DIVERGED: "diverged", INCONCLUSIVE: "unsure", NOT_APPLICABLE: "none"}
FOLD = 3  # where there are more twins than this, those that are SAME are folded
CARDS = 12  # twins that are not SAME and stand at the top
LEAD = 8  # rows kept above the origin in a table that is cut
LONGEST = 4000  # characters of a finding


@dataclass(frozen=True)
class Detail:
    """How much a page writes out.

    Args:
      rows: the longest table of a twin that is SAME.
      wrong: the longest table, and list of findings, of a twin that is not.
      plots: whether a twin that is SAME has plots.
      sections: how many twins have a section of their own.
      listed: how many twins the table at the top has.
    """

    rows: int = 10**9
    wrong: int = 10**9
    plots: bool = True
    sections: int = 10**9
    listed: int = 10**9


def _over(x: Any, allowed: Any) -> bool:
    """Whether a figure is beyond what is allowed; NaN is."""
    number, most = figures.value(x), figures.value(allowed)
    return number is not None and most is not None and not number <= most


def _parts(row: Dict) -> bool:
    """Whether a layer's output differs, in either mode; not its gradient alone."""
    return _over(row.get("eval"), RELATIVE) or _over(row.get("train"), RELATIVE)


def view(report: Dict, detail: Detail, plotted: Plotted) -> Dict:
    """What the template shows of a report; `plotted` keeps the plots for the next call."""
    twins = report.get("twins") or []
    verdict = _verdict(report)
    entries = [_entry(i, twin, len(twins), detail) for i, twin in enumerate(twins, 1)]
    ranked = sorted(entries, key=_urgency)
    wrong = [e for e in ranked if e["verdict"] != SAME]
    kept = {e["id"] for e in ranked[: detail.sections]}
    sections = [
        e | _tables(i, twin, e, detail, plotted)
        for i, (e, twin) in enumerate(zip(entries, twins, strict=True))
        if e["id"] in kept
    ]
    environment = dict(report.get("environment") or {})
    versions = environment.pop("versions", None) or {}
    return {
        "verdict": verdict,
        "summary": _summary(verdict, entries, len(report.get("crashed") or [])),
        "sides": _sides(entries, versions),
        "stages": STAGES,
        "entries": ranked[: detail.listed] if len(entries) > detail.listed else entries,
        "unlisted": max(0, len(entries) - detail.listed),
        "sections": sections,
        "wrong": wrong[:CARDS],
        "carded": {e["id"] for e in wrong[:CARDS]},
        "more_wrong": max(0, len(wrong) - CARDS),
        "crashed": [
            {"twin": c.get("twin", "?"), "error": str(c.get("error", ""))[:LONGEST]}
            for c in report.get("crashed") or []
        ],
        "skipped": [
            {"backend": s.get("backend", "?"), "reason": s.get("reason", "")}
            for s in report.get("skipped") or []
        ],
        "versions": {k: v for k, v in versions.items() if v},
        "environment": {
            k.replace("_", " "): _words(v) for k, v in environment.items() if v is not None
        },
        "run": _run(report.get("run") or {}),
        "left_out": len(entries) - len(sections),
        "kept": kept,
        "several": len({e["candidate"] for e in entries}) > 1,
        "limit": RELATIVE,
        "over": _over,
        "SIGN": SIGN,
        "KIND": KIND,
    }


def _run(run: Dict) -> Dict:
    """When, how long, by which command."""
    started = str(run.get("started") or "")
    when = re.sub(r"T(\d\d:\d\d)(?::\d\d)?", r" \1", started)
    when = re.sub(r"(?:\+00:?00|Z)$", " UTC", when)
    return {"command": None, "seconds": None} | run | {"started": started, "when": when}


def _words(x: Any) -> str:
    """A value of the environment, nested ones on one line."""
    if isinstance(x, dict):
        return "; ".join(f"{key} {_words(value)}" for key, value in x.items() if value is not None)
    return ", ".join(map(_words, x)) if isinstance(x, list | tuple) else str(x)


def _verdict(holder: Dict) -> str:
    """The verdict, or INCONCLUSIVE where it is none that is known."""
    found = holder.get("verdict")
    return found if found in SIGN else INCONCLUSIVE


def _urgency(entry: Dict) -> int:
    return (DIVERGED, INCONCLUSIVE, NOT_APPLICABLE, SAME).index(entry["verdict"])


def _summary(verdict: str, entries: list[Dict], crashed: int) -> str:
    """The outcome in one sentence."""
    counts = Counter(entry["verdict"] for entry in entries)
    stages = sum(s["verdict"] != NOT_APPLICABLE for e in entries for s in e["stages"])
    several = len({e["candidate"] for e in entries}) > 1
    total = figures.plural(len(entries) + crashed, "comparison" if several else "twin")
    if not entries and not crashed:
        return "Nothing was compared."
    if verdict == SAME:
        return f"{total}, {figures.plural(stages, 'stage')}: both sides compute the same."
    parts = {
        DIVERGED: "diverged" if counts[DIVERGED] != 1 else "diverges",
        INCONCLUSIVE: "could not be decided",
        SAME: "are the same" if counts[SAME] != 1 else "is the same",
    }
    found = [f"{counts[v]} {text}" for v, text in parts.items() if counts[v]]
    found += [f"{crashed} crashed"] if crashed else []
    return f"Of {total}, {', '.join(found)}."


def _framework(backend: str) -> str:
    return "JAX" if backend.startswith("xla") else "PyTorch"


def _sides(entries: list[Dict], versions: Dict) -> list[Dict]:
    """The two panels: each side's framework, versions and backends."""
    packages = {"PyTorch": ("torch",), "JAX": ("jax", "flax", "optax")}
    panels = []
    for side in ("reference", "candidate"):
        backends = list(dict.fromkeys(e[side] for e in entries))
        frameworks = list(dict.fromkeys(_framework(b) for b in backends))
        if not frameworks:
            frameworks = ["PyTorch" if side == "reference" else "JAX"]
        shown = [p for f in frameworks for p in packages[f] if versions.get(p)]
        panels.append(
            {
                "title": ", ".join(frameworks),
                "versions": [f"{p} {versions[p]}" for p in shown],
                "backends": backends,
                "reference": side == "reference",
            }
        )
    return panels


def _entry(index: int, twin: Dict, count: int, detail: Detail) -> Dict:
    """One twin on one backend, without its tables and plots."""
    verdict = _verdict(twin)
    same = verdict == SAME
    backends = twin.get("backends") or ["torch:cpu", "xla:cpu"]
    layers = twin.get("layers") or []
    at = figures.place(layers, twin.get("origin"))
    most = 10**9 if same else detail.wrong
    stages = [_stage(stage, most, twin.get("origin")) for stage in twin.get("stages") or []]
    candidate, reference = str(backends[-1]), str(twin.get("reference") or backends[0])
    left, right = _framework(reference), _framework(candidate)
    return {
        "id": f"t{index}",
        "name": str(twin.get("name") or "twin"),
        "verdict": verdict,
        "open": not same or count <= FOLD,
        "reference": reference,
        "candidate": candidate,
        "left": left if left != right else reference,
        "right": right if left != right else candidate,
        "optimizer": twin.get("optimizer"),
        "stages": stages,
        "dtypes": figures.dtypes(stages),
        "findings": [stage for stage in stages if stage["findings"]],
        "ladder": {stage["name"]: stage for stage in stages},
        "zeros": sum(stage["zeros"] for stage in stages),
        "coverage": figures.coverage(twin),
        "notes": _notes(twin),
        "failed": next((s for s in stages if s["verdict"] == verdict), None) if not same else None,
        "origin": _origin(twin, layers, at),
        "cause": _cause(twin),
        "alone": figures.alone(twin),
        "row": at,
    }


def _tables(index: int, twin: Dict, entry: Dict, detail: Detail, plotted: Plotted) -> Dict:
    """A twin's tables and plots, as long as they may be."""
    same, at = entry["verdict"] == SAME, entry["row"]
    most = detail.rows if same else detail.wrong
    layers, steps = twin.get("layers") or [], twin.get("trajectory") or []
    drawn = detail.plots or not same
    if drawn and index not in plotted:
        sides = (entry["left"], entry["right"])
        plotted[index] = plots.depth(layers, at), plots.trajectory(steps, sides)
    depth, trajectory = plotted[index] if drawn else ([], [])
    return {
        "layers": _layers(layers, most, at),
        "parameters": _parameters(twin.get("parameters") or [], most),
        "depth": depth,
        "trajectory": trajectory,
        "drawn": drawn,
    }


def _stage(stage: Dict, most: int, origin: Dict | None) -> Dict:
    known = {"worst": None, "worst_tensor": None, "limit": None}
    findings = [text[:LONGEST] for text in figures.findings(stage, origin)]
    more = [f"and {len(findings) - most} more, in report.json"] if len(findings) > most else []
    return (
        known
        | stage
        | {
            "name": str(stage.get("name")),
            "verdict": _verdict(stage),
            "what": stage.get("what") or "",
            "numerics": figures.numerics(stage),
            "zeros": int(figures.value(stage.get("zeros")) or 0),
            "findings": findings[:most] + more,
        }
    )


def _notes(twin: Dict) -> list[tuple[str, list[str]]]:
    """What the coverage line counts, by name."""
    found = twin.get("coverage") or {}
    titles = {
        "skipped": "Skipped",
        "torch_only": "Only in PyTorch",
        "jax_only": "Only in JAX",
        "by_order": "Weights paired by order, not by name",
        "lifted": "Casts lifted to float64",
        "notes": "Notes",
        "rounded": "Tables that one side rounds to float32, compared unrounded",
    }
    notes = [(title, found[key]) for key, title in titles.items() if found.get(key)]
    line = (twin.get("unpaired") or {}).get("rename")
    return notes + ([("Would pair what is left over", [line])] if line else [])


def _origin(twin: Dict, layers: list[Dict], at: int | None) -> Dict | None:
    if not twin.get("origin"):
        return None
    unknown = dict.fromkeys(
        (
            *("stage", "torch", "jax", "between", "difference", "replayed"),
            *("torch_source", "jax_source", "note"),
        )
    )
    between = twin["origin"].get("between")
    kind = None if at is None else layers[at].get("kind")
    before = [row for row in layers[: at or 0] if not _parts(row)]
    return (
        unknown
        | twin["origin"]
        | {"kind": kind, "depth": None if at is None else at + 1, "total": len(layers)}
        | {"between": between and figures.between(between), "before": len(before)}
    )


def _cause(twin: Dict) -> Dict | None:
    if not twin.get("cause"):
        return None
    names = (
        "code",
        "title",
        "confirmed",
        "before",
        "after",
        "torch",
        "jax",
        "fix",
        "tried",
        "fix_torch",
    )
    unknown = dict.fromkeys((*names, "torch_source", "jax_source"))
    return unknown | twin["cause"]


def _layers(layers: list[Dict], most: int, at: int | None) -> Dict:
    """The table of layers: by phase where there are several, cut to `most` rows."""
    files = [common(row.get(f"{side}_source") for row in layers) for side in ("torch", "jax")]
    chosen = _window(len(layers), most, at) if at is not None else _largest(layers, most)
    groups: dict[str, list[Dict]] = {}
    for index in chosen:
        row = layers[index]
        groups.setdefault(str(row.get("mode") or ""), []).append(
            dict.fromkeys(("torch", "jax", "kind", "eval", "train", "gradient", "f32"))
            | row
            | {
                "number": index + 1,
                "verdict": _verdict(row),
                "origin": index == at,
                "backward": row.get("verdict") == DIVERGED and index != at and not _parts(row),
                "torch_line": _line(row.get("torch_source"), files[0]),
                "jax_line": _line(row.get("jax_source"), files[1]),
            }
        )
    modes = {row.get("mode") for row in layers}
    return {
        "groups": list(groups.items()),
        "phases": len(modes) > 1,
        "shown": len(chosen),
        "total": len(layers),
        "files": files,
        "by_order": sum(row.get("paired") == "order" for row in layers),
        "wrong": sum(row.get("verdict") == DIVERGED and _parts(row) for row in layers),
        "backward": sum(row.get("verdict") == DIVERGED and not _parts(row) for row in layers),
    }


def _parameters(rows: list[Dict], most: int) -> Dict:
    chosen = _largest(rows, most)
    return {
        "rows": [
            dict.fromkeys(("torch", "jax", "gradient", "f32", "zero"))
            | rows[i]
            | {
                "shape": "×".join(str(n) for n in rows[i].get("shape") or []) or "scalar",
                "verdict": _verdict(rows[i]),
            }
            for i in chosen
        ],
        "shown": len(chosen),
        "total": len(rows),
        "zeros": sum(bool(row.get("zero")) for row in rows),
    }


def _window(count: int, most: int, at: int) -> list[int]:
    """The rows around the origin: a few above, the rest below."""
    if count <= most:
        return list(range(count))
    start = max(0, min(at - min(LEAD, most // 2), count - most))
    return list(range(start, start + most))


def _largest(rows: list[Dict], most: int) -> list[int]:
    """The rows that differ most, in order."""
    if len(rows) <= most:
        return list(range(len(rows)))

    def size(index: int) -> tuple[bool, float]:
        found = [figures.value(rows[index].get(key)) for key in ("eval", "train", "gradient")]
        real = [float("inf") if x != x else x for x in found if x is not None]
        return rows[index].get("verdict") not in (None, SAME), max(real, default=0.0)

    return sorted(sorted(range(len(rows)), key=size, reverse=True)[:most])


def common(sources: Iterable[str | None]) -> str | None:
    """The file that most of the sources lie in."""
    counts = Counter(source.rpartition(":")[0] for source in sources if source)
    return counts.most_common(1)[0][0] if counts else None


def _line(source: str | None, file: str | None) -> str:
    """A source, shortened to its line where the file is the table's."""
    if not source:
        return ""
    return source.removeprefix(file) if file and source.startswith(f"{file}:") else source
