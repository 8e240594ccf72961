"""A script of lessons as a notebook: its prose, its code, and what a run of it printed and drew."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compare.data.batches import require
from compare.errors import DiptychError
from compare.study.cells import Cell, Part, Script, load
from compare.study.scripts import ROOT

SEED = "from compare.study.lessons import options\n\noptions.seed = {seed}"
EXAMPLES = ROOT / "examples"
INSTALL = """\
# What this notebook needs, once for each environment: Diptych from a clone of its repository.
# %pip install "path/to/clone[all,examples]"
"""


def scripts() -> list[str]:
    """The scripts of `examples/` whose cells have sides, as "backprop/batch_norm"."""
    paths = sorted(EXAMPLES.glob("*/*.py"))
    return [f"{path.parent.name}/{path.stem}" for path in paths if load(path).sided]


def find(name: str) -> Path:
    """The script of a name.

    Raises:
      DiptychError: there is none, or its cells have no sides.
    """
    known = scripts()
    if name not in known:
        what = f"there are {', '.join(known)}" if known else "examples/ is not installed here"
        raise DiptychError(f"{name!r} is no script of lessons that makes a notebook; {what}")
    return EXAMPLES / f"{name}.py"


def notebook(path: Path, seed: int = 0) -> tuple[str, list[str]]:
    """Runs a script and writes it down as a notebook.

    Args:
      path: the script.
      seed: of all draws.

    Returns: the notebook's text, and what failed in its lessons.

    Raises:
      DiptychError: the script broke off, or nbformat is not installed.
    """
    script = load(path)
    with tempfile.TemporaryDirectory() as folder:
        found = _run(path, script, Path(folder), seed)
        pictures = {each.name: each.read_bytes() for each in Path(folder).glob("*.png")}
    text = written(script, found, pictures, seed)
    return text, [f"{name}: {line}" for name in found for line in found[name]["failures"]]


def written(
    script: Script,
    found: Mapping[str, Mapping[str, Any]],
    pictures: Mapping[str, bytes],
    seed: int = 0,
) -> str:
    """A script as the text of a notebook.

    Args:
      found: what its lessons reported, by name; one that is missing has no outputs.
      pictures: the figures' bytes by the names that the reports give.
      seed: what the lessons draw from when the notebook is run.
    """
    v4 = require("nbformat.v4")
    cells = [v4.new_code_cell(INSTALL.rstrip()), v4.new_markdown_cell(f"# {script.about}")]
    if seed:
        cells.append(v4.new_code_cell(SEED.format(seed=seed)))
    cells += [_cell(v4, cell) for cell in script.head]
    for part in script.lessons.values():
        result = found.get(part.name, {"cells": [], "figure": None})
        printed = {each["line"]: each["printed"] for each in result["cells"]}
        picture = pictures.get(result["figure"] or "")
        cells += [_cell(v4, cell, part, printed, picture) for cell in part.cells]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # not drawn: the same run writes the same file
    whole = v4.new_notebook(cells=cells)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    whole["metadata"]["kernelspec"] = kernel
    return v4.writes(whole) + "\n"


def _run(path: Path, script: Script, folder: Path, seed: int) -> dict[str, Any]:
    said = folder / "found.json"
    line = [sys.executable, str(path), "--json", str(said), "--out", str(folder)]
    done = subprocess.run([*line, "--seed", str(seed)], capture_output=True, text=True, check=False)
    lessons = json.loads(said.read_text())["lessons"] if said.exists() else []
    found = {each["lesson"]: each for each in lessons}
    if missing := [name for name in script.lessons if name not in found]:
        last = (done.stderr.strip() or "no word").splitlines()[-1]
        raise DiptychError(f"{path.name}: {missing[0]} did not run to its end: {last}")
    return found


def _cell(
    v4: Any,
    cell: Cell,
    part: Part | None = None,
    printed: dict[int, str] | None = None,
    picture: bytes | None = None,
) -> Any:
    """A cell of the notebook, with the outputs that it had."""
    if cell.prose:
        first = part is not None and cell is part.cells[0]
        return v4.new_markdown_cell(f"## {part.title}\n\n{cell.text}" if first else cell.text)
    outputs = []
    if picture is not None and cell.side == "both":
        data = {"image/png": base64.b64encode(picture).decode(), "text/plain": "<a figure>"}
        outputs.append(v4.new_output("display_data", data=data))
    if text := (printed or {}).get(cell.line):
        outputs.append(v4.new_output("stream", name="stdout", text=text))
    new = v4.new_code_cell(cell.text.strip("\n"), outputs=outputs)
    if cell.side:
        new["metadata"]["side"] = cell.side
    return new
