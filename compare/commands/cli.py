"""The command `diptych`: arguments in, an exit code out, and one clear line for every mistake."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from compare.commands.options import COMMANDS, epilog
from compare.errors import DiptychError, cure

CRASH, BROKEN_PIPE, INTERRUPTED = 2, 141, 130
NOTES = """\
exit codes: 0 same, 1 diverged, 2 a mistake in the call or in a file, or a crash, 3 inconclusive.
DIPTYCH_TRACEBACK=1 shows the traceback of whatever ended the command."""
EXAMPLES = (
    ("diptych list", "what there is"),
    ("diptych show cnn/lenet", "both versions of a network, side by side"),
    ("diptych check", "prove every twin the same"),
    ("diptych check cnn/lenet --html lenet.html", "one of them, with a page to keep"),
    ("diptych check my_port:encoder", "a pair of your own: a Twin in ./my_port.py"),
    ("diptych convert cnn/resnet:resnet50 r50.pth r50.msgpack", "weights, bit for bit, and back"),
    ("diptych doctor", "what is installed, and what is missing"),
)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, and that wants its options written out."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(allow_abbrev=False, **keywords)

    def error(self, message: str) -> NoReturn:
        raise DiptychError(f"{message}; see `{self.prog} --help`")


class Version(argparse.Action):
    """`--version`, read from the installed package only when it is asked for."""

    def __call__(self, *_: Any) -> NoReturn:
        from importlib import metadata

        print(f"diptych {metadata.version('diptych')}")
        raise SystemExit(0)


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    whole = Parser(
        prog="diptych",
        description="Proves that the Flax and the PyTorch version of a network are the same.",
        epilog=epilog(EXAMPLES, NOTES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    subparsers = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"compare.commands.{name}").add(subparsers)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      argv: the arguments; default those of the process.

    Returns:
      The exit code; it raises nothing.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a sign is no reason to end
    try:
        with _interruptible():
            code = _run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        exec("")  # clears the note that an exec was interrupted, of which `python -m` would die
        return _end("interrupted", INTERRUPTED)
    except BrokenPipeError:
        return _broken_pipe()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich turns one into the other
            return _broken_pipe()
        return _end("the model's own code called sys.exit()", CRASH)
    except DiptychError as error:
        return _end(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        return _end(cure(error) or _crash(error), CRASH)
    except Exception as error:
        return _end(_crash(error), CRASH)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C counts even where Python would drop it: in a finaliser, or a callback of the garbage
    collector (XLA has one), the exception is only reported, so the signal is sent once more.
    """
    usual = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
            again.daemon = True
            again.start()
        else:
            usual(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual


def _run(arguments: list[str]) -> int:
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries; what a check depends on is in its report
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        near = difflib.get_close_matches(arguments[0], COMMANDS, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        raise DiptychError(f"{arguments[0]!r} is no command; {hint}")
    try:
        args, rest = parser().parse_known_args(_json_alone(arguments) or ["--help"])
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    unknown = [argument for argument in rest if argument.startswith("-")]
    if unknown or (rest and not isinstance(getattr(args, "names", None), list)):
        what = " ".join(unknown or rest)
        raise DiptychError(f"unknown: {what}; see `diptych {arguments[0]} --help`")
    if rest:  # argparse takes names before an option, or after it, not both
        args.names += rest
    args.line = ["diptych", *arguments]
    return args.run(args)


def _json_alone(arguments: list[str]) -> list[str]:
    """`--json` takes the next argument only if that is "-" or ends in .json: not a twin's name."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--json":
            if argument == "-" or argument.endswith(".json"):
                joined[-1] = f"--json={argument}"
                continue
            joined[-1] = "--json=-"
        joined.append(argument)
    return joined


def _end(message: str, code: int) -> int:
    """One line on the standard error; before it, where it is asked for, the traceback."""
    if os.environ.get("DIPTYCH_TRACEBACK") == "1":
        traceback.print_exc()
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message)
    with contextlib.suppress(OSError):
        print(f"diptych: {line}", file=sys.stderr)
    return code


def _broken_pipe() -> int:
    """Whoever read the output has enough; what is still buffered must not be flushed at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def _crash(error: Exception) -> str:
    from compare.discover import told

    hint = "" if os.environ.get("DIPTYCH_TRACEBACK") == "1" else "; DIPTYCH_TRACEBACK=1 shows more"
    return f"{told(error)}{hint}"
