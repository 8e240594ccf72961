"""Notebooks: what is in one, that Jupyter runs it, and that a lesson which fails is seen there."""

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from compare.commands.cli import main
from compare.study.cells import load
from compare.study.notebook import find, notebook, scripts, written
from tests.study.notebooks import executed
from tests.study.test_form import GOOD

SCRIPT = GOOD.replace("import jax.numpy as jnp", "import jax\nimport jax.numpy as jnp").replace(
    '    same.row("sum", ours["sum"], theirs["sum"])\n',
    '    same.row("sum", ours["sum"], theirs["sum"])\n    same.axes().plot([1, 2])\n',
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("scripts") / "sums.py"
    path.write_text(SCRIPT.replace("import lesson\n", IMPORTS))
    return path, *notebook(path)


IMPORTS = """import lesson
from compare.study.scripts import script

script(__name__)
"""


def cells_of(text: str) -> Any:
    whole: Any = nbformat.reads(text, as_version=4)
    return whole.cells


def test_a_notebook_holds_prose_code_outputs_and_figures(made):
    _, text, failures = made
    assert failures == []
    cells = cells_of(text)
    kinds = [cell.cell_type for cell in cells]
    assert kinds == ["code", "markdown", *["code"] * 3, "markdown", *["code"] * 3, "markdown"]
    assert "%pip install" in cells[0].source
    assert cells[1].source == "# A script."
    assert cells[5].source.startswith("## Sums\n\nThis sentence number 0")
    assert [cell.metadata.get("side") for cell in cells[6:9]] == ["jax", "torch", "both"]
    picture, printed = cells[8].outputs
    assert base64.b64decode(picture.data["image/png"])[:4] == b"\x89PNG"
    assert printed.text.split()[:3] == ["JAX", "PyTorch", "sum"]
    assert "/" not in printed.text  # no path of the machine that wrote it


def test_jupyter_runs_it_with_the_same_numbers(made):
    _, text, _ = made
    before = cells_of(text)[8].outputs
    after = executed(text).cells[8].outputs
    assert after[0].output_type == "display_data"
    assert {output.name for output in after[1:]} == {"stdout"}  # no bar on the standard error
    assert "".join(output.text for output in after[1:]) == before[1].text


def test_a_lesson_that_fails_stops_the_notebook(made, tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(made[0].read_text().replace("y = x.sum()", "y = 2 * x.sum()"))
    text, failures = notebook(path)
    assert len(failures) == 1
    assert failures[0].startswith("sums: sum: differs by")
    with pytest.raises(CellExecutionError, match="sum: differs by"):
        executed(text)


@pytest.mark.slow
def test_jupyter_runs_a_lesson_of_a_real_script():
    script = load(find("backprop/batch_norm"))
    one = dataclasses.replace(script, lessons={"how": script.lessons["how"]})
    cells = executed(written(one, {}, {})).cells
    together = next(cell for cell in cells if cell.metadata.get("side") == "both" and cell.outputs)
    assert "held equal" in "".join(output.get("text", "") for output in together.outputs)


def test_scripts_and_names(capsys):
    assert "backprop/batch_norm" in scripts()
    assert main(["notebook", "backprop/batchnorm"]) == 2
    assert "there are" in capsys.readouterr().err
    assert main(["notebook", "backprop/batch_norm", "--out", "x.html"]) == 2
    assert ".ipynb" in capsys.readouterr().err


def test_the_command_writes_the_file(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("compare.study.notebook.find", lambda name: made[0])
    monkeypatch.chdir(tmp_path)
    assert main(["notebook", "sums", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == "sums.ipynb"
    assert json.loads(Path("sums.ipynb").read_text())["nbformat"] == 4
