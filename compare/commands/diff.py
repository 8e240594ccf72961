"""`diptych diff`: two captures, of different backends or machines, held against each other."""

from __future__ import annotations

import argparse

from compare.commands.options import Subparsers, command, emit, say, writable


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "diff",
        run,
        "compare two captures of one twin",
        [("diptych diff cpu.safetensors gpu.safetensors", "needs neither framework")],
        "The exit code is 0 same, 1 diverged, 3 inconclusive.",
    )
    parser.add_argument("ours", metavar="A", help="a bundle that `diptych capture` has written")
    parser.add_argument("theirs", metavar="B", help="another of the same twin and seed")
    parser.add_argument("--html", metavar="PATH", help="write the page")


def run(args: argparse.Namespace) -> int:
    import shlex

    from compare.ladder.bundle import Bundle
    from compare.ladder.captures import diff
    from compare.report.entries import twin_dict
    from compare.report.report import Report

    for path in (args.html, args.json):
        writable(path)
    ours, theirs = Bundle.load(args.ours), Bundle.load(args.theirs)
    result = diff(ours, theirs, (args.ours, args.theirs))
    captured = {
        bundle.meta["backend"]: bundle.meta["environment"]["versions"] for bundle in (ours, theirs)
    }
    environment = {**ours.meta["environment"], "seed": ours.meta["seed"], "captured": captured}
    report = Report([twin_dict(result)], environment=environment)
    report.run = {"command": shlex.join(args.line)}
    emit(args, report.to_json)
    if args.html:
        from compare.weights.files import write_atomic

        write_atomic(args.html, report.to_html())
    console = say(args)
    if console is not None:
        from compare.report.console import entry, header, summary

        if not args.quiet:
            header(console, report.environment)
            entry(console, report.twins[0])
        summary(console, report.to_dict())
    return report.exit_code
