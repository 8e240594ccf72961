"""False alarms: what the finder says of the right ports of the corpus, seed by seed.

python -m tests.faults.clean --out results/clean_finds.tsv [--seeds 14]
"""

from __future__ import annotations

import argparse
import gc
from collections import Counter
from pathlib import Path

from compare.api import prepare
from compare.bench.alarms import tabulated
from compare.finder.finder import find
from compare.ladder.pair import Pair
from compare.weights.files import write_atomic
from tests.faults import architectures

HEADER = ("architecture", "seed", "verdict", "finding")


def main() -> None:
    """Runs every architecture with every seed, a line for each, and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="the table, tab-separated values")
    parser.add_argument("--seeds", type=int, default=14, help="of each architecture; default 14")
    args = parser.parse_args()
    prepare()
    rows: list[dict[str, str]] = []
    for name, twin in architectures().items():
        for seed in range(args.seeds):
            result = find(Pair(twin(), seed, steps=3)).result
            found = [text for stage in result.stages.values() for _, text in stage.findings]
            values = (name, str(seed), result.verdict, found[0] if found else "")
            rows.append(dict(zip(HEADER, values, strict=True)))
            gc.collect()  # runs and their compiled programs refer to each other
            print(*values, flush=True)
    counts = Counter(row["verdict"] for row in rows)
    last = "# " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    print(last)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(args.out, f"{tabulated(rows)}{last}\n")


if __name__ == "__main__":
    main()
