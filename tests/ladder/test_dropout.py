"""Dropout on the ladder: the same training where it is the same, and each fault named."""

from __future__ import annotations

import flax.linen as fnn
import jax
import jax.numpy as jnp
import pytest
import torch

from compare import Array, Twin
from compare.api import check
from compare.ladder.verdict import DIVERGED, SAME
from tests.dropouts import JaxEqual, TorchEqual, dropping, findings, keeping, linen, net, none
from tests.toys import climb, trouble

CLEAN = {
    "a module and a function": {},
    "the user's own twice": {"one": keeping(0.3)},
    "masks of what is dropped": {"one": dropping(0.3), "two": dropping(0.1)},
}
FAULTS = {
    "another rate": ({"two": linen(0.2)}, "dropout 2: rate 0.1 in PyTorch, 0.2 in JAX"),
    "a rate that is hardly another": ({"two": linen(0.1001)}, "0.1001 in JAX"),
    "keep for drop": ({"two": keeping(0.1, keep=0.1)}, "rate 0.1 in PyTorch, 0.9 in JAX: kept for"),
    "keep for drop, by Linen": ({"two": linen(0.9)}, "kept for dropped?"),
    "no scale": ({"two": keeping(0.1, scale=1.0)}, ""),
    "a scale that is hardly another": ({"two": keeping(0.1, scale=(1 + 1e-7) / 0.9)}, ""),
    "one is missing": ({"two": none}, "PyTorch drops 2 times, JAX 1 time"),
    "one too many": (
        {"two": lambda x, t, k: keeping(0.1)(keeping(0.1)(x, t, k), t, k)},
        "PyTorch drops 2 times, JAX 3 times",
    ),
    "a mask that is shared": (
        {"one": linen(0.3, broadcast_dims=(0,))},
        "dropout 1: JAX shares its mask over axes 0: (1, 6), not (9, 6)",
    ),
    "a mask that is too large": (
        {"one": lambda x, t, k: keeping(0.3)(x[..., None] + jnp.zeros(2), t, k).mean(-1)},
        "dropout 1: a mask of shape (9, 6) in PyTorch, (9, 6, 2) in JAX",
    ),
    "active in eval": (
        {"two": lambda x, t, k: keeping(0.1)(x, True, k)},
        "eval: PyTorch drops 0 times, JAX 1 time",
    ),
}


@pytest.mark.parametrize("name", CLEAN)
def test_without_a_fault(name: str):
    result = climb(net(**CLEAN[name]), numerics=True)
    assert result.verdict == SAME, trouble(result)
    assert result.stages["trajectory"].compared == "3 steps"


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str):
    options, words = FAULTS[name]
    result = climb(net(**options))
    assert result.stages["forward"].verdict == DIVERGED, trouble(result)
    assert words in findings(result), findings(result)


def test_only_what_differs_is_blamed():
    """A mask that one side shares is drawn so for both: nothing else differs."""
    result = climb(net(one=linen(0.3, broadcast_dims=(0,))))
    judged = [j.verdict for stage in result.stages.values() for j in stage.judged]
    assert set(judged) == {SAME}, trouble(result)


def test_check():
    assert check(net(), steps=2, backends=["xla:cpu", "xla:cpu+eager"]).verdict == SAME
    assert check(net(two=linen(0.2)), steps=2).verdict == DIVERGED


def test_noise_that_nobody_controls_is_said():
    class Jax(JaxEqual):
        @fnn.compact
        def __call__(self, x, *, train: bool = False):
            noise = jax.random.normal(self.make_rng("dropout"), (9, 4)) if train else 0.0
            return fnn.Dense(4, name="b")(fnn.Dense(4, name="a")(x) + noise)

    class Torch(TorchEqual):
        def forward(self, x):
            x = self.a(x)
            return self.b(x + torch.randn_like(x) if self.training else x)

    result = climb(Twin(torch=Torch, jax=Jax, inputs={"x": Array((9, 3))}, name="noise"))
    assert "train: JAX draws at" in findings(result)
    assert "aten.randn_like" in findings(result)


def test_a_mask_that_is_tiled_over_the_batch():
    """One mask of the right shape for all examples, which the shapes do not tell."""

    def tiled(x, train, key):
        mask = jax.random.bernoulli(key("dropout"), 0.9, x.shape)
        return jnp.where(mask[:1], x / 0.9, 0) if train else x

    assert climb(net(two=tiled)).stages["forward"].verdict == DIVERGED


def test_a_layer_that_hands_its_input_on():
    class JaxDropoutOff(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            return x

    off = lambda x, train, key: JaxDropoutOff(name="off")(x)  # noqa: E731
    assert "PyTorch drops 2 times, JAX 1 time" in findings(climb(net(two=off)))
