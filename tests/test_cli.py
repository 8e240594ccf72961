"""The command: names, exit codes, outputs, and one clear line for whatever is wrong."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from compare.capture.environment import cores
from compare.commands import cli
from compare.commands.cli import main
from compare.commands.options import COMMANDS
from compare.discover import catalogue, find, find_all
from compare.errors import DiptychError
from compare.weights import flax_files, torch_files

ROOT = Path(__file__).parents[1]
FRAMEWORKS = ("torch", "jax", "jaxlib", "flax", "optax", "rich", "jinja2", "pygments")

PAIRS = """
import flax.linen as linen
import jax.numpy as jnp
import torch
from torch import nn

from compare import Array, Twin


class Norm(nn.Module):
    def __init__(self, fill=None):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        if fill is not None:
            nn.init.constant_(self.norm.weight, fill)

    def forward(self, x):
        return self.norm(x)


class Flax(linen.Module):
    epsilon: float = 1e-5

    @linen.compact
    def __call__(self, x):
        return linen.LayerNorm(epsilon=self.epsilon, name="norm")(x)


def pair(torch=Norm, jax=Flax, **more):
    return Twin(torch=torch, jax=jax, inputs={"x": Array((3, 6))}, **more)


def fails(x):
    raise RuntimeError("this side has had enough\\nand says so at length")


right = pair()
slipped = pair(jax=lambda: Flax(1e-6))
hollow = pair(torch=lambda: Norm(float("nan")))
torch_fails = pair(torch=fails, jax=lambda x: x)
jax_fails = pair(torch=lambda x: x, jax=fails)
function = lambda: pair()
one_sided = Twin(torch=Norm, inputs={"x": Array((3, 6))})
number = 3


def makes_none():
    return None


def makes_error():
    return 1 / 0
