"""Without rich everything says the same, plainly. Flax wants rich, so it is loaded before."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from compare.report import plain

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
import flax.linen, flax.nnx
if {blocked}:
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        del sys.modules[name]
    sys.modules["rich"] = None
from compare.commands.cli import main
for line in {lines}:
    print("code", main(line.split()), flush=True)
import compare.report.styled
print(compare.report.styled.Text.__module__, file=sys.stderr)
"""
LINES = (
    "check foundations/perceptron:Perceptron training/plateau --jobs 1",
    "find examples.quickstart:slipped",
    "capture foundations/perceptron:Perceptron --backend torch:cpu -o a.safetensors",
    "diff a.safetensors a.safetensors",
    "doctor",
    "list linalg",
    "show foundations/perceptron",
    "explain ACT-01",
)


def run(folder: Path, blocked: bool) -> tuple[str, str]:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(blocked=blocked, lines=LINES)],
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    text = re.sub(r"\d+(\.\d)? s\b", "… s", done.stdout)
    return re.sub(r"[\d.]+ MiB in \d+ files", "…", text), done.stderr.splitlines()[-1]


def test_everything_is_said_without_rich(tmp_path: Path):
    whole, theirs = run(tmp_path / "with", blocked=False)
    bare, ours = run(tmp_path / "without", blocked=True)
    assert (theirs, ours) == ("rich.text", "compare.report.plain")
    assert bare.splitlines() == whole.splitlines()
    codes = re.findall(r"^code (\d)$", bare, re.MULTILINE)
    assert codes == ["0", "1", "0", "0", "0", "0", "0", "0"]
    for word in ("SAME", "ORIGIN", "ACT-01", "checks can run", "trajectory"):
        assert word in bare


def test_text_and_console():
    text = plain.Text.assemble("a", ("b", "bold"), plain.Text("c")).append("d", "red")
    file = io.StringIO()
    console = plain.Console(file=file, no_color=True)
    console.print(plain.Text("\n").join([text, plain.Text("e")]), soft_wrap=False)
    console.print("f", end="")
    assert file.getvalue() == "abcd\ne\nf"
    assert not console.is_terminal


def test_doctor_says_that_it_is_missing_and_goes_on(monkeypatch):
    from compare.commands import doctor

    found = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "rich" else found(name))
    monkeypatch.setattr(doctor, "_canaries", list)
    examined = doctor.examine()
    assert examined["complete"] is True
    assert "rich: pip install rich" in examined["missing"]
