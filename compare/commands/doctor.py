"""`diptych doctor`: what is installed, and what is missing."""

from __future__ import annotations

import argparse

from compare.commands import Subparsers, busy, command, dump, emit, say


def add(subparsers: Subparsers) -> None:
    command(
        subparsers,
        "doctor",
        run,
        "say what is installed, and what is missing",
        [("diptych doctor", ""), ("diptych doctor -q", "only what is wrong")],
        "The exit code is 0 where checks can run, else 2.",
    )


def run(args: argparse.Namespace) -> int:
    from compare.doctor import examine

    with busy(args, "torch and jax", "importing"):
        found = examine()
    emit(args, lambda: dump(found))
    console = say(args)
    if console is not None:
        for line in _lines(found, args.quiet):
            console.print(line)
    return 0 if found["complete"] else 2


def _lines(found: dict, quiet: bool) -> list[str]:
    wrong = [f"problem    {line}" for line in found["problems"]]
    wrong += [f"missing    {line}" for line in found["missing"]]
    verdict = "checks can run" if found["complete"] else "checks cannot run"
    if quiet:
        return wrong
    lines = [f"python     {found['python']}", f"machine    {found['machine']}"]
    versions = [f"{name} {version}" for name, version in found["packages"].items() if version]
    for start in range(0, len(versions), 6):
        lines.append(f"{'' if start else 'packages':10} {', '.join(versions[start : start + 6])}")
    for name in ("torch", "jax"):
        for key, value in (found[name] or {}).items():
            shown = ", ".join(value) if isinstance(value, list) else value
            lines.append(f"{name:10} {key}: {shown}")
    lines.append("pinned     matmul highest, TF32 off and float64, within a check")
    lines += [f"variable   {name}={value}" for name, value in found["variables"].items()]
    return [*lines, *wrong, verdict]
