"""Inputs, weights, gradients and optimizer states stand on the device of the run."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch

from compare import Array, Twin
from compare.discover import find
from compare.ladder.pair import Pair
from compare.weights import optim

pytestmark = pytest.mark.cuda
OPTIMIZERS = {
    "sgd": {"momentum": 0.9},
    "adam": {"amsgrad": True},
    "adam in one kernel": {"fused": True},
    "adamw": {},
    "nadam": {},
    "radam": {},
    "adamax": {},
    "adagrad": {},
    "adadelta": {},
    "rmsprop": {"momentum": 0.9, "centered": True},
    "rprop": {},
    "asgd": {"t0": 1},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_update_from_a_given_state(device, name, normal):
    """Of the same numbers as on the CPU, whatever kernel it takes there."""
    spec = (name.partition(" ")[0], {"lr": 0.01, **OPTIMIZERS[name]})
    shapes = {"a": (5, 3), "b": (7,)}
    state = {
        slot: {
            key: np.abs(normal(index, *(() if slot in ("step", *optim.NUMBERS) else shape)))
            for key, shape in shapes.items()
        }
        for index, slot in enumerate(optim.slots(spec))
    }
    found = {}
    for place in ("cpu", device):
        parameters = {
            key: torch.nn.Parameter(torch.ones(shape, device=place))
            for key, shape in shapes.items()
        }
        optimizer = optim.torch_optimizer(spec, list(parameters.values()))
        names = {parameter: key for key, parameter in parameters.items()}
        optim.write_torch(optimizer, names, state)
        for _ in range(2):
            for index, parameter in enumerate(parameters.values()):
                parameter.grad = torch.from_numpy(normal(index, *parameter.shape)).to(parameter)
            optimizer.step()
        kept = optim.read_torch(optimizer, names)
        found[place] = {
            **{key: parameter.detach().cpu().numpy() for key, parameter in parameters.items()},
            **{f"{slot} {key}": value for slot, of in kept.items() for key, value in of.items()},
        }
        assert all(parameter.device.type == place for parameter in parameters.values())
    assert set(found["cpu"]) == set(found[device])
    for key, value in found["cpu"].items():
        np.testing.assert_allclose(found[device][key], value, rtol=1e-5, atol=1e-7, err_msg=key)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_run_of_torch_is_on_the_device(device, dtype):
    (twin,) = find("rnn/lstm:LSTMNet_bidirectional")
    run = Pair(twin, steps=1).run(f"torch:{device}", dtype)
    inputs, targets = run._batch(run.given.batch)
    tensors = [*run.model.parameters(), *run.model.buffers(), *inputs, *targets]
    assert {tensor.device.type for tensor in tensors} == {device}
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    assert {str(tensor.dtype) for tensor in floating} == {f"torch.{dtype}"}
    stages = {section.stage: section.tensors for section in run.sections()}
    assert all(isinstance(x, np.ndarray) for of in stages.values() for x in of.values())
    assert {"forward", "gradients", "step", "trajectory", "final"} <= set(stages)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_run_of_jax_is_on_the_device(device, dtype, monkeypatch):
    from compare.capture import jax_run

    places, whole = set(), jax_run.to_numpy

    def to_numpy(value, **options):
        places.update(value.devices() if isinstance(value, jax.Array) else ())
        return whole(value, **options)

    monkeypatch.setattr(jax_run, "to_numpy", to_numpy)
    (twin,) = find("rnn/lstm:LSTMNet")
    run = Pair(twin, steps=1).run(f"xla:{device}", dtype)
    assert {section.stage for section in run.sections()} >= {"forward", "gradients", "step"}
    assert places == {jax.devices(device)[0]}


def test_a_function_makes_its_constants_where_its_input_is(device):
    """What is pretended without a GPU: a constant of the CPU is refused, one of x's device not."""
    from tests.pretended import Pretended

    def right(x):
        return x + torch.arange(4.0, device=x.device)

    def wrong(x):
        return x + torch.arange(4.0)

    twins = [Twin(torch=f, jax=lambda x: x, inputs={"x": Array((3, 4))}) for f in (right, wrong)]
    assert list(Pair(twins[0]).run(f"torch:{device}").sections())
    with Pretended() as pretended:
        list(Pair(twins[1]).run("torch:cuda" if device == "cpu" else "torch:cpu").sections())
    assert pretended.mixed if device == "cpu" else not pretended.mixed
    if device == "cuda":
        with pytest.raises(RuntimeError, match="device"):
            list(Pair(twins[1]).run("torch:cuda").sections())
