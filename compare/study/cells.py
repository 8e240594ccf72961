"""The scripts of `examples/` as files of cells, in jupytext's percent format.

Each cell begins with a line `# %%`. What it is stands behind, as metadata: `[markdown]` for prose,
`lesson="name" title="…"` where a lesson begins, `side="jax"`, `side="torch"` or `side="both"`.

    # %% [markdown] lesson="train_eval" title="Batch Normalization during training and inference"
    # A batch norm layer is two layers in one. …

    # %% side="jax"
    def run_jax(x): …

What stands before the first lesson is the head, which all lessons share. (Scripts that are not in
this form yet have `# %% [name] Title`, a lesson that is one cell.)
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType

MARK = re.compile(r"^# %%(?: \[(\w+)\])?(.*)$", re.MULTILINE)
PAIR = re.compile(r'(\w+)="([^"]*)"')
SIDES = ("jax", "torch")


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
      line: that of its mark, from 1.
      text: what stands below the mark; of prose without the comment signs.
      side: "jax", "torch", "both", or "" for prose and for a cell of the older form.
      prose: whether it is markdown.
    """

    line: int
    text: str
    side: str = ""
    prose: bool = False

    def compiled(self, path: str) -> CodeType:
        """The code, with the line numbers that it has in the file."""
        return compile("\n" * self.line + self.text, path, "exec")


@dataclass(frozen=True)
class Part:
    """A lesson of a script: its name, its title and its cells in order."""

    name: str
    title: str
    cells: list[Cell] = field(default_factory=list)

    def of(self, side: str) -> list[Cell]:
        """The cells of one side."""
        return [cell for cell in self.cells if cell.side == side]


@dataclass(frozen=True)
class Script:
    """A script: what it says of itself, its head, its lessons, and whether it has metadata."""

    about: str
    head: list[Cell]
    lessons: dict[str, Part]
    sided: bool

    def code(self, name: str) -> list[Cell]:
        """What a lesson runs, in order: the head's cells, then its own."""
        return [cell for cell in (*self.head, *self.lessons[name].cells) if not cell.prose]


def read(text: str) -> Script:
    """A script from its text."""
    marks = list(MARK.finditer(text))
    begin = marks[0].start() if marks else len(text)
    about = ast.get_docstring(ast.parse(text[:begin])) or ""
    head, lessons = [], {}
    for mark, end in zip(marks, [*(m.start() for m in marks[1:]), len(text)], strict=True):
        kind, rest = mark[1], mark[2].strip()
        found = dict(PAIR.findall(rest))
        body = text[mark.end() + 1 : end].rstrip("\n")
        if kind == "markdown":
            body = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.split("\n"))
        line = text.count("\n", 0, mark.start()) + 1
        cell = Cell(line, body, found.get("side", ""), kind == "markdown")
        if "lesson" in found:
            name = found["lesson"]
            lessons[name] = Part(name, found.get("title", ""))
        elif kind and kind != "markdown":
            name = kind
            lessons[name] = Part(name, rest)
        (next(reversed(lessons.values())).cells if lessons else head).append(cell)
    return Script(about, head, lessons, 'lesson="' in "".join(m[2] for m in marks))


def load(path: str | Path) -> Script:
    """A script from its file."""
    return read(Path(path).read_text(encoding="utf-8"))
