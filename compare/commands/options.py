"""What the subcommands share: their declaration, their common options, and how they write."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.errors import DiptychError
from compare.ladder.verdict import DTYPES

if TYPE_CHECKING:
    from compare.twin import Twin

# In the order of `diptych --help`.
COMMANDS = (
    "demo",
    "list",
    "show",
    "check",
    "find",
    "weights",
    "pair",
    "explain",
    "capture",
    "diff",
    "convert",
    "notebook",
    "doctor",
    "report",
    "bench",
)
Subparsers = Any  # what ArgumentParser.add_subparsers returns; argparse does not name its type


def command(
    subparsers: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    examples: Sequence[tuple[str, str]] = (),
    notes: str = "",
) -> argparse.ArgumentParser:
    """Declares a subcommand with the options that all have.

    Args:
      run: what does it.
      summary: one line, for `diptych --help`.
      examples: commands, each with what it does.
      notes: shown below the options, before the examples.
    """
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog(examples, notes),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared = parser.add_argument_group("options that every command has")
    shared.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="PATH|-",
        help="write JSON to a file that ends in .json, or to the standard output (default)",
    )
    shared.add_argument("--seed", type=natural, default=0, metavar="N", help="default 0")
    shared.add_argument("-q", "--quiet", action="store_true", help="only what matters most")
    shared.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="NO_COLOR is heeded"
    )
    parser.set_defaults(run=run)
    return parser


def epilog(examples: Sequence[tuple[str, str]], notes: str = "") -> str:
    """Notes and examples, aligned."""
    width = min(60, max((len(line) for line, _ in examples), default=0))
    lines = [f"  {line:{width}}   {does}".rstrip() for line, does in examples]
    shown = "\n".join(["examples:", *lines]) if lines else ""
    return "\n\n".join(part for part in (notes, shown) if part)


def natural(text: str) -> int:
    """A whole number that is not negative."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def dtypes(text: str) -> list[str]:
    """Types of tier 2, the names between the commas."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in DTYPES]
    if wrong or not names:
        what = f"{wrong[0]!r} is unknown" if wrong else "it is empty"
        raise argparse.ArgumentTypeError(f"{what}: name some of {', '.join(DTYPES)}")
    return list(dict.fromkeys(names))


def say(args: argparse.Namespace) -> Any:
    """The console for people, or None where the standard output is for JSON."""
    if args.json == "-":
        return None
    from compare.report.terminal import make_console

    return make_console(args.color)


@contextlib.contextmanager
def busy(args: argparse.Namespace, name: str, what: str) -> Iterator[None]:
    """A bar for work without parts, where somebody watches and it takes longer than a moment."""
    if args.quiet or not sys.stderr.isatty():
        yield
        return
    from compare.report.terminal import Progress

    with Progress(1, args.color) as progress:
        progress.update(name, what)
        yield


def columns(
    console: Any, headings: Sequence[str], rows: Sequence[Sequence[str]], crop: bool = False
) -> None:
    """Prints a table, one line a row; `crop` cuts what a terminal has no room for."""
    from compare.report.styled import Text

    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]
    for index, cells in enumerate([headings, *rows]):
        line = "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
        text = Text(line.rstrip(), "" if index else "bold")
        if crop and console.is_terminal:
            console.print(text, soft_wrap=False, no_wrap=True, overflow="ellipsis")
        else:
            console.print(text)


def emit(args: argparse.Namespace, text: str | Callable[[], str]) -> None:
    """Writes JSON where `--json` says, if it says."""
    if args.json is None:
        return
    text = text if isinstance(text, str) else text()
    if args.json == "-":
        print(text, end="")
        return
    from compare.weights.files import write_atomic

    write_atomic(args.json, text)


def dump(value: Any) -> str:
    """A value as JSON text."""
    import json

    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def writable(path: str | None, folder: bool = False) -> None:
    """Refuses a target that cannot be written, before the work that fills it; makes nothing.

    Raises:
      DiptychError: with the reason.
    """
    if path is None or path == "-":
        return
    target = Path(path)
    if target.exists() and target.is_dir() != folder:
        kind = "a file" if folder else "a folder"
        raise DiptychError(f"{path} is {kind}; give another name")
    if not folder and target.exists() and not target.is_file():
        return  # a pipe or a device
    parent = target.absolute() if folder else target.absolute().parent
    while folder and not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        what = "does not exist" if not parent.exists() else "is no folder"
        raise DiptychError(f"{path} cannot be written: {parent} {what}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise DiptychError(f"{path} cannot be written: {parent} is not writable")


def one(name: str) -> Twin:
    """The twin of a name that must mean a single one.

    Raises:
      DiptychError: it means several.
    """
    from compare.discover import find

    found = find(name)
    if len(found) > 1:
        names = ", ".join(twin.name for twin in found[:6]) + (", …" if len(found) > 6 else "")
        raise DiptychError(f"{name!r} means {len(found)} twins, name one: {names}")
    return found[0]
