"""PyTorch's masks at the dispatcher: every way of drawing gets the given one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from compare.api import check
from compare.capture.masks import Draw, uniform
from compare.capture.torch_masks import Masks
from compare.ladder.verdict import INCONCLUSIVE
from tests.dropouts import net


def test_a_compiled_model_takes_no_masks():
    report = check(net(), steps=1, backends=["torch:cpu+compile"])
    assert report.verdict == INCONCLUSIVE
    assert "torch.compile takes no masks" in report.to_json()


TORCH_DRAWS = {
    "dropout": lambda x: F.dropout(x, 0.3) * 0.7,
    "dropout in place": lambda x: F.dropout(x.clone(), 0.3, inplace=True) * 0.7,
    "native_dropout": lambda x: torch.native_dropout(x, 0.3, True)[0] * 0.7,
    "native_dropout's mask": lambda x: torch.native_dropout(x, 0.3, True)[1] * x,
    "bernoulli": lambda x: torch.bernoulli(torch.full_like(x, 0.7)) * x,
    "bernoulli of one rate": lambda x: torch.bernoulli(x, 0.7) * x,
    "bernoulli_": lambda x: torch.empty_like(x).bernoulli_(0.7) * x,
    "bernoulli_ of many rates": lambda x: torch.empty_like(x).bernoulli_(0.7 + 0 * x) * x,
    "bernoulli_ in bool": lambda x: torch.empty(x.shape, dtype=torch.bool).bernoulli_(0.7) * x,
    "a distribution": lambda x: torch.distributions.Bernoulli(0.7 + 0 * x).sample() * x,
}


@pytest.mark.parametrize("name", TORCH_DRAWS)
def test_every_way_of_drawing_in_torch(name: str):
    numbers = uniform(0, "train", 0, 0, (5, 4))
    x = torch.arange(1.0, 21.0, dtype=torch.float64).reshape(5, 4)
    with (
        torch.random.fork_rng(devices=[]),
        Masks(lambda: "", lambda index, shape: numbers) as masks,
    ):
        y = TORCH_DRAWS[name](x)
    assert torch.allclose(y, torch.from_numpy(numbers < 0.7) * x, rtol=1e-15)
    assert masks.draws == [Draw((5, 4), 0.7)]
    assert not masks.noise
