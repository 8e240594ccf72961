"""The runner of `make cuda`, on fake parts: what crashes, hangs or ends well is written down so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compare.discover import rooms
from tests.cuda.__main__ import PARTS, ROOT, SECONDS, variables
from tests.cuda.parts import bundles, check
from tests.cuda.parts.pool import Job, pooled
from tests.cuda.reading import counted, problems
from tests.cuda.runner import COMPLETE, CRASHED, LATE, NOT_RUN, Part, run

HEADER = {"device": {"kind": "cpu", "name": "none"}, "versions": {"torch": "0"}}
ROW = "print(json.dumps({'name': 'a', 'verdict': 'SAME'}), flush=True)"
PLANNED = "print(json.dumps({'planned': ['a', 'b']}), flush=True)"
SECOND = ROW.replace("'a'", "'b'")


def part(name: str, *lines: str, seconds: float = 60) -> Part:
    program = "\n".join(["import json, os, subprocess, sys, time", *lines])
    return Part(name, [sys.executable, "-c", program], seconds)


def test_every_part_is_recorded(tmp_path: Path):
    parts = [
        part("crashing", PLANNED, ROW, "print('words', file=sys.stderr)", "os._exit(7)"),
        part("hanging", PLANNED, ROW, "time.sleep(600)", seconds=3),
        part("whole", PLANNED, ROW, "print('not JSON')", SECOND),
        part("short", PLANNED, ROW),
        part("different", PLANNED, ROW, SECOND.replace("SAME", "DIVERGED")),
    ]
    said: list[str] = []
    began = time.monotonic()
    records = run(parts, tmp_path, HEADER, seconds=50, say=said.append)
    assert time.monotonic() - began < 40
    assert [r["status"] for r in records] == [CRASHED, LATE, COMPLETE, COMPLETE, COMPLETE]
    kept = {p.stem: json.loads(p.read_text()) for p in tmp_path.glob("*.json")}
    assert kept == {record["part"]: record for record in records}
    assert not list(tmp_path.glob("*.part"))
    assert "exit code 7: words" in kept["crashing"]["detail"]
    assert all(record["rows"][0] == {"name": "a", "verdict": "SAME"} for record in kept.values())
    assert all(record["device"] == HEADER["device"] for record in kept.values())
    assert 3 <= kept["hanging"]["seconds"] < 10
    assert "  not JSON" in said
    found = problems(tmp_path, [p.name for p in parts])
    for name, text in (
        ("crashing", "crashed exit code 7"),
        ("crashing", "1 rows are missing: b"),
        ("hanging", "timed out"),
        ("short", "1 rows are missing: b"),
        ("different", "b: DIVERGED"),
    ):
        assert any(line.startswith(f"{name}: {text}") for line in found), (name, text, found)
    assert not any(line.startswith("whole") for line in found)
    assert counted(tmp_path, [p.name for p in parts]) == "1 DIVERGED, 6 SAME"


def test_what_there_is_no_time_for_is_not_run(tmp_path: Path):
    parts = [part("slow", PLANNED, ROW, "time.sleep(600)"), part("late", PLANNED, ROW, SECOND)]
    records = run(parts, tmp_path, HEADER, seconds=3, say=lambda text: None)
    assert [record["status"] for record in records] == [LATE, NOT_RUN]
    assert "late: not run the 3 s for all parts were over" in problems(tmp_path, ["late"])


def test_a_part_takes_what_it_has_started_with_it(tmp_path: Path):
    """Its children end when it does, or a GPU would be held."""
    child = f"child = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(600)'])"
    telling = "print(json.dumps({'name': str(child.pid), 'verdict': 'SAME'}), flush=True)"
    (record,) = run(
        [part("parent", child, telling, "time.sleep(600)", seconds=3)],
        tmp_path,
        HEADER,
        seconds=60,
        say=lambda text: None,
    )
    state = Path(f"/proc/{record['rows'][0]['name']}/stat")
    for _ in range(50):
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the child of the part still runs")


def test_a_job_that_fails_has_its_rows_all_the_same(capfd):
    def job(name: str, *lines: str, seconds: float = 60) -> Job:
        row = f"print(json.dumps({{'name': '{name} 1', 'verdict': 'SAME'}}), flush=True)"
        command = part("", row, *lines).command
        return Job(command, [f"{name} 1", f"{name} 2"], seconds)

    jobs = [
        job("good", "print(json.dumps({'name': 'good 2', 'verdict': 'SAME'}))"),
        job("bad", "raise ValueError('no')"),
        job("endless", "time.sleep(600)", seconds=3),
    ]
    pooled(jobs, 3)
    planned, *rows = map(json.loads, capfd.readouterr().out.splitlines())
    verdicts = {row["name"]: row["verdict"] for row in rows}
    assert list(verdicts.values()).count("SAME") == 4
    assert (verdicts["bad 2"], verdicts["endless 2"]) == ("CRASHED", "TIMED OUT")
    assert set(planned["planned"]) == set(verdicts)
    assert next(r for r in rows if r["name"] == "bad 2")["detail"].endswith("ValueError: no")


def test_twins_of_every_room_are_checked():
    names = (*check.TWINS, check.LARGE)
    assert len(set(names)) == 25
    assert {n.partition("/")[0] for n in names} == {room.partition("/")[0] for room in rooms()}
    rows = [row for job in check.jobs("cuda", "highest", names, "float32") for row in job.rows]
    assert len(set(rows)) == 25 * 3
    rehearsed = [row for job in check.jobs("cpu", "highest", names, "float32") for row in job.rows]
    assert rehearsed[0].startswith(check.LARGE)
    assert len(rehearsed) == 12
    for backend in check.BACKENDS["cpu"]:
        assert any(f" on {backend}," in row for row in rehearsed)
    assert set(bundles.TWINS) & set(names)


def test_every_part_is_a_program():
    for name in PARTS:
        assert (ROOT / "tests/cuda/parts" / f"{name}.py").is_file()
    assert SECONDS[0] <= 480
    assert variables("cuda", None)["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert variables("cpu", None)["CUDA_VISIBLE_DEVICES"] == ""


def test_wheels_are_importable(tmp_path: Path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "thing-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thing_of_a_wheel.py", "value = 3\n")
    program = "import thing_of_a_wheel, compare; print(thing_of_a_wheel.value)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=variables("cpu", tmp_path),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.stdout == "3\n", done.stderr


def test_flax_does_without_rich():
    """The stand-in, which only goes on the path where rich is missing, hides what is there."""
    program = (
        "import flax.linen, flax.nnx; from compare.report.styled import Console;"
        " print(Console.__module__)"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "cuda" / "stand_in")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "compare.report.plain\n", done.stderr


def test_the_stand_in_is_for_a_machine_without_rich(tmp_path: Path, monkeypatch):
    def used(wheels):
        paths = variables("cuda", wheels)["PYTHONPATH"].split(os.pathsep)
        return str(ROOT / "tests" / "cuda" / "stand_in") in paths

    assert not used(None)
    monkeypatch.setattr("tests.cuda.__main__.find_spec", lambda name: None)
    assert used(None)
    (tmp_path / "rich-15-py3-none-any.whl").touch()
    assert not used(tmp_path)
