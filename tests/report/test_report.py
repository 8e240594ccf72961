"""A report's first line is complete in itself."""

import pytest

from compare.report import html
from compare.report.report import Report
from tests.report.samples import UNSURE, diverged, odd, twin


def test_a_failure_is_complete_in_one_line():
    short, long = diverged(), diverged("n" * 300)
    del short["stages"][1]["findings"][0]
    assert Report([twin(), short]).first_line() == (
        "DIVERGED cnn/lenet:LeNet forward: eval/layer/layer0.1.conv1: 2.6e-04 of 1.0e-09 allowed; "
        "worst at [0]: torch 1, jax 2"
    )
    for entry in (short, long, odd(), UNSURE):
        line = Report([twin(), entry]).first_line()
        assert len(line) <= 120
        assert line.startswith(entry["verdict"])
        assert "\n" not in line
    with pytest.raises(AssertionError, match=r"^DIVERGED"):
        Report([short]).raise_for_verdict()
    assert Report([short], run={}).to_html() == html.render(Report([short], run={}).to_dict())
