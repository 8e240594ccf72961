"""`diptych capture`: one backend's run of a twin, as a bundle that another machine can compare."""

from __future__ import annotations

import argparse

from compare.commands.options import Subparsers, command, dump, emit, say, writable
from compare.ladder.verdict import DTYPES


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "capture",
        run,
        "run a twin on one backend and keep every tensor in a bundle",
        [
            (
                "diptych capture cnn/lenet:LeNet --backend xla:cuda -o gpu.safetensors",
                "on one machine",
            ),
            (
                "diptych capture cnn/lenet:LeNet --backend torch:cpu -o cpu.safetensors",
                "on another",
            ),
            ("diptych diff cpu.safetensors gpu.safetensors", "anywhere, without a framework"),
        ],
    )
    parser.add_argument("name", metavar="NAME", help="one twin")
    parser.add_argument("-o", "--out", required=True, metavar="PATH", help="the bundle to write")
    parser.add_argument("--backend", default="xla:cpu", help="default xla:cpu; see check --help")
    parser.add_argument(
        "--dtype",
        choices=("float64", *DTYPES),
        default="float64",
        help="float64: the same mathematics (default); the others: the same numerics",
    )
    parser.add_argument("--full", action="store_true", help="at the published size")


def run(args: argparse.Namespace) -> int:
    from compare.api import missing, prepare
    from compare.discover import find
    from compare.errors import DiptychError, lacking
    from compare.ladder.captures import capture
    from compare.ladder.pair import Pair, parse
    from compare.report.terminal import Progress

    found = find(args.name)
    if len(found) != 1:
        raise DiptychError(f"{args.name} names {len(found)} twins; capture takes one")
    writable(args.out)
    xla = parse(args.backend)[0] == "xla"
    line = lacking("torch", "jax") if xla else lacking("torch")
    if line:
        why = "has its weights and its noise from PyTorch (torch:cpu needs PyTorch alone)"
        raise DiptychError(f"--backend {args.backend} {why}; {line}" if xla else line)
    reason = missing(args.backend)
    if reason:
        raise DiptychError(f"{args.backend} cannot run here: {reason}")
    if xla:
        prepare()
    twin = found[0].published() if args.full else found[0]
    with Progress(1, enabled=not args.quiet) as progress:
        pair = Pair(twin, args.seed)
        bundle = capture(
            pair, args.backend, args.dtype, lambda what: progress.update(twin.name, what)
        )
        progress.advance()
    bundle.save(args.out)
    kept = {"path": args.out, "tensors": len(bundle.tensors), "backend": args.backend}
    emit(args, dump(kept))
    console = say(args)
    if console is not None and not args.quiet:
        console.print(f"{args.out}: {len(bundle.tensors)} tensors of {twin.name} on {args.backend}")
    return 0
