"""`diptych report`: a saved report, shown again."""

from __future__ import annotations

import argparse
import json
from typing import Any

from compare.commands.options import Subparsers, command, dump, emit, say, writable


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "report",
        run,
        "show a saved report.json again",
        [
            ("diptych report report.json", "as check showed it"),
            ("diptych report report.json --html page.html", "as a page"),
            ("diptych report report.json -q", "the verdict alone"),
        ],
        "The exit code is that of the check: 0 same, 1 diverged, 2 a twin crashed, 3 inconclusive.",
    )
    parser.add_argument("path", metavar="PATH", help="a report.json")
    parser.add_argument("--html", metavar="PATH", help="write the page")


def run(args: argparse.Namespace) -> int:
    from compare.errors import bad
    from compare.report.report import CRASH, EXIT

    saved = read(args.path)
    for path in (args.html, args.json):
        writable(path)
    emit(args, lambda: dump(saved))
    try:
        _show(args, saved)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise bad(args.path, f"is incomplete ({error!r})", "write it again") from error
    return CRASH if saved.get("crashed") else EXIT[saved["verdict"]]


def _show(args: argparse.Namespace, saved: dict[str, Any]) -> None:
    if args.html:
        from compare.report.html import render
        from compare.weights.files import write_atomic

        write_atomic(args.html, render(saved))
    console = say(args)
    if console is None:
        return
    from compare.report.console import entry, header, summary

    if not args.quiet:
        header(console, saved["environment"])
        for each in saved["twins"]:
            entry(console, each)
    summary(console, saved)


def read(path: str) -> dict[str, Any]:
    """A saved report.

    Raises:
      DiptychError: no report, one of another schema, or an incomplete one.
    """
    from compare.errors import bad, reason
    from compare.ladder.verdict import INCONCLUSIVE, worst
    from compare.report.report import EXIT, SCHEMA
    from compare.weights.files import existing_file

    file = existing_file(path)
    try:
        saved = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise bad(path, f"is not JSON ({reason(error)})", "give a report.json") from error
    if not isinstance(saved, dict) or "schema" not in saved:
        raise bad(path, "is not a report of diptych", "give a report.json")
    if saved["schema"] != SCHEMA:
        what = f"is a report of schema {saved['schema']!r}, this diptych reads schema {SCHEMA}"
        raise bad(path, what, "check again with one version")
    if saved.get("verdict") not in list(EXIT):
        raise bad(path, f"has the verdict {saved.get('verdict')!r}", "write it again")
    for key, kind in (("twins", list), ("environment", dict), ("run", dict), ("skipped", list)):
        if not isinstance(saved.get(key), kind):
            raise bad(path, f"lacks its part {key!r}", "write it again")
    crashed = saved.get("crashed", [])
    if not isinstance(crashed, list) or not all(map(_crash, crashed)):
        raise bad(path, "its part 'crashed' is incomplete", "write it again")
    for number, each in enumerate(saved["twins"], 1):
        if not _whole(each, list(EXIT)):
            raise bad(path, f"its twin {number} is incomplete", "write it again")
    unknown = [INCONCLUSIVE for _ in crashed]
    if saved["verdict"] != worst([*(each["verdict"] for each in saved["twins"]), *unknown]):
        raise bad(path, "its verdict is not that of its twins", "write it again")
    return saved


def _crash(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(k), str) for k in ("twin", "error"))


def _whole(entry: Any, verdicts: list[str]) -> bool:
    """Whether an entry has what every view of it needs."""
    if not isinstance(entry, dict) or not isinstance(entry.get("stages"), list):
        return False
    return (
        isinstance(entry.get("name"), str)
        and entry.get("verdict") in verdicts
        and isinstance(entry.get("coverage"), dict)
        and all(isinstance(s, dict) and isinstance(s.get("name"), str) for s in entry["stages"])
    )
