"""What the console writes of a finding and of a stage, as lines of styled text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from compare.ladder.verdict import DIVERGED, INCONCLUSIVE, NOT_APPLICABLE, SAME
from compare.report import figures
from compare.report.styled import Text

Dict = dict[str, Any]
STYLE = {SAME: "green", DIVERGED: "bold red", INCONCLUSIVE: "bold yellow", NOT_APPLICABLE: "dim"}
HEADINGS = ("stage", "compared", "float64 worst", "limit")
WIDTHS = (11, 20, 13, 7)
CENTRED = 2  # columns before those of figures, which are centred, up to the verdict
SHOWN = (5, 1)  # findings that are written out: of the first stage that is not SAME, of the others
AROUND = (2, 2)  # rows that are shown before and after the origin
FIXES = (("jax", "fix"), ("torch", "fix_torch"))


def replay_lines(twin: Dict) -> list[Text]:
    """The rows of the replay around the origin."""
    rows = twin.get("replay") or []
    at = next((i for i, row in enumerate(rows) if row["verdict"] == "ORIGIN"), None)
    if at is None:
        return []
    first, last = max(0, at - AROUND[0]), at + AROUND[1] + 1
    names = [f"{clean(row['torch'])} / {clean(row['jax'])}" for row in rows[first:last]]
    wide = max(map(len, [*names, "torch / jax"]))
    head = f"  {'#':>3}  {'torch / jax':{wide}}  {'f64 diff':>8}  {'replayed':>8}  verdict"
    lines = [Text(head, "dim")]
    for i, (row, name) in enumerate(zip(rows[first:last], names, strict=True), first + 1):
        whole, alone = (figures.difference(row[key]) for key in ("difference", "replayed"))
        style = STYLE[DIVERGED] if row["verdict"] == "ORIGIN" else ""
        line = Text(f"  {i:>3}  {name:{wide}}  {whole:>8}  {alone:>8}  ")
        lines.append(line.append(row["verdict"], style))
    if inherited := sum(row["verdict"] == "inherited" for row in rows[last:]):
        lines.append(Text(f"   ..  {inherited} more inherited", "dim"))
    return lines


def found_lines(twin: Dict) -> list[Text]:
    """The cause with the fix for either side, or what was tried."""
    cause = twin.get("cause") or {}
    if not cause.get("confirmed"):
        tried = ", ".join(cause.get("tried") or []) or "nothing, as nothing fits the place"
        lines = [note("cause", f"unknown; tried {tried}", "bold")]
        return lines + sides(twin["origin"], "", "_source")
    change = f"{figures.difference(cause['before'])} -> {figures.difference(cause['after'])}"
    text = f"{cause['code']} {cause['title']}, confirmed: {change} when changed"
    lines = [note("cause", text, "bold"), *sides(cause, "", "_source")]
    fixes = [(side, cause[key]) for side, key in FIXES if cause.get(key)]
    for word, (side, fix) in zip(("fix", "or "), fixes, strict=False):
        lines.append(Text.assemble(f"{'':11}", (word, "bold"), f" {side:5}  {clean(fix)}"))
    return lines


def clean(text: Any) -> str:
    """A text on one line, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in flat(text))


def flat(text: Any) -> str:
    return " ".join(str(text).split())


def candidate_of(twin: Dict) -> str:
    return str((twin.get("backends") or ["xla:cpu"])[-1])


def twin_place(twin: Dict) -> str:
    """A twin's name, with the backend where it is not the usual one."""
    candidate = candidate_of(twin)
    name = str(twin.get("name"))
    return name if candidate == "xla:cpu" else f"{name} on {candidate}"


def heading(twin: Dict) -> Text:
    """The twin, and what stands on its two sides."""
    name = str(twin.get("name"))
    backends = tuple(clean(b) for b in (candidate_of(twin), twin.get("reference") or "torch:cpu"))
    both = "  <->  ".join(backends)
    room = name.partition(":")[0]
    module = room.replace("/", ".")
    line = Text.assemble((clean(name), "bold"), "     ")
    if not re.fullmatch(r"[\w/]+", room) or not _catalogued(room):
        return line.append(both)
    sides = [f"{'jaxnn' if b.startswith('xla') else 'torchref'}.{module}" for b in backends]
    line.append("  <->  ".join(sides))
    return line if backends == ("xla:cpu", "torch:cpu") else line.append(f"     {both}")


def _catalogued(room: str) -> bool:
    return (Path(__file__).parents[1] / "twins" / f"{room}.py").is_file()


def headings(dtypes: list[str]) -> list[str]:
    """Of the table of stages."""
    return [*HEADINGS, *(f"{dtype} worst/allowed" for dtype in dtypes), "verdict"]


