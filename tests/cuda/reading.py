"""The files that a run has left: whether they are whole, and whether anything differs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cuda.runner import COMPLETE, SCHEMA

GOOD = {"SAME", "PASSED", "MEASURED", "INCONCLUSIVE"}  # the last is counted, and said
HEADER = {"device", "versions", "started", "seconds"}


def problems(folder: Path, parts: Sequence[str]) -> list[str]:
    """What is wrong with the files of a folder, one line each; none where all is well.

    Args:
      parts: those that there ought to be.
    """
    found = []
    for part in parts:
        path = folder / f"{part}.json"
        if not path.is_file():
            found.append(f"{part}: there is no {path.name}")
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            found += [f"{part}: {text}" for text in wrong(record, part)]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            found.append(f"{part}: damaged: {type(error).__name__}: {error}")
    return found


def wrong(record: dict[str, Any], part: str) -> list[str]:
    """The same of one record."""
    if record["schema"] != SCHEMA or record["part"] != part:
        return [f"a record of {record['part']!r}, schema {record['schema']!r}"]
    missing = [key for key in HEADER if record.get(key) in (None, "", {})]
    found = [f"without {', '.join(sorted(missing))}"] if missing else []
    if record["status"] != COMPLETE:
        found.append(f"{record['status']} {record['detail']}".strip())
    names = [row["name"] for row in record["rows"]]
    if not names:
        found.append("without a row")
    left = [name for name in record["planned"] if name not in names]
    if left or len(set(names)) != len(names):
        found.append(f"{len(left)} rows are missing: {', '.join(left[:3])}")
    rehearsed = record["device"].get("kind") != "cuda"
    for row in record["rows"]:
        skipped = row["verdict"] == "SKIPPED" and rehearsed  # a GPU is what they wait for
        if row["verdict"] not in GOOD and not skipped:
            found.append(f"{row['name']}: {row['verdict']} {row.get('detail', '')}".strip())
    return found


def counted(folder: Path, parts: Sequence[str]) -> str:
    """How many rows there are of each verdict."""
    counts: dict[str, int] = {}
    for part in parts:
        path = folder / f"{part}.json"
        if path.is_file():
            for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
                counts[row["verdict"]] = counts.get(row["verdict"], 0) + 1
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) or "no rows"
