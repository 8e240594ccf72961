"""How often the harness errs: clean runs, of which none may differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def alarms(
    runs: int, dtypes: Sequence[str], progress: Callable[[str, str], None]
) -> list[dict[str, Any]]:
    """Clean runs, which ought to raise no alarm: the catalogue in turn, each with its own seed.

    Args:
      runs: how many.
      dtypes: as of `check`.
      progress: called with the twin's name and what runs.

    Returns: a row per run: twin, seed, verdict, the worst share of what is allowed in float64 and
      in each of the dtypes.
    """
    from compare.api import check
    from compare.discover import catalogue

    twins = list(catalogue().values())
    rows = []
    for seed in range(runs):
        twin = twins[seed % len(twins)]
        report = check(twin, seed=seed, dtypes=dtypes, progress=progress)
        stages = report.twins[0]["stages"]
        rows.append(
            {
                "twin": twin.name,
                "seed": seed,
                "verdict": report.verdict,
                "float64": max(
                    (s["worst"] / s["limit"] for s in stages if s["limit"]), default=0.0
                ),
                **{d: max(float(s["numerics"].get(d, 0.0)) for s in stages) for d in dtypes},
                "finding": next((f for s in stages for f in s["findings"]), ""),
            }
        )
    return rows


def tabulated(rows: list[dict[str, Any]]) -> str:
    """Rows as tab-separated text with a heading."""
    lines = ["\t".join(rows[0])]
    for row in rows:
        cells = (f"{v:.2g}" if isinstance(v, float) else str(v) for v in row.values())
        lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"
