"""From the wheel: what works where no framework is installed, or one, and what says why not."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from safetensors.numpy import save_file

from compare.errors import EXTRAS
from compare.ladder.bundle import Bundle

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "diptych.py", "compare", "jaxnn", "torchref")
# What is installed in each environment beside the wheel and what it needs without extras.
ENVIRONMENTS = {"none": ["pytest"], "torch": EXTRAS["torch"], "jax": EXTRAS["jax"]}

TORCH, JAX, DATA = (f"pip install {' '.join(EXTRAS[extra])}" for extra in ("torch", "jax", "data"))
BOTH = f"{TORCH} {' '.join(EXTRAS['jax'])}"
LACKING = {"none": BOTH, "torch": JAX, "jax": TORCH}  # for what needs both frameworks


def tops(each: metadata.Distribution) -> set[str]:
    """What a distribution has in its site-packages, its metadata included."""
    if each.files is not None:
        return {file.parts[0] for file in each.files} - {"..", "__pycache__"}
    home = Path(str(each.locate_file("")))  # a distribution of Debian's has no record of its files
    named = "torch torchgen functorch" if each.name == "torch" else each.name.replace("-", "_")
    modules = (each.read_text("top_level.txt") or f"{named} {named.lower()}").split()
    names = {name for module in modules for name in (module, f"{module}.py")}
    own = re.sub(r"[-_.]+", "_", each.name).lower()
    infos = {path.name for path in home.glob("*-info") if path.name.lower().startswith(f"{own}-")}
    return {name for name in names if (home / name).exists()} | infos


def needed(names: Iterable[str]) -> list[metadata.Distribution]:
    """The distributions of these names and of all that they require, as they are installed here."""
    found: dict[str, metadata.Distribution] = {}
    left = list(names)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name not in found:
            found[name] = metadata.distribution(name)
            requirements = map(Requirement, found[name].requires or [])
            left += [r.name for r in requirements if not r.marker or r.marker.evaluate()]
    return list(found.values())


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """What the wheel is built from, elsewhere: a build writes beside its sources."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def contents(sources):
    """The files of the packages and the module, before anything is built."""
    files = (
        file for name in SOURCES[3:] for file in (sources / name, *(sources / name).rglob("*"))
    )
    return {file.relative_to(sources).as_posix() for file in files if file.is_file()}


@pytest.fixture(scope="module")
def wheel(sources, contents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, sources)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def about(wheel):
    """The wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def requirements(about):
    return [Requirement(line) for line in about.get_all("Requires-Dist")]


@pytest.fixture(scope="module")
def environments(wheel, requirements, tmp_path_factory):
    """Where the commands of each environment lie.

    An environment holds the wheel, and links to what it may see of the running one.
    """
    core = [each.name for each in requirements if each.marker is None]
    found = {}
    for name, extra in ENVIRONMENTS.items():
        home = tmp_path_factory.mktemp(name)
        venv.create(home, with_pip=False)
        pip("--python", home / "bin" / "python", "install", wheel)
        (site,) = (home / "lib").glob("python*/site-packages")
        for each in needed([*core, *extra]):
            for top in tops(each):
                if not (site / top).exists():
                    (site / top).symlink_to(each.locate_file(top))
        found[name] = home / "bin"
    return found


def pip(*arguments):
    """pip without a network, and without what a package requires."""
    line = [sys.executable, "-m", "pip", *map(str, arguments), "--no-deps", "--no-index", "-q"]
    subprocess.run(line, check=True)


def run(environments, name, line, folder, command="diptych"):
    """A command of one environment, as a user would call it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    argv = line.split() if isinstance(line, str) else line
    return subprocess.run(
        [environments[name] / command, *argv], cwd=folder, env=kept, capture_output=True, text=True
    )


def said(done, needle):
    """It did what it should, and said something."""
    assert (done.returncode, done.stderr) == (0, "")
    assert needle in done.stdout


def refused(done, remedy):
    """It did not, and said why in one line that ends with the remedy."""
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("diptych: ")
    assert done.stderr.endswith(f"{remedy}\n")
    assert done.stderr.count("\n") == 1


# The wheel.


def test_the_wheel_holds_the_packages_and_nothing_else(wheel, contents):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == contents
    for name in (
        "diptych.py",
        "compare/py.typed",
        "compare/report/templates/report.css",
        "compare/report/templates/report.html.j2",
        "compare/twins/cnn/lenet.py",
        "jaxnn/py.typed",
        "torchref/py.typed",
    ):
        assert name in contents


def test_a_remedy_names_what_the_extra_names(requirements):
    for extra, packages in EXTRAS.items():
        of = {r.name for r in requirements if r.marker and r.marker.evaluate({"extra": extra})}
        assert of - {"diptych"} == set(packages)


