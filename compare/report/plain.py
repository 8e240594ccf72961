"""Rich's names as this package uses them, in plain text: for a machine where rich is missing.

Nothing is coloured, nothing is drawn while something runs, and a terminal's width is not asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, Any

Part = Any  # a string, a (string, style), or a Text


class Text:
    """Text that has lost its style."""

    def __init__(self, text: str = "", style: str = "") -> None:
        self.plain = text

    @classmethod
    def assemble(cls, *parts: Part) -> Text:
        line = cls()
        for part in parts:
            line.append(*part) if isinstance(part, tuple) else line.append(part)
        return line

    def append(self, text: str | Text, style: str = "") -> Text:
        self.plain += str(text)
        return self

    def join(self, lines: Iterable[Text]) -> Text:
        return Text(self.plain.join(line.plain for line in lines))

    def __str__(self) -> str:
        return self.plain


class Console:
    """Prints; it is no terminal to anyone."""

    is_terminal, is_dumb_terminal, width = False, True, 80

    def __init__(self, file: IO[str] | None = None, stderr: bool = False, **options: Any) -> None:
        self._file, self._stderr = file, stderr

    @property
    def file(self) -> IO[str]:
        return self._file or (sys.stderr if self._stderr else sys.stdout)

    def print(self, *values: Any, end: str = "\n", **options: Any) -> None:
        print(*values, end=end, file=self.file)
