"""Each side's own sampler: rate, scale and independence; a fault is seen."""

from __future__ import annotations

import json

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from compare import Array, Image, Twin
from compare.api import check
from compare.capture.masks import Draw
from compare.ladder.pair import Pair
from compare.ladder.samplers import examine, sampler, scaled
from compare.ladder.verdict import DIVERGED, SAME
from tests.dropouts import (
    JaxImages,
    TorchEqual,
    TorchImages,
    findings,
    keeping,
    layered,
    linen,
    net,
)
from tests.toys import climb


def alone(twin: Twin) -> list[str]:
    """What is wrong with the masks that the sides draw by themselves."""
    return [text for _, text in sampler(Pair(twin))[1]]


def test_the_frameworks_samplers_are_sound():
    images = {"x": Image(4, 2, 8, 8)}
    for twin in (net(), Twin(torch=TorchImages, jax=JaxImages(), inputs=images, name="images")):
        line, found = sampler(Pair(twin))
        assert not found
        assert line.endswith("no findings")


def test_it_is_told_where_there_is_dropout():
    """In the line, in report.json, and by the verdict, where the given masks hide the fault."""
    assert climb(net()).dropout.startswith("masks of each side's own sampler: PyTorch 2 in ")
    assert climb(Twin(torch=torch.sin, jax=jnp.sin, inputs={"x": Array((4, 3))})).dropout == ""
    twin = net(two=lambda x, train, key: keeping(0.1)(x, train, lambda _: jax.random.key(0)))
    result = climb(twin)
    assert result.stages["forward"].verdict == DIVERGED
    assert "JAX by itself, dropout 2: elements alike in two successive" in findings(result)
    assert {j.verdict for s in result.stages.values() for j in s.judged} == {SAME}
    report = json.loads(check(twin, steps=1).to_json())["twins"][0]
    assert report["dropout"].endswith("2 findings")
    assert any("successive calls" in text for text in report["stages"][1]["findings"])


def test_what_both_sides_do_is_no_difference():
    class TorchDropout(nn.Module):
        """Without the scale, as JAX's."""

        def forward(self, x):
            return x * torch.bernoulli(torch.full_like(x, 0.9))

    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.d = nn.Linear(3, 6), nn.Linear(6, 4), nn.Dropout(0.3)
            self.own = TorchDropout()

        def forward(self, x):
            x = self.b(self.d(torch.tanh(self.a(x))))
            return self.own(x) if self.training else x

    faulty = layered(keep=0.9, scale=1.0)
    assert alone(net(**faulty))
    assert alone(net(Torch, **faulty)) == []


class JaxFixed(fnn.Module):
    """Two dropouts with the same two keys in every call."""

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        x = keeping(0.2)(fnn.Dense(4, name="a")(x), train, lambda _: jax.random.key(0))
        return keeping(0.2)(fnn.Dense(4, name="b")(x), train, lambda _: jax.random.key(1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"two": linen(0.2)}, "JAX by itself, dropout 2: kept: 0.8"),
        (layered(keep=0.9, scale=1.0), "are kept, but multiplied by 1"),
        (layered(keep=0.1, scale=1 / 0.9), "are kept, but multiplied by 1.111"),
    ],
    ids=["another rate", "no scale", "keep for drop"],
)
def test_samplers_with_a_fault(options: dict, words: str):
    found = alone(net(**options))
    assert any(words in text for text in found), found
    assert not any(text.startswith("PyTorch") for text in found), found


def test_a_mask_that_the_batch_shares():
    """No sampler's fault, but the ladder's: the shapes tell."""
    twin = net(**layered(keep=0.9, scale=1 / 0.9, column=True))
    assert alone(twin) == []
    assert "dropout 2: JAX shares its mask over axes 0: (1, 4), not (9, 4)" in findings(climb(twin))


def test_a_key_that_is_always_the_same():
    found = alone(Twin(torch=TorchEqual, jax=JaxFixed(), inputs={"x": Array((9, 3))}, name="key"))
    assert any("alike in two successive calls" in text for text in found), found


@pytest.mark.parametrize("axis", [1, 2])
def test_elements_that_depend_on_one_another(axis: int):
    rng = np.random.default_rng(0)
    masks = rng.random((64, 16, 16)) < 0.8
    assert examine([(Draw((16, 16), 0.8), masks)]) == {}
    tied = masks.copy()
    tied[:, 1::2] = np.where(rng.random((64, 8, 16)) < 0.3, tied[:, ::2], tied[:, 1::2])
    tied = tied if axis == 1 else tied.swapaxes(1, 2)
    what, *_ = examine([(Draw((16, 16), 0.8), tied)])
    assert f"neighbours along axis {axis - 1}" in what


def test_draws_that_depend_on_one_another():
    rng = np.random.default_rng(0)
    one, two = rng.random((2, 64, 16)) < 0.8
    two = np.where(rng.random(two.shape) < 0.5, one, two)
    draw = Draw((16,), 0.8)
    assert list(examine([(draw, one), (draw, two)])) == ["dropout 1 and dropout 2: elements alike"]


def test_a_scale_of_its_own():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 64, 4))
    mask = rng.random(x.shape) < 0.8
    channels = rng.random((8, 1, 4)) < 0.8
    assert scaled(x, x * mask / 0.8) == ""
    assert scaled(x, x * channels / 0.8) == ""
    assert scaled(np.maximum(x, 0), np.maximum(x, 0) * mask / 0.8) == ""
    assert scaled(x, x) == ""
    assert scaled(x, x * mask / 0.9)
    assert scaled(x, x * mask)
    assert scaled(x, x * mask * rng.random(x.shape))
