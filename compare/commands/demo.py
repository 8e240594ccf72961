"""`diptych demo`: a planted fault, found and explained."""

from __future__ import annotations

import argparse

from compare.commands.options import Subparsers, command, emit, say

STORY = """\
A transformer encoder in PyTorch and its port to Flax: two blocks, and a slip in one of them.
"""


def add(subparsers: Subparsers) -> None:
    command(
        subparsers,
        "demo",
        run,
        "plant a fault in a small port, find it, explain it",
        [("diptych demo", "takes a few seconds")],
    )


def run(args: argparse.Namespace) -> int:
    from compare.api import find
    from compare.errors import need
    from compare.report.console import found
    from compare.report.terminal import Progress
    from compare.study.demo import mended, slip

    need("torch", "jax")
    console = say(args)
    if console is not None and not args.quiet:
        console.print(STORY)
    with Progress(1, args.color, enabled=not args.quiet) as progress:
        report = find(slip, seed=args.seed, steps=1, progress=progress.update)
        progress.advance()
    emit(args, report.to_json)
    if console is not None:
        found(console, report.to_dict(), "", args.quiet)
        verdict = find(mended, seed=args.seed, steps=1).verdict
        console.print(f"\nWith that line changed the two are {verdict}.")
    return 0