# The environments.


@pytest.mark.parametrize(
    ("name", "there"), [("none", ["pytest"]), ("torch", ["torch"]), ("jax", ["flax", "jax"])]
)
def test_an_environment_is_what_it_says(environments, tmp_path, name, there):
    modules = ["flax", "jax", "pytest", "sklearn", "torch"]
    code = f"from importlib.util import find_spec; print([m for m in {modules} if find_spec(m)])"
    said(run(environments, name, ["-c", code], tmp_path, "python"), f"{there}\n")
    code = "import compare, sys; print(compare.__file__.startswith(sys.prefix))"
    said(run(environments, name, ["-c", code], tmp_path, "python"), "True\n")
    for framework in {"torch", "jax"} - set(there):
        done = run(environments, name, ["-c", f"import {framework}"], tmp_path, "python")
        assert f"No module named '{framework}'" in done.stderr


@pytest.fixture(scope="module")
def bundles(environments, tmp_path_factory):
    """A folder with a capture, the same again with one tensor moved, and weights of a twin."""
    folder = tmp_path_factory.mktemp("bundles")
    line = "capture layers/linear:Linear --backend torch:cpu -o torch.safetensors"
    said(run(environments, "torch", line, folder), "tensors of layers/linear:Linear on torch:cpu")
    moved = Bundle.load(folder / "torch.safetensors")
    name = next(name for name in moved.tensors if "forward" in name)
    moved.tensors[name] = moved.tensors[name] + 1e-6
    moved.save(folder / "moved.safetensors")
    save_file({"weight": np.ones((7, 5), np.float32)}, folder / "weights.safetensors")
    return folder


