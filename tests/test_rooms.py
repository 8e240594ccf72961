"""The rooms of `compare` stand on floors: an import goes down, no two files import each other."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Floor by floor from the ground: what a file imports stands on its own floor or below.
FLOORS = (
    ("errors",),
    ("layout", "share", "twin"),
    ("data", "discover", "twins", "weights"),
    ("capture",),
    ("ladder",),
    ("differences", "report"),
    ("finder", "study"),
    ("api",),
    ("bench",),
    ("commands", "pytest_plugin", "__main__"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# The package hands out the public names: `check` and `find` only when they are asked for.
DOOR = {"": 1}


def sources() -> dict[str, str]:
    """Every file of the package by its dotted name below `compare`; "" is `compare/__init__.py`."""
    package = ROOT / "compare"
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def imported(text: str, known: Mapping[str, str]) -> Iterator[str]:
    """The files that a file imports anywhere, at the top, in a function or for its types alone."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # What importlib, a command line or sys.modules may be given; in a docstring no import.
            names = [node.value] if re.fullmatch(r"compare(\.\w+)+", node.value) else []
        else:
            continue
        for name in names:
            if name == "compare" or name.startswith("compare."):
                below = name.partition(".")[2]
                while below not in known:  # a name that a file defines
                    below = below.rpartition(".")[0]
                yield below


def relative(text: str) -> bool:
    nodes = ast.walk(ast.parse(text))
    return any(isinstance(node, ast.ImportFrom) and node.level for node in nodes)


def floor(name: str) -> int:
    return FLOOR.get(name.partition(".")[0], DOOR.get(name, -1))


def climbs(files: Mapping[str, str]) -> list[str]:
    """Imports of what stands higher; the door's own of `api` is the one that may."""
    return [
        f"{name or 'compare'} imports {other or 'compare'}"
        for name, text in files.items()
        for other in dict.fromkeys(imported(text, files))
        if floor(other) > floor(name) and (name, other) != ("", "api")
    ]


def circles(files: Mapping[str, str]) -> list[str]:
    """Files that import one another, directly or through others, each circle once."""
    edges = {name: set(imported(text, files)) - {"", name} for name, text in files.items()}
    found, left = [], dict(edges)
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    while left:
        path = [min(left)]
        while (step := min(left[path[-1]] & left.keys())) not in path:
            path.append(step)
        circle = path[path.index(step) :]
        found.append(" -> ".join([*circle, step]))
        for name in path:
            left.pop(name, None)
        while free := [name for name, others in left.items() if not others & left.keys()]:
            for name in free:
                del left[name]
    return found


def test_every_file_stands_on_a_floor():
    assert [name for name in sources() if floor(name) < 0] == []


def test_nothing_else_stands_at_the_top():
    top = {path.name for path in (ROOT / "compare").iterdir() if path.name != "__pycache__"}
    files = "__init__ __main__ api discover errors layout pytest_plugin share twin".split()
    rooms = "bench capture commands data differences finder ladder report study twins weights"
    assert top == {"py.typed", *(f"{name}.py" for name in files), *rooms.split()}


def test_imports_go_down():
    assert climbs(sources()) == []


def test_imports_say_whole_names():
    assert [name for name, text in sources().items() if relative(text)] == []
    assert relative("from ..ladder import judge")
    assert relative("def late():\n    from . import api")


def test_no_two_files_import_each_other():
    assert circles(sources()) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("weights.map", "from compare.capture import taps"),
        ("ladder.judge", "def late():\n    from compare.report.report import Report"),
        ("report.html", "import compare.finder.found"),
        ("errors", "from compare import check"),
        ("finder.lint", "if TYPE_CHECKING:\n    from compare.api import find"),
        ("weights.map", 'importlib.import_module("compare.finder.lint")'),
    ],
)
def test_a_climb_is_seen(name, line):
    files = sources()
    assert len(climbs({**files, name: f"{files[name]}\n{line}\n"})) == 1


@pytest.mark.parametrize(
    ("lines", "circle"),
    [
        ({"finder.found": "from compare.finder.sites import sites"}, "finder.found"),
        (
            {
                "report.figures": "def late():\n    from compare.report import plots",
                "report.plots": "from compare.report import figures",
            },
            "report.figures -> report.plots -> report.figures",
        ),
    ],
)
def test_a_circle_is_seen(lines, circle):
    files = sources()
    for name, line in lines.items():
        files[name] += f"\n{line}\n"
    found = circles(files)
    assert len(found) == 1
    assert circle in found[0]
