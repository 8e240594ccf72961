"""Files of pairs: PyTorch's name and JAX's path, a line each, that people edit."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compare.errors import DiptychError, bad, reason

HEADER = """\
# PyTorch's name, JAX's path: a tensor and its leaf, a module and its layer; - where there is none.
# Twin(rename=...) reads this file; what stands behind a # is not read.
"""
NONE = "-"


class Named(dict[str, str]):
    """A `rename` that a file gives, as expressions of whole names.

    Attributes:
      path: the file.
      lines: PyTorch's name -> JAX's path, and the number of the line.
    """

    path: str
    lines: dict[str, tuple[str, int]]

    def wrong(self, name: str, what: str) -> DiptychError:
        """The error of the line of a name."""
        return DiptychError(f"{self.path}:{self.lines[name][1]}: {what}")


def named(rename: Mapping[str, str] | str | os.PathLike[str], twin: str = "") -> Mapping[str, str]:
    """The expressions of a twin's `rename`, from its file if it names one.

    Args:
      twin: its name, for the remedy.

    Raises:
      DiptychError: the file cannot be read, or a line is no pair.
    """
    if isinstance(rename, Mapping):
        return rename
    try:
        text = Path(rename).read_text("utf-8")
    except FileNotFoundError as error:
        made = f"`diptych pair {twin or 'MODULE:OBJECT'} --out {os.fspath(rename)}` writes it"
        raise bad(rename, "does not exist", made) from error
    except (OSError, ValueError) as error:
        what = reason(error) if isinstance(error, OSError) else "is no text"
        raise bad(rename, what, "Twin(rename=...) takes a file of pairs") from error
    lines: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        words = words[: next((i for i, word in enumerate(words) if word[0] == "#"), len(words))]
        if not words:
            continue
        where = f"{os.fspath(rename)}:{number}"
        if len(words) != 2:
            form = "PyTorch's name and JAX's path, or - for none"
            raise bad(where, f"{' '.join(words)!r} is no pair", f"a line has two words, {form}")
        name, path = words
        if name in lines and NONE not in words:
            first = lines[name][1]
            raise bad(where, f"{name} stands in line {first} already", "leave one of them")
        if NONE not in words:
            lines[name] = path, number
    found = Named()
    # The longest first: what is below a module has lines of its own.
    for name in sorted(lines, key=len, reverse=True):
        found[f"^{re.escape(name)}"] = "/" + lines[name][0].replace("\\", r"\\")
    found.path, found.lines = os.fspath(rename), lines
    return found


@dataclass(frozen=True)
class Row:
    """A line of such a file.

    Args:
      torch, jax: the names; "" where there is none.
      note: what stands behind it.
      said: whether the line is read; else it is a comment.
    """

    torch: str
    jax: str
    note: str = ""
    said: bool = True


def written(parts: Mapping[str, Sequence[Row]]) -> str:
    """The text of such a file: rows by their headings.

    Raises:
      DiptychError: a name that no line can hold.
    """
    text = HEADER
    for heading, rows in parts.items():
        lines = []
        for row in rows:
            for name in filter(None, (row.torch, row.jax)):
                if row.said and (name.split() != [name] or name[0] == "#" or name == NONE):
                    raise DiptychError(f"{name!r} is no name that a file of pairs can hold")
            lines.append(
                (f"{'' if row.said else '# '}{row.torch or NONE}", row.jax or NONE, row.note)
            )
        wide = [max((len(line[side]) for line in lines), default=0) for side in (0, 1)]
        text += f"\n# {heading}\n" if lines else ""
        for ours, theirs, note in lines:
            end = f"  # {note}" if note else ""
            text += f"{ours:{wide[0]}}  {theirs:{wide[1]}}{end}".rstrip() + "\n"
    return text
