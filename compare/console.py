"""The report on a terminal: a header, each twin's ladder as it ends, a closing line, a bar."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from compare import figures
from compare.verdict import DIVERGED, INCONCLUSIVE, NOT_APPLICABLE, SAME

Dict = dict[str, Any]

STYLE = {SAME: "green", DIVERGED: "bold red", INCONCLUSIVE: "bold yellow", NOT_APPLICABLE: "dim"}
HEADINGS = ("stage", "compared", "float64 worst", "limit", "float32 worst/allowed", "verdict")
WIDTHS = (11, 20, 13, 7, 21, 0)
CENTRED = (2, 3, 4)
SHOWN = (5, 1)  # findings that are written out: of the first stage that is not SAME, of the others
DELAY = 2.0  # seconds until the bar appears


def make_console(
    color: str = "auto", *, file: IO[str] | None = None, stderr: bool = False
) -> Console:
    """A console that never wraps and takes no markup.

    Args:
      color: "always", "never", or "auto": on a terminal, unless NO_COLOR is set.
      file: where to write; default standard output.
      stderr: write to standard error instead.
    """
    plain = color == "never" or (color == "auto" and bool(os.environ.get("NO_COLOR")))
    return Console(
        file=file,
        stderr=stderr,
        color_system=None if plain else "standard" if color == "always" else "auto",
        force_terminal=True if color == "always" else None,
        force_jupyter=False,
        no_color=plain,
        soft_wrap=True,
        highlight=False,
        markup=False,
        emoji=False,
    )


def tracked(steps: Iterable, what: str) -> Iterator:
    """The same steps, with a bar on a terminal: on standard error, and gone at the end."""
    from rich.progress import track

    console = make_console(stderr=True)
    return iter(
        track(steps, what, console=console, transient=True, disable=not console.is_terminal)
    )


def header(console: Console, environment: Dict) -> None:
    """One line with what every figure below depends on."""
    versions = environment.get("versions") or {}

    def named(*packages: str) -> str:
        return "  ".join(
            f"{p} {_clean(versions[p]).removesuffix('+cpu')}" for p in packages if versions.get(p)
        )

    parts = [named("diptych"), named("jax", "flax"), named("torch")]
    parts += [_clean(environment.get("cuda", "cpu"))]
    parts += [
        f"{key} {_clean(environment[key])}" for key in ("seed", "matmul") if key in environment
    ]
    parts += ["published sizes"] if environment.get("size") == "full" else []
    _write(console, [Text("   ".join(part for part in parts if part), "dim")])


def entry(console: Console, entry: Dict) -> None:
    """The ladder of one twin on one backend, its coverage, and what is not SAME."""
    lines = [_heading(entry)]
    stages = entry.get("stages") or []
    rows = [_row(stage, entry) for stage in stages]
    shown = [[text for text, _ in row] for row in rows]
    widths = [
        max(width, *(len(cells[i]) for cells in [HEADINGS, *shown]))
        for i, width in enumerate(WIDTHS[:-1])
    ] + [0]
    lines.append(_table([(text, "dim") for text in HEADINGS], widths))
    lines += [_table(row, widths) for row in rows]
    lines.append(_note("coverage", "; ".join(figures.coverage(entry))))
    lines += [_note("dropout", entry["dropout"])] if entry.get("dropout") else []
    if entry.get("verdict") != SAME:
        lines += [_note("one side", alone)] if (alone := figures.alone(entry)) else []
        lines += _origin(entry) + _cause(entry) + _findings(stages, entry.get("origin"))
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
    lines.append(_note("pairing", f"{paired}, {left} left over"))
    if left:
        lines.append(_note("", figures.alone(twin)))
    hints = twin.get("lint") or []
    lines += [_note("" if i else "lint", text) for i, text in enumerate(hints[:5])]
    lines += [_note("", f"and {len(hints) - 5} more")] if len(hints) > 5 else []
    lines += [_note("dropout", twin["dropout"])] if twin.get("dropout") else []
    for stage in twin.get("stages") or []:
        verdict = str(stage.get("verdict"))
        line = _note(stage["name"], stage.get("what") or "-").append("   ")
        lines.append(line.append(verdict, STYLE.get(verdict, "")))
        if origin and origin.get("stage") == stage["name"]:
            table = _replay(twin)
            lines += table or [_note("", text) for text in figures.findings(stage, origin)[:3]]
            lines += [] if table and not origin.get("between") else _origin(twin)
            break
    if origin:
        lines += _causes(twin)
    if folder:
        names = "report.html report.json tensors.safetensors repro.py"
        lines.append(_note("evidence", f"{folder}/  {names}"))
    _write(console, lines if not quiet else lines[-1:])
    if not origin:
        console.print(Text(str(report["verdict"]), STYLE[str(report["verdict"])]))


AROUND = (2, 2)  # rows that are shown before and after the origin
FIXES = (("jax", "fix"), ("torch", "fix_torch"))


def _replay(twin: Dict) -> list[Text]:
    """The rows of the replay around the origin."""
    rows = twin.get("replay") or []
    at = next((i for i, row in enumerate(rows) if row["verdict"] == "ORIGIN"), None)
    if at is None:
        return []
    first, last = max(0, at - AROUND[0]), at + AROUND[1] + 1
    names = [f"{_clean(row['torch'])} / {_clean(row['jax'])}" for row in rows[first:last]]
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


def _causes(twin: Dict) -> list[Text]:
    """The cause with the fix for either side, or what was tried."""
    cause = twin.get("cause") or {}
    if not cause.get("confirmed"):
        tried = ", ".join(cause.get("tried") or []) or "nothing, as nothing fits the place"
        lines = [_note("cause", f"unknown; tried {tried}", "bold")]
        return lines + _sides(twin["origin"], "", "_source")
    change = f"{figures.difference(cause['before'])} -> {figures.difference(cause['after'])}"
    text = f"{cause['code']} {cause['title']}, confirmed: {change} when changed"
    lines = [_note("cause", text, "bold"), *_sides(cause, "", "_source")]
    fixes = [(side, cause[key]) for side, key in FIXES if cause.get(key)]
    for word, (side, fix) in zip(("fix", "or "), fixes, strict=False):
        lines.append(Text.assemble(f"{'':11}", (word, "bold"), f" {side:5}  {_clean(fix)}"))
    return lines


def summary(console: Console, report: Dict) -> None:
    """Skipped backends, what is not SAME where there are several twins, and the closing line."""
    twins = report.get("twins") or []
    skipped = report.get("skipped") or []
    lines = [_note("skipped", f"{s.get('backend')}: {s.get('reason')}") for s in skipped]
    wrong = [twin for twin in twins if twin.get("verdict") != SAME]
    for twin in sorted(wrong, key=lambda t: t.get("verdict") != DIVERGED) if len(twins) > 1 else []:
        verdict = str(twin.get("verdict"))
        stage = next((s for s in twin.get("stages") or [] if s.get("verdict") == verdict), None)
        place = f"  {_clean(stage.get('name'))}" if stage else ""
        line = Text.assemble(
            "  ", (verdict.ljust(12), STYLE.get(verdict, "")), f"  {_clean(_place(twin))}"
        )
        lines.append(line.append(place))
    verdict = str(report.get("verdict"))
    counts = [figures.plural(len({t.get("name") for t in twins}), "twin")]
    if len(candidates := {_candidate(twin) for twin in twins}) > 1:
        counts[0] += f" on {len(candidates)} backends"
    verdicts = [stage.get("verdict") for twin in twins for stage in twin.get("stages") or []]
    compared = sum(v != NOT_APPLICABLE for v in verdicts)
    counts.append(figures.plural(compared, "stage"))
    if compared < len(verdicts):
        counts.append(f"{len(verdicts) - compared} n/a")
    counts += [
        f"{count} {word}"
        for word, v in (("diverged", DIVERGED), ("inconclusive", INCONCLUSIVE))
        if (count := sum(twin.get("verdict") == v for twin in twins)) and len(twins) > 1
    ]
    if time := figures.seconds((report.get("run") or {}).get("seconds")):
        counts.append(time)
    lines.append(Text.assemble((verdict, STYLE.get(verdict, "")), f"   {', '.join(counts)}"))
    if name := next((str(twin["name"]) for twin in wrong if _findable(twin)), None):
        lines[-1].append(f"; next: diptych find {_clean(name)}")
    _write(console, lines)


def _findable(twin: Dict) -> bool:
    """Whether `diptych find` can say more: the mathematics differ, and the twin has a place."""
    return (
        twin.get("class") == "mathematics"
        and _candidate(twin).startswith("xla")
        and ":" in str(twin.get("name"))
    )


# Lines.


def _write(console: Console, lines: list[Text]) -> None:
    with paused():
        console.print(Text("\n").join(lines))


def _clean(text: Any) -> str:
    """A text on one line, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in _flat(text))


