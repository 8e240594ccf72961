"""The results of a GPU that are kept: whole, and without a difference; and what reads them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cuda.__main__ import PARTS, ROOT
from tests.cuda.reading import problems

KEPT = ROOT / "results" / "cuda"
GOOD: dict[str, Any] = {
    "schema": 1,
    "part": "check",
    "device": {"kind": "cuda", "name": "a GPU", "driver": "1"},
    "versions": {"torch": "2"},
    "started": "2026-01-01T00:00:00+0000",
    "seconds": 2.0,
    "limit": 60.0,
    "status": "complete",
    "detail": "",
    "planned": ["a", "b"],
    "rows": [{"name": "a", "verdict": "SAME"}, {"name": "b", "verdict": "INCONCLUSIVE"}],
}


def test_what_is_kept_is_whole():
    if not list(KEPT.glob("*.json")):
        pytest.skip("no GPU run is kept yet: `make cuda` on a machine with one writes results/cuda")
    assert problems(KEPT, list(PARTS)) == []


def read(folder: Path, record: Any) -> list[str]:
    (folder / "check.json").write_text(record if isinstance(record, str) else json.dumps(record))
    return problems(folder, ["check"])


def test_a_good_file(tmp_path: Path):
    assert read(tmp_path, GOOD) == []


BAD = {
    "diverged": (lambda r: r["rows"][0].update(verdict="DIVERGED"), "check: a: DIVERGED"),
    "crashed row": (lambda r: r["rows"][0].update(verdict="CRASHED"), "check: a: CRASHED"),
    "late row": (lambda r: r["rows"][0].update(verdict="TIMED OUT"), "check: a: TIMED OUT"),
    "failed test": (lambda r: r["rows"][0].update(verdict="FAILED"), "check: a: FAILED"),
    "unknown verdict": (lambda r: r["rows"][0].update(verdict="FINE"), "check: a: FINE"),
    "skipped on a GPU": (lambda r: r["rows"][0].update(verdict="SKIPPED"), "check: a: SKIPPED"),
    "a row short": (lambda r: r["rows"].pop(), "check: 1 rows are missing: b"),
    "a row twice": (lambda r: r["rows"].append(r["rows"][0]), "check: 0 rows are missing"),
    "no rows": (lambda r: r.update(rows=[], planned=[]), "check: without a row"),
    "timed out": (lambda r: r.update(status="timed out"), "check: timed out"),
    "crashed": (lambda r: r.update(status="crashed", detail="exit 1"), "check: crashed exit 1"),
    "no device": (lambda r: r.update(device={}), "check: without device"),
    "no versions": (lambda r: r.pop("versions"), "check: without versions"),
    "no date": (lambda r: r.pop("started"), "check: without started"),
    "another part": (lambda r: r.update(part="steps"), "check: a record of 'steps'"),
    "another schema": (lambda r: r.update(schema=2), "check: a record of 'check', schema 2"),
    "a row without a verdict": (lambda r: r["rows"][0].pop("verdict"), "check: damaged: KeyError"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_seen(tmp_path: Path, name: str):
    spoil, expected = BAD[name]
    record = copy.deepcopy(GOOD)
    spoil(record)
    found = read(tmp_path, record)
    assert any(line.startswith(expected) for line in found), found


def test_a_missing_and_a_broken_file_are_seen(tmp_path: Path):
    assert problems(tmp_path, ["check"]) == ["check: there is no check.json"]
    assert read(tmp_path, json.dumps(GOOD)[:-40])[0].startswith("check: damaged: JSONDecodeError")
    assert read(tmp_path, "[]")[0].startswith("check: damaged: TypeError")


def test_a_rehearsal_may_skip(tmp_path: Path):
    record = copy.deepcopy(GOOD)
    record["device"]["kind"] = "cpu"
    record["rows"][0]["verdict"] = "SKIPPED"
    assert read(tmp_path, record) == []


def test_a_part_may_take_no_time(tmp_path: Path):
    assert read(tmp_path, {**GOOD, "seconds": 0.0}) == []
