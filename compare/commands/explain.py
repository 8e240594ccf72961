"""`diptych explain`: one difference between the frameworks."""

from __future__ import annotations

import argparse
import difflib

from compare.commands.options import Subparsers, command, dump, emit, say
from compare.errors import DiptychError, lacking


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "explain",
        run,
        "say what a difference is, measure it, and how to mend it",
        [
            ("diptych explain ACT-01", "by its code"),
            ("diptych list --differences", "all of them"),
        ],
        "It is measured where both frameworks are installed.",
    )
    parser.add_argument("code", metavar="CODE", help="as `diptych find` prints it")


def run(args: argparse.Namespace) -> int:
    from compare.differences.catalogue import catalogue

    known = catalogue()
    code = args.code.upper()
    if code not in known:
        near = difflib.get_close_matches(code, known, 3, 0.6)
        hint = f"did you mean {', '.join(near)}?" if near else "`diptych list --differences`"
        raise DiptychError(f"no difference is called {args.code!r}; {hint}")
    one = known[code]
    missing = lacking("torch", "jax")
    before, after = (None, None) if missing else one.measure()
    fields = {"torch": one.torch, "jax": one.jax, "before": before, "after": after}
    fixes = {"fix_torch": one.fix_torch, "fix_jax": one.fix_jax}
    emit(args, lambda: dump({"code": code, "title": one.title, **fields, **fixes}))
    console = say(args)
    if console is not None:
        console.print(f"{code}  {one.title}", style="bold")
        console.print(f"  torch      {one.torch}\n  jax        {one.jax}")
        measured = f"not here; {missing}"
        if not missing:
            measured = f"{before:.1e} apart in float64, {after:.1e} when mended"
        console.print(f"  measured   {measured}")
        console.print(f"  in jax     {one.fix_jax}\n  in torch   {one.fix_torch}")
    return 0