def _flat(text: Any) -> str:
    return " ".join(str(text).split())


def _candidate(twin: Dict) -> str:
    return str((twin.get("backends") or ["xla:cpu"])[-1])


def _place(twin: Dict) -> str:
    """A twin's name, with the backend where it is not the usual one."""
    candidate = _candidate(twin)
    name = str(twin.get("name"))
    return name if candidate == "xla:cpu" else f"{name} on {candidate}"


def _heading(twin: Dict) -> Text:
    """The twin, and what stands on its two sides."""
    name = str(twin.get("name"))
    backends = tuple(_clean(b) for b in (_candidate(twin), twin.get("reference") or "torch:cpu"))
    both = "  <->  ".join(backends)
    room = name.partition(":")[0]
    module = room.replace("/", ".")
    line = Text.assemble((_clean(name), "bold"), "     ")
    if not re.fullmatch(r"[\w/]+", room) or not _catalogued(room):
        return line.append(both)
    sides = [f"{'jaxnn' if b.startswith('xla') else 'torchref'}.{module}" for b in backends]
    line.append("  <->  ".join(sides))
    return line if backends == ("xla:cpu", "torch:cpu") else line.append(f"     {both}")


def _catalogued(room: str) -> bool:
    return (Path(__file__).parent / "twins" / f"{room}.py").is_file()


