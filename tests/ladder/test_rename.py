"""`Twin(rename=...)`: expressions that are none, or match nothing."""

from __future__ import annotations

import flax.linen as linen
import pytest
from torch import nn

from compare import Array, Twin
from compare.errors import DiptychError
from compare.ladder.pair import Pair

INPUTS = {"x": Array((2, 3))}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(3, 3)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.fc1(x))


class Flax(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.relu(linen.Dense(3, name="dense")(x))


def pair(rename) -> Pair:
    return Pair(Twin(torch=Net, jax=Flax(), inputs=INPUTS, rename=rename, name="net"))


@pytest.mark.parametrize("pattern", ["fc", "c1", "weight.fc1", r"fc(\d+)\.kernel", "bia"])
def test_an_expression_that_matches_nothing(pattern: str):
    with pytest.raises(DiptychError, match="matches no module and no tensor") as caught:
        pair({"fc1": "dense", pattern: "x"})
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize(
    "rename", [{"fc1": "dense"}, {r"fc1\.weight": "dense/kernel"}, {"act": ""}]
)
def test_expressions_that_match(rename):
    assert pair(rename).weights.links


@pytest.mark.parametrize("rename", [{"fc(": "x"}, {"fc": r"\1"}, {"fc": None}])
def test_what_is_no_expression(rename):
    with pytest.raises(DiptychError, match=r"Twin\(rename=\{.*\}\) is no expression: "):
        pair(rename)
