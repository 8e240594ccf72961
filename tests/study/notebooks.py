"""Writes every script of lessons as a notebook and executes it: `python -m tests.study.notebooks`.

`make notebooks` runs it; it takes a minute or two for each script. Names choose some of them.
"""

import sys
import time
from typing import Any

import nbformat
from nbclient import NotebookClient


def executed(text: str) -> Any:
    """A notebook, run from its first cell to its last as Jupyter does.

    Raises: nbclient's CellExecutionError where a cell fails.
    """
    notebook: Any = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
    return notebook


def main() -> int:
    from compare.study.notebook import find, notebook, scripts

    wrong = 0
    for name in sys.argv[1:] or scripts():
        began = time.monotonic()
        text, failures = notebook(find(name))
        wrong += bool(failures)
        try:
            executed(text)
            said = "; ".join(failures) or "executed to its end"
        except Exception as error:
            wrong, said = wrong + 1, str(error)
        print(f"{name}: {said}, {time.monotonic() - began:.0f} s", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
