"""Lessons: what the scripts of `examples/` share.

A script is a file of cells. The first sets up (`script(__file__)`); each further one, `# %% [cell]
Title`, is a lesson that needs nothing of the others:

    with lesson("dot") as same:
        same("cosine", ours, theirs)

Run as a program, the cells are run one by one, and a table of them closes it; opened as a notebook,
they are cells.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import sys
import time
import traceback
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from compare.capture.distance import distance, norm
from compare.ladder.verdict import RELATIVE
from compare.weights.files import write_atomic

CELL = re.compile(r"^# %%(?: \[(\w+)\])?(.*)$", re.MULTILINE)
WIDTH, DPI = 8.0, 100  # inches and dots per inch: 800 pixels


@dataclass
class Options:
    """How a script is run: the folder for figures, the seed, and whether at full length."""

    out: Path | None = None
    seed: int = 0
    full: bool = False
    script: str = "notebook"


@dataclass
class Lesson:
    """What a lesson has compared; calling it compares one more pair.

    Args:
      cell: the lesson's name.
      options: of the script.
    """

    cell: str
    options: Options
    compared: int = 0
    worst: float = 0.0
    failures: list[str] = field(default_factory=list)
    figure: Path | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        key = zlib.crc32(f"{self.options.script}:{self.cell}".encode())
        self.rng = np.random.default_rng(np.random.SeedSequence([self.options.seed, key]))
        self._drawn: Any = None

    @property
    def full(self) -> bool:
        """Whether to run at full length (`--full`)."""
        return self.options.full

    def __call__(self, name: str, jax: Any, torch: Any, limit: float = RELATIVE) -> None:
        """Holds a value of JAX's to PyTorch's: ||jax - torch|| <= limit ||torch||.

        Args:
          name: what it is.
          jax, torch: arrays or numbers of one shape, or tuples, lists or dicts of them.
          limit: relative; the default is that of `diptych check`, for float64.
        """
        pairs = list(_pairs(name, jax, torch))
        for name, ours, theirs in pairs:
            self.compared += 1
            if ours.shape != theirs.shape:
                self.failures.append(f"{name}: shapes {ours.shape} and {theirs.shape}")
                continue
            difference, size = distance(theirs, ours), norm(theirs)
            relative = difference / size if size else difference
            self.worst = max(self.worst, relative)
            if not relative <= limit:
                self.failures.append(f"{name}: differs by {relative:.1e}, allowed {limit:.0e}")

    def holds(self, claim: str, truth: Any) -> None:
        """Counts a claim that is no equality of the two: a quality that is reached, a bound."""
        self.compared += 1
        if not bool(truth):
            self.failures.append(f"does not hold: {claim}")

    def axes(self, rows: int = 1, columns: int = 1, height: float = 3.2) -> Any:
        """The axes of the lesson's figure, or None where nothing is to be drawn.

        Args:
          rows, columns: of panels; one panel comes by itself, more as an array.
          height: of a row, in inches; the figure is 8 inches (800 pixels) wide.
        """
        if self.options.out is None:
            return None
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt

        self._drawn, axes = plt.subplots(rows, columns, figsize=(WIDTH, height * rows))
        return axes

    def result(self) -> dict[str, Any]:
        """What the table shows of it."""
        return {
            "cell": self.cell,
            "compared": self.compared,
            "worst": self.worst if math.isfinite(self.worst) else str(self.worst),
            "failures": self.failures,
            "seconds": round(self.seconds, 1),
            "figure": self.figure.name if self.figure else None,
        }

    def _close(self) -> None:
        if self._drawn is None or self.options.out is None:
            return
        import matplotlib.pyplot as plt

        path = self.options.out / f"{self.options.script}_{self.cell}.png"
        self._drawn.tight_layout()
        self._drawn.savefig(path, dpi=DPI)
        plt.close(self._drawn)
        self.figure = path


_options, _lessons = Options(), []


def both(array: Any) -> tuple[Any, Any]:
    """The same numbers, once for each framework: JAX's, PyTorch's."""
    from compare.share import to_jax, to_torch

    return to_jax(array), to_torch(array)


def overlay(axis: Any, jax: Any, torch: Any, color: str, label: str | None) -> None:
    """One line of each framework, JAX's broad and pale, PyTorch's dashed upon it.

    Args:
      axis: matplotlib's.
      jax, torch: what `plot` takes, (x, y) each.
    """
    axis.plot(*jax, color=color, lw=5, alpha=0.35, label=label)
    axis.plot(*torch, color=color, ls="--", lw=1.2, marker=".", ms=3)


def twice(axis: Any, x: Any, lines: Any, color: str, label: str | None) -> None:
    """`overlay` of two series over the same x.

    Args:
      lines: the values at x: JAX's, PyTorch's.
    """
    ours, theirs = lines
    overlay(axis, (x, ours), (x, theirs), color, label)


def picture(axis: Any, image: Any, title: str, **how: Any) -> None:
    """An image (H, W) or (H, W, 3) without ticks; `how` goes to `imshow`."""
    axis.imshow(image, **({"cmap": "gray"} | how))
    axis.set_title(title, fontsize=10)
    axis.set(xticks=[], yticks=[])


@contextlib.contextmanager
def lesson(cell: str) -> Iterator[Lesson]:
    """A lesson, in float64 on both sides; it fails if what it compares differs, or is nothing.

    Args:
      cell: its name, that of the cell's heading.
    """
    import jax
    import torch

    same = Lesson(cell, _options)
    _lessons.append(same)
    began, default = time.perf_counter(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with jax.enable_x64(True):
            yield same
        same._close()
    except Exception as error:
        same.failures.append(f"{type(error).__name__}: {error}")
        raise
    finally:
        torch.set_default_dtype(default)
        same.seconds = time.perf_counter() - began
    if not same.compared:
        same.failures.append("compared nothing")


def script(path: str) -> None:
    """Runs a script's cells, prints their table and ends the program: 0 if all agree, else 1.

    Where the file is no program (a notebook, an import) it does nothing.

    Args:
      path: the script's `__file__`.
    """
    if sys._getframe(1).f_globals.get("__name__") != "__main__" or "ipykernel" in sys.modules:
        return
    file = Path(path)
    head, cells = parts(file.read_text(encoding="utf-8"))
    args = _arguments(head, cells)
    _options.out, _options.seed, _options.full = args.out, args.seed, args.full
    _options.script = file.stem
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    chosen = [args.only] if args.only else list(cells)
    broken = False
    for name in chosen:
        module = ModuleType("__lesson__")
        module.__file__ = path
        sys.modules[module.__name__] = module  # where classes, Flax's above all, look for their own
        try:
            for text in (head, cells[name]):
                exec(compile(text, path, "exec"), module.__dict__)
        except Exception:
            broken = True
            traceback.print_exc()
    _table()
    ran = {each.cell for each in _lessons}
    missing = [name for name in chosen if name not in ran]
    for name in missing:
        print(f"{name}: the cell has no lesson of its name", file=sys.stderr)
    if args.json:
        write_atomic(args.json, json.dumps([each.result() for each in _lessons], indent=1) + "\n")
    sys.exit(1 if broken or missing or any(each.failures for each in _lessons) else 0)


def parts(text: str) -> tuple[str, dict[str, str]]:
    """The set-up, and the cells by name; each keeps the lines that it has in the file."""
    marks = [mark for mark in CELL.finditer(text) if mark[1]]
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    cells = {
        mark[1]: "\n" * text.count("\n", 0, mark.start()) + text[mark.start() : end]
        for mark, end in zip(marks, ends, strict=True)
    }
    return text[: marks[0].start()] if marks else text, cells


def _arguments(head: str, cells: dict[str, str]) -> argparse.Namespace:
    import ast

    parser = argparse.ArgumentParser(description=ast.get_docstring(ast.parse(head)))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", choices=list(cells), metavar="CELL", help=", ".join(cells))
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="draw figures, and write them there"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws; default 0")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write what the table holds")
    longer = any("same.full" in text for text in cells.values())
    what = "go further, as said above" if longer else "changes nothing here"
    parser.add_argument("--full", action="store_true", help=what)
    return parser.parse_args()


def _table() -> None:
    """Each lesson, what it compared, and what failed."""
    from compare.report.styled import Text
    from compare.report.terminal import make_console

    console = make_console()
    wide = max((len(each.cell) for each in _lessons), default=6)
    console.print(f"{'lesson':{wide}}  compared  worst    seconds  figure")
    for each in _lessons:
        worst = f"{each.worst:.1e}" if math.isfinite(each.worst) else str(each.worst)
        line = f"{each.cell:{wide}}  {each.compared:8}  {worst:7}  {each.seconds:7.1f}  "
        console.print(Text(line + (str(each.figure) if each.figure else "-")))
        for failure in each.failures:
            console.print(Text(f"{'':{wide}}  {failure}", "bold red"))


def _pairs(name: str, jax: Any, torch: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The arrays of two nested values, side by side."""
    if isinstance(torch, dict):
        if set(torch) != set(jax):
            raise ValueError(f"{name}: the names differ: {sorted(jax)} and {sorted(torch)}")
        for key in torch:
            yield from _pairs(f"{name}.{key}", jax[key], torch[key])
    elif isinstance(torch, (tuple, list)):
        for index, (ours, theirs) in enumerate(zip(jax, torch, strict=True)):
            yield from _pairs(f"{name}.{index}", ours, theirs)
    else:
        detached = torch.detach() if hasattr(torch, "detach") else torch
        yield name, np.asarray(jax), np.asarray(detached)
