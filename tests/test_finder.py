"""The finder: planted faults, each named by its place; causes, evidence, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from test_faults import Norm, Scaled, Untransposed, net
from toys import CASES, Case, trouble

from compare import Array, Twin
from compare.api import find as find_twin
from compare.capture.jax_run import JaxRun
from compare.capture.torch_run import TorchRun
from compare.commands.cli import main
from compare.finder.finder import find
from compare.finder.found import Found
from compare.finder.replay import Replay
from compare.ladder.ladder import Ladder
from compare.ladder.pair import Pair
from compare.ladder.verdict import DIVERGED, SAME
from compare.study.demo import mended, slip


def found(twin: Twin, **options: Any) -> Found:
    return find(Pair(twin, steps=2, **options))


def norm(**options: Any) -> dict[str, Any]:
    return {"norm": lambda name: Norm(name=name, **options)}


def mean_error(output: Any, y: Any) -> Any:
    return F.mse_loss(output, y)


SQUARED = {
    "targets": {"y": Array((4, 4))},
    "loss": (mean_error, lambda output, y: jnp.sum((output - y) ** 2)),
}
NESTEROV = {
    "optimizer": (
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
        optax.sgd(0.05, 0.9, nesterov=True),
    )
}


def leaky(x):
    """Right forward, a tenth of the gradient lost."""
    return jax.lax.stop_gradient(0.1 * x) + 0.9 * x


@jax.custom_vjp
def twice(x):
    return x


twice.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))

# The fault -> what it is planted with; stage, mode, what is wrong, the place, what it lies between.
FAULTS: dict[str, tuple[dict, tuple]] = {
    "gelu": ({"exact": False}, ("forward", "eval", "output", "gelu", None)),
    "slope": ({"slope": 0.1}, ("forward", "eval", "output", "leaky_relu", None)),
    "layer norm's eps": ({"eps": 1e-6}, ("forward", "eval", "output", "ln", None)),
    "batch norm's eps": (norm(eps=1e-3), ("forward", "eval", "output", "bn", None)),
    "padding": ({"padding": "SAME"}, ("forward", "eval", "output", "conv", None)),
    "a transposed square kernel": (
        {"square": lambda name: Untransposed(name=name)},
        ("forward", "eval", "output", "fc2", None),
    ),
    "flatten order": (
        {"order": (0, 1, 2, 3)},
        ("forward", "eval", "output", "fc1", ("leaky_relu", "fc1")),
    ),
    "a factor between": (
        {"middle": lambda x: 1.01 * x},
        ("forward", "eval", "output", "fc3", ("fc2", "fc3")),
    ),
    "momentum": (norm(momentum=0.9), ("forward", "train", "buffer", "bn.running_mean", None)),
    "biased": (norm(unbiased=False), ("forward", "train", "buffer", "bn.running_var", None)),
    "a sum for a mean": ({"twin": SQUARED}, ("forward", "train", "loss", "the loss", None)),
    "a gradient lost between": (
        {"middle": leaky},
        ("gradients", "train", "gradient", "fc2", ("fc2", "fc3")),
    ),
    "a gradient doubled at the input": (
        {"last": twice},
        ("gradients", "train", "gradient", "fc3", ("fc3", "ln")),
    ),
    "nesterov": ({"twin": NESTEROV}, ("step", "train", "update", "param/conv.weight", None)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_origin_is_named(name: str):
    fault, wanted = FAULTS[name]
    result = found(net(**fault))
    origin = result.origin
    assert origin is not None, trouble(result.result)
    place = (origin.stage, origin.mode, origin.what, origin.torch, origin.between)
    assert place == wanted


def test_a_clean_pair_has_no_origin():
    result = found(net())
    assert result.result.verdict == SAME, trouble(result.result)
    assert (result.origin, result.cause, result.rows) == (None, None, [])


def test_what_was_inherited_is_innocent():
    rows = {row.torch: row for row in found(net(slope=0.1)).rows}
    assert [name for name, row in rows.items() if row.verdict == "ORIGIN"] == ["leaky_relu"]
    after = [rows[name] for name in ("fc1", "gelu", "fc2", "fc3", "ln")]
    assert all(row.verdict == "inherited" for row in after)
    assert all((row.difference or 0) > 1e-3 > 1e-12 > row.replayed for row in after)
    assert rows["conv"].verdict == rows["bn"].verdict == "same"


def test_of_two_faults_the_first_is_the_origin_and_the_second_is_seen():
    rows = {row.torch: row.verdict for row in found(net(slope=0.1, eps=1e-6)).rows}
    assert (rows["leaky_relu"], rows["fc3"], rows["ln"]) == ("ORIGIN", "inherited", "ORIGIN")


def test_the_cause_is_confirmed():
    cause = found(net(exact=False)).cause
    assert cause is not None
    assert cause.difference.code == "ACT-01"
    assert cause.before > 1e-6
    assert cause.after < 1e-12


def test_an_unknown_cause_is_called_unknown():
    twin = net(middle=lambda x: x + 0.01 * jnp.sin(x))
    report = find_twin(twin, steps=1)
    assert report.verdict == DIVERGED
    assert report.cause is not None
    assert not report.cause["confirmed"]
    assert report.origin is not None
    assert report.origin["between"] == ["fc2", "fc3"]


@pytest.mark.parametrize("power", [-20, -7, 7, 20])
@pytest.mark.parametrize(
    "fault", [{}, {"exact": False}, {"middle": leaky}], ids=["clean", "gelu", "gradient"]
)
def test_the_size_of_the_loss_is_no_matter(power: int, fault: dict):
    def scaled(factor: float) -> Twin:
        losses = (
            lambda output, y: factor * mean_error(output, y),
            lambda output, y: factor * jnp.mean((output - y) ** 2),
        )
        return net(**fault, twin={"targets": {"y": Array((4, 4))}, "loss": losses})

    def verdicts(twin: Twin) -> list[str]:
        stages = found(twin).result.stages
        return [stages[name].verdict for name in ("weights", "forward", "gradients")]

    assert verdicts(scaled(2.0**power)) == verdicts(scaled(1.0))


def test_the_demo(capsys):
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "ACT-01 GELU variant, confirmed" in out
    assert "With that line changed the two are SAME." in out
    assert max(map(len, out.splitlines())) <= 120


def test_the_evidence_runs_by_itself(tmp_path: Path):
    report = find_twin(slip, steps=1, folder=tmp_path / "left")
    kept = {"report.html", "report.json", "tensors.safetensors", "repro.py"}
    assert {file.name for file in (tmp_path / "left").iterdir()} == kept
    written = json.loads((tmp_path / "left" / "report.json").read_text())
    assert written["twins"][0]["cause"]["code"] == "ACT-01"
    source = (tmp_path / "left" / "repro.py").read_text()
    assert "compare" not in source.replace("compare/study/demo/", "")
    run = subprocess.run(
        [sys.executable, "repro.py"], cwd=tmp_path / "left", capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    shown = float(run.stdout.rpartition(" ")[2])
    assert report.origin is not None
    assert shown == pytest.approx(report.origin["replayed"], rel=0.1)


def test_nothing_is_left_behind_of_a_pair_that_is_the_same(tmp_path: Path):
    assert find_twin(mended, steps=1, folder=tmp_path / "left").verdict == SAME
    assert not (tmp_path / "left").exists()


PORTER = """
import threading
import torch
from torch import nn
import flax.linen as fnn
from compare import Array, Twin

