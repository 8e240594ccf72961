"""Twins by name: those of the catalogue, found by path, and a porter's own, found by import.

Listing imports neither framework: a twin file names its models and does not build them.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from compare.errors import DiptychError, cure, reason, some
from compare.twin import Twin

FOLDER = Path(__file__).parent / "twins"
DOTTED = re.compile(r"\w+(\.\w+)*")
# Frames of an error that are not the user's: this package, the standard library, installed ones.
LIBRARIES = (
    f"{Path(__file__).parent}{os.sep}",
    f"{sysconfig.get_path('stdlib')}{os.sep}",
    f"{os.sep}site-packages{os.sep}",
    f"{os.sep}dist-packages{os.sep}",
    "<",
)


def rooms() -> list[str]:
    """The relative paths X of the twin files, in order; nothing is imported."""
    paths = (path.relative_to(FOLDER).with_suffix("") for path in FOLDER.rglob("*.py"))
    return sorted(path.as_posix() for path in paths if not path.name.startswith("_"))


def catalogue() -> dict[str, Twin]:
    """Every twin of the catalogue by its name, `room/file:Name`."""
    return {name: twin for room in rooms() for name, twin in _twins(room).items()}


def find(spec: str = "") -> list[Twin]:
    """The twins that a name means.

    Args:
      spec: `cnn/resnet:resnet18`, a file (`cnn/resnet`), a folder (`cnn`), nothing for all of the
        catalogue, or a porter's `module:object`, importable from the current directory; the object
        is a `Twin` or a function without arguments that gives one.

    Raises:
      DiptychError: nothing has that name, or the porter's module cannot be used.
    """
    known = rooms()
    room, colon, name = spec.partition(":")
    room = room.strip("/")
    if colon and room in known:
        twins = _twins(room)
        if f"{room}:{name}" in twins:
            return [twins[f"{room}:{name}"]]
    elif not colon:
        under = [r for r in known if f"{r}/".startswith(f"{room}/" if room else "")]
        if under:
            return [twin for r in under for twin in _twins(r).values()]
    elif DOTTED.fullmatch(room) and DOTTED.fullmatch(name) and not room.endswith(".py"):
        return [_porter(spec, room, name)]
    raise DiptychError(f"no twin is called {spec!r}; {_hint(spec)}")


def find_all(specs: Iterable[str]) -> list[Twin]:
    """The twins of several names (none: the whole catalogue), each once, in order."""
    found = {twin.name: twin for spec in list(specs) or [""] for twin in find(spec)}
    return list(found.values())


def _twins(room: str) -> dict[str, Twin]:
    module = f"compare.twins.{room.replace('/', '.')}"
    try:
        names = vars(importlib.import_module(module))
    except Exception as error:
        what = told(error)
        raise DiptychError(f"compare/twins/{room}.py cannot be imported ({what})") from error
    return {
        f"{room}:{name}": dataclasses.replace(twin, name=f"{room}:{name}")
        for name, twin in names.items()
        if isinstance(twin, Twin) and not name.startswith("_")
    }


def _hint(spec: str) -> str:
    """What may have been meant."""
    room, _, name = spec.partition(":")
    file = Path(room if room.endswith(".py") else room.replace(".", os.sep) + ".py")
    if file.is_file():
        dotted = ".".join(file.with_suffix("").parts)
        return f"a twin of your own is {dotted}:NAME"
    # Every way to say it -> what to type.
    ways: dict[str, str] = {}
    for full in catalogue():
        path, _, short = full.partition(":")
        ways |= {full.lower(): full, path.lower(): path}
        ways.setdefault(path.partition("/")[0], path.partition("/")[0])
        ways.setdefault(short.lower(), full)
        ways.setdefault(path.rpartition("/")[2].lower(), path)
    asked = [spec.lower(), *([name.lower()] if name else [])]
    near = [way for text in asked for way in difflib.get_close_matches(text, ways, 3, 0.6)]
    if near:
        near = near[:1] if near[0] in asked else near[:3]
        return f"did you mean {' or '.join(dict.fromkeys(ways[way] for way in near))}?"
    return "`diptych list` names them, and a twin of your own is module:object"


def _porter(spec: str, module: str, name: str) -> Twin:
    """A twin of the user's own, named by its spec."""
    found = _attribute(spec, _imported(spec, module), name)
    if not isinstance(found, Twin):
        kind = "a class" if isinstance(found, type) else f"a {type(found).__name__}"
        if isinstance(found, type) or not callable(found):
            raise DiptychError(f"{spec} is {kind}, neither a Twin nor a function that gives one")
        try:
            found = found()
        except Exception as error:
            what = told(error)
            raise DiptychError(f"{spec} could not be called without arguments ({what})") from error
        if not isinstance(found, Twin):
            raise DiptychError(f"{spec} gives a {type(found).__name__}, not a Twin")
    for side in ("torch", "jax"):
        if getattr(found, side) is None:
            raise DiptychError(f"{spec}: Twin({side}=...) is missing: give a model or a callable")
    return dataclasses.replace(found, name=spec)


def _imported(spec: str, module: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            remedy = f"check the name, or run this in the folder that holds {module.split('.')[0]}"
            raise DiptychError(f"{spec}: no module {error.name} in {here}; {remedy}") from error
        what, remedy = f"{reason(error)}{blame(error)}", cure(error)
        end = f"; {remedy}" if remedy else ""
        raise DiptychError(f"{spec}: {module} cannot be imported ({what}){end}") from error
    except (Exception, SystemExit) as error:
        what = told(error)
        hidden = "'compare'" in str(error) and Path(here, "compare.py").is_file()
        end = "; diptych's own compare hides your compare.py: rename it" if hidden else ""
        raise DiptychError(f"{spec}: {module} cannot be imported ({what}){end}") from error


def _attribute(spec: str, module: Any, name: str) -> Any:
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            twins = [key for key, value in vars(module).items() if isinstance(value, Twin)]
            near = difflib.get_close_matches(name, twins, 3, 0.5) or twins
            hint = f"its twins are {some(near)}" if near else "it defines no Twin"
            raise DiptychError(f"{spec}: {module.__name__} has no {part}; {hint}")
        found = getattr(found, part)
    return found


def told(error: BaseException) -> str:
    """What an error is, in one line: a `DiptychError` as it stands, else with the user's line and
    whose it is.
    """
    if isinstance(error, DiptychError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (line := cure(error)):
        return line
    if isinstance(error, SystemExit):
        return f"the model's own code called sys.exit(){blame(error)}"
    notes = [note for note in getattr(error, "__notes__", []) if "\n" not in note]
    whose = "".join(f"{note}: " for note in reversed(notes))
    return f"{whose}{type(error).__name__}: {reason(error)}{blame(error)}"


def blame(error: BaseException) -> str:
    """The user's own last line that an error passed through, as ", file:line", or nothing."""
    if isinstance(error, SyntaxError) and error.filename:
        return f", {_relative(error.filename)}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(part in frame.filename for part in LIBRARIES):
            return f", {_relative(frame.filename)}:{frame.lineno}"
    return ""


def _relative(file: str) -> str:
    relative = os.path.relpath(file)
    return file if relative.startswith("..") else relative