def cells_of(stage: Dict, twin: Dict, dtypes: list[str]) -> list[tuple[str, str]]:
    """The cells of a stage, each with its style."""
    verdict = str(stage.get("verdict"))
    what = clean(stage.get("what") or "")
    quiet = "dim" if verdict == NOT_APPLICABLE else ""
    cells = [
        (clean(stage.get("name")), quiet),
        (what or figures.DASH, quiet),
        (figures.difference(stage.get("worst")), quiet),
        (figures.limit(stage.get("limit")), quiet),
        *((figures.ratio(figures.numerics(stage).get(dtype)), quiet) for dtype in dtypes),
        (verdict, STYLE.get(verdict, "")),
    ]
    if stage.get("name") == "step" and what and twin.get("optimizer"):
        cells.append((f" {clean(twin['optimizer'])}", ""))
    return cells


def columns(cells: list[tuple[str, str]], widths: list[int]) -> Text:
    line = Text("  ")
    for i, (text, style) in enumerate(cells):
        width = widths[i] if i < len(widths) else 0
        line.append(text.center(width) if i >= CENTRED else text.ljust(width), style)
        if i < len(cells) - 1:
            line.append("  ")
    return line


def note(label: str, text: Any, style: str = "") -> Text:
    return Text.assemble("  ", (label.ljust(WIDTHS[0]), style), f"  {clean(text)}")


def sides(found: Dict, *keys: str) -> list[Text]:
    """Torch's and JAX's line, as far as there is something to say."""
    lines = []
    for side in ("torch", "jax"):
        parts = [clean(found[f"{side}{key}"]) for key in keys if found.get(f"{side}{key}")]
        if parts:
            lines.append(Text(f"{'':15}  {side:5}  {'   '.join(parts)}"))
    return lines


def noted_lines(twin: Dict) -> list[Text]:
    """The tables that one side rounds to float32, and what else is said beside the verdict."""
    lines: list[Text] = []
    for label, key in (("rounded", "rounded"), ("note", "notes")):
        found = (twin.get("coverage") or {}).get(key) or []
        more = [f"and {len(found) - SHOWN[0]} more"] if len(found) > SHOWN[0] else []
        texts = [*found[: SHOWN[0]], *more]
        lines += [note("" if i else label, text) for i, text in enumerate(texts)]
    return lines


def origin_lines(twin: Dict) -> list[Text]:
    """The first layer that differs, by name and source."""
    origin = twin.get("origin")
    if not origin:
        return []
    layers = twin.get("layers") or []
    at = figures.place(layers, origin)
    where = origin.get("stage") or "forward" if at is None else f"layer {at + 1} of {len(layers)}"
    if str(origin.get("mode")).startswith("step "):
        where += f" {clean(origin['mode'])}"
    text = f"{where} differs by {figures.difference(origin.get('difference'))}"
    if origin.get("shapes"):
        ours, theirs = (tuple(shape) for shape in origin["shapes"])
        text = f"{where}: {ours} in PyTorch, {theirs} in JAX, with PyTorch's axes"
    if at is not None:
        text += ", the first in order of execution"
    if origin.get("between"):
        text += f", between {figures.between(origin['between'])}"
    if origin.get("replayed") is not None and not origin.get("shapes"):
        text += f"; replayed alone {figures.difference(origin['replayed'])}"
    return [note("origin", text, STYLE[DIVERGED]), *sides(origin, "", "_source")]


def cause_lines(twin: Dict) -> list[Text]:
    """What was found to be the cause, and the line that mends it."""
    cause = twin.get("cause")
    if not cause:
        return []
    text = f"{cause.get('code') or ''} {cause.get('title') or ''}".strip()
    text += ", confirmed" if cause.get("confirmed") else ", not confirmed"
    before = (twin.get("origin") or {}).get("difference")
    if cause.get("after") is not None:
        after = figures.difference(cause["after"])
        text += f": {figures.difference(before)} -> {after} when changed"
    lines = [note("cause", text, "bold"), *sides(cause, "", "_source")]
    if cause.get("fix"):
        lines.append(Text.assemble(f"{'':15}  ", ("fix", "bold"), f"    {clean(cause['fix'])}"))
    return lines


def finding_lines(stages: list[Dict], origin: Dict | None) -> list[Text]:
    """What is wrong, by stage: more of the first one, which the others follow from."""
    lines: list[Text] = []
    for stage in stages:
        found = figures.findings(stage, origin)
        if not found:
            continue
        more = re.fullmatch(r"and (\d+) more", found[-1])
        found, hidden = (found[:-1], int(more[1])) if more else (found, 0)
        shown = SHOWN[bool(lines)]
        hidden += max(0, len(found) - shown)
        for i, text in enumerate(found[:shown]):
            style = STYLE.get(str(stage.get("verdict")), "") if not i else ""
            lines.append(note("" if i else clean(stage.get("name")), text, style))
        if hidden:
            lines.append(note("", f"and {hidden} more"))
    return lines
