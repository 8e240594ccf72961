"""A twin names an optimizer by torch's name; a wrong keyword is found in the state."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import pytest
import torch

from compare import Array, Twin
from compare.errors import DiptychError
from compare.ladder.verdict import DIVERGED, SAME
from jaxnn.training import adaptive, averaging, moments, optimizers
from tests.toys import climb, trouble

MODULES = (optimizers, adaptive, moments, averaging)


class TorchLinear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 4)

    def forward(self, x):
        return torch.tanh(self.fc(x))


class JaxLinear(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.tanh(nn.Dense(4, name="fc")(x))


# Values whose gradient is nearly zero would make the sign rules chaotic: eps stands above rounding.
NAMED = {
    "adagrad": {"lr": 0.05, "lr_decay": 0.1, "eps": 1e-4, "weight_decay": 0.1},
    "adadelta": {"lr": 0.5, "eps": 1e-4},
    "rmsprop": {"lr": 0.01, "eps": 1e-3, "momentum": 0.9, "centered": True},
    "rprop": {"lr": 0.01},
    "adam": {"lr": 0.01, "eps": 1e-4, "amsgrad": True},
    "adamax": {"lr": 0.01, "eps": 1e-4},
    "nadam": {"lr": 0.01, "eps": 1e-4},
    "radam": {"lr": 0.01, "eps": 1e-4},
    "asgd": {"lr": 0.05, "lambd": 0.1, "t0": 2},
    "sgd": {"lr": 0.05, "momentum": 0.9, "dampening": 0.3},
}


def linear(name: str, keywords: dict[str, Any]) -> Twin:
    inputs = {"x": Array((5, 3))}
    optimizer = (name, keywords)
    return Twin(torch=TorchLinear, jax=JaxLinear, inputs=inputs, optimizer=optimizer, name="linear")


@pytest.mark.parametrize("name", NAMED)
def test_a_twin_names_it(name):
    result = climb(linear(name, NAMED[name]), numerics=True)
    assert result.verdict == SAME, trouble(result)


# Each is seen in the teacher-forced step, in a quantity that only this optimizer keeps.
SLIPS = {
    "adadelta": ("acc_delta", {"rho": 0.91}),
    "rmsprop": ("grad_avg", {"alpha": 0.98}),
    "adam": ("max_exp_avg_sq", {"betas": (0.9, 0.9)}),
    "nadam": ("mu_product", {"momentum_decay": 0.1}),
    "asgd": ("ax", {"lambd": 0.2}),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_wrong_keyword_is_found_in_the_state(name, monkeypatch):
    slot, wrong = SLIPS[name]
    module = next(m for m in MODULES if name in m.__all__)
    monkeypatch.setattr(module, name, partial(getattr(module, name), **wrong))
    monkeypatch.setitem(NAMED, name, {k: v for k, v in NAMED[name].items() if k not in wrong})
    result = climb(linear(name, NAMED[name]), steps=1)
    assert result.verdict == DIVERGED
    assert any(f"forced/state/{slot}" in found for found in trouble(result)["step"])


def test_lbfgs_is_no_single_update():
    with pytest.raises(DiptychError, match="computes losses of its own"):
        climb(linear("lbfgs", {"lr": 0.1}))