class Raises(nn.Module):
    def forward(self, x):
        raise ValueError("a mistake of its own")

class FlaxRaises(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        raise ValueError("a mistake of its own")

class Locked(nn.Linear):
    def __init__(self):
        super().__init__(3, 3)
        self.lock = threading.Lock()

def twin(**options):
    given = {"torch": lambda: nn.Linear(3, 3), "jax": lambda: fnn.Dense(3)}
    return Twin(**({"inputs": {"x": Array((2, 3))}} | given | options))

right = twin()
raises = twin(torch=Raises)
flax_raises = twin(jax=FlaxRaises)
missing = twin(torch=None)
misshapen = twin(inputs={"x": Array((2, 4))})
unpicklable = twin(torch=Locked)
nothing = twin(torch=lambda: (lambda x: None), jax=lambda: (lambda x: None))
object = 3
"""
REFUSED = {
    "port:raises": "a mistake of its own",
    "port:flax_raises": "a mistake of its own",
    "port:missing": "Twin(torch=...) is missing",
    "port:misshapen": "mat1 and mat2 shapes cannot be multiplied (2x4 and 3x3)",
    "port:unpicklable": "cannot pickle '_thread.lock' object",
    "port:object": "neither a Twin",
    "port:absent": "has no absent",
    "nowhere:twin": "no module nowhere",
    "cnn/lenett": "did you mean",
}


@pytest.fixture
def porter(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a module of pairs, where the command is called."""
    (tmp_path / "port.py").write_text(PORTER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "port", raising=False)
    return tmp_path


@pytest.mark.parametrize("command", ["find", "check"])
@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_in_one_line(command: str, name: str, porter: Path, capsys):
    assert main([command, name]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert REFUSED[name] in err
    assert not (porter / ".diptych").exists()


@pytest.mark.parametrize("command", ["find", "check"])
def test_where_nothing_can_be_compared_nothing_is_said(command: str, porter: Path, capsys):
    assert main([command, "port:nothing"]) == 3
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("INCONCLUSIVE")
    assert err == ""
    assert not (porter / ".diptych").exists()


@pytest.mark.parametrize("command", ["find", "check"])
@pytest.mark.parametrize("framework", ["torch", "jax", "flax"])
def test_a_framework_that_is_missing_is_named(command: str, framework: str, porter: Path):
    code = (
        f"import sys; sys.modules[{framework!r}] = None\n"
        f"from compare.commands.cli import main; sys.exit(main([{command!r}, 'cnn/lenet']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    remedy = f'pip install "diptych[{"jax" if framework == "flax" else framework}]"'
    assert done.returncode == 2
    assert done.stderr == (f"diptych: this needs {framework}, which is not installed: {remedy}\n")


def chain(layers: int, **slip: int) -> Twin:
    """Dense layers, a leaky relu behind each; one may lack it, or stop the gradient."""

    class Net(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            for i in range(layers):
                x = fnn.Dense(3, name=f"{2 * i}")(x)
                x = x if slip.get("linear") == i else fnn.leaky_relu(x, 0.9)
                x = jax.lax.stop_gradient(x) if slip.get("stopped") == i else x
            return x

    def net() -> torch.nn.Module:
        pairs = [(torch.nn.Linear(3, 3), torch.nn.LeakyReLU(0.9)) for _ in range(layers)]
        for linear, _ in pairs:  # neither values nor gradients shrink with depth
            torch.nn.init.orthogonal_(linear.weight)
        return torch.nn.Sequential(*(layer for pair in pairs for layer in pair))

    return Twin(torch=net, jax=Net, inputs={"x": Array((8, 3))}, name="chain")


@pytest.fixture
def passes(monkeypatch) -> Counter:
    """Counts the passes through whole models: of PyTorch, and of JAX."""
    counted: Counter = Counter()

    def count(home: type, name: str) -> None:
        own = getattr(home, name)

        def counting(self, *args, **options):
            counted[home.__name__] += 1
            return own(self, *args, **options)

        monkeypatch.setattr(home, name, counting)

    count(TorchRun, "_call")
    count(JaxRun, "_masks")  # once for every call of a program
    return counted


@pytest.mark.parametrize("slip", ["linear", "stopped"])
def test_deeper_models_take_no_more_passes(slip: str, passes: Counter):
    taken = []
    for layers in (4, 32):
        passes.clear()
        assert found(chain(layers, **{slip: layers // 2})).origin is not None
        taken.append(dict(passes))
    assert taken[0] == taken[1]


@pytest.mark.parametrize("slip", ["linear", "stopped"])
def test_the_replay_keeps_the_tensors_of_one_mode_each_once(slip: str):
    pair = Pair(chain(4, **{slip: 2}), steps=2)
    ladder = Ladder(pair, ["xla:cpu"])
    ladder.run(numerics=False)
    replay = Replay(pair, ladder.judges["xla:cpu"], lambda _: None)
    origin = replay.origin()
    assert origin is not None
    for mode in ("train", "eval"):
        kept = replay.reference(mode)
        assert {name.partition("/")[0] for name in kept} == {mode}
        given = [kept[f"{mode}/layer/{i}"] for i in range(7)]
        taken = [kept[f"{mode}/layer/{i + 1}:in"] for i in range(7)]
        assert all(map(np.shares_memory, given, taken))


def test_options_that_cannot_be(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    for line in (
        ["find"],
        ["find", "cnn/lenet", "--steps", "0"],
        ["find", "cnn"],
        ["explain", "X"],
    ):
        assert main(line) == 2
    assert main(["find", "cnn/lenet", "--out", "file"]) == 2
    assert Path("file").read_text() == ""
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_explain_measures(capsys):
    assert main(["explain", "act-01", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["before"] > 1e-4 > 1e-12 > shown["after"]


def test_differences_are_listed(capsys):
    assert main(["list", "--differences", "--json"]) == 0
    assert {"code", "title", "torch", "jax"} <= set(json.loads(capsys.readouterr().out)[0])


def test_an_extra_leaf_is_named():
    result = found(net(last=lambda x: Scaled(name="extra")(x)))
    assert result.origin is not None
    assert result.origin.stage == "weights"
    assert "extra" in result.origin.torch


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("kind", ["layer", "gradient/layer"])
def test_in_a_clean_pair_every_layer_agrees_alone(case: Case, kind: str):
    """Under jit, remat and scan, called twice and in place."""
    pair = Pair(case.twin, steps=2)
    ladder = Ladder(pair, ["xla:cpu"])
    ladder.run(numerics=False)
    replay = Replay(pair, ladder.judges["xla:cpu"], lambda _: None)
    compared = list(replay.pairs("train", kind))
    assert any(":in" in key for key, *_ in compared)
    for _, _, t, j in compared:
        np.testing.assert_allclose(j, t, rtol=1e-10, atol=1e-12)
