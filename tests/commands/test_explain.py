"""`diptych explain` measures."""

import json

from compare.commands.cli import main


def test_explain_measures(capsys):
    assert main(["explain", "act-01", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["before"] > 1e-4 > 1e-12 > shown["after"]
