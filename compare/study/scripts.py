"""Runs a script of `examples/` as a program: its lessons one by one, each in its own module.

A script says so itself, in its first cell: `script(__name__)`. Where it is no program, in a
notebook or an import, that does nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import compare
from compare.report.terminal import in_notebook
from compare.study import lessons
from compare.study.cells import Script, load
from compare.weights.files import write_atomic

ROOT = Path(compare.__file__).parents[1]
FIGURES = Path(".diptych/figures")
# Distributions that a result may depend on.
PACKAGES = "jax jaxlib flax optax torch numpy scikit-learn statsmodels optuna matplotlib".split()


def script(name: str) -> None:
    """Runs the script's lessons and ends the program: 0 if all hold, else 1.

    Args:
      name: the script's `__name__`.
    """
    if name != "__main__" or in_notebook():
        return
    sys.exit(_main(Path(str(sys.modules["__main__"].__file__))))


def versions() -> dict[str, str]:
    """Python's version and those of the packages that are installed, whatever their build."""
    found = {"python": ".".join(map(str, sys.version_info[:2]))}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package).partition("+")[0]
    return found


def _main(path: Path) -> int:
    whole = load(path)
    args = _arguments(whole)
    options = lessons.options
    options.out, options.seed, options.full = args.out, args.seed, args.full
    options.script, options.key = path.stem, "" if whole.sided else path.stem
    broken, found = False, []
    for name in [args.only] if args.only else list(whole.lessons):
        began, title = time.perf_counter(), whole.lessons[name].title
        print(f"{title}  [{name}]", flush=True)
        printed, error = _run(whole, name, str(path))
        each = next((one for one in reversed(lessons.ran) if one.cell == name), None)
        if each is None and not error:
            print(f"{name}: the cell has no lesson of its name", file=sys.stderr)
        broken = broken or error or each is None or bool(each.failures)
        if each is not None and each.figure:
            print(f"  figure: {each.figure}")
        print(f"  {time.perf_counter() - began:.1f} s\n", flush=True)
        if each is not None:
            found.append({"title": title, **each.result(), "cells": printed})
    if args.json:
        said = {
            "seed": options.seed,
            "full": options.full,
            "versions": versions(),
            "files": _imported(),
            "lessons": found,
        }
        write_atomic(args.json, json.dumps(said, indent=1, ensure_ascii=False) + "\n")
    return int(broken)


def _run(whole: Script, name: str, path: str) -> tuple[list[dict[str, Any]], bool]:
    """Runs the cells of a lesson; what each printed, and whether one failed."""
    module = ModuleType("__lesson__")
    module.__file__ = path
    sys.modules[module.__name__] = module  # where classes, Flax's above all, look for their own
    printed = []
    for cell in whole.code(name):
        with contextlib.redirect_stdout(_Both()) as kept:
            try:
                exec(cell.compiled(path), module.__dict__)
            except Exception:
                traceback.print_exc()
                return printed, True
        printed.append({"line": cell.line, "side": cell.side, "printed": kept.getvalue()})
    return printed, False


class _Both(io.StringIO):
    """Keeps what is printed, and prints it."""

    def __init__(self) -> None:
        super().__init__()
        self.through = sys.stdout

    def write(self, text: str) -> int:
        self.through.write(text)
        return super().write(text)

    def flush(self) -> None:
        self.through.flush()

    def isatty(self) -> bool:
        return self.through.isatty()


def _imported() -> list[str]:
    """The project's files that have been imported, as paths from its root."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = {Path(file).resolve() for file in files if file and file.endswith(".py")}
    rooms = [ROOT / room for room in ("compare", "jaxnn", "torchref")]
    return sorted(
        path.relative_to(ROOT).as_posix()
        for path in paths
        if any(path.is_relative_to(room) for room in rooms)
    )


def _arguments(whole: Script, line: Sequence[str] | None = None) -> argparse.Namespace:
    names = list(whole.lessons)
    parser = argparse.ArgumentParser(description=whole.about)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", choices=names, metavar="LESSON", help=", ".join(names))
    parser.add_argument(
        "--out", type=Path, default=FIGURES, metavar="DIR", help=f"for figures; default {FIGURES}"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws; default 0")
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="write what machines want to know"
    )
    longer = any("same.full" in cell.text for name in names for cell in whole.code(name))
    what = "go further, as said above" if longer else "changes nothing here"
    parser.add_argument("--full", action="store_true", help=what)
    return parser.parse_args(line)
