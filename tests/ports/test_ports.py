"""Right ports are the same at the first try, with everything as it is documented."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from compare import Twin
from compare.api import find
from compare.ladder.verdict import SAME
from tests.ports import (
    attention,
    conditioned,
    convolution,
    eqx,
    linen,
    nnx,
    plain,
    recurrent,
    scanned,
    traps,
)

FILES = (plain, recurrent, attention, convolution, conditioned, scanned, linen, nnx, eqx, traps)
PORTS = {
    f"{file.__name__.rpartition('.')[2]}/{name}": value
    for file in FILES
    for name, value in vars(file).items()
    if isinstance(value, Twin)
}
# What is right, and not yet the same.
WAITING = {
    "nnx/tagger": "of two biases that meet in one, the other is frozen: they move as one does",
}


def test_the_size_of_the_corpus():
    assert len(PORTS) >= 40
    assert set(WAITING) <= set(PORTS)


def outcome(twin: Twin) -> list[str]:
    """What is not the same, a line each; empty where everything is."""
    (entry,) = find(twin).twins
    lines = [
        f"{stage['name']} {stage['verdict']}: {'; '.join(stage['findings'][:3])}"
        for stage in entry["stages"]
        if stage["verdict"] not in (SAME, "n/a")
    ]
    return lines or ([] if entry["verdict"] == SAME else [entry["verdict"]])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(reason=WAITING[name]) if name in WAITING else ())
        for name in PORTS
    ],
)
def test_a_right_port(name: str):
    assert outcome(PORTS[name]) == []


def test_a_fault_behind_a_mask_of_numbers():
    apply, variables = traps.float_mask.jax
    assert outcome(replace(traps.float_mask, jax=(partial(apply, scale=1.0), variables)))
