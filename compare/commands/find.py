"""`diptych find`: where two models part, why, and the line that mends it."""

from __future__ import annotations

import argparse

from compare.commands.options import Subparsers, command, emit, natural, say, writable
from compare.errors import DiptychError, need

NOTES = """\
Both models are run in float64 on the same weights and inputs. Where they differ, every layer of the
JAX model is run again by itself, on PyTorch's own inputs: the first that still differs is the
origin, the others have inherited it. The catalogue of differences (`diptych list --differences`)
then holds edits to try; the one that brings agreement back is the cause.
MODULE:OBJECT is a Twin, or a function that gives one: see the README."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "find",
        run,
        "name the first layer that differs, the cause, and the fix",
        [
            ("diptych find my_port:encoder", "a Twin in ./my_port.py"),
            ("diptych find cnn/lenet", "a twin of the catalogue"),
            ("diptych explain ACT-01", "more on a cause"),
        ],
        NOTES,
    )
    parser.add_argument("name", metavar="MODULE:OBJECT", help="the pair")
    parser.add_argument("--steps", type=natural, default=10, metavar="N", help="default 10")
    parser.add_argument(
        "--out", metavar="DIR", help="where to leave the evidence; default .diptych/NAME-HASH"
    )


def run(args: argparse.Namespace) -> int:
    from compare.api import find
    from compare.capture import heap
    from compare.capture.environment import environment
    from compare.commands.options import one
    from compare.finder.evidence import name_of
    from compare.report.console import found, header
    from compare.report.terminal import Progress
    from compare.weights.optim import SCHEDULE

    twin = one(args.name)
    if not 1 <= args.steps <= len(SCHEDULE):
        raise DiptychError(f"--steps {args.steps} is not in 1..{len(SCHEDULE)}")
    folder = args.out or f".diptych/{name_of(twin.name, args.seed)}"
    writable(folder, folder=True)
    writable(args.json)
    need("torch", "jax")
    console = say(args)
    if console is not None and not args.quiet:
        header(console, environment() | {"seed": args.seed, "matmul": "highest"})
    heap.one()
    with Progress(1, args.color, enabled=not args.quiet) as progress:
        report = find(
            twin,
            seed=args.seed,
            steps=args.steps,
            folder=folder,
            progress=heap.trimmed(progress.update),
        )
        progress.advance()
    emit(args, report.to_json)
    if console is not None:
        found(console, report.to_dict(), folder if report.origin else "", args.quiet)
    return report.exit_code
