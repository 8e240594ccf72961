"""What Diptych hands out: `from diptych import Twin, check`. `python -m diptych` is the command.

The names are those of the package `compare`, which lies beside this file and is loaded when the
first of them is asked for; no framework is imported with it. Since people have a `compare.py` in
folders of their own, the package is looked for here and nowhere else.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compare import Array, DiptychError, Image, Labels, Lengths, Phase, Tokens, Twin
    from compare.api import check, find

__all__ = [
    "Array",
    "DiptychError",
    "Image",
    "Labels",
    "Lengths",
    "Phase",
    "Tokens",
    "Twin",
    "check",
    "find",
]
HERE = Path(__file__).resolve().parent


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(ours(), name)
    if name == "main":  # the command, as its script has it
        ours()
        return importlib.import_module("compare.commands.cli").main
    if name == "pytest_plugin":
        return _plugin()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def ours() -> ModuleType:
    """The package `compare` beside this file, whatever else of that name would be found first.

    Raises:
      ImportError: another one is loaded already.
    """
    if "compare" not in sys.modules:
        sys.path.insert(0, str(HERE))
        try:
            importlib.import_module("compare")
        finally:
            sys.path.remove(str(HERE))
    package = sys.modules["compare"]
    file = package.__file__ or next(iter(package.__path__))
    if Path(file).resolve().parent != HERE / "compare":
        raise ImportError(f"{file} hides the package compare of diptych: give it another name")
    return package


def _plugin() -> ModuleType:
    """The plug-in, under a name that leaves `compare` to the tests of those who have one.

    Every pytest of an environment that has diptych loads it.
    """
    name = "diptych_pytest_plugin"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / "compare" / "pytest_plugin.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


if __name__ == "__mp_main__":  # a process that `python -m diptych` has started
    ours()
if __name__ == "__main__":
    sys.exit(__getattr__("main")())
