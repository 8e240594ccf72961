"""The command: exit codes, help, interrupts, and one clear line for whatever is wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compare.commands import cli
from compare.commands.cli import main
from compare.commands.options import COMMANDS

FRAMEWORKS = ("torch", "jax", "jaxlib", "flax", "optax", "rich", "jinja2", "pygments")


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
    "module raises": ("check porter_raises:x", "ValueError: it fails, porter_raises.py:3"),
    "module is no Python": ("check porter_syntax:x", "SyntaxError: invalid syntax"),
    "module ends the process": ("check porter_exits:x", "called sys.exit(), porter_exits.py:3"),
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
        "PyTorch's model: RuntimeError: this side has had enough, porter_pairs.py:34;",
    ),
    "JAX raises": (
        "check porter_pairs:jax_fails",
        "JAX's model: RuntimeError: this side has had enough",
    ),
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
    assert done.stderr == ("diptych: this needs torch, which is not installed: pip install torch\n")


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


def test_names_may_stand_on_both_sides_of_an_option(capsys):
    assert main(["list", "cnn/lenet", "-q", "foundations/mlp"]) == 0
    assert capsys.readouterr().out.split() == ["cnn/lenet:LeNet", "foundations/mlp:MLP"]


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
