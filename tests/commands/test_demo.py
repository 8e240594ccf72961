"""`diptych demo`: the fault is named and mended."""

from pathlib import Path

from compare.commands.cli import main


def test_the_demo(capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "ACT-01 GELU variant, confirmed" in out
    assert "With that line changed the two are SAME." in out
    assert max(map(len, out.splitlines())) <= 120
