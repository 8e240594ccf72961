"""The report on a terminal: a header, each twin's ladder as it ends, a closing line, a bar."""

from __future__ import annotations

from typing import Any

from compare.ladder.verdict import DIVERGED, INCONCLUSIVE, NOT_APPLICABLE, SAME
from compare.report import figures
from compare.report.lines import (
    STYLE,
    WIDTHS,
    candidate_of,
    cause_lines,
    cells_of,
    clean,
    columns,
    finding_lines,
    found_lines,
    heading,
    headings,
    note,
    noted_lines,
    origin_lines,
    replay_lines,
    twin_place,
)
from compare.report.styled import Console, Text
from compare.report.terminal import paused

Dict = dict[str, Any]
SAID = (3, 10)  # findings that are written out: of any rung, of the weights


def header(console: Console, environment: Dict) -> None:
    """One line with what every figure below depends on."""
    versions = environment.get("versions") or {}

    def named(*packages: str) -> str:
        return "  ".join(
            f"{p} {clean(versions[p]).removesuffix('+cpu')}" for p in packages if versions.get(p)
        )

    parts = [named("diptych"), named("jax", "flax"), named("torch")]
    parts += [clean(environment.get("cuda", "cpu"))]
    parts += [
        f"{key} {clean(environment[key])}" for key in ("seed", "matmul") if key in environment
    ]
    parts += ["published sizes"] if environment.get("size") == "full" else []
    _write(console, [Text("   ".join(part for part in parts if part), "dim")])


def entry(console: Console, entry: Dict) -> None:
    """The ladder of one twin on one backend, its coverage, and what is not SAME."""
    lines = [heading(entry)]
    stages = entry.get("stages") or []
    dtypes = figures.dtypes(stages)
    rows = [cells_of(stage, entry, dtypes) for stage in stages]
    shown = [headings(dtypes), *([text for text, _ in row] for row in rows)]
    least = [*WIDTHS, *[0] * len(dtypes)]
    widths = [max(width, *(len(cells[i]) for cells in shown)) for i, width in enumerate(least)]
    lines.append(columns([(text, "dim") for text in shown[0]], widths))
    lines += [columns(row, widths) for row in rows]
    lines.append(note("coverage", "; ".join(figures.coverage(entry))))
    lines += noted_lines(entry)
    lines += [note("dropout", entry["dropout"])] if entry.get("dropout") else []
    if entry.get("verdict") != SAME:
        lines += _unpaired(entry)
        lines += (
            origin_lines(entry) + cause_lines(entry) + finding_lines(stages, entry.get("origin"))
        )
    _write(console, lines)


def found(console: Console, report: Dict, folder: str, quiet: bool = False) -> None:
    """What the finder found of one twin: pairing, weights, the table of the replay, the cause."""
    (twin,) = report["twins"]
    origin, lines = twin.get("origin"), []
    layers = twin.get("layers") or []
    coverage = twin.get("coverage") or {}
    left = len(coverage.get("torch_only") or []) + len(coverage.get("jax_only") or [])
    order = sum(row.get("paired") == "order" for row in layers)
    paired = f"{len(layers)} layers paired ({len(layers) - order} by name, {order} by order)"
    lines.append(note("pairing", f"{paired}, {left} left over"))
    lines += _unpaired(twin)
    hints = twin.get("lint") or []
    lines += [note("" if i else "lint", text) for i, text in enumerate(hints[:5])]
    lines += [note("", f"and {len(hints) - 5} more")] if len(hints) > 5 else []
    lines += noted_lines(twin)
    lines += [note("dropout", twin["dropout"])] if twin.get("dropout") else []
    for stage in twin.get("stages") or []:
        verdict = str(stage.get("verdict"))
        line = note(stage["name"], stage.get("what") or "-").append("   ")
        lines.append(line.append(verdict, STYLE.get(verdict, "")))
        if origin and origin.get("stage") == stage["name"]:
            table, told = replay_lines(twin), figures.findings(stage, origin)
            if not table or stage["name"] == "weights":
                lines += [note("", text) for text in told[: SAID[stage["name"] == "weights"]]]
            lines += table
            lines += [] if table and not origin.get("between") else origin_lines(twin)
            for i, text in enumerate(filter(None, str(origin.get("note") or "").split("; "))):
                lines.append(note("" if i else "by value", text))
            break
    if origin:
        lines += found_lines(twin)
    elif twin.get("verdict") != SAME:
        lines += finding_lines(twin.get("stages") or [], None)
    if folder:
        names = "report.html report.json tensors.safetensors repro.py"
        lines.append(note("evidence", f"{folder}/  {names}"))
    _write(console, lines if not quiet else lines[-1:])
    if not origin:
        console.print(Text(str(report["verdict"]), STYLE[str(report["verdict"])]))


