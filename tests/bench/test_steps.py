"""Training steps by hand: every phase trains its own part, in float32 and in bfloat16."""

from __future__ import annotations

import copy

import jax
import numpy as np
import pytest
import torch

from compare import Twin
from compare.bench import steps
from compare.discover import find

TWINS = {
    "gan": lambda: find("gan/dcgan:DCGAN")[0],
    "attention": lambda: steps.attention(2, 5, 8, 2),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", TWINS)
def test_a_step_of_torch_moves_every_parameter(name, dtype, monkeypatch):
    made, build, casts = [], Twin.build, set()

    def kept(self, side):
        made.append(build(self, side))
        hook = lambda module, args, output: casts.add(output.dtype)  # noqa: E731
        for module in made[-1].modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.modules.linear.Linear)):
                module.register_forward_hook(hook)
        return made[-1]

    monkeypatch.setattr(Twin, "build", kept)
    step = steps.torch_training(TWINS[name](), dtype)
    before = copy.deepcopy(dict(made[0].named_parameters()))
    step()
    after = dict(made[0].named_parameters())
    assert [n for n, p in after.items() if torch.equal(p, before[n])] == []
    assert {p.dtype for p in after.values()} == {torch.float32}
    assert name != "gan" or casts == {getattr(torch, dtype)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", TWINS)
def test_a_step_of_jax_moves_every_parameter(name, dtype, monkeypatch):
    seen, wait = [], jax.block_until_ready

    def kept(value):
        seen.append(jax.tree.map(np.array, value))  # the next step is given their memory
        return wait(value)

    monkeypatch.setattr(jax, "block_until_ready", kept)
    step = steps.jax_training(TWINS[name](), dtype)
    step()
    step()
    (before, *_), (after, buffers, states) = seen
    assert [path for path, value in after.items() if np.array_equal(value, before[path])] == []
    leaves = jax.tree.leaves((after, buffers, states))
    assert {x.dtype.name for x in leaves if x.dtype.kind not in "iu"} == {"float32"}
    assert len(states) == (2 if name == "gan" else 1)


def test_the_median_follows_three_that_are_not_timed():
    calls = []
    assert steps.median(lambda: calls.append(0), 5) >= 0
    assert len(calls) == 3 + 5
