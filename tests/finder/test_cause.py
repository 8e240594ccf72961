"""Causes: confirmed by an edit, or called unknown."""

import functools

import jax
import jax.numpy as jnp
import pytest
import torch

from compare import Array, Twin
from compare.api import find as find_twin
from compare.ladder.verdict import DIVERGED
from tests.planted import net
from tests.toys import found


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


class Masked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = torch.nn.Linear(8, 24), torch.nn.Linear(8, 3)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        seen = torch.tril(torch.ones(5, 5, dtype=torch.bool))
        scores = (q @ k.mT / 8**0.5).masked_fill(~seen, float("-inf"))
        return self.out(scores.softmax(-1) @ v)


def masked(p, x, fault, fill):
    q, k, v = jnp.split(x @ p["qkv"]["kernel"] + p["qkv"]["bias"], 3, -1)
    if fault == "ATT-10":
        q, k = k, q
    scores = q @ k.swapaxes(1, 2) / (1 if fault == "ATT-05" else 8**0.5)
    seen = jnp.tril(jnp.ones((5, 5), bool), k=int(fault == "ATT-07"))
    return jax.nn.softmax(jnp.where(seen, scores, fill)) @ v @ p["out"]["kernel"] + p["out"]["bias"]


@pytest.mark.parametrize("fault", ["ATT-05", "ATT-07", "ATT-10"])
def test_a_cause_is_confirmed_whichever_number_masks(fault: str):
    sizes = {"qkv": (8, 24), "out": (8, 3)}
    params = {n: {"kernel": jnp.zeros(s), "bias": jnp.zeros(s[1])} for n, s in sizes.items()}
    twin = Twin(
        torch=Masked,
        jax=(functools.partial(masked, fault=fault, fill=-1e9), params),
        inputs={"x": Array((2, 5, 8))},
    )
    cause = find_twin(twin, steps=1).cause
    assert cause is not None
    assert (cause["code"], cause["confirmed"]) == (fault, True)
