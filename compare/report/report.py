"""The report: what a check found, for people and for machines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from compare.capture.environment import environment
from compare.ladder import verdict as V

SCHEMA = 1
EXIT = {V.SAME: 0, V.DIVERGED: 1, V.INCONCLUSIVE: 3}
CRASH = 2
LINE = 120


@dataclass
class Report:
    """The outcome of a check.

    Args:
      twins: one entry per twin and candidate backend, as in report.json.
      skipped: backends that could not be run, each with the reason.
      environment, run: what it depends on; when, how long and by which command it was made.
      crashed: twins that could not be run to their end, each with the error.
    """

    twins: list[dict[str, Any]]
    skipped: list[dict[str, str]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=environment)
    run: dict[str, Any] = field(default_factory=dict)
    crashed: list[dict[str, str]] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return V.worst([t["verdict"] for t in self.twins] + [V.INCONCLUSIVE for _ in self.crashed])

    @property
    def exit_code(self) -> int:
        return CRASH if self.crashed else EXIT[self.verdict]

    @property
    def coverage(self) -> dict[str, int]:
        """Leaves, those that were shown to matter, and buffers, over all twins."""
        keys = ("leaves", "moved", "buffers")
        return {key: sum(twin["coverage"][key] for twin in self.twins) for key in keys}

    @property
    def origin(self) -> dict[str, Any] | None:
        """Where the first twin that diverged parts, if a layer does."""
        return next((t["origin"] for t in self.twins if t["verdict"] == V.DIVERGED), None)

    @property
    def cause(self) -> dict[str, Any] | None:
        return next((t["cause"] for t in self.twins if t["verdict"] == V.DIVERGED), None)

    def first_line(self) -> str:
        """The failure in one complete line of at most 120 characters."""
        for twin in self.twins:
            if twin["verdict"] == V.SAME:
                continue
            stage = next(s for s in twin["stages"] if s["verdict"] == twin["verdict"])
            lines = stage["findings"] or ["nothing was compared"]
            origin = f"/layer/{twin['origin']['torch']}:" if twin["origin"] else ""
            found = next((line for line in lines if origin in line), lines[0])
            return _cut(f"{twin['verdict']} {twin['name']} {stage['name']}: {found}")
        for crash in self.crashed:
            return _cut(f"CRASHED {crash['twin']}: {crash['error']}")
        return f"{self.verdict} {len(self.twins)} twins"

    def raise_for_verdict(self) -> None:
        """Raises:
        AssertionError: unless everything is SAME; its first line says what is not.
        """
        if self.verdict != V.SAME:
            raise AssertionError(self.first_line())

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "twins": self.twins,
            "skipped": self.skipped,
            "crashed": self.crashed,
            "environment": self.environment,
            "run": self.run,
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    def to_html(self) -> str:
        """One self-contained page."""
        from compare.report.html import render

        return render(self.to_dict())


def _cut(line: str) -> str:
    return line if len(line) <= LINE else line[: LINE - 1] + "…"