"""

MODULES = {
    "porter_pairs.py": PAIRS,
    "porter_raises.py": "import math\n\nmath.sqrt(-1)\n",
    "porter_syntax.py": "def encoder(:\n",
    "porter_exits.py": "import sys\n\nsys.exit(0)\n",
    "porter_needs.py": "import porter_needs_this\n",
    "porter_empty.py": "",
}


class Evil:
    def __reduce__(self):
        return os.system, ("touch stolen",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a user may have lying about, whole and broken."""
    folder = tmp_path_factory.mktemp("user")
    for name, text in MODULES.items():
        (folder / name).write_text(text)
    (folder / "folder").mkdir()
    (folder / "text.txt").write_text("no checkpoint, no report\n")
    (folder / "notes.json").write_text("[1, 2, 3]\n")
    (folder / "broken.json").write_text('{"schema": 1, "verdict"')
    whole = {
        "schema": 1,
        "verdict": "SAME",
        "twins": [],
        "skipped": [],
        "environment": {},
        "run": {},
    }
    (folder / "schema.json").write_text(json.dumps(whole | {"schema": 99}))
    (folder / "verdict.json").write_text(json.dumps(whole | {"verdict": ["SAME"]}))
    (folder / "parts.json").write_text(json.dumps({"schema": 1, "verdict": "SAME"}))
    (folder / "entry.json").write_text(json.dumps(whole | {"twins": [{"name": 3}]}))
    (folder / "lie.json").write_text(json.dumps(whole))
    shapes = {"0.weight": (32, 64), "0.bias": 32, "2.weight": (16, 32), "2.bias": 16}
    shapes |= {"4.weight": (10, 16), "4.bias": 10}
    good = {f"layers.{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}
    torch_files.write_torch(folder / "good.pt", good)
    torch_files.write_torch(folder / "shape.pt", good | {"layers.4.bias": np.ones(11, np.float32)})
    torch_files.write_torch(folder / "more.pt", good | {"layers.6.bias": np.ones(1, np.float32)})
    torch_files.write_torch(folder / "less.pt", {"layers.0.weight": good["layers.0.weight"]})
    flax_files.write_flax(folder / "other.msgpack", {"params": {"a": {"kernel": np.ones(2)}}})
    (folder / "empty.pt").write_bytes(b"")
    (folder / "cut.pt").write_bytes((folder / "good.pt").read_bytes()[:900])
    (folder / "cut.msgpack").write_bytes((folder / "other.msgpack").read_bytes()[:9])
    (folder / "evil.pt").write_bytes(pickle.dumps(Evil()))
    (folder / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    """Every test runs in that folder, and leaves the path of imports as it was."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))


def files(folder) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def command(*argv, **more):
    """`diptych` as a process of its own."""
    line = [sys.executable, "-m", "compare", *argv]
    return subprocess.run(line, capture_output=True, text=True, timeout=200, check=False, **more)


BAD = {
    # The command line.
    "unknown command": ("chek cnn/lenet", "did you mean check?"),
    "no command at all like it": ("xyzzy", "there are demo, list"),
    "unknown option": ("check cnn/lenet --tolerance 1", "unknown: --tolerance"),
    "abbreviated option": ("check cnn/lenet --ful", "unknown: --ful"),
    "surplus argument": ("doctor please", "unknown: please; see `diptych doctor --help`"),
    "missing argument": ("convert foundations/mlp good.pt", "required: DST"),
    "negative seed": ("list --seed -1", "--seed"),
    "seed of text": ("list --seed x", "'x' is not a whole number"),
    "unknown colour": ("list --color blue", "'blue'"),
    "no steps": ("check cnn/lenet --steps 0", "--steps 0 is not in 1.."),
    "too many steps": ("check cnn/lenet --steps 1000", "--steps 1000 is not in 1.."),
    "unknown precision": ("check cnn/lenet --precision low", "'low'"),
    "unknown backend": ("check cnn/lenet --backends tpu:0", "'tpu:0' is unknown"),
    "no backend": ("check cnn/lenet --backends ,", "--backends is empty"),
    "all and more": ("check cnn/lenet --backends all,xla:cpu", "all stands alone"),
    # Names.
    "unknown name": ("list nope", "no twin is called 'nope'"),
    "misspelt file": ("check cnn/lnet", "did you mean cnn/lenet"),
    "misspelt twin": ("check cnn/lenet:LeNett", "did you mean cnn/lenet:LeNet"),
    "short name": ("check lenet", "did you mean cnn/lenet:LeNet?"),
    "empty object": ("check cnn/lenet:", "no twin is called"),
    "a path": ("check porter_pairs.py:right", "a twin of your own is porter_pairs:NAME"),
    "a module alone": ("check porter_pairs", "a twin of your own is porter_pairs:NAME"),
    "several files": ("show rnn", "files, name one: rnn/bilstm"),
    # A porter's module.
    "no such module": ("check porter_absent:right", "no module porter_absent in"),
    "no such package": ("check porter_absent.deep:right", "no module porter_absent in"),
    "module raises": ("check porter_raises:x", "ValueError: math domain error, porter_raises.py:3"),
    "module is no Python": ("check porter_syntax:x", "SyntaxError: invalid syntax"),
    "module ends the process": ("check porter_exits:x", "SystemExit: 0, porter_exits.py:3"),
    "module needs another": ("check porter_needs:x", "No module named 'porter_needs_this'"),
    "no such attribute": ("check porter_pairs:rigth", "has no rigth; its twins are right"),
    "no twin in it": ("check porter_empty:x", "it defines no Twin"),
    "no Twin": ("check porter_pairs:number", "is a int, neither a Twin nor"),
    "a class": ("check porter_pairs:Norm", "is a class, neither a Twin nor"),
    "gives no Twin": ("check porter_pairs:makes_none", "gives a NoneType, not a Twin"),
    "raises when called": ("check porter_pairs:makes_error", "ZeroDivisionError: division by zero"),
    "one side is missing": ("check porter_pairs:one_sided", "Twin(jax=...) is missing"),
    "PyTorch raises": (
        "check porter_pairs:torch_fails",
        "porter_pairs:torch_fails: RuntimeError: this side has had enough, porter_pairs.py:34;",
    ),
    "JAX raises": ("check porter_pairs:jax_fails", "RuntimeError: this side has had enough"),
    # Outputs.
    "page without a folder": ("check cnn/lenet --html absent/a.html", "absent does not exist"),
    "page is a folder": ("check cnn/lenet --html folder", "folder is a folder"),
    "out is a file": ("check cnn/lenet --out text.txt", "text.txt is a file"),
    "out is in a file": ("check cnn/lenet --out text.txt/sub", "text.txt is no folder"),
    "JSON without a folder": ("check cnn/lenet --json absent/a.json", "absent does not exist"),
    "full disk": ("list --json=/dev/full", "/dev/full: cannot be written"),
    # Reports.
    "no report": ("report absent.json", "No such file"),
    "report is a folder": ("report folder", "is a folder"),
    "report is no JSON": ("report text.txt", "is not JSON"),
    "report is cut": ("report broken.json", "is not JSON"),
    "report is another file": ("report notes.json", "is not a report of diptych"),
    "report of another schema": ("report schema.json", "schema 99, this diptych reads schema 1"),
    "report of no verdict": ("report verdict.json", "has the verdict ['SAME']"),
    "report without parts": ("report parts.json", "lacks its part 'twins'"),
    "report of nonsense": ("report entry.json --html p.html", "its twin 1 is incomplete"),
    "report that lies": ("report lie.json", "its verdict is not that of its twins"),
    # Checkpoints.
    "several twins": ("convert rnn good.pt a.msgpack", "means"),
    "no checkpoint": ("convert foundations/mlp absent.pt a.msgpack", "No such file"),
    "source of another kind": (
        "convert foundations/mlp text.txt a.msgpack",
        ".txt is no checkpoint",
    ),
    "target of another kind": ("convert foundations/mlp good.pt a.txt", "its suffix is one of"),
    "target of the same side": ("convert foundations/mlp good.pt a.pth", "must be one of Flax"),
    "target exists": ("convert foundations/mlp good.pt other.msgpack", "exists; give another name"),
    "target without a folder": (
        "convert foundations/mlp good.pt absent/a.msgpack",
        "does not exist",
    ),
    "checkpoint of another size": ("convert foundations/mlp good.pt a.msgpack", "has shape"),
    "wrong shape": (
        "convert foundations/mlp shape.pt a.msgpack --small",
        "layers.4.bias has shape (11,)",
    ),
    "surplus tensor": (
        "convert foundations/mlp more.pt a.msgpack --small",
        "unknown layers.6.bias",
    ),
    "missing tensors": ("convert foundations/mlp less.pt a.msgpack --small", "lacks layers.0.bias"),
    "another model's": ("convert foundations/mlp other.msgpack a.pt", "lacks params/"),
    "empty checkpoint": ("convert foundations/mlp empty.pt a.msgpack", "is empty"),
    "truncated PyTorch": ("convert foundations/mlp cut.pt a.msgpack", "cut.pt: is truncated"),
    "truncated msgpack": ("convert foundations/mlp cut.msgpack a.pt", "is damaged"),
    "malicious pickle": ("convert foundations/mlp evil.pt a.msgpack", "refused"),
    "damaged safetensors": ("convert foundations/mlp bad.safetensors a.msgpack", "bad.safetensors"),
    "no Orbax folder": ("convert foundations/mlp folder a.pt", "is not an Orbax"),
    "no weights": ("convert rnn/lstm:lstm_cell good.pt a.msgpack", "has no weights to convert"),
    "no configuration": (
        "convert foundations/mlp good.pt a.msgpack --config x",
        "is not KEY=VALUE",
    ),
    "unknown keyword": (
        "convert foundations/mlp good.pt a.msgpack --config depth=3",
        "does not fit",
    ),
    "impossible configuration": (
        "convert foundations/mlp good.pt a.msgpack --config hidden=3",
        "cannot be built with",
    ),
    "own twin's configuration": (
        "convert porter_pairs:right good.pt a.msgpack --config x=3",
        "takes no --config",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_clear_line(case, folder, capsys):
    line, needle = BAD[case]
    before = files(folder)
    code = main(line.split())
    out, err = capsys.readouterr()
    assert code == 2
    assert err.startswith("diptych: ")
    assert err.count("\n") == 1
    assert needle in err
    assert out == "" or line.startswith("check porter_pairs:")  # the header of a check that began
    assert files(folder) == before


def test_the_traceback_is_shown_where_it_is_asked_for(capsys, monkeypatch):
    monkeypatch.setenv("DIPTYCH_TRACEBACK", "1")
    assert main(["check", "porter_raises:x"]) == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("diptych: porter_raises:x")


def test_an_escape_in_a_name_does_not_reach_the_terminal(capsys):
    assert main(["check", "\x1b[31mred"]) == 2
    assert "\x1b" not in capsys.readouterr().err


# Exit codes.


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


def test_two_at_a_time_are_the_same_report():
    """The order, the figures and the exit code are those of one after the other."""
    names = ["porter_pairs:right", "porter_pairs:slipped", "foundations/perceptron"]
    reports = []
    for jobs in ("1", "2"):
        path = Path(f"{jobs}.json")
        line = ["check", *names, "--steps", "1", "--jobs", jobs, "-q", "--json", str(path)]
        assert main(line) == 1
        reports.append(json.loads(path.read_text()))
    one, two = reports
    assert [t["verdict"] for t in two["twins"]] == ["SAME", "DIVERGED", "SAME", "SAME"]
    assert one["twins"] == two["twins"]
    assert two["environment"]["torch_threads"] == max(1, cores() // 2)


def test_a_process_that_is_killed_names_a_remedy(capsys):
    Path("killed.py").write_text("import os\n\n\ndef twin():\n    os._exit(9)\n")
    workers = "import sys; from compare.commands import workers; workers.check(['killed:twin'], 2, {}"
    line = f"{workers}, progress=print, finished=print)"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=False)
    assert "a process was killed near killed:twin, perhaps for memory; try --jobs 1" in done.stderr
    assert main(["check", "porter_pairs:right", "--jobs", "0"]) == 2
    assert "--jobs 0 checks nothing" in capsys.readouterr().err


def test_an_interrupt_is_one_line(capsys, monkeypatch):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("compare.commands.doctor.run", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr() == ("", "diptych: interrupted\n")


@pytest.fixture
def heard():
    """Ctrl-C counts, also in what is started, though a shell's background jobs do not hear it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_an_interrupt_that_python_drops_is_sent_again(capsys, monkeypatch):
    class Finalised:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def deaf(args):
        Finalised()
        time.sleep(30)

    monkeypatch.setattr("compare.commands.doctor.run", deaf)
    began = time.monotonic()
    assert main(["doctor"]) == 130
    assert time.monotonic() - began < 10
    assert capsys.readouterr() == ("", "diptych: interrupted\n")


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_from_the_keyboard(jobs):
    line = [sys.executable, "-m", "compare", "check", "cnn/resnet", "--out", "left", "--jobs", jobs]
    with subprocess.Popen(line, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the header: frameworks are being imported, or it runs
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "diptych: interrupted\n")
    assert "SAME" not in out
    assert not Path("left").exists()


@pytest.mark.usefixtures("heard")
def test_an_interrupt_while_a_dataclass_is_made():
    """Importing a framework runs many an `exec`, which CPython remembers as unhandled."""
    Path("sitecustomize.py").write_text(
        "import compare.commands.doctor as doctor\n"
        "def run(args):\n"
        "    exec('import signal, time; signal.raise_signal(signal.SIGINT); time.sleep(9)')\n"
        "doctor.run = run\n"
    )
    line = [sys.executable, "-m", "compare", "doctor"]
    environ = os.environ | {"PYTHONPATH": "."}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environ)
    assert (done.returncode, done.stderr) == (130, "diptych: interrupted\n")


def test_a_reader_that_leaves_is_no_error():
    read, write = os.pipe()
    os.close(read)
    line = [sys.executable, "-m", "compare", "show", "cnn/resnet"]
    done = subprocess.run(line, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_missing_framework_is_named_with_its_remedy():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from compare.commands.cli import main; sys.exit(main(['check', 'cnn/lenet', '-q']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        'diptych: this needs torch, which is not installed: pip install "diptych[torch]"\n'
    )


# Help and speed: what is imported decides, not the clock of a busy machine.


def test_help_imports_no_framework():
    calls = "".join(f"main([{name!r}, '--help']); " for name in COMMANDS)
    code = (
        f"import sys; from compare.commands.cli import main; main(['--help']); main([]); {calls}"
        f"print(sorted(set({FRAMEWORKS!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    for name in COMMANDS:
        assert f"usage: diptych {name}" in done.stdout
    assert "examples:" in done.stdout


def test_listing_imports_no_framework():
    code = (
        "import sys; from compare.discover import catalogue; catalogue()\n"
        "from compare.commands.cli import main; main(['list', '-q']); main(['list', '--json'])\n"
        f"print(sorted(set({FRAMEWORKS[:5]!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("diptych 0")
    assert command("--version").stdout.startswith("diptych 0")


# The catalogue.


def test_names():
    everything = list(catalogue())
    assert everything == [twin.name for twin in find()]
    assert [twin.name for twin in find("cnn/lenet:LeNet")] == ["cnn/lenet:LeNet"]
    assert [twin.name for twin in find("cnn/lenet")] == ["cnn/lenet:LeNet"]
    under = [name for name in everything if name.startswith("cnn/")]
    assert [twin.name for twin in find("cnn")] == [twin.name for twin in find("cnn/")] == under
    both = find_all(["cnn/lenet", "cnn", "cnn/lenet:LeNet"])
    assert sorted(twin.name for twin in both) == sorted(under)
    assert [twin.name for twin in find_all([])] == everything
    assert find("porter_pairs:right")[0].name == "porter_pairs:right"
    for wrong in ("cn", "lenet/cnn", ":LeNet", "cnn/lenet:LeNet:x", "cnn:x:y"):
        with pytest.raises(DiptychError):
            find(wrong)


def test_list(capsys):
    assert main(["list", "-q"]) == 0
    assert capsys.readouterr().out.split() == list(catalogue())
    assert main(["list", "cnn/lenet"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["name", "verdict", "torch", "jax"]
    assert row.split()[:4] == [
        "cnn/lenet:LeNet",
        "-",
        "torchref.cnn.lenet.LeNet",
        "jaxnn.cnn.lenet.LeNet",
    ]
    assert main(["list", "--json", "cnn/lenet", "porter_pairs:right"]) == 0
    lenet, own = json.loads(capsys.readouterr().out)
    assert lenet["inputs"] == {"x": [8, 1, 28, 28]}
    assert own["torch"] == "porter_pairs.Norm"


def test_list_knows_the_verdicts_of_the_report_in_the_folder(capsys):
    assert main(["check", "porter_pairs:slipped", "--steps", "1", "--out", ".", "-q"]) == 1
    capsys.readouterr()
    assert main(["list", "porter_pairs:slipped", "porter_pairs:right", "linalg/svd"]) == 0
    _, *rows = (line.split()[:3] for line in capsys.readouterr().out.splitlines())
    assert [row[1] for row in rows] == ["DIVERGED", "-", "-"]
    assert rows[2][2] == "torchref.linalg.svd"
    assert main(["check", "linalg/broadcasting", "--out", ".", "-q"]) == 0
    capsys.readouterr()
    assert main(["list", "--blocks", "--json"]) == 0
    blocks = {each["block"]: each for each in json.loads(capsys.readouterr().out)}
    assert blocks["linalg/broadcasting:unbroadcast"]["verdict"] == "SAME"
    assert blocks["layers/activations:relu"]["verdict"] is None
    assert blocks["layers/activations:relu"]["torch"] == "torch.nn.functional.relu"
    assert main(["list", "--blocks", "cnn"]) == 2
    assert "--blocks takes no names" in capsys.readouterr().err
    Path("report.json").write_text("{}")
    assert main(["list"]) == 2
    assert "report.json" in capsys.readouterr().err
    Path("report.json").unlink()


def test_names_may_stand_on_both_sides_of_an_option(capsys):
    assert main(["list", "cnn/lenet", "-q", "foundations/mlp"]) == 0
    assert capsys.readouterr().out.split() == ["cnn/lenet:LeNet", "foundations/mlp:MLP"]


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


def test_show_weights(capsys):
    assert main(["show", "cnn/lenet:LeNet", "--weights", "-q"]) == 0
    shown = capsys.readouterr().out
    assert "conv1.weight" in shown
    assert "params/conv1/kernel" in shown
    assert "Conv2d -> kernel" in shown
    assert "def forward" not in shown
    assert main(["show", "porter_pairs:right", "--json", "--weights"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["torch"]["source"].startswith("class Norm")
    assert found["jax"]["file"] == "porter_pairs.py"
    assert [row["jax"] for row in found["weights"]["porter_pairs:right"]] == [
        "params/norm/scale",
        "params/norm/bias",
    ]


def test_convert(capsys, tmp_path):
    there, back = str(tmp_path / "there.msgpack"), str(tmp_path / "back.pt")
    name = "foundations/mlp"
    assert main(["convert", name, "good.pt", there, "--small"]) == 0
    assert capsys.readouterr().out.startswith("good.pt -> ")
    assert main(["convert", name, there, back, "--small", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["source"], done["target"], done["read"]) == ("Flax", "PyTorch", 6)
    one, two = torch_files.read_torch("good.pt"), torch_files.read_torch(back)
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in two.items()}
    config = ["--config", "in_features=64", "--config", "hidden=(32, 16)"]
    assert main(["convert", name, "good.pt", there, *config]) == 2
    assert "exists" in capsys.readouterr().err


def test_convert_by_configuration(tmp_path, capsys):
    target = str(tmp_path / "a.safetensors")
    torch_files.write_torch(
        tmp_path / "one.pt",
        {"layers.0.weight": np.ones((3, 784), "f4"), "layers.0.bias": np.ones(3, "f4")},
    )
    line = ["convert", "foundations/mlp", str(tmp_path / "one.pt"), target, "-q"]
    assert main([*line, "--config", "hidden=()", "--config", "out_features=3"]) == 0
    assert capsys.readouterr() == ("", "")


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for word in ("torch", "jax", "cache", "threads", "x64", "checks can run"):
        assert word in shown
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["complete"] is True


def test_doctor_names_what_is_missing(capsys, monkeypatch):
    from compare.commands import doctor

    found = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "flax" else found(name))
    assert main(["doctor", "-q"]) == 2
    assert 'flax: pip install "diptych[jax]"' in capsys.readouterr().out


# The parser, from below.


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("--json a.json b", "--json=a.json b"),
        ("--json cnn/lenet", "--json=- cnn/lenet"),
        ("cnn --json", "cnn --json"),
        ("--json -q", "--json=- -q"),
        ("--json=x y", "--json=x y"),
    ],
)
def test_json_takes_no_name(given, wanted):
    assert cli._json_alone(given.split()) == wanted.split()


def test_every_command_has_the_common_options():
    for name in COMMANDS:
        shown = command(name, "--help").stdout
        for option in ("--json [PATH|-]", "--seed N", "--quiet", "--color {auto,always,never}"):
            assert option in shown, name


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
