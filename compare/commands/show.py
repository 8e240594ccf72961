"""`diptych show`: both versions of a network, side by side, and how their weights are mapped."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.commands.options import Subparsers, busy, columns, command, dump, emit, say
from compare.discover import find, rooms
from compare.errors import DiptychError

if TYPE_CHECKING:
    from compare.twin import Twin

SIDES = {"torch": "torchref", "jax": "jaxnn"}
WIDE = 150  # columns that two files of 70 need, line numbers included


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "show",
        run,
        "print both versions of a network, side by side",
        [
            ("diptych show cnn/lenet", "the two files"),
            ("diptych show cnn/resnet | less -R", "one after the other"),
            ("diptych show cnn/lenet:LeNet --weights", "and which tensor becomes which"),
            (
                "diptych show my_port:encoder --weights -q",
                "the weights alone, of your own pair",
            ),
        ],
    )
    parser.add_argument("name", metavar="NAME", help="a twin or a file")
    parser.add_argument(
        "--weights", action="store_true", help="which tensor becomes which, and why"
    )
    parser.add_argument("--full", action="store_true", help="the map at the published size")


def run(args: argparse.Namespace) -> int:
    twins = find(args.name)
    named = list(dict.fromkeys(twin.name.partition(":")[0] for twin in twins))
    if len(named) > 1:
        raise DiptychError(f"{args.name!r} means {len(named)} files, name one: {', '.join(named)}")
    files = {side: _source(twins[0], side) for side in SIDES}
    weights = None
    if args.weights:
        with busy(args, args.name, "weights"):
            weights = {twin.name: _weights(twin, args.full) for twin in twins}
    emit(args, lambda: dump({"name": args.name, **files, "weights": weights}))
    console = say(args)
    if console is None:
        return 0
    if not args.quiet:
        _print(console, files["torch"], files["jax"])
    for name, rows in (weights or {}).items():
        _print_weights(console, name, rows)
    return 0


def _source(twin: Twin, side: str) -> dict[str, Any]:
    """File, first line and text of one side: the mirrored file, or a porter's own definition."""
    given, room = getattr(twin, side), twin.name.partition(":")[0]
    if room in rooms():
        try:
            spec = importlib.util.find_spec(f"{SIDES[side]}.{room.replace('/', '.')}")
        except ModuleNotFoundError:
            spec = None
        if spec is None or spec.origin is None:
            raise DiptychError(f"{twin.name}: there is no {SIDES[side]}/{room}.py")
        return {"file": _relative(spec.origin), "line": 1, "source": Path(spec.origin).read_text()}
    given = given[0] if isinstance(given, tuple) else given
    given = inspect.unwrap(getattr(given, "func", given))
    defined = given if isinstance(given, type) or inspect.isroutine(given) else type(given)
    try:
        file, (lines, line) = inspect.getsourcefile(defined), inspect.getsourcelines(defined)
    except (OSError, TypeError) as error:
        raise DiptychError(f"{twin.name}: the source of its {side} side is not known") from error
    return {"file": _relative(file or ""), "line": max(line, 1), "source": "".join(lines)}


def _relative(file: str) -> str:
    relative = os.path.relpath(file)
    return file if relative.startswith("..") else relative


def _weights(twin: Twin, full: bool) -> list[dict[str, Any]]:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # only shapes are asked for
    from compare.ladder.weight_map import weight_map

    found = weight_map(twin.published() if full else twin)
    rows = [
        {
            "torch": link.torch,
            "rows": list(link.rows) if link.rows else None,
            "torch_shape": list(found.leaves[link.torch].shape),
            "jax": "/".join(link.jax),
            "jax_shape": list(link.shape),
            "how": link.how,
        }
        for link in found.links
    ]
    none = {"rows": None, "torch_shape": None, "jax": None, "jax_shape": None}
    rows += [{"torch": a, **none, "how": f"tied to {name}"} for a, name in found.aliases.items()]
    for line in found.uncounted:
        name, _, why = line.partition(": ")
        rows.append({"torch": name, **none, "how": why})
    return rows


def _print_weights(console: Any, name: str, rows: list[dict[str, Any]]) -> None:
    console.print(f"\nweights of {name}")
    if not rows:
        console.print("none: both sides are functions of their inputs")
        return
    cells = []
    for row in rows:
        part = f"[{row['rows'][0]}:{row['rows'][1]}]" if row["rows"] else ""
        rest = (row["torch_shape"], row["jax"], row["jax_shape"], row["how"])
        cells.append((row["torch"] + part, *map(_cell, rest)))
    columns(console, ("torch", "shape", "jax", "shape", "how"), cells)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "×".join(map(str, value)) or "scalar"
    return "-" if value is None else value


def _print(console: Any, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Side by side, a definition beside its mirror; one after the other where there is no room."""
    if not console.is_terminal:
        for each in (ours, theirs):
            print(f"# {each['file']}\n{each['source'].rstrip()}\n")
        return
    from rich.rule import Rule
    from rich.table import Table

    if console.width < WIDE:
        for each in (ours, theirs):
            console.print(Rule(each["file"], align="left"), soft_wrap=False)
            console.print(_code(each["source"], each["line"]), soft_wrap=False)
        return
    grid = Table.grid(expand=True, padding=(0, 1))
    for _ in range(2):
        grid.add_column(ratio=1)
    grid.add_row(Rule(ours["file"], align="left"), Rule(theirs["file"], align="left"))
    left, right = _parts(ours["source"]), _parts(theirs["source"])
    if [name for name, *_ in left] != [name for name, *_ in right]:
        left, right = [("", 1, ours["source"])], [("", 1, theirs["source"])]
    for (_, line, one), (_, other, two) in zip(left, right, strict=True):
        grid.add_row(_code(one, line + ours["line"] - 1), _code(two, other + theirs["line"] - 1))
    console.print(grid, soft_wrap=False)


def _parts(source: str) -> list[tuple[str, int, str]]:
    """The text up to the end of each public definition: name, first line, text."""
    lines = source.splitlines()
    try:
        body = ast.parse(textwrap.dedent(source)).body
    except SyntaxError:  # a lambda in the middle of a statement
        body = []
    ends = [
        (node.name, node.end_lineno or 0)
        for node in body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
    ]
    parts, start = [], 0
    for name, end in [*ends, ("", len(lines))]:
        parts.append((name, start + 1, "\n".join(lines[start:end])))
        start = end
    return parts


def _code(source: str, line: int) -> Any:
    from rich.syntax import Syntax

    return Syntax(
        source.strip("\n"),
        "python",
        line_numbers=True,
        start_line=line + len(source) - len(source.lstrip("\n")),
        word_wrap=True,
        theme="ansi_dark",
        background_color="default",
    )