def summary(console: Console, report: Dict) -> None:
    """Skipped backends, what is not SAME where there are several twins, and the closing line."""
    twins = report.get("twins") or []
    skipped = report.get("skipped") or []
    lines = [note("skipped", f"{s.get('backend')}: {s.get('reason')}") for s in skipped]
    crashed = report.get("crashed") or []
    lines += [
        note("crashed", f"{c.get('twin')}: {c.get('error')}", STYLE[DIVERGED]) for c in crashed
    ]
    wrong = [twin for twin in twins if twin.get("verdict") != SAME]
    for twin in sorted(wrong, key=lambda t: t.get("verdict") != DIVERGED) if len(twins) > 1 else []:
        verdict = str(twin.get("verdict"))
        stage = next((s for s in twin.get("stages") or [] if s.get("verdict") == verdict), None)
        place = f"  {clean(stage.get('name'))}" if stage else ""
        line = Text.assemble(
            "  ", (verdict.ljust(12), STYLE.get(verdict, "")), f"  {clean(twin_place(twin))}"
        )
        lines.append(line.append(place))
    verdict = str(report.get("verdict"))
    counts = [figures.plural(len({t.get("name") for t in twins}), "twin")]
    if len(candidates := {candidate_of(twin) for twin in twins}) > 1:
        counts[0] += f" on {len(candidates)} backends"
    verdicts = [stage.get("verdict") for twin in twins for stage in twin.get("stages") or []]
    compared = sum(v != NOT_APPLICABLE for v in verdicts)
    counts.append(figures.plural(compared, "stage"))
    if compared < len(verdicts):
        counts.append(f"{len(verdicts) - compared} n/a")
    counts += [f"{len(crashed)} crashed"] if crashed else []
    counts += [
        f"{count} {word}"
        for word, v in (("diverged", DIVERGED), ("inconclusive", INCONCLUSIVE))
        if (count := sum(twin.get("verdict") == v for twin in twins)) and len(twins) > 1
    ]
    if time := figures.seconds((report.get("run") or {}).get("seconds")):
        counts.append(time)
    lines.append(Text.assemble((verdict, STYLE.get(verdict, "")), f"   {', '.join(counts)}"))
    if name := next((str(twin["name"]) for twin in wrong if _findable(twin)), None):
        lines[-1].append(f"; next: diptych find {clean(name)}")
    _write(console, lines)


def _unpaired(twin: Dict) -> list[Text]:
    """What has no counterpart, and what would pair it; of two bundles, the names alone."""
    found = twin.get("unpaired") or {}
    texts = figures.unpaired(found) or list(filter(None, [figures.alone(twin)]))
    return [note("" if i else "not paired", text) for i, text in enumerate(texts)]


def _findable(twin: Dict) -> bool:
    """Whether `diptych find` can say more: it is not rounding, and the twin has a place."""
    return (
        twin.get("class") in ("mathematics", "compiler")
        and candidate_of(twin).startswith("xla")
        and ":" in str(twin.get("name"))
    )


def _write(console: Console, lines: list[Text]) -> None:
    with paused():
        console.print(Text("\n").join(lines))
