"""Nothing of a run on CUDA stays on the CPU, seen without CUDA; JAX runs where it is told to."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from compare import Array, Twin
from compare.capture.torch_run import TorchRun
from compare.discover import catalogue, find
from compare.ladder.pair import Pair
from compare.weights import optim
from tests.pretended import CUDA, Pretended

# Of the residual networks two hold every class of the file.
SAME_CLASSES = {f"cnn/resnet:resnet{depth}" for depth in (18, 101, 152)}


def mixed(twin: Twin, dtype: str = "float32") -> list[str]:
    """What CUDA would refuse of everything that a capture runs."""
    pair = Pair(twin, steps=1)
    with Pretended() as device:
        run = TorchRun(twin, pair.model, pair.given, dtype=dtype, device="cuda")
        tensors = sum(len(section.tensors) for section in run.sections())
        assert device.holds(next(iter(run._buffers().values()), run._batch(pair.given.batch)[0][0]))
    assert tensors
    return list(device.mixed)


@pytest.mark.parametrize("name", [name for name in catalogue() if name not in SAME_CLASSES])
def test_a_run_stays_on_its_device(name: str):
    (twin,) = find(name)
    assert mixed(twin) == []


class Positioned(nn.Module):
    """Adds what was made where nobody said."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make, self.linear = make, nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + self.make(x)


FAULTS = {
    "add": lambda x: torch.arange(4.0),
    "numpy": lambda x: torch.as_tensor(x.detach().numpy()).to(x.device),
    "where": lambda x: torch.where(torch.ones(4, dtype=torch.bool), x, 0),
    "mul": lambda x: x.detach().cpu() * x,
    "gather": lambda x: x.gather(1, torch.zeros(3, 4, dtype=torch.long)),
}
RIGHT = {
    "arange": lambda x: torch.arange(4.0, device=x.device),
    "a number": lambda x: torch.tensor(2.0) * x,
    "an index": lambda x: x[torch.arange(3)],
    "moved": lambda x: torch.arange(4.0).to(x),
    "new": lambda x: x.new_tensor([1.0, 2.0, 3.0, 4.0]),
}


@pytest.mark.parametrize("name", [*FAULTS, *RIGHT])
def test_what_stays_on_the_cpu_is_seen(name: str):
    make = {**FAULTS, **RIGHT}[name]
    twin = Twin(torch=Positioned(make), jax=lambda x: x, inputs={"x": Array((3, 4))})
    found = mixed(twin)
    assert any(text.endswith(f": {name}") for text in found) == (name in FAULTS), found
    assert all("test_placement" in text for text in found if "_backward" not in text)


@pytest.mark.parametrize(
    ("name", "keywords", "numbers", "arrays"),
    [
        ("adam", {}, {"step"}, {"exp_avg", "exp_avg_sq"}),
        ("adam", {"fused": True}, set(), {"step", "exp_avg", "exp_avg_sq"}),
        ("nadam", {}, {"step", "mu_product"}, {"exp_avg", "exp_avg_sq"}),
        ("asgd", {}, {"step"}, {"ax", "eta", "mu"}),
    ],
)
def test_the_state_stands_where_torch_keeps_it(name, keywords, numbers, arrays):
    parameter = nn.Parameter(torch.ones(3))
    with Pretended():
        parameter.data = parameter.data.to("cuda")
        optimizer = optim.torch_optimizer((name, {"lr": 0.1, **keywords}), [parameter])
        state = {
            slot: {"p": torch.ones(3 if slot in arrays else ()).numpy()}
            for slot in numbers | arrays
        }
        optim.write_torch(optimizer, {parameter: "p"}, state)
        found = {slot: value.device for slot, value in optimizer.state[parameter].items()}
    assert {slot for slot, device in found.items() if device == CUDA} == arrays
    assert {slot for slot, device in found.items() if device.type == "cpu"} == numbers


SECOND = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
import numpy as np
from compare.capture import jax_run
from compare.discover import find
from compare.ladder.pair import Pair
from compare.twin import Phase

first, second = jax.devices()
for name in {names}:
    twin = find(name)[0]
    run = Pair(twin, steps=1).run("xla:cpu", "{dtype}")
    run.device = run.programs.device = second
    places, whole = set(), jax_run.to_numpy

    def to_numpy(value, **options):
        if isinstance(value, jax.Array):
            places.update(value.devices())
        return whole(value, **options)

    jax_run.to_numpy = to_numpy
    sections = list(run.sections())
    jax_run.to_numpy = whole
    with run.context():
        made = jax.tree.leaves((run._variables(), run._batch(run.given.batch)))
    assert {{s.stage for s in sections}} >= {{"forward", "gradients"}}
    assert places == {{second}} == set().union(*(x.devices() for x in made)), (name, places)
    print(name, sum(len(s.tensors) for s in sections))
"""
NAMES = ["foundations/mlp:MLP", "rnn/lstm:LSTMNet_bidirectional", "layers/dropout:dropout"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_jax_runs_on_the_device_that_is_named(dtype: str):
    """On a second CPU device, while the first is the default one."""
    program = SECOND.format(names=NAMES, dtype=dtype)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split()[0] for line in done.stdout.splitlines()] == NAMES
