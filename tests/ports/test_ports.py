"""Right ports are the same at the first try, with everything as it is documented."""

from __future__ import annotations

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
)

FILES = (plain, recurrent, attention, convolution, conditioned, scanned, linen, nnx, eqx)
PORTS = {
    f"{file.__name__.rpartition('.')[2]}/{name}": value
    for file in FILES
    for name, value in vars(file).items()
    if isinstance(value, Twin)
}
UNBOUNDED = "the default loss has no minimum: descent at the default rate overflows in ten steps"
# What is right, and not yet the same.
WAITING = {
    "plain/tied": UNBOUNDED,
    "attention/block": UNBOUNDED,
    "attention/patches": UNBOUNDED,
    "convolution/separable": UNBOUNDED,
    "convolution/unet": UNBOUNDED,
    "scanned/scan": UNBOUNDED,
    "scanned/scan_initial": UNBOUNDED,
    "scanned/linen_scan": UNBOUNDED,
    "scanned/linen_auto": UNBOUNDED,
    "nnx/decoder": UNBOUNDED,
    "nnx/scanned": UNBOUNDED,
    "eqx/stacked": UNBOUNDED,
    "linen/separate": UNBOUNDED,
    "linen/classifier": UNBOUNDED,
    "attention/grouped": "a rotary table made in float32 is not lifted",
    "attention/encoder": "arange in float32, beside what is lifted: lax.mul refuses the two types",
    "convolution/excited": "a layer's value (n, c, 1, 1) beside (n, c)",
    "eqx/convolved": "a pool of one example inside vmap has a unit axis more",
    "conditioned/branches": "one relu of the port is two of PyTorch's, and is held to the first",
    "convolution/stack": "`(apply, variables)` cannot return new running statistics",
    "nnx/tagger": "a frozen bias of zeros is moved before the models are compared",
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
