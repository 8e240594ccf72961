"""The form of lessons: that the scripts hold it, and that each way to break it is seen."""

from pathlib import Path

import pytest

from compare.study.cells import read
from compare.study.form import faults

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path for path in EXAMPLES.glob("*/*.py") if 'side="' in path.read_text())
PROSE = "\n".join(f"# This sentence number {n} explains what there is." for n in range(14))
FILL = "\n".join(f"    y = y + {n}" for n in range(14))
GOOD = f'''"""A script."""

# %% side="both"
from compare.study.lessons import lesson

# %% side="jax"
import jax.numpy as jnp

# %% side="torch"
import torch

# %% [markdown] lesson="sums" title="Sums"
{PROSE}

# %% side="jax"
def run_jax(x):
    y = jnp.sum(x)
{FILL}
    return {{"sum": y}}


# %% side="torch"
def run_torch(x):
    y = x.sum()
{FILL}
    return {{"sum": y}}


# %% side="both"
with lesson("sums") as same:
    ours, theirs = same.run(run_jax, run_torch, same.rng.random(3))
    same.row("sum", ours["sum"], theirs["sum"])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | eps | 1e-5 | 1e-6 | LN-01 |
#
# ### Try it
# - Something.
'''


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_scripts_hold_the_form(path):
    assert faults(read(path.read_text(encoding="utf-8"))) == []


def test_there_are_scripts_in_the_form():
    assert EXAMPLES / "backprop/batch_norm.py" in SCRIPTS


def test_a_good_lesson_has_no_faults():
    assert faults(read(GOOD)) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title="Sums"', "", "has no title"),
        (PROSE, "# Too short.", "at least 80"),
        ('# %% side="torch"\ndef', '# %% side="jax"\ndef', "its cells are not prose"),
        ("# %% [markdown]\n# ### Where", "# ### Where", "its cells are not prose"),
        ("def run_torch", "def walk_torch", "the sides define run and walk"),
        ("def run_torch", "z_torch = 1\n\n\ndef run_torch", "the sides define run and z, run"),
        ("def run_jax", "run, run_jax = 1, 2\n\n\ndef run_jax", "defines run without the ending"),
        ("    y = jnp.sum(x)", "    y = jnp.sum(x)  # as PyTorch does", "names the other"),
        ("    y = x.sum()", "    y = x.sum() + len(run_jax.__name__)", "names the other framework"),
        ("    y = x.sum()", "    from optax import sgd\n    y = x.sum()", "names the other"),
        ("import jax.numpy as jnp", "import torch\nimport jax.numpy as jnp", "head: the jax cell"),
        ("import torch\n", "import torch\nfrom os import path as jnp\n", "both sides bind jnp"),
        ('# %% side="torch"\nimport', "# %%\nimport", "head: the unnamed cell"),
        (FILL, "", "has 3 lines"),
        (FILL, "\n".join([FILL] * 3), "has 45 lines"),
        (
            "    same.row",
            "    same.row\n" * 30 + "    same.row",
            "both cell in line 68 has 33 lines",
        ),
        (PROSE, PROSE + "\n# More.\n" * 90, "has 152 lines"),
        ('lesson("sums")', 'lesson("sum")', 'does not say lesson("sums")'),
        ("### Try it", "### Try", "has no list under"),
        ("# - Something.", "# Something.", "has no list under"),
        ("# |---|---|---|---|\n", "", "has no table under"),
        ("LN-01", "LN-99", "differences that do not exist: LN-99"),
    ],
)
def test_each_break_of_the_form_is_seen(old, new, said):
    assert old in GOOD
    found = faults(read(GOOD.replace(old, new)))
    assert any(said in line for line in found), found


def test_cells_are_those_that_jupytext_reads():
    jupytext = pytest.importorskip("jupytext")
    for path in SCRIPTS:
        text = path.read_text(encoding="utf-8")
        script = read(text)
        ours = [*script.head, *(c for part in script.lessons.values() for c in part.cells)]
        theirs = jupytext.reads(text, fmt="py:percent").cells[1:]  # the first is the docstring
        assert [cell.text for cell in ours] == [cell.source for cell in theirs]
        assert [cell.prose for cell in ours] == [cell.cell_type == "markdown" for cell in theirs]
        assert [cell.side for cell in ours] == [cell.metadata.get("side", "") for cell in theirs]


def test_a_name_is_one_lesson_s():
    second = GOOD[GOOD.index("# %% [markdown] lesson") :].replace("sums", "more")
    assert faults(read(GOOD + "\n" + second)) == [
        "lessons define the same names: run_jax, run_torch"
    ]
