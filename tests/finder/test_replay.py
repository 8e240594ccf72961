"""The replay: every layer alone, in as few passes and tensors as there can be."""

from __future__ import annotations

from collections import Counter

import flax.linen as fnn
import jax
import numpy as np
import pytest
import torch

from compare import Array, Twin
from compare.capture.jax_run import JaxRun
from compare.capture.torch_run import TorchRun
from compare.finder.origin import locate
from compare.finder.replay import Replay
from compare.ladder.ladder import Ladder
from compare.ladder.pair import Pair
from tests.toys import CASES, Case, found


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
    ladder.run(())
    replay = Replay(pair, ladder.judges["xla:cpu"], lambda _: None)
    origin, _ = locate(replay)
    assert origin is not None
    for mode in ("train", "eval"):
        kept = replay.reference(mode)
        assert {name.partition("/")[0] for name in kept} == {mode}
        given = [kept[f"{mode}/layer/{i}"] for i in range(7)]
        taken = [kept[f"{mode}/layer/{i + 1}:in"] for i in range(7)]
        assert all(map(np.shares_memory, given, taken))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("kind", ["layer", "gradient/layer"])
def test_in_a_clean_pair_every_layer_agrees_alone(case: Case, kind: str):
    """Under jit, remat and scan, called twice and in place."""
    pair = Pair(case.twin, steps=2)
    ladder = Ladder(pair, ["xla:cpu"])
    ladder.run(())
    replay = Replay(pair, ladder.judges["xla:cpu"], lambda _: None)
    compared = list(replay.pairs("train", kind))
    assert any(":in" in key for key, *_ in compared)
    for _, _, t, j in compared:
        np.testing.assert_allclose(j, t, rtol=1e-10, atol=1e-12)
