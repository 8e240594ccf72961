"""The form of a lesson, measured: `python -m compare.study.form SCRIPT …` lists what breaks it.

A lesson is prose; then, once or more often, a JAX cell and a PyTorch cell that say the same thing,
with or without further prose before them; a cell that brings them together; and prose that says
where the frameworks part and what to try. What is measured is the form, not the quality.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence

from compare.differences.catalogue import catalogue
from compare.study.cells import SIDES, Cell, Part, Script, load

ORDER = re.compile(r"p(p?jt)+bp")
KINDS = {"jax": "j", "torch": "t", "both": "b"}
LINES = {"jax": (5, 35), "torch": (5, 35), "both": (3, 30), "lesson": (60, 140)}  # not blank
WORDS = 80
# What neither side names: the other framework, in code or in a comment, and so no name of its own.
FOREIGN = {
    "jax": re.compile(r"torch", re.IGNORECASE),
    "torch": re.compile(r"jax|flax|linen|optax|\bjnp\b", re.IGNORECASE),
}
CODE = re.compile(r"\b[A-Z]{2,5}-\d\d\b")
WRAPPED = re.compile(r"\$\$.*?\$\$|\$[^$]+\$|`[^`]*`", re.DOTALL)
PARTING, TRYING = "### Where the frameworks part", "### Try it"


def faults(script: Script) -> list[str]:
    """What in a script breaks the form, a line each; nothing of a script without metadata."""
    if not script.sided:
        return []
    found = [f"head: {line}" for line in _foreign_faults(script.head)]
    found += [
        f"head: {_where(cell)} is neither prose nor the cell of a side"
        for cell in script.head
        if not cell.prose and cell.side not in KINDS
    ]
    for part in script.lessons.values():
        each = [*_lesson_faults(part), *_foreign_faults(part.cells, script.head)]
        found += [f"{part.name}: {line}" for line in each]
    names = [name for part in script.lessons.values() for name in _own(part)]
    if again := sorted({name for name in names if names.count(name) > 1}):
        found.append(f"lessons define the same names: {', '.join(again)}")
    return found


def _lesson_faults(part: Part) -> Iterator[str]:
    if not part.title:
        yield "has no title"
    kinds = "".join("p" if cell.prose else KINDS.get(cell.side, "?") for cell in part.cells)
    if not ORDER.fullmatch(kinds):
        named = " ".join("prose" if cell.prose else cell.side or "no side" for cell in part.cells)
        yield f"its cells are not prose, JAX, PyTorch, …, both, prose, but {named}"
        return
    first, *_, together, last = part.cells
    if (words := len(WRAPPED.sub(" ", first.text).split())) < WORDS:
        yield f"the prose has {words} words, without formulas; at least {WORDS}"
    if not re.search(rf"""\blesson\(["']{part.name}["']\)""", together.text):
        yield f'the cell that brings the sides together does not say lesson("{part.name}")'
    for pair in zip(part.of("jax"), part.of("torch"), strict=True):
        yield from _pair_faults(*pair)
    for cell in part.cells:
        if cell.side and not _within(count := _filled(cell), cell.side):
            yield f"{_where(cell)} has {count} lines; {_bounds(cell.side)}"
    if not _within(count := sum(_filled(cell) + 1 for cell in part.cells), "lesson"):
        yield f"has {count} lines; {_bounds('lesson')}"
    yield from _ending_faults(last.text)


def _own(part: Part) -> set[str]:
    """The names that the sides of a lesson define."""
    return {name for side in SIDES for cell in part.of(side) for name in _defined(cell)}


def _foreign_faults(cells: list[Cell], head: Sequence[Cell] = ()) -> Iterator[str]:
    """A side that names the other framework, or a name of the other side."""
    bound: dict[str, set[str]] = {side: set() for side in SIDES}
    for cell in (cell for cell in (*head, *cells) if cell.side in SIDES):
        if cell in cells and (found := FOREIGN[cell.side].search(cell.text)):
            yield f"{_where(cell)} names the other framework: {found[0]!r}"
        bound[cell.side] |= {*_imported(cell), *_defined(cell)}
    if shared := bound["jax"] & bound["torch"]:
        yield f"both sides bind {', '.join(sorted(shared))}, so that one takes it from the other"


def _pair_faults(ours: Cell, theirs: Cell) -> Iterator[str]:
    """Two cells side by side that define other names, or names without an ending."""
    names = {}
    for side, cell in (("jax", ours), ("torch", theirs)):
        names[side] = [name.removesuffix(f"_{side}") for name in _defined(cell)]
        if bare := [name for name in _defined(cell) if not name.endswith(f"_{side}")]:
            yield f"{_where(cell)} defines {', '.join(bare)} without the ending _{side}"
    if names["jax"] != names["torch"]:
        both = " and ".join(", ".join(each) or "nothing" for each in names.values())
        yield f"the sides define {both} (lines {ours.line} and {theirs.line})"


def _ending_faults(text: str) -> Iterator[str]:
    parting, heading, trying = text.partition(TRYING)
    if not heading or not re.search(r"^- ", trying, re.MULTILINE):
        yield f"has no list under '{TRYING}'"
    if PARTING not in parting or not re.search(r"^\|[ :|-]+\|\n\|", parting, re.MULTILINE):
        yield f"has no table under '{PARTING}'"
    if unknown := sorted(set(CODE.findall(text)) - set(catalogue())):
        yield f"names differences that do not exist: {', '.join(unknown)}"


def _imported(cell: Cell) -> list[str]:
    """The names that imports bind, anywhere in a cell."""
    nodes = [
        n for n in ast.walk(ast.parse(cell.text)) if isinstance(n, (ast.Import, ast.ImportFrom))
    ]
    aliases = (alias for node in nodes for alias in node.names)
    return [alias.asname or alias.name.partition(".")[0] for alias in aliases]


def _defined(cell: Cell) -> list[str]:
    """The names that a cell defines at its top, in order, imports left out."""
    names: list[str] = []
    for node in ast.parse(cell.text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif not isinstance(node, (ast.Import, ast.ImportFrom)):
            bound = (n for n in ast.walk(node) if isinstance(n, ast.Name))
            names += [n.id for n in bound if isinstance(n.ctx, ast.Store)]
    return list(dict.fromkeys(names))


def _filled(cell: Cell) -> int:
    return sum(bool(line.strip()) for line in cell.text.split("\n"))


def _within(count: int, what: str) -> bool:
    low, high = LINES[what]
    return low <= count <= high


def _bounds(what: str) -> str:
    low, high = LINES[what]
    return f"{low} to {high}, blank ones not counted"


def _where(cell: Cell) -> str:
    return f"the {cell.side or 'unnamed'} cell in line {cell.line}"


def main() -> int:
    found = [f"{path}: {line}" for path in sys.argv[1:] for line in faults(load(path))]
    print("\n".join(found) or "the form is held")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
