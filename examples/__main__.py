"""Runs every script of the table, and writes the index: `python -m examples [--out DIR]`.

It fails if a script does, or if a lesson of `lessons.tsv` did not run or compared nothing.
"""

import argparse
import ast
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare.study.cells import load
from compare.weights.files import write_atomic

HERE = Path(__file__).parent
HEAD = """\
# Lessons

Each script is a program (`python examples/linear_algebra/matmul.py --help`) and opens as a notebook
in editors that know `# %%`. Every lesson holds JAX's numbers to PyTorch's, and fails if they
differ. The last two columns are of the last run of `make examples`, which writes this page.

| lesson | script and cell | mirrored files | compared | worst difference |
|---|---|---|---|---|
"""


def table() -> list[dict[str, str]]:
    """The rows of `lessons.tsv`: script, cell, lesson and what it shows."""
    with open(HERE / "lessons.tsv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def run(script: str, out: Path | None) -> dict[str, dict]:
    """What the cells of a script report, by name; nothing of those that did not run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        line = [sys.executable, str(HERE.parent / script), "--json", str(path)]
        figures = ["--out", str(out / Path(script).parent.name)] if out else []
        done = subprocess.run(line + figures, check=False)
        found = json.loads(path.read_text())["lessons"] if path.exists() else []
    if done.returncode not in (0, 1):
        print(f"{script}: exit {done.returncode}", file=sys.stderr)
    return {each["lesson"]: each for each in found}


def rooms(script: str, cell: str) -> list[str]:
    """The mirrored files that a lesson uses: those whose names it has from its imports."""
    homes, used = {}, set()
    for each in load(HERE.parent / script).code(cell):
        nodes = list(ast.walk(ast.parse(each.text)))
        used |= {node.id for node in nodes if isinstance(node, ast.Name)}
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxnn."):
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    file = whole if (HERE.parent / f"{whole.replace('.', '/')}.py").exists() else ""
                    home = (file or node.module or "").removeprefix("jaxnn.").replace(".", "/")
                    homes[alias.asname or alias.name] = home
    return sorted({home for name, home in homes.items() if name in used})


def row_of(row: dict[str, str]) -> str:
    """The first columns of a lesson's line in the index: what does not change from run to run."""
    path = row["example"].removeprefix("examples/")
    files = ", ".join(f"`{room}`" for room in rooms(row["example"], row["cell"]))
    return f"| {row['lesson']} | [{path}]({path}) `{row['cell']}` | {files or '-'} |"


def index(rows: list[dict[str, str]], results: dict[tuple[str, str], dict]) -> str:
    """The page of all lessons."""
    lines = []
    for row in rows:
        found = results[row["example"], row["cell"]]
        lines.append(f"{row_of(row)} {found['compared']} | {float(found['worst']):.1e} |")
    return HEAD + "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, metavar="DIR", help="draw all figures, a folder a room")
    args = parser.parse_args()
    rows, results, wrong = table(), {}, []
    for script in dict.fromkeys(row["example"] for row in rows):
        began = time.monotonic()
        print(f"== {script}", flush=True)
        found = run(script, args.out)
        print(f"{time.monotonic() - began:.0f} s", flush=True)
        for row in rows:
            if row["example"] != script:
                continue
            each = found.get(row["cell"])
            results[script, row["cell"]] = each or {"compared": 0, "worst": "nan"}
            if each is None:
                wrong.append(f"{script} [{row['cell']}] did not run")
            elif each["failures"] or not each["compared"]:
                wrong.append(f"{script} [{row['cell']}] {'; '.join(each['failures'])}")
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        write_atomic(HERE / "README.md", index(rows, results))
    print(f"{len(rows) - len(wrong)} of {len(rows)} lessons hold")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
