"""`diptych show`: both files, side by side."""

import re
from pathlib import Path

import pytest

from compare.commands.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("room", ["cnn/lenet", "linalg/bases", "layers/norm"])
def test_show_prints_both_files(capsys, room):
    assert main(["show", room]) == 0
    shown = capsys.readouterr().out
    for package in ("torchref", "jaxnn"):
        assert (ROOT / package / f"{room}.py").read_text().strip() in shown


@pytest.mark.parametrize("columns", ["80", "200"])
def test_show_in_a_terminal(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["show", "cnn/resnet", "--color", "always"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    heads = [line for line in plain.splitlines() if "class Bottleneck(" in line]
    assert len(heads) == (1 if columns == "200" else 2)  # side by side, a class beside its mirror
