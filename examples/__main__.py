"""Runs the lessons that have changed, and writes the index: `python -m examples [--all]`.

What a run found is kept in results/lessons/, a file for each script, with a hash of the script, of
the project's files that it imports and of the versions it ran with: a script whose hash is the same
is not run again. What it printed and drew goes to .diptych/lessons/. It fails if a script does, or
if a lesson of `lessons.tsv` did not run or compared nothing.
"""

import argparse
import ast
import csv
import hashlib
import json
import math
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compare.study.cells import load
from compare.study.scripts import versions
from compare.weights.files import write_atomic

HERE = Path(__file__).parent
ROOT = HERE.parent
KEPT = ROOT / "results" / "lessons"  # what a run found
SHOWN = ROOT / ".diptych" / "lessons"  # what it printed and drew
HEAD = """\
# Lessons

Each script is a program (`python examples/linear_algebra/matmul.py --help`) and opens as a notebook
in editors that know `# %%`. Every lesson holds JAX's numbers to PyTorch's, and fails if they
differ. `diptych notebook backprop/batch_norm` writes a script as a notebook, outputs and figures in
it, if its cells have sides. The last two columns are of the last run of `make examples`, which
writes this page.

| lesson | script and cell | mirrored files | compared | worst difference |
|---|---|---|---|---|
"""


def table() -> list[dict[str, str]]:
    """The rows of `lessons.tsv`: script, cell, lesson and what it shows."""
    with open(HERE / "lessons.tsv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def place(folder: Path, script: str) -> Path:
    """The file of a script, `examples/room/name.py`, in a folder of results."""
    path = Path(script)
    return folder / path.parent.name / f"{path.stem}.json"


def fingerprint(script: str, files: list[str]) -> str:
    """The hash of a script, of the project's files that it imports, and of the versions."""
    whole = hashlib.sha256(json.dumps(versions()).encode())
    for file in (script, *files):
        path = ROOT / file
        whole.update(f"\n{file}\n".encode() + (path.read_bytes() if path.exists() else b"gone"))
    return whole.hexdigest()


def kept(script: str) -> dict[str, Any] | None:
    """What the last run of a script found, unless something has changed since, or a lesson failed."""
    path = place(KEPT, script)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = found["hash"] == fingerprint(script, found["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if same else None


def run(script: str) -> dict[str, dict]:
    """What the lessons of a script report, by name; nothing of those that did not run.

    Where all hold, it is kept.
    """
    shown = place(SHOWN, script)
    shown.parent.mkdir(parents=True, exist_ok=True)
    shown.unlink(missing_ok=True)
    line = [sys.executable, script, "--json", str(shown), "--out", str(shown.parent)]
    done = subprocess.run(line, check=False, cwd=ROOT)
    if done.returncode not in (0, 1):
        print(f"{script}: exit {done.returncode}", file=sys.stderr)
    if not shown.exists():
        return {}
    whole = json.loads(shown.read_text(encoding="utf-8"))
    found = {each["lesson"]: each for each in whole["lessons"]}
    mark = fingerprint(script, whole["files"])
    write_atomic(shown, json.dumps(whole | {"hash": mark}, indent=1, ensure_ascii=False) + "\n")
    path = place(KEPT, script)
    if done.returncode:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        lessons = {
            name: {key: each[key] for key in ("compared", "worst")} for name, each in found.items()
        }
        keeping = {"hash": mark, "files": whole["files"], "lessons": lessons}
        write_atomic(path, json.dumps(keeping, indent=1) + "\n")
    return found


def chosen(scripts: list[str], every: bool, share: int | None) -> list[str]:
    """The scripts to run: those that have changed, and of the rest one in `share`, drawn."""
    changed = [script for script in scripts if every or kept(script) is None]
    rest = [script for script in scripts if script not in changed]
    drawn = random.sample(rest, math.ceil(len(rest) / share)) if share else []
    return [script for script in scripts if script in changed or script in drawn]


def rooms(script: str, cell: str) -> list[str]:
    """The mirrored files that a lesson uses: those whose names it has from its imports."""
    whole = load(ROOT / script)
    homes, used = {}, set()
    for each in whole.code(cell):
        nodes = list(ast.walk(ast.parse(each.text)))
        if each not in whole.head:
            used |= {node.id for node in nodes if isinstance(node, ast.Name)}
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxnn."):
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    file = name if (ROOT / f"{name.replace('.', '/')}.py").exists() else ""
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
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="run every script, changed or not")
    which.add_argument(
        "--one-in", type=int, metavar="N", help="run one in N of the unchanged ones, too, drawn"
    )
    args = parser.parse_args()
    if args.one_in is not None and args.one_in < 1:
        parser.error(f"--one-in {args.one_in}: give a number of 1 or more")
    rows, results, wrong = table(), {}, []
    scripts = list(dict.fromkeys(row["example"] for row in rows))
    to_run = chosen(scripts, args.all, args.one_in)
    for script in scripts:
        if script in to_run:
            began = time.monotonic()
            print(f"== {script}", flush=True)
            found = run(script)
            print(f"{time.monotonic() - began:.0f} s", flush=True)
        else:
            found = (kept(script) or {"lessons": {}})["lessons"]
        for row in rows:
            if row["example"] != script:
                continue
            each = found.get(row["cell"])
            results[script, row["cell"]] = each or {"compared": 0, "worst": "nan"}
            if each is None:
                wrong.append(f"{script} [{row['cell']}] did not run")
            elif each.get("failures") or not each["compared"]:
                wrong.append(f"{script} [{row['cell']}] {'; '.join(each.get('failures', []))}")
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        write_atomic(HERE / "README.md", index(rows, results))
    print(
        f"{len(to_run)} of {len(scripts)} scripts run, the others are as they were when they held"
    )
    print(f"{len(rows) - len(wrong)} of {len(rows)} lessons hold")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
