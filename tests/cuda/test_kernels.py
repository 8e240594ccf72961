"""Kernels that a CPU has not: cuDNN's algorithms, sums by atomics, masks drawn on the device."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Tokens, Twin, check
from compare.capture.masks import uniform
from compare.capture.torch_masks import Masks
from compare.discover import find
from compare.ladder.pair import Pair

pytestmark = pytest.mark.cuda
ALGORITHMS = {
    "deterministic": {"deterministic": True, "benchmark": False},
    "the fastest": {"deterministic": False, "benchmark": True},
}


@contextlib.contextmanager
def chosen(deterministic: bool, benchmark: bool):
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
    torch.use_deterministic_algorithms(deterministic)
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_convolutions_by_every_algorithm(device, name):
    with chosen(**ALGORITHMS[name]):
        report = check(*find("cnn/lenet:LeNet"), backends=[f"torch:{device}"], steps=2)
    assert report.verdict == "SAME", report.to_json()


class Summed(nn.Module):
    """Gradients that are summed from many places into few: by atomics, on a GPU."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 6)
        self.weight = nn.Parameter(torch.zeros(3, 6))

    def forward(self, tokens, x):
        rows = self.table(tokens).flatten(0, 1)
        summed = torch.zeros(5, 6, dtype=rows.dtype, device=rows.device)
        summed = summed.index_add(0, tokens.flatten(), rows * x.flatten(0, 1))
        picked = self.weight[tokens.flatten() % 3]
        return summed, picked * rows


SUMMED = Twin(
    torch=Summed, jax=lambda *x: x, inputs={"tokens": Tokens(16, 96, 5), "x": Array((16, 96, 6))}
)


@pytest.mark.parametrize("seed", range(3))
def test_sums_by_atomics_stay_within_rounding(device, seed):
    report = check(SUMMED, backends=[f"torch:{device}"], steps=2, seed=seed)
    assert report.verdict == "SAME", report.to_json()


def test_deterministic_sums_are_the_same_twice(device):
    with chosen(deterministic=True, benchmark=False):
        pair = Pair(SUMMED, steps=1)
        runs = [list(pair.run(f"torch:{device}", "float32").sections()) for _ in range(2)]
    for one, two in zip(*runs, strict=True):
        for name, value in one.tensors.items():
            np.testing.assert_array_equal(value, two.tensors[name], err_msg=name)


DRAWS = {
    "dropout": lambda x: F.dropout(x, 0.3) * 0.7,
    "dropout in place": lambda x: F.dropout(x.clone(), 0.3, inplace=True) * 0.7,
    "native_dropout": lambda x: torch.native_dropout(x, 0.3, True)[0] * 0.7,
    "bernoulli": lambda x: torch.bernoulli(torch.full_like(x, 0.7)) * x,
    "bernoulli_": lambda x: torch.empty_like(x).bernoulli_(0.7) * x,
    "a distribution": lambda x: torch.distributions.Bernoulli(0.7 + 0 * x).sample() * x,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", DRAWS)
def test_every_draw_of_the_device_is_the_given_one(device, name, dtype):
    numbers = uniform(0, "train", 0, 0, (5, 4))
    x = torch.arange(1.0, 21.0, dtype=dtype, device=device).reshape(5, 4).requires_grad_()
    with Masks(lambda: "", lambda index, shape: numbers) as masks:
        y = DRAWS[name](x)
        y.sum().backward()
    kept = torch.from_numpy(numbers < 0.7).to(device)
    torch.testing.assert_close(y, kept * x)
    torch.testing.assert_close(x.grad, kept.to(dtype))
    (draw,) = masks.draws
    assert (draw.shape, draw.keep) == ((5, 4), pytest.approx(0.7))
    assert not masks.noise


class Dropping(nn.Module):
    """Dropout where it hides: between an LSTM's layers, and inside of attention."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, 2, batch_first=True, dropout=0.4)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)

    def forward(self, x):
        x, _ = self.lstm(x)
        q = x[:, None]
        y = F.scaled_dot_product_attention(q, q, q, dropout_p=0.2 if self.training else 0.0)
        return F.dropout2d(y, 0.3, self.training)[:, 0] + self.attention(x, x, x)[0]


def test_hidden_masks_are_the_given_ones(device):
    twin = Twin(torch=Dropping, jax=lambda x: x, inputs={"x": Array((4, 5, 6))})
    pair = Pair(twin, steps=1)
    assert len(pair.given.draws["train"]) == 4
    report = check(twin, backends=[f"torch:{device}"], steps=2)
    assert report.verdict == "SAME", report.to_json()


@pytest.mark.parametrize("side", ["torch", "xla"])
def test_dropout_of_the_catalogue(device, side):
    report = check(*find("layers/dropout:dropout"), backends=[f"{side}:{device}"], steps=2)
    assert report.verdict == "SAME", report.to_json()
