"""`diptych notebook`: a script of lessons as a notebook, run."""

from __future__ import annotations

import argparse

from compare.commands.options import Subparsers, busy, command, dump, emit, say, writable
from compare.errors import DiptychError, need


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "notebook",
        run,
        "run a script of lessons and write it as a notebook, outputs and figures in it",
        [
            ("diptych notebook backprop/batch_norm", "writes batch_norm.ipynb"),
            ("diptych notebook backprop/batch_norm --out bn.ipynb", "under another name"),
        ],
        "The scripts are those of examples/; the notebook opens in Jupyter and in Colab.",
    )
    parser.add_argument("name", metavar="SCRIPT", help="such as backprop/batch_norm")
    parser.add_argument("--out", metavar="FILE", help="default: the script's name, .ipynb, here")


def run(args: argparse.Namespace) -> int:
    from compare.study.notebook import find, notebook
    from compare.weights.files import write_atomic

    path = find(args.name.removesuffix(".py").removeprefix("examples/"))
    out = args.out or f"{path.stem}.ipynb"
    if not out.endswith(".ipynb"):
        raise DiptychError(f"--out {out}: a notebook's name ends in .ipynb")
    writable(out)
    need("torch", "jax", "data", "examples")
    with busy(args, args.name, "running its lessons"):
        text, failures = notebook(path, args.seed)
    write_atomic(out, text)
    emit(args, lambda: dump({"script": args.name, "file": out, "failures": failures}))
    console = say(args)
    if console is not None:
        for line in failures:
            console.print(line)
        if not args.quiet:
            console.print(f"wrote {out}")
    return int(bool(failures))
