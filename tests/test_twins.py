"""Every twin of the catalogue, whatever it is called: the ladder, whole, and nothing skipped."""

import json

import pytest

from compare.api import check
from compare.cli import main
from compare.discover import catalogue

TWINS = catalogue()


@pytest.mark.parametrize("name", TWINS)
def test_both_sides_are_the_same_network(name):
    report = check(TWINS[name])
    assert report.verdict == "SAME", report.first_line()
    (entry,) = report.twins
    coverage = entry["coverage"]
    assert coverage["moved"] == coverage["leaves"]
    assert coverage["skipped"] == []
    verdicts = {stage["name"]: stage["verdict"] for stage in entry["stages"]}
    assert list(verdicts) == ["weights", "forward", "gradients", "step", "trajectory"]
    # A function has no weights, and so nothing to step.
    always = {"forward", "gradients"}
    for stage, verdict in verdicts.items():
        assert verdict == ("SAME" if coverage["leaves"] or stage in always else "n/a"), stage


def test_the_same_command_writes_the_same_bytes(tmp_path, capsys):
    pages, texts = [], []
    for folder in (tmp_path / "one", tmp_path / "two"):
        command = ["check", "foundations/mlp", "--seed", "3", "--steps", "3", "--out", str(folder)]
        assert main(command) == 0
        texts.append((folder / "report.json").read_text())
        pages.append((folder / "report.html").read_text())
    capsys.readouterr()
    one, two = (text.rpartition('\n "run": {')[0] for text in texts)
    assert one
    assert one == two
    run = json.loads(texts[0])["run"]
    assert run["command"] == "diptych " + " ".join(command[:-1]) + f" {tmp_path / 'one'}"
    assert run["seconds"] >= 0
    assert run["started"]


def test_another_seed_makes_another_report():
    one, two = (check(TWINS["foundations/mlp:MLP"], seed=seed, steps=1) for seed in (0, 1))
    assert one.twins != two.twins
    assert one.verdict == two.verdict == "SAME"
