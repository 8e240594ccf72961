"""What a check prints of a twin, line by line."""

import pytest

from tests.report.samples import REPORTS, SKIPPED, UNSURE, cell, diverged, said, twin


def squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_what_is_said_of_a_twin_that_is_the_same():
    assert squeezed(said(twin(), skipped=SKIPPED)) == [
        "diptych 0.1.0 jax 0.10.2 flax 0.12.8 torch 2.13.0 cpu seed 0 matmul highest",
        "cnn/lenet:LeNet jaxnn.cnn.lenet <-> torchref.cnn.lenet",
        "stage compared float64 worst limit float32 worst/allowed verdict",
        "weights 4 tensors 0 0 - SAME",
        "forward 3 layers, 2 modes 2.7e-15 1e-09 0.4 SAME",
        "gradients 4 + 1 + 3 tensors 2.7e-15 1e-09 0.4 SAME",
        "step 4 params, 8 states 2.7e-15 1e-09 0.4 SAME adam",
        "trajectory 10 steps 2.7e-15 1e-09 - SAME",
        "coverage 4/4 leaves moved the loss; 2 buffers compared; 0 skipped",
        "skipped torch:cuda: torch finds no CUDA device",
        "SAME 1 twin, 5 stages, 11.8 s",
    ]


def test_each_type_that_numerics_were_judged_in_has_a_column():
    entry = twin()
    for stage in entry["stages"][1:4]:
        stage["numerics"] = {"float32": 0.41, "bfloat16": 1.73}
    for stage in (entry["stages"][0], entry["stages"][4]):
        stage["numerics"] = {}
    text = said(entry).splitlines()[2:5]
    assert squeezed("\n".join(text)) == [
        "stage compared float64 worst limit float32 worst/allowed bfloat16 worst/allowed verdict",
        "weights 4 tensors 0 0 - - SAME",
        "forward 3 layers, 2 modes 2.7e-15 1e-09 0.4 1.7 SAME",
    ]


def test_what_is_said_of_a_twin_that_diverged():
    cause = {"code": "ACT-01", "title": "GELU variant", "confirmed": True, "after": 4.4e-16}
    cause |= {"torch_source": "a.py:1", "jax_source": "b.py:2", "fix": "jax.nn.gelu(x, False)"}
    text = squeezed(said(twin("other"), diverged(layers=30, cause=cause), UNSURE))
    at = text.index("origin layer 2 of 30 differs by 2.6e-04, the first in order of execution")
    size = "2.6e-04 of 1.0e-09 allowed; worst at [0]: torch 1, jax 2"
    assert text[at + 1 : at + 9] == [
        "torch layer0.1.conv1 torchref/cnn/net.py:1",
        "jax layer0/1/conv1 jaxnn/cnn/net.py:3",
        "cause ACT-01 GELU variant, confirmed: 2.6e-04 -> 4.4e-16 when changed",
        "torch a.py:1",
        "jax b.py:2",
        "fix jax.nn.gelu(x, False)",
        f"forward eval/layer/layer0.1.conv1: {size}",
        "eval/out: 1.6e-04 of 1.0e-09 allowed; worst at [0]: torch 1, jax 2",
    ]
    assert "and 16 more" in text
    assert text[-3:] == [
        "DIVERGED cnn/lenet:LeNet forward",
        "INCONCLUSIVE unsure trajectory",
        "DIVERGED 3 twins, 15 stages, 1 diverged, 1 inconclusive, 11.8 s",
    ]


def test_what_is_said_of_a_function():
    text = squeezed(said(cell()))
    assert "weights - - - - n/a" in text
    assert "coverage no parameters; 2 buffers compared; 0 skipped" in text
    assert text[-1] == "SAME 1 twin, 2 stages, 3 n/a, 11.8 s"


@pytest.mark.parametrize("name", REPORTS)
def test_terminal_lines_are_plain_when_piped(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = said(*REPORTS[name].get("twins", ()))
    assert all(c.isprintable() or c == "\n" for c in text)
    assert text.endswith("\n")
    assert [line for line in text.splitlines() if line != line.rstrip()] == []
    monkeypatch.setenv("COLUMNS", "200")
    assert said(*REPORTS[name].get("twins", ())) == text