def _row(stage: Dict, twin: Dict) -> list[tuple[str, str]]:
    """The cells of a stage, each with its style."""
    verdict = str(stage.get("verdict"))
    what = _clean(stage.get("what") or "")
    quiet = "dim" if verdict == NOT_APPLICABLE else ""
    cells = [
        (_clean(stage.get("name")), quiet),
        (what or figures.DASH, quiet),
        (figures.difference(stage.get("worst")), quiet),
        (figures.limit(stage.get("limit")), quiet),
        (figures.ratio(stage.get("f32_worst")), quiet),
        (verdict, STYLE.get(verdict, "")),
    ]
    if stage.get("name") == "step" and what and twin.get("optimizer"):
        cells.append((f" {_clean(twin['optimizer'])}", ""))
    return cells


def _table(cells: list[tuple[str, str]], widths: list[int]) -> Text:
    line = Text("  ")
    for i, (text, style) in enumerate(cells):
        width = widths[i] if i < len(widths) else 0
        line.append(text.center(width) if i in CENTRED else text.ljust(width), style)
        if i < len(cells) - 1:
            line.append("  ")
    return line


def _note(label: str, text: Any, style: str = "") -> Text:
    return Text.assemble("  ", (label.ljust(WIDTHS[0]), style), f"  {_clean(text)}")


def _sides(found: Dict, *keys: str) -> list[Text]:
    """Torch's and JAX's line, as far as there is something to say."""
    lines = []
    for side in ("torch", "jax"):
        parts = [_clean(found[f"{side}{key}"]) for key in keys if found.get(f"{side}{key}")]
        if parts:
            lines.append(Text(f"{'':15}  {side:5}  {'   '.join(parts)}"))
    return lines


