"""The kill matrix: what the finder makes of every fault of the corpus.

python -m tests.faults.matrix --out results/kill_matrix.tsv [--names PATTERN ...] [--held-out]
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path

from compare.api import prepare
from compare.bench.alarms import tabulated
from compare.finder.finder import find
from compare.finder.found import Found
from compare.ladder.pair import Pair
from compare.weights.files import write_atomic
from tests.faults import Fault, corpus, held_out, judge, places

HEADER = (
    "architecture fault stage_expected stage_seen verdict origin_expected origin_found"
    " origin_right cause_expected cause_found cause_right"
).split()


def run(fault: Fault, seed: int = 0) -> Found:
    """The finder on one fault, in a short trajectory."""
    return find(Pair(fault.twin(), seed, steps=3))


def tried(fault: Fault) -> dict[str, str]:
    """One line of the matrix; a finder that fails has found nothing."""
    try:
        return row(fault, run(fault))
    except Exception as error:
        return row(fault, None, type(error).__name__)


def row(fault: Fault, found: Found | None, error: str = "") -> dict[str, str]:
    """One line of the matrix."""
    seen, _, origin_right, cause_right = judge(fault, found) if found else ("", False, False, False)
    origin = found.origin if found else None
    cause = found.cause if found else None
    values = (
        fault.architecture,
        fault.name.partition("/")[2],
        fault.stage,
        seen,
        found.result.verdict if found else error,
        _written(fault.origin),
        _written(places(origin)[0]) if origin else "",
        _yes(origin_right),
        " or ".join(fault.codes) or "unknown",
        cause.difference.code if cause else "unknown" if origin else "",
        _yes(cause_right),
    )
    return dict(zip(HEADER, values, strict=True))


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _written(place: str | tuple[str, str]) -> str:
    return place if isinstance(place, str) else " .. ".join(place)


def summary(rows: Iterable[dict[str, str]]) -> str:
    """What came of all of them, in one line."""
    rows = list(rows)

    def share(chosen: Callable[[dict[str, str]], bool]) -> str:
        count = sum(map(chosen, rows))
        return f"{count} of {len(rows)} ({100 * count / len(rows):.1f} %)"

    outside = sum(r["cause_expected"] == "unknown" for r in rows)
    return (
        f"detected {share(lambda r: r['stage_seen'] == r['stage_expected'])},"
        f" origins right {share(lambda r: r['origin_right'] == 'yes')},"
        f" causes right {share(lambda r: r['cause_right'] == 'yes')},"
        f" {outside} outside the catalogue"
    )


def main() -> None:
    """Runs the faults, a line for each, and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="the table, tab-separated values")
    parser.add_argument("--names", nargs="+", default=["*"], help="faults to run: 'mlp/*'")
    parser.add_argument("--held-out", action="store_true", help="the held-out faults alone")
    args = parser.parse_args()
    prepare()
    faults = held_out() if args.held_out else corpus()
    chosen = [f for f in faults if any(fnmatch(f.name, name) for name in args.names)]
    if not chosen:
        parser.error(f"--names {' '.join(args.names)}: no fault has such a name")
    rows = []
    for count, fault in enumerate(chosen, 1):
        rows.append(r := tried(fault))
        gc.collect()  # runs and their compiled programs refer to each other
        print(
            f"{count}/{len(chosen)} {fault.name}: {r['stage_seen'] or r['verdict']},"
            f" {r['origin_found'] or 'no origin'} ({r['origin_right']}),"
            f" {r['cause_found'] or 'no cause'} ({r['cause_right']})",
            flush=True,
        )
    last = summary(rows)
    print(last)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(args.out, f"{tabulated(rows)}# {last}\n")


if __name__ == "__main__":
    main()
