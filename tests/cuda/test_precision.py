"""TF32: off where a check asks for the highest precision, on where it asks for the default."""

from __future__ import annotations

import flax.linen as fnn
import numpy as np
import pytest
from torch import nn

from compare import Image, Twin, check
from compare.capture.distance import distance, norm
from compare.ladder.pair import Pair

pytestmark = pytest.mark.cuda
# What one product of 576 terms is off by, relative: by float32, whatever the algorithm; by TF32.
WHOLE, TF32 = 1e-5, (5e-5, 5e-3)


class Torch(nn.Module):
    """A convolution and a product, each of the same x."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 3)
        self.linear = nn.Linear(576, 512)

    def forward(self, x):
        return self.conv(x), self.linear(x.flatten(1)[:, :576])


class Jax(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        rows = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)[:, :576]
        conv = fnn.Conv(64, (3, 3), padding="VALID", name="conv")
        return conv(x), fnn.Dense(512, name="linear")(rows)


TWIN = Twin(torch=Torch, jax=Jax, inputs={"x": Image(64, 64, 9, 9)})


def errors(device: str, side: str, precision: str) -> dict[str, float]:
    """How far a float32 run is from float64, by what it computes."""
    pair = Pair(TWIN, steps=1, precision=precision)
    found, exact = (
        next(iter(pair.run(backend, dtype).sections())).tensors
        for backend, dtype in ((f"{side}:{device}", "float32"), ("torch:cpu", "float64"))
    )
    values = {"conv": found["eval/out.0"], "linear": found["eval/out.1"]}
    if side == "xla":
        values["conv"] = np.moveaxis(values["conv"], -1, 1)
    return {
        name: distance(value, exact[f"eval/out.{index}"]) / norm(exact[f"eval/out.{index}"])
        for index, (name, value) in enumerate(values.items())
    }


@pytest.mark.parametrize("side", ["torch", "xla"])
def test_it_is_off_where_the_highest_is_asked_for(device, side):
    found = errors(device, side, "highest")
    assert all(0 < error < WHOLE for error in found.values()), found


@pytest.mark.parametrize("side", ["torch", "xla"])
def test_it_is_on_where_the_default_is_asked_for(device, side):
    found = errors(device, side, "default")
    if device == "cpu":
        assert all(0 < error < WHOLE for error in found.values()), found
        pytest.skip("a CPU has no TF32: the default is whole")
    assert TF32[0] < found["linear"] < TF32[1], found
    assert found["conv"] < TF32[1], found  # for a convolution float32 may be the faster one


@pytest.mark.parametrize("precision", ["highest", "default"])
@pytest.mark.parametrize("side", ["torch", "xla"])
def test_a_check_allows_what_it_asked_for(device, side, precision):
    report = check(TWIN, backends=[f"{side}:{device}"], precision=precision, steps=2)
    assert report.verdict == "SAME", report.to_json()
