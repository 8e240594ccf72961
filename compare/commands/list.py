"""`diptych list`: the twins there are, or the differences."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.commands.options import Subparsers, columns, command, dump, emit, say
from compare.errors import DiptychError
from compare.twins import Side

if TYPE_CHECKING:
    from compare.twin import Twin

REPORT = "report.json"
SHOWN = 3  # inputs that are spelt out


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "list",
        run,
        "name the twins there are",
        [
            ("diptych list", "all of them"),
            ("diptych list rnn", "those of one folder"),
            ("diptych list --json", "for machines"),
            ("diptych list -q", "names alone"),
            ("diptych list --blocks", "the building blocks, and where each framework has them"),
            ("diptych list --differences", "what the two frameworks do otherwise"),
        ],
        f"The verdicts are those of this folder's {REPORT}, which `diptych check --out .` writes.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a twin, a file or a folder")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--blocks", action="store_true", help="the building blocks")
    what.add_argument("--differences", action="store_true", help="the catalogue of differences")


def run(args: argparse.Namespace) -> int:
    from compare.discover import find_all

    if args.differences or args.blocks:
        return _differences(args) if args.differences else _blocks(args)
    verdicts = known()
    rows = [row(twin) | {"verdict": verdicts.get(twin.name)} for twin in find_all(args.names)]
    emit(args, lambda: dump(rows))
    console = say(args)
    if console is None:
        return 0
    if args.quiet:
        for each in rows:
            print(each["name"])
        return 0
    cells = []
    for each in rows:
        full = _shapes(each["full"]["inputs"]) if each["full"] else "-"
        sides = each["torch"], each["jax"]
        verdict = each["verdict"] or "-"
        cells.append((each["name"], verdict, *sides, _shapes(each["inputs"]), full))
    headings = ("name", "verdict", "torch", "jax", "inputs", "published size")
    columns(console, headings, cells, crop=True)
    return 0


def _differences(args: argparse.Namespace) -> int:
    from compare.differences.catalogue import catalogue

    if args.names:
        raise DiptychError("--differences takes no names; `diptych explain CODE` tells of one")
    fields = ("code", "title", "torch", "jax")
    return _table(args, [{k: getattr(one, k) for k in fields} for one in catalogue().values()])


def _blocks(args: argparse.Namespace) -> int:
    from compare.ladder.verdict import worst
    from compare.study.blocks import blocks, rooms, twins

    if args.names:
        raise DiptychError("--blocks takes no names; `diptych show FILE` prints one's two sides")
    verdicts, rows = known(), []
    for room in rooms():
        found = [verdicts[name] for name in twins(room) if name in verdicts]
        for name, torch, jax, what in blocks(room):
            rows.append(
                {
                    "block": f"{room}:{name}",
                    "verdict": worst(found) if found else None,
                    "torch": torch or f"torchref/{room}.py",
                    "jax": jax or f"jaxnn/{room}.py",
                    "what": what,
                }
            )
    return _table(args, rows)


def _table(args: argparse.Namespace, rows: list[dict[str, Any]]) -> int:
    emit(args, lambda: dump(rows))
    console = say(args)
    if console is not None:
        shown = list(rows[0])[: 1 if args.quiet else None]
        cells = [[each[key] or "-" for key in shown] for each in rows]
        columns(console, shown, cells, crop=True)
    return 0


def known() -> dict[str, str]:
    """The verdicts in the report of the current folder, if there is one."""
    from compare.commands.report import read

    if not Path(REPORT).is_file():
        return {}
    return {twin["name"]: twin["verdict"] for twin in reversed(read(REPORT)["twins"])}


def row(twin: Twin) -> dict[str, Any]:
    """A twin as the list shows it, its models named and not built."""
    return {
        "name": twin.name,
        "torch": origin(twin, "torch"),
        "jax": origin(twin, "jax"),
        "config": {key: _plain(value) for key, value in twin.config.items()},
        "inputs": {name: list(spec.shape) for name, spec in twin.inputs.items()},
        "full": {
            "config": {k: _plain(v) for k, v in twin.published().config.items()},
            "inputs": {name: list(s.shape) for name, s in twin.published().inputs.items()},
        }
        if twin.full
        else None,
    }


def origin(twin: Twin, side: str) -> str:
    """The dotted name of one side's model."""
    given = getattr(twin, side)
    if given is None:
        package = {"torch": "torchref", "jax": "jaxnn"}[side]
        name = twin.of or twin.name.partition(":")[2]
        return f"{package}.{twin.room.replace('/', '.')}.{name}"
    if isinstance(given, Side):
        return given.module
    given = given[0] if isinstance(given, tuple) else given
    given = getattr(given, "func", given)
    named = given if hasattr(given, "__qualname__") else type(given)
    return f"{named.__module__}.{named.__qualname__}"


def _shapes(inputs: dict[str, list[int]]) -> str:
    shown = [f"{name} ({'×'.join(map(str, shape))})" for name, shape in inputs.items()]
    more = [f"and {len(shown) - SHOWN} more"] if len(shown) > SHOWN + 1 else []
    return ", ".join(shown[: SHOWN if more else None] + more)


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
