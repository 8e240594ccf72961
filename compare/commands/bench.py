"""`diptych bench`: what things cost, beside what a user would run instead."""

from __future__ import annotations

import argparse

from compare.commands.options import (
    Subparsers,
    command,
    dtypes,
    dump,
    emit,
    natural,
    say,
    writable,
)
from compare.errors import DiptychError, need


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "bench",
        run,
        "measure costs as ratios, and count false alarms",
        [
            ("diptych bench overhead", "check against the same computations written by hand"),
            ("diptych bench overhead cnn/lenet:LeNet", "the same of another twin"),
            ("diptych bench find", "find, and its alignment, against one training step by hand"),
            ("diptych bench step", "a training step of ResNet-18 in JAX and in PyTorch"),
            (
                "diptych bench alarms --out results/clean_runs.tsv",
                "100 clean runs: none may differ",
            ),
            ("diptych bench alarms --dtypes float32,bfloat16", "the same in bfloat16, too"),
        ],
        "Measure with nothing else running: each side gets a process and an empty cache.",
    )
    parser.add_argument(
        "what", choices=("overhead", "find", "step", "alarms"), help="the benchmark"
    )
    parser.add_argument(
        "name",
        nargs="?",
        default="cnn/resnet:resnet18",
        metavar="NAME",
        help="of overhead, find and step: the twin",
    )
    parser.add_argument("--runs", type=natural, default=100, metavar="N", help="of alarms")
    parser.add_argument(
        "--dtypes",
        type=dtypes,
        default="float32",
        metavar="A,B",
        help="of alarms: as of check; default float32",
    )
    parser.add_argument("--out", metavar="PATH", help="of alarms: write the table, tab-separated")


def run(args: argparse.Namespace) -> int:
    return _alarms(args) if args.what == "alarms" else _ratios(args)


def _ratios(args: argparse.Namespace) -> int:
    from compare.bench.ratios import finding, overhead, rendered, stepping
    from compare.discover import find
    from compare.report.terminal import Progress

    twins = find(args.name)
    if len(twins) != 1:
        raise DiptychError(f"{args.name} names {len(twins)} twins; {args.what} takes one")
    need("torch", "jax")
    measure, doing = {
        "overhead": (overhead, "check, then by hand"),
        "find": (finding, "find, then by hand"),
        "step": (stepping, "JAX, then PyTorch"),
    }[args.what]
    with Progress(1, enabled=not args.quiet) as progress:
        progress.update(args.name, doing)
        measured = measure(twins[0].name)
        progress.advance()
    emit(args, dump(measured))
    console = say(args)
    if console is not None:
        console.print(rendered(measured))
    return 0


def _alarms(args: argparse.Namespace) -> int:
    from compare.bench.alarms import alarms, tabulated
    from compare.ladder.verdict import DIVERGED, INCONCLUSIVE
    from compare.report.terminal import Progress
    from compare.weights.files import write_atomic

    if not args.runs:
        raise DiptychError("--runs 0 compares nothing; give at least 1")
    writable(args.out)
    with Progress(args.runs, enabled=not args.quiet) as progress:

        def doing(twin: str, what: str) -> None:
            if what == "building":
                progress.advance()
            progress.update(twin, what)

        rows = alarms(args.runs, args.dtypes, doing)
    if args.out:
        write_atomic(args.out, tabulated(rows))
    emit(args, dump(rows))
    console = say(args)
    counts = {v: sum(row["verdict"] == v for row in rows) for v in (DIVERGED, INCONCLUSIVE)}
    if console is not None:
        if not args.quiet:
            found = [row for row in rows if row["finding"]]
            if found:
                console.print(tabulated(found), end="")
        found = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        console.print(f"{len(rows)} clean runs: {found}")
    return 1 if counts[DIVERGED] else 0
