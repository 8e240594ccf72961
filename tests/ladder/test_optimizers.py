"""Optimizers of the user's own, and the default one where it is chaotic."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as fnn
import jax.numpy as jnp
import optax
import pytest
import torch
from torch import nn

from compare import Array, Twin, find
from compare.finder.found import Found
from compare.ladder.ladder import Ladder
from compare.ladder.pair import Pair

RATE, STEPS, HELD = 1e-2, 10, 2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(x)


class FlaxNet(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        return fnn.Dense(3, name="fc")(x)


def scheduled(parameters: Any) -> Any:
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: math.cos(step / STEPS))
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    return optimizer


class Accumulating(torch.optim.SGD):
    """Holds the sum of the gradients beside its state."""

    def __init__(self, parameters: Any):
        super().__init__(parameters, lr=RATE)
        self.calls, self.sums = 0, {}

    @torch.no_grad()
    def step(self, closure=None):
        self.calls += 1
        for parameter in self.param_groups[0]["params"]:
            self.sums[parameter] = self.sums.get(parameter, 0) + parameter.grad
            if self.calls % HELD == 0:
                parameter.sub_(RATE * self.sums.pop(parameter))


def held(rate: float) -> Any:
    own: Any = None  # the parameters' type
    many = optax.MultiSteps(optax.sgd(rate), HELD, accumulator_dtype=own)
    return many.gradient_transformation()


def cosine(late: float) -> Any:
    return optax.sgd(lambda count: RATE * jnp.cos((count + late) / STEPS))


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (scheduled, cosine(0.0), "SAME"),
        (scheduled, cosine(1e-3), "DIVERGED"),
        (Accumulating, held(RATE * HELD), "SAME"),
        (Accumulating, held(RATE), "DIVERGED"),
    ],
    ids=["schedule", "late schedule", "accumulated", "mean for sum"],
)
def test_an_optimizer_of_the_users_own(ours: Any, theirs: Any, verdict: str):
    twin = Twin(torch=Net, jax=FlaxNet, inputs={"x": Array((5, 4))}, optimizer=(ours, theirs))
    assert find(twin).verdict == verdict


def root_mean_square(parameters: Any) -> Any:
    return torch.optim.RMSprop(parameters, lr=RATE, alpha=0.9, eps=1e-8, momentum=0.9)


def with_momentum(rate: Any = RATE, **options: Any) -> Any:
    settings: Any = {"decay": 0.9, "eps": 1e-8, "eps_in_sqrt": False, "momentum": 0.9} | options
    return optax.rmsprop(rate, **settings)


@pytest.mark.parametrize(
    ("theirs", "verdict"),
    [
        (with_momentum(), "SAME"),
        (with_momentum(lambda count: RATE * 0.9**count), "DIVERGED"),
        (with_momentum(momentum=0.8), "DIVERGED"),
        (with_momentum(rate=1.1 * RATE), "DIVERGED"),
        (with_momentum(centered=True), "DIVERGED"),
        (with_momentum(initial_scale=1.0), "DIVERGED"),
    ],
    ids=["constant", "a schedule", "another momentum", "another rate", "centred", "begun at one"],
)
def test_the_rate_may_be_in_the_momentum(theirs: Any, verdict: str):
    twin = Twin(
        torch=Net, jax=FlaxNet, inputs={"x": Array((5, 4))}, optimizer=(root_mean_square, theirs)
    )
    (entry,) = find(twin).twins
    assert entry["verdict"] == verdict
    notes = [note for note in entry["coverage"]["notes"] if "-0.01 times PyTorch's" in note]
    assert len(notes) == 1


class Steep(nn.Module):
    """Attention whose logits are not scaled down: steps of 0.1 make it chaotic."""

    def __init__(self):
        super().__init__()
        for name in "qkv":
            setattr(self, name, nn.Linear(12, 12, bias=False))
        self.o = nn.Linear(12, 12, bias=False)

    def forward(self, x):
        q, k, v = (getattr(self, name)(x) for name in "qkv")
        return self.o((q @ k.mT).softmax(-1) @ v)


class FlaxSteep(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        q, k, v = (fnn.Dense(12, use_bias=False, name=name)(x) for name in "qkv")
        y = fnn.softmax(q @ k.swapaxes(-1, -2)) @ v
        return fnn.Dense(12, use_bias=False, name="o")(y)


def climbed(**options: Any) -> tuple[Found, Pair]:
    pair = Pair(Twin(torch=Steep, jax=FlaxSteep, inputs={"x": Array((2, 5, 12))}, **options))
    (result,) = Ladder(pair, ["xla:cpu"]).run(())
    return Found(result), pair


def test_where_the_default_is_chaotic_smaller_steps_are_made():
    found, pair = climbed()
    assert found.result.verdict == "SAME"
    assert pair.twin.optimizer == ("sgd", {"lr": 1e-2})
    assert any("SGD at 0.01" in note for note in found.result.notes)


def test_an_optimizer_that_was_asked_for_stays():
    found, pair = climbed(optimizer=("sgd", {"lr": 0.1}))
    assert found.result.verdict == "INCONCLUSIVE"
    assert pair.twin.optimizer == ("sgd", {"lr": 0.1})
    worst = [j.detail for j in found.result.stages["trajectory"].judged if j.label == "chaotic"]
    assert worst
    assert "a lower learning rate" in worst[0]
