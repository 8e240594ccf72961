"""`diptych check` and `report`: verdicts as exit codes, and what is written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from compare import check
from compare.commands.cli import main
from compare.discover import find_all

ROOT = Path(__file__).parents[2]
ODD = """
import sys

import torch

from diptych import Array, Twin


class Mute(Exception):
    def __str__(self):
        raise RuntimeError


def leaves(x):
    sys.exit(0)


def mute(x):
    raise Mute


def torn(x):
    raise ValueError("torn \\ud800")


def pair(jax):
    return Twin(torch=torch.tanh, jax=jax, inputs={"x": Array((2, 3))})


leaves, mute, torn = pair(leaves), pair(mute), pair(torn)
right = pair(lambda x: x - (x - __import__("jax").numpy.tanh(x)))
"""


@pytest.mark.parametrize(
    ("name", "verdict", "code"),
    [("right", "SAME", 0), ("slipped", "DIVERGED", 1), ("hollow", "INCONCLUSIVE", 3)],
)
def test_the_exit_code_is_the_verdict(name, verdict, code, capsys, tmp_path):
    out = tmp_path / "deep" / "out"
    assert main(["check", f"porter_pairs:{name}", "--steps", "2", "--out", str(out)]) == code
    shown = capsys.readouterr().out
    assert shown.startswith("diptych ")
    assert f"porter_pairs:{name}" in shown
    last = shown.splitlines()[-1]
    assert last.startswith(verdict)
    assert last.endswith(f"next: diptych find porter_pairs:{name}") == (code == 1)
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"] == verdict
    assert (out / "report.html").read_text().startswith("<!")
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]

    page = tmp_path / "again.html"
    again = ["report", str(out / "report.json"), "--html", str(page)]
    assert main(again) == code
    assert capsys.readouterr().out == shown
    assert page.read_bytes() == (out / "report.html").read_bytes()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_twin_that_crashes_leaves_the_others_alone(jobs, capsys, tmp_path):
    names = [f"porter_pairs:{name}" for name in ("jax_fails", "right", "torch_fails", "slipped")]
    line = ["check", *names, "--steps", "1", "--jobs", jobs, "--out", str(tmp_path)]
    assert main(line) == 2
    shown = capsys.readouterr().out.splitlines()
    told = [line.split(maxsplit=1)[1] for line in shown if line.startswith("  crashed")]
    why = "RuntimeError: this side has had enough, porter_pairs.py:"
    for name, whose, line in zip((names[0], names[2]), ("JAX", "PyTorch"), told, strict=True):
        assert line.startswith(f"{name}: {whose}'s model: {why}")
    assert shown[-1].startswith("DIVERGED   2 twins")
    assert "2 crashed" in shown[-1]
    report = json.loads((tmp_path / "report.json").read_text())
    assert [twin["verdict"] for twin in report["twins"]] == ["SAME", "DIVERGED"]
    assert [crash["twin"] for crash in report["crashed"]] == [names[0], names[2]]
    page = (tmp_path / "report.html").read_text()
    assert why in page
    assert "Of 4 twins, 1 diverges, 1 is the same, 2 crashed." in page
    assert main(["report", str(tmp_path / "report.json")]) == 2
    assert capsys.readouterr().out.splitlines() == shown


def test_whatever_a_twin_does_the_others_are_reported(capsys, tmp_path, monkeypatch):
    (tmp_path / "odd_twins.py").write_text(ODD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = [f"odd_twins:{name}" for name in ("leaves", "mute", "torn", "right")]
    assert main(["check", *names, "--steps", "1", "--jobs", "1", "-q", "--out", "out"]) == 2
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [twin["name"] for twin in report["twins"]] == names[3:]
    errors = [crash["error"] for crash in report["crashed"]]
    assert errors[0].startswith("the model's own code called sys.exit(), odd_twins.py:")
    assert errors[1].startswith("JAX's model: Mute: Mute, odd_twins.py:")
    assert errors[2].startswith("JAX's model: ValueError: torn ?, odd_twins.py:")


def test_what_crashed_is_no_pass(capsys):
    names = ["porter_pairs:jax_fails", "porter_pairs:right"]
    assert main(["check", *names, "--steps", "1", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["verdict"] == "INCONCLUSIVE"
    with pytest.raises(AssertionError, match="CRASHED porter_pairs:jax_fails"):
        check(*find_all(names), steps=1).raise_for_verdict()


def test_a_function_that_gives_a_twin_is_called(capsys):
    assert main(["check", "porter_pairs:function", "--steps", "1", "-q"]) == 0
    assert capsys.readouterr().out.startswith("SAME")


def test_json_alone_is_on_the_standard_output(capsys, tmp_path):
    path = tmp_path / "report.json"
    for argv in (["--json"], ["--json=-"], ["--json", "-"]):
        assert main(["check", *argv, "porter_pairs:right", "--steps", "1"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["schema"] == 1
    assert main(["check", "porter_pairs:right", "--json", str(path), "--steps", "1"]) == 0
    assert "porter_pairs:right" in capsys.readouterr().out
    assert json.loads(path.read_text())["twins"] == report["twins"]


def test_the_quickstart_does_what_it_says(monkeypatch, capsys):
    done = subprocess.run(
        [sys.executable, "examples/quickstart.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the port is SAME, with the slip it is DIVERGED" in done.stdout
    monkeypatch.chdir(ROOT)
    assert main(["check", "examples.quickstart:encoder", "-q"]) == 0
    assert main(["check", "examples.quickstart:slipped", "-q"]) == 1
    capsys.readouterr()


def test_types_of_the_numerics_are_checked_before_anything_runs(capsys):
    assert main(["check", "layers/linear", "--dtypes", "bfloat16,float8"]) == 2
    assert "'float8' is unknown: name some of float32, bfloat16, float16" in capsys.readouterr().err
