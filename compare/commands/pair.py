"""`diptych pair`: which tensor is which leaf and which module which layer, in a file to edit."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from compare.commands.options import Subparsers, busy, command, dump, emit, one, say, writable
from compare.errors import bad, need

NOTES = """\
A line is PyTorch's name, then JAX's path; - stands where there is none. Give it to the twin, and
every command and the pytest plug-in pair as it says: Twin(rename="encoder.pairs"). What no line
pairs is paired as without the file. Tensors that are several leaves, or parts of one, stand in
comments: they follow their module.
Exit code 1 where a tensor or a leaf has no counterpart."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "pair",
        run,
        "write down which tensor is which leaf and which module which layer, to be edited",
        [
            ("diptych pair my_port:encoder", "print the whole pairing"),
            ("diptych pair my_port:encoder --out encoder.pairs", "write it to a file"),
        ],
        NOTES,
    )
    parser.add_argument("name", metavar="MODULE:OBJECT", help="one twin")
    parser.add_argument("--out", metavar="FILE", help="the file to write; default: print it")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")


def run(args: argparse.Namespace) -> int:
    twin = one(args.name)
    for path in (args.out, args.json):
        writable(path)
    if args.out and Path(args.out).exists() and not args.force:
        raise bad(args.out, "exists", "give another name, or --force")
    need("torch", "jax")
    from compare.api import prepare
    from compare.ladder.pair import Pair
    from compare.ladder.pairs import MODULES, TENSORS, rows
    from compare.weights.files import write_atomic
    from compare.weights.named import written

    if not isinstance(twin.rename, Mapping) and not Path(twin.rename).exists():
        twin = dataclasses.replace(twin, rename={})  # the file that is to be written
    prepare()
    with busy(args, twin.name, "pairing"):
        pair = Pair(twin, args.seed)
        found = rows(pair)
    text = written(found)
    if args.out:
        write_atomic(args.out, text)
    emit(args, lambda: dump({k: [dataclasses.asdict(row) for row in v] for k, v in found.items()}))
    console = say(args)
    if console is not None and not args.out:
        print(text, end="")
    elif console is not None and not args.quiet:
        said = [row for part in found.values() for row in part if row.said]
        both = {k: sum(bool(r.torch and r.jax and r.said) for r in v) for k, v in found.items()}
        left = sum(not (row.torch and row.jax) for row in said)
        counts = f"{both[TENSORS]} tensors and {both.get(MODULES, 0)} modules"
        console.print(f"{args.out}: {counts} of {twin.name}, {left} left over")
    return int(bool(pair.weights.differences))
