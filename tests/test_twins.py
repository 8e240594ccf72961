"""Every twin of the catalogue, whatever it is called: the ladder, whole, and nothing skipped."""

import copy
import dataclasses
import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from compare import Image, Labels
from compare.api import check
from compare.commands.cli import main
from compare.discover import catalogue
from compare.ladder.pair import Pair
from compare.layout import channels_last
from compare.share import to_jax, to_numpy, to_torch
from compare.weights import optim

TWINS = catalogue()
# Of the blocks of ResNet-34 and 50, at the published size or only more: `make check` climbs them.
LARGE = {f"cnn/resnet:resnet{depth}" for depth in (18, 101, 152)}
UPDATES = {
    f"training/{file}:{file}"
    for file in ("adaptive", "averaging", "gradients", "moments", "optimizers", "second_order")
} | {"training/mixed_precision:scaled_training"}


@pytest.mark.parametrize("name", sorted(TWINS.keys() - LARGE))
def test_both_sides_are_the_same_network(name):
    report = check(TWINS[name])
    assert report.verdict == "SAME", report.first_line()
    (entry,) = report.twins
    coverage = entry["coverage"]
    assert coverage["moved"] == coverage["leaves"]
    assert coverage["skipped"] == []
    verdicts = {stage["name"]: stage["verdict"] for stage in entry["stages"]}
    assert list(verdicts) == ["weights", "forward", "gradients", "step", "trajectory"]
    # A function has no weights, and so nothing to step; an optimizer's update has no gradient.
    always = {"forward"} if name in UPDATES else {"forward", "gradients"}
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


# The training steps of the two trees: what they do is what the harness has compared.

SMALL = dataclasses.replace(
    TWINS["cnn/resnet:resnet18"],
    config={"num_classes": 5, "width": 8},
    inputs={"x": Image(4, 3, 32, 32)},
    targets={"labels": Labels(4, 5)},
    data=None,
)
STEPPED = {"cnn/lenet:LeNet": TWINS["cnn/lenet:LeNet"], "cnn/resnet:small": SMALL}


def trajectory(pair) -> dict[str, np.ndarray]:
    """The parameters after the last step of the harness's PyTorch run, in float64."""
    steps = [s for s in pair.run("torch:cpu").sections() if s.stage == "trajectory"]
    return {
        name.removeprefix("param/"): array
        for name, array in steps[-1].tensors.items()
        if name.startswith("param/")
    }


def torch_model(pair):
    model = copy.deepcopy(pair.model).double()
    model.load_state_dict({k: to_torch(v) for k, v in pair.given.state.items()})
    return model


def jax_variables(pair) -> dict:
    flat = pair.weights.to_jax(pair.given.state)
    return unflatten_dict({path: to_jax(array, "float64") for path, array in flat.items()})


def assert_close(found, wanted) -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-11, err_msg=name)


def named(pair, params) -> dict[str, np.ndarray]:
    """Flax parameters under PyTorch's names, in PyTorch's order."""
    leaves = {("params", *path): to_numpy(value) for path, value in flatten_dict(params).items()}
    found = pair.weights.to_torch(leaves)
    return {name: found[name] for name, leaf in pair.leaves.items() if leaf.trains}


@pytest.mark.parametrize("name", STEPPED)
def test_train_step_of_pytorch(name):
    from torchref.training.steps import train_step

    twin, steps = STEPPED[name], 3
    pair = Pair(twin, steps=steps)
    model = torch_model(pair)
    optimizer = optim.torch_optimizer(twin.optimizer, list(model.parameters()))
    loss = twin.objective("torch", twin.loss)
    assert loss is not None
    for step, batch in enumerate(twin.batches(0, steps)):
        optim.follow_schedule(twin.optimizer, optimizer, step)
        x, labels = to_torch(batch["x"]).double(), to_torch(batch["labels"])
        train_step(model, optimizer, (x,), (labels,), loss)
    found = {key: to_numpy(value) for key, value in model.named_parameters()}
    assert_close(found, trajectory(pair))


@pytest.mark.parametrize("name", STEPPED)
def test_train_step_of_jax(name):
    from jaxnn.training.steps import TrainState, train_step

    twin, steps = STEPPED[name], 3
    pair = Pair(twin, steps=steps)
    with jax.enable_x64(True):
        variables = jax_variables(pair)
        state = TrainState.create(
            apply_fn=pair.jax_model.apply,
            params=variables["params"],
            tx=optim.optax_optimizer(twin.optimizer),
            batch_stats=variables.get("batch_stats", {}),
        )
        jitted = jax.jit(train_step, static_argnames="loss")
        loss = twin.objective("jax", twin.loss)
        for batch in twin.batches(0, steps):
            x = to_jax(channels_last(batch["x"]), "float64")
            state, _ = jitted(state, (x,), (to_jax(batch["labels"]),), loss=loss)
        found = named(pair, state.params)
    assert_close(found, trajectory(pair))


def test_train_step_of_the_gan():
    """The room's own step, for it has two players: both sides against the harness."""
    from jaxnn.gan import dcgan as theirs
    from jaxnn.training.steps import TrainState
    from torchref.gan import dcgan as ours

    twin, steps = TWINS["gan/dcgan:DCGAN"], 2
    pair = Pair(twin, steps=steps)
    model = torch_model(pair)
    players = {phase.name: phase.optimizer for phase in twin.phases}
    optimizers = {
        name: optim.torch_optimizer(spec, list(getattr(model, name).parameters()))
        for name, spec in players.items()
    }
    with jax.enable_x64(True):
        variables = jax_variables(pair)
        states = {
            name: TrainState.create(
                apply_fn=pair.jax_model.apply,
                params=variables["params"][name],
                tx=optim.optax_optimizer(spec),
                batch_stats=variables["batch_stats"][name],
            )
            for name, spec in players.items()
        }
        jitted = jax.jit(theirs.train_step)
        for step, batch in enumerate(twin.batches(0, steps)):
            x, z = batch["x"], batch["z"]
            for name, optimizer in optimizers.items():
                optim.follow_schedule(players[name], optimizer, step)
            ours.train_step(model, **optimizers, x=to_torch(x).double(), z=to_torch(z).double())
            given = {"x": to_jax(channels_last(x), "float64"), "z": to_jax(z, "float64")}
            discriminator, generator, *_ = jitted(**states, **given)
            states = {"discriminator": discriminator, "generator": generator}
        found = named(pair, {name: state.params for name, state in states.items()})
    wanted = trajectory(pair)
    assert_close({key: to_numpy(value) for key, value in model.named_parameters()}, wanted)
    assert_close(found, wanted)
