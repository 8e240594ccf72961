"""`diptych check`: the ladder on twins, and the report."""

from __future__ import annotations

import argparse
import importlib
import shlex
from pathlib import Path
from typing import Any

from compare.commands.options import Subparsers, command, dtypes, emit, natural, say, writable
from compare.errors import DiptychError

NOTES = """\
Every rung (weights, forward, gradients, step, trajectory) is SAME, DIVERGED, INCONCLUSIVE or n/a;
the exit code is 0, 1 or 3. A name is a twin of the catalogue (cnn/resnet:resnet18), a file
(cnn/resnet), a folder (cnn) or a Twin of your own (module:object, found from here). Without a name
the whole catalogue is checked."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "check",
        run,
        "prove both sides of twins the same network",
        [
            ("diptych check", "every twin, jitted XLA against PyTorch"),
            ("diptych check cnn/lenet --out .", "one; report.html and report.json are kept"),
            ("diptych check my_port:encoder", "your own, from ./my_port.py"),
            ("diptych check cnn --backends all", "on every backend that this machine has"),
            ("diptych check rnn --dtypes float32,bfloat16", "their numerics in bfloat16, too"),
            ("diptych check cnn/lenet --json | jq .verdict", "for machines"),
        ],
        NOTES,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to check; default all")
    parser.add_argument(
        "--backends",
        default="xla:cpu",
        metavar="A,B",
        help="what to hold against torch:cpu: xla:cpu (default), xla:cpu+eager, xla:cuda,"
        " torch:cpu+compile, torch:cuda, torch:cuda+compile; or all",
    )
    parser.add_argument("--full", action="store_true", help="at the published size of each twin")
    parser.add_argument(
        "--steps", type=natural, default=10, metavar="N", help="of the trajectory; default 10"
    )
    parser.add_argument(
        "--precision",
        choices=("highest", "default"),
        default="highest",
        help="of matrix products; default measures what TF32 or bfloat16 costs",
    )
    parser.add_argument(
        "--dtypes",
        type=dtypes,
        default="float32",
        metavar="A,B",
        help="what each backend's own numerics are judged in, beside the mathematics in float64:"
        " float32 (default), bfloat16, float16",
    )
    parser.add_argument(
        "--jobs",
        type=natural,
        metavar="N",
        help="twins of the catalogue at a time; default the cores, at most 4, where nothing large"
        " is asked for",
    )
    parser.add_argument("--out", metavar="DIR", help="write report.html and report.json there")
    parser.add_argument("--html", metavar="PATH", help="write the page alone")


def run(args: argparse.Namespace) -> int:
    from compare import api
    from compare.discover import find_all
    from compare.weights.optim import SCHEDULE

    twins = find_all(args.names)
    backends = _backends(args.backends)
    if not 1 <= args.steps <= len(SCHEDULE):
        raise DiptychError(f"--steps {args.steps} is not in 1..{len(SCHEDULE)}")
    if args.jobs == 0:
        raise DiptychError("--jobs 0 checks nothing; give at least 1")
    for path, folder in ((args.out, True), (args.html, False), (args.json, False)):
        writable(path, folder)
    api.installed(backends)
    if args.out:
        for name in ("report.html", "report.json"):
            if (Path(args.out) / name).is_dir():
                raise DiptychError(f"{Path(args.out) / name} is a folder; give another --out")
    report = _checked(args, twins, backends)
    report.run = {"command": shlex.join(args.line), **report.run}
    _write(args, report)
    return report.exit_code


def _checked(args: argparse.Namespace, twins: list, backends: list[str]) -> Any:
    """Runs it, showing each entry as it is finished."""
    from compare import api
    from compare.capture import heap
    from compare.capture.environment import environment
    from compare.commands import workers
    from compare.report.console import entry, header, summary
    from compare.report.terminal import Progress

    console = say(args)
    loud = console is not None and not args.quiet
    if loud:
        importlib.import_module("torch")  # the header names its CUDA device
        size = "full" if args.full else "small"
        where = {"seed": args.seed, "matmul": args.precision, "size": size}
        header(console, environment() | where)
    settings = {
        "seed": args.seed,
        "backends": backends,
        "full": args.full,
        "precision": args.precision,
        "steps": args.steps,
        "dtypes": args.dtypes,
    }
    jobs = workers.default(twins, settings) if args.jobs is None else args.jobs
    begun: list[str] = []
    heap.one()
    with Progress(len(twins), args.color, enabled=not args.quiet) as progress:

        def doing(twin: str, what: str) -> None:
            if begun[-1:] != [twin]:
                if begun:
                    progress.advance()
                begun.append(twin)
            progress.update(twin, what)

        def show(each: dict) -> None:
            if loud:
                entry(console, each)

        try:
            if jobs > 1:
                names = [twin.name for twin in twins]
                report = workers.check(names, jobs, settings, progress=doing, finished=show)
            else:
                report = api.check(*twins, **settings, progress=heap.trimmed(doing), finished=show)
        except Exception as error:
            error.add_note("".join(begun[-1:]))  # whose it was
            raise
        progress.advance()
    if console is not None:
        summary(console, report.to_dict())
    return report


def _write(args: argparse.Namespace, report: Any) -> None:
    from compare.weights.files import unwritable, write_atomic

    emit(args, report.to_json)
    page = report.to_html() if args.html or args.out else ""
    if args.html:
        write_atomic(args.html, page)
    if args.out:
        folder = Path(args.out)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        write_atomic(folder / "report.html", page)
        write_atomic(folder / "report.json", report.to_json())


def _backends(text: str) -> list[str]:
    """The names between the commas, each one checked.

    Raises:
      DiptychError: for one that is unknown.
    """
    from compare.ladder.pair import parse

    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return names
    if not names:
        raise DiptychError("--backends is empty: name one, or all")
    if "all" in names:
        raise DiptychError("--backends: all stands alone")
    for name in names:
        parse(name)
    return list(dict.fromkeys(names))
