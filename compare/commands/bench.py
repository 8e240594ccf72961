"""`diptych bench`: what things cost, beside what a user would run instead."""

from __future__ import annotations

import argparse

from compare.commands import Subparsers, command, dump, emit, say


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "bench",
        run,
        "measure costs as ratios",
        [("diptych bench overhead", "check against the same computations written by hand")],
        "Run it with nothing else running: each side gets a process and an empty cache of its own.",
    )
    parser.add_argument("what", choices=("overhead",), help="the benchmark")
    parser.add_argument(
        "name", nargs="?", default="cnn/resnet:resnet18", metavar="NAME", help="the twin"
    )


def run(args: argparse.Namespace) -> int:
    from compare.bench import overhead, rendered
    from compare.console import Progress
    from compare.discover import find

    find(args.name)
    with Progress(1, enabled=not args.quiet) as progress:
        progress.update(args.name, "check, then by hand")
        measured = overhead(args.name)
        progress.advance()
    emit(args, dump(measured))
    console = say(args)
    if console is not None:
        console.print(rendered(measured))
    return 0
