"""The one exception whose message is meant for the user, and the words that its messages share."""

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator
from typing import Any

# The packages of the extras of pyproject.toml that something here may miss, and whose module is
# whose. A remedy names packages: it is true wherever diptych itself came from.
EXTRAS = {
    "torch": ("torch",),
    "jax": ("jax", "flax", "optax", "chex", "orbax-checkpoint"),
    "data": ("pillow", "scikit-learn", "statsmodels"),
    "examples": ("matplotlib", "nbformat"),
}
MODULES = {
    "torch": "torch",
    **dict.fromkeys(("jax", "jaxlib", "flax", "optax", "chex", "orbax"), "jax"),
    **dict.fromkeys(("PIL", "sklearn", "statsmodels"), "data"),
    **dict.fromkeys(("matplotlib", "nbformat"), "examples"),
}


class DiptychError(Exception):
    """A mistake that the user can mend: a file, a name or an option.

    The message is one line that names the culprit and the remedy. The command prints it and ends
    with `exit_code`; anything else that escapes is a bug and keeps its traceback.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(
            " ".join(line.strip() for line in str(message).splitlines() if line.strip())
        )


@contextlib.contextmanager
def whose(code: str) -> Iterator[None]:
    """An error of the user's own code says which part of it ("JAX's model") it came from."""
    try:
        yield
    except DiptychError:
        raise
    except Exception as error:
        error.add_note(code)
        raise


def bad(path: Any, what: str, remedy: str) -> DiptychError:
    """The error that names a file, what is wrong with it and what to do."""
    return DiptychError(f"{path}: {what}; {remedy}")


def reason(error: BaseException) -> str:
    """The first line of an error of the system or of a library, at most 160 characters."""
    try:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    except Exception:  # an error that cannot even say what it is
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]


def install(*packages: str) -> str:
    """The line that installs packages."""
    return f"pip install {' '.join(packages)}"


def absent(*modules: str) -> str:
    """What to say of modules that are not installed, with the line that installs them."""
    extras = dict.fromkeys(MODULES[module] for module in modules)
    line = install(*(package for extra in extras for package in EXTRAS[extra]))
    are = "is" if len(modules) == 1 else "are"
    return f"this needs {' and '.join(modules)}, which {are} not installed: {line}"


def cure(error: ModuleNotFoundError) -> str | None:
    """The same of the module that an import did not find, if it is one of these."""
    module = (error.name or "").partition(".")[0]
    return absent(module) if module in MODULES else None


def lacking(*extras: str) -> str | None:
    """What to say of the first module of each extra that is not installed; None if all are."""
    first: dict[str, str] = {}
    for module, extra in MODULES.items():
        if extra in extras and importlib.util.find_spec(module) is None:
            first.setdefault(extra, module)
    return absent(*first.values()) if first else None


def need(*extras: str) -> None:
    """Goes on only where the frameworks ("torch", "jax") are installed.

    Raises:
      DiptychError: one is not; the message is the line that installs it.
    """
    line = lacking(*extras)
    if line:
        raise DiptychError(line)


def some(names: Iterable[str]) -> str:
    """The first three names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