def _origin(twin: Dict) -> list[Text]:
    """The first layer that differs, by name and source."""
    origin = twin.get("origin")
    if not origin:
        return []
    layers = twin.get("layers") or []
    at = figures.place(layers, origin)
    where = origin.get("stage") or "forward" if at is None else f"layer {at + 1} of {len(layers)}"
    text = f"{where} differs by {figures.difference(origin.get('difference'))}"
    if at is not None:
        text += ", the first in order of execution"
    if origin.get("between"):
        text += f", between {figures.between(origin['between'])}"
    if origin.get("replayed") is not None:
        text += f"; replayed alone {figures.difference(origin['replayed'])}"
    return [_note("origin", text, STYLE[DIVERGED]), *_sides(origin, "", "_source")]


def _cause(twin: Dict) -> list[Text]:
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
    lines = [_note("cause", text, "bold"), *_sides(cause, "", "_source")]
    if cause.get("fix"):
        lines.append(Text.assemble(f"{'':15}  ", ("fix", "bold"), f"    {_clean(cause['fix'])}"))
    return lines


def _findings(stages: list[Dict], origin: Dict | None) -> list[Text]:
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
            lines.append(_note("" if i else _clean(stage.get("name")), text, style))
        if hidden:
            lines.append(_note("", f"and {hidden} more"))
    return lines


# Progress.

_shown: list[Progress] = []


@contextmanager
def paused() -> Iterator[None]:
    """Takes the bar off the terminal while something is printed."""
    if not _shown:
        yield
        return
    with _shown[-1].hidden():
        yield


class Progress:
    """A bar on standard error: n of m twins, what runs now, how long it has taken.

    It appears after two seconds, only on a terminal, and leaves nothing behind; what this module
    prints meanwhile goes above it.

    Args:
      total: how many twins there are.
      color: as of `make_console`.
      enabled: False shows nothing.
      console, delay: where, and after how many seconds; for tests.
    """

    def __init__(
        self,
        total: int,
        color: str = "auto",
        *,
        enabled: bool = True,
        console: Console | None = None,
        delay: float = DELAY,
    ):
        console = console or make_console("auto" if color == "always" else color, stderr=True)
        self._enabled = enabled and console.is_terminal and not console.is_dumb_terminal
        self._lock = threading.RLock()
        self._visible = self._done = False
        self._delay = delay
        if self._enabled:
            console.soft_wrap = False
            text = Column(ratio=1, no_wrap=True, overflow="ellipsis")
            count = [TextColumn("{task.completed:.0f}/{task.total:.0f} twins"), BarColumn(24)]
            self._bar = Bar(
                *(count if total > 1 else []),
                TextColumn("{task.fields[doing]}", markup=False, table_column=text),
                TimeElapsedColumn(),
                console=console,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                refresh_per_second=4,
                expand=True,
            )
            self._task = self._bar.add_task("", total=total, doing="")
            self._timer = threading.Timer(delay, self._show)
            self._timer.daemon = True

    def __enter__(self) -> Self:
        if self._enabled:
            _shown.append(self)
            self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._enabled:
            return
        self._timer.cancel()
        with self._lock:
            self._done = True
            if self._visible:
                self._bar.stop()
                self._visible = False
        if self in _shown:
            _shown.remove(self)

    def update(self, twin: str, doing: str = "") -> None:
        """Says what runs now."""
        if self._enabled:
            self._bar.update(self._task, doing=f"{_clean(twin)}  {_clean(doing)}".strip())

    def advance(self) -> None:
        """One twin is finished."""
        if self._enabled:
            self._bar.advance(self._task)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Takes the bar off the terminal for a while."""
        if not self._enabled:
            yield
            return
        with self._lock:
            if self._visible:
                self._bar.stop()
            try:
                yield
            finally:
                if self._visible:
                    self._bar.start()

    def _show(self) -> None:
        with self._lock:
            if not self._done:
                self._bar.start()
                self._visible = True
