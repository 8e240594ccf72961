"""The one exception whose message is meant for the user, and the words that its messages share."""

from collections.abc import Iterable
from typing import Any


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


def bad(path: Any, what: str, remedy: str) -> DiptychError:
    """The error that names a file, what is wrong with it and what to do."""
    return DiptychError(f"{path}: {what}; {remedy}")


def reason(error: BaseException) -> str:
    """The first line of an error of the system or of a library, at most 160 characters."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]


def some(names: Iterable[str]) -> str:
    """The first three names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