def test_two_captures_are_compared_without_a_framework(environments, bundles):
    files = "torch.safetensors torch.safetensors --json report.json --html page.html"
    said(run(environments, "none", f"diff {files}", bundles), "SAME")
    page = (bundles / "page.html").read_text(encoding="utf-8")
    assert "<style" in page
    assert "layers/linear:Linear" in page
    said(run(environments, "none", "report report.json", bundles), "SAME")
    done = run(environments, "none", "diff torch.safetensors moved.safetensors", bundles)
    assert (done.returncode, done.stderr) == (1, "")
    assert "DIVERGED" in done.stdout


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize(
    ("line", "needle"),
    {
        "--help": "usage: diptych",
        "--version": "diptych 0",
        "list": "cnn/lenet:LeNet",
        "list --differences": "ACT-01",
        "show cnn/lenet": "class LeNet(nn.Module)",
    }.items(),
)
def test_what_needs_no_framework(environments, tmp_path, name, line, needle):
    said(run(environments, name, line, tmp_path), needle)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_difference_is_explained_where_it_cannot_be_measured(environments, tmp_path, name):
    done = run(environments, name, "explain ACT-01", tmp_path)
    said(done, f"measured   not here; this needs {'jax' if name == 'torch' else 'torch'}")
    assert f"{LACKING[name]}\n" in done.stdout
    assert "in jax     jax.nn.gelu(x, approximate=False)" in done.stdout
    done = run(environments, name, "explain ACT-01 --json", tmp_path)
    said(done, "GELU")
    found = json.loads(done.stdout)
    assert (found["before"], found["after"]) == (None, None)
    assert found["fix_torch"] == "nn.GELU(approximate='tanh')"


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_doctor_names_what_is_missing(environments, tmp_path, name):
    done = run(environments, name, "doctor", tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "checks cannot run"
    assert ("missing    torch: pip install torch" in lines) == (name != "torch")
    assert any(line.endswith("flax optax chex orbax-checkpoint") for line in lines) == (
        name != "jax"
    )


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize(
    "line",
    [
        "check foundations/mlp:MLP",
        "find cnn/lenet",
        "demo",
        "bench step foundations/mlp:MLP",
        "bench alarms --runs 1",
        "capture foundations/mlp:MLP -o absent.safetensors",
    ],
)
def test_what_needs_both_frameworks(environments, tmp_path, name, line):
    refused(run(environments, name, line, tmp_path), LACKING[name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize(
    "line",
    ["weights cnn/lenet", "convert layers/linear:Linear weights.safetensors a.msgpack"],
)
def test_what_maps_weights(environments, bundles, name, line):
    refused(run(environments, name, line, bundles), LACKING[name])


def test_a_capture_of_jax_says_what_it_takes_from_pytorch(environments, tmp_path):
    done = run(environments, "jax", "capture cnn/lenet -o absent.safetensors", tmp_path)
    why = "--backend xla:cpu has its weights and its noise from PyTorch (torch:cpu needs PyTorch"
    assert why in done.stderr


@pytest.mark.parametrize("name", ["none", "jax"])
def test_a_capture_of_pytorch_needs_pytorch(environments, tmp_path, name):
    line = "capture cnn/lenet --backend torch:cpu -o absent.safetensors"
    refused(
        run(environments, name, line, tmp_path),
        f"this needs torch, which is not installed: {TORCH}",
    )


def test_a_dataset_that_is_missing(environments, tmp_path):
    line = "capture foundations/mlp:MLP --backend torch:cpu -o absent.safetensors -q"
    refused(run(environments, "torch", line, tmp_path), DATA)


def test_a_framework_that_a_module_of_the_users_needs(environments, tmp_path):
    (tmp_path / "port.py").write_text("from torch import nn\n")
    refused(run(environments, "none", "find port:pair", tmp_path), TORCH)


def test_of_all_backends_those_without_a_framework_are_skipped(environments, tmp_path):
    code = (
        "from compare.api import EVERY, installed, missing; installed(EVERY)\n"
        "print([name for name in EVERY if (missing(name) or '').startswith('this needs jax, ')])"
    )
    skipped = "['xla:cpu', 'xla:cpu+eager', 'xla:cuda']\n"
    said(run(environments, "torch", ["-c", code], tmp_path, "python"), skipped)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_python(environments, tmp_path, name):
    code = (
        "import diptych, sys\n"
        "from diptych import Array, DiptychError, Image, Labels, Lengths, Phase, Tokens, Twin\n"
        "for ask in (diptych.check, diptych.find):\n"
        "    try:\n"
        "        ask(Twin(torch=abs, jax=abs, inputs={'x': Array((2, 3))}))\n"
        "    except DiptychError as error:\n"
        "        print(error)\n"
        "assert not {'torch', 'jax'} & set(sys.modules)\n"
    )
    done = run(environments, name, ["-c", code], tmp_path, "python")
    said(done, LACKING[name])
    first, second = done.stdout.splitlines()
    assert first == second


# A folder of somebody's who has a compare.py.


@pytest.fixture
def theirs(tmp_path):
    (tmp_path / "compare.py").write_text("HELPER = 3\n")
    (tmp_path / "own.py").write_text(
        "from diptych import Array, Twin\n\n"
        "pair = Twin(torch=abs, jax=abs, inputs={'x': Array((2, 3))})\n"
        "if __name__ == '__main__':\n"
        "    print(pair.inputs)\n"
    )
    (tmp_path / "uses.py").write_text("import diptych\nfrom compare import HELPER\n")
    (tmp_path / "late.py").write_text("import compare\nfrom diptych import Twin\n")
    (tmp_path / "test_uses.py").write_text(
        "import compare\n\n\ndef test_uses():\n    assert compare.HELPER == 3\n"
    )
    (tmp_path / "test_parity.py").write_text(
        "from own import pair\n\n\ndef test_parity(parity):\n    parity.check(pair)\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("command", "line", "needle"),
    [
        ("diptych", "list own:pair -q", "own:pair"),
        ("python", "-m diptych list own:pair -q", "own:pair"),
        ("python", "own.py", "Array(shape=(2, 3))"),
        ("python", "-m pytest test_uses.py", "1 passed"),
    ],
)
def test_it_works_beside_a_compare_of_the_users(environments, theirs, command, line, needle):
    said(run(environments, "none", line, theirs, command), needle)


def test_parity_works_beside_a_compare_of_the_users(environments, theirs):
    done = run(environments, "none", "-m pytest test_parity.py", theirs, "python")
    assert done.returncode == 1
    assert (
        f"compare.errors.DiptychError: this needs torch and jax, which are not installed: {BOTH}"
        in done.stdout
    )


def test_what_hides_what_is_said(environments, theirs):
    refused(run(environments, "none", "find uses:pair", theirs), "rename it")
    hides = f"ImportError: {theirs / 'compare.py'} hides the package compare of diptych"
    done = run(environments, "none", "late.py", theirs, "python")
    assert done.stderr.splitlines()[-1].startswith(hides)
    done = run(environments, "none", "-m pytest test_uses.py test_parity.py", theirs, "python")
    assert hides in done.stdout


@pytest.mark.slow
def test_twins_are_checked_side_by_side_beside_a_compare_of_the_users(theirs):
    names = "layers/linear:Linear foundations/perceptron:rosenblatt"
    line = f"check {names} --jobs 2 --steps 1 -q".split()
    done = subprocess.run(
        [sys.executable, "-m", "diptych", *line], cwd=theirs, capture_output=True, text=True
    )
    said(done, "SAME   2 twins")
