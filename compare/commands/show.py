"""`diptych show`: both versions of a network, side by side."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.commands.options import Subparsers, command, dump, emit, say
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
        ],
    )
    parser.add_argument("name", metavar="NAME", help="a twin or a file")


def run(args: argparse.Namespace) -> int:
    twins = find(args.name)
    named = list(dict.fromkeys(twin.name.partition(":")[0] for twin in twins))
    if len(named) > 1:
        raise DiptychError(f"{args.name!r} means {len(named)} files, name one: {', '.join(named)}")
    files = {side: _source(twins[0], side) for side in SIDES}
    emit(args, lambda: dump({"name": args.name, **files}))
    console = say(args)
    if console is not None and not args.quiet:
        _print(console, files["torch"], files["jax"])
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
