"""What the finder leaves behind runs by itself; of what is the same it leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from compare.api import find as find_twin
from compare.ladder.verdict import SAME
from compare.study.demo import mended, slip


def test_the_evidence_runs_by_itself(tmp_path: Path):
    report = find_twin(slip, steps=1, folder=tmp_path / "left")
    kept = {"report.html", "report.json", "tensors.safetensors", "repro.py"}
    assert {file.name for file in (tmp_path / "left").iterdir()} == kept
    written = json.loads((tmp_path / "left" / "report.json").read_text())
    assert written["twins"][0]["cause"]["code"] == "ACT-01"
    source = (tmp_path / "left" / "repro.py").read_text()
    assert "compare" not in source.replace("compare/study/demo/", "")
    run = subprocess.run(
        [sys.executable, "repro.py"], cwd=tmp_path / "left", capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    shown = float(run.stdout.rpartition(" ")[2])
    assert report.origin is not None
    assert shown == pytest.approx(report.origin["replayed"], rel=0.1)


def test_nothing_is_left_behind_of_a_pair_that_is_the_same(tmp_path: Path):
    assert find_twin(mended, steps=1, folder=tmp_path / "left").verdict == SAME
    assert not (tmp_path / "left").exists()
