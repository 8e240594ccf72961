"""The corpus of faults: its clean twins are the same, and the finder names what was planted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from compare.ladder.verdict import DIVERGED, SAME
from compare.twin import generator
from tests.faults import OPTIMIZER, architectures, corpus, equivalent, held_out, judge
from tests.faults.matrix import HEADER, row, run, summary, tried
from tests.toys import climb, trouble

FAULTS = corpus()
MATRIX = Path(__file__).parent.parent / "results" / "kill_matrix.tsv"
DRAWN = generator(0, "faults").choice(len(FAULTS), 24, replace=False)


def matrix() -> dict[str, dict[str, str]]:
    """The kept table by fault."""
    text = [line for line in MATRIX.read_text().splitlines() if not line.startswith("#")]
    rows = [dict[str, str](zip(HEADER, line.split("\t"), strict=True)) for line in text[1:]]
    return {f"{line['architecture']}/{line['fault']}": line for line in rows}


def test_the_size_of_the_corpus():
    assert len(FAULTS) >= 120
    assert len({fault.architecture for fault in FAULTS}) == len(architectures()) >= 8
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert 4 * sum(fault.code is None for fault in FAULTS) >= len(FAULTS)
    assert 20 * len(equivalent()) <= len(FAULTS)
    stages = {"weights", "forward", "gradients", "step", "trajectory"}
    assert {fault.stage for fault in FAULTS} == stages


def test_the_held_out_faults():
    held = held_out()
    assert len(held) >= 60
    assert len({fault.architecture for fault in held}) >= 3
    assert 4 * sum(fault.code is None for fault in held) >= len(held)


@pytest.mark.parametrize("name", architectures())
def test_without_a_fault(name: str):
    result = climb(architectures()[name]())
    assert result.verdict == SAME, trouble(result)
    assert result.moved == result.leaves > 0


@pytest.mark.parametrize("name", equivalent())
def test_a_change_that_nobody_can_see(name: str):
    twin, derivation = equivalent()[name]
    result = climb(twin())
    assert result.verdict == SAME, (derivation, trouble(result))


@pytest.mark.parametrize("fault", [FAULTS[i] for i in sorted(DRAWN)], ids=lambda f: f.name)
def test_a_fault(fault):
    """Detected; and its place and cause are what the kill matrix says they are."""
    line = row(fault, run(fault))
    assert line["verdict"] == DIVERGED
    assert line == matrix()[fault.name], "make faults"


def test_the_kill_matrix_is_of_this_corpus():
    lines = matrix()
    assert list(lines) == [fault.name for fault in FAULTS]
    assert all(line["verdict"] == DIVERGED for line in lines.values())
    for column, least in (("origin_right", 0.98), ("cause_right", 0.85)):
        right = sum(line[column] == "yes" for line in lines.values())
        assert right >= least * len(lines), (column, right)


@pytest.fixture(scope="module")
def gelu():
    fault = next(fault for fault in FAULTS if fault.name == "mlp/gelu in tanh form")
    return fault, run(fault)


def test_wrong_expectations_are_seen(gelu):
    """The judge can fail, in each of its three verdicts alone."""
    fault, found = gelu
    assert judge(fault, found) == ("forward", True, True, True)
    for change, verdict in (
        ({"stage": "gradients"}, (False, True, True)),
        ({"origin": "fc1"}, (True, False, True)),
        ({"origin": ("fc1", "act")}, (True, False, True)),
        ({"origin": OPTIMIZER}, (True, False, True)),
        ({"code": "ACT-02"}, (True, True, False)),
        ({"code": None}, (True, True, False)),
    ):
        assert judge(dataclasses.replace(fault, **change), found) == ("forward", *verdict), change


def test_a_cause_that_is_not_there_is_seen(gelu):
    fault, found = gelu
    without = dataclasses.replace(found, cause=None)
    assert judge(fault, without) == ("forward", True, True, False)
    assert judge(dataclasses.replace(fault, code=None), without) == ("forward", True, True, True)
    nowhere = dataclasses.replace(without, origin=None)
    assert judge(dataclasses.replace(fault, code=None), nowhere) == ("forward", True, False, False)


def test_a_fault_that_does_nothing_is_not_detected():
    fault = dataclasses.replace(FAULTS[0], twin=architectures()[FAULTS[0].architecture])
    found = run(fault)
    assert judge(fault, found) == ("", False, False, False)


def test_the_matrix(gelu):
    fault, found = gelu
    lines = [row(fault, found), row(dataclasses.replace(fault, code=None), found)]

    def broken():
        raise KeyError("no twin")

    lines.append(tried(dataclasses.replace(fault, twin=broken)))
    assert all(list(line) == HEADER for line in lines)
    assert lines[2]["verdict"] == "KeyError"
    assert summary(lines) == (
        "detected 2 of 3 (66.7 %), origins right 2 of 3 (66.7 %), causes right 1 of 3 (33.3 %),"
        " 1 outside the catalogue"
    )
