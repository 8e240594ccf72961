"""A slip of conversion is named with the leaf and the way in which it is wrong."""

from __future__ import annotations

import pytest

from compare.api import find
from compare.ladder.verdict import DIVERGED
from tests.ports.planting import Slip, planted
from tests.ports.slips import SLIPS
from tests.ports.test_ports import PORTS

# What is seen, and not yet named.
OWN = "PyTorch's own order, where the program wants another: what is named is the program's"
WAITING = {
    "recurrent/lstm_joint: gates as PyTorch's": OWN,
    "convolution/flat: channels first": OWN,
    "convolution/shuffled: channels as PyTorch's": OWN,
    "recurrent/gru: biases summed": "bh is all 0, and tells of no tensor that it was",
}


def title(slip: Slip) -> str:
    return f"{slip.port}: {slip.name}"


def test_the_size_of_the_corpus():
    assert len(SLIPS) >= 50
    assert len({title(slip) for slip in SLIPS}) == len(SLIPS)
    assert set(WAITING) <= {title(slip) for slip in SLIPS}


@pytest.mark.parametrize(
    "slip",
    [
        pytest.param(slip, marks=pytest.mark.xfail(reason=reason) if reason else (), id=title(slip))
        for slip in SLIPS
        for reason in [WAITING.get(title(slip))]
    ],
)
def test_a_slip(slip: Slip):
    (entry,) = find(planted(PORTS[slip.port], slip.leaves)).twins
    (weights,) = [stage for stage in entry["stages"] if stage["name"] == "weights"]
    assert entry["verdict"] == weights["verdict"] == DIVERGED
    assert sorted(weights["findings"]) == sorted(slip.says)
    assert entry["origin"]["stage"] == "weights"
    assert (entry["cause"] and entry["cause"]["code"]) == slip.code
