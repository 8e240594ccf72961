"""Figures as people read them."""

import pytest

from compare.report import figures


@pytest.mark.parametrize(
    ("value", "difference", "limit", "ratio"),
    [
        (None, "-", "-", "-"),
        (0.0, "0", "0", "0"),
        (2.7e-15, "2.7e-15", "2.7e-15", "0.0"),
        (1e-9, "1.0e-09", "1e-09", "0.0"),
        (0.41, "4.1e-01", "4.1e-01", "0.4"),
        (0.999, "1.0e+00", "1e+00", "0.99"),
        (1.001, "1.0e+00", "1e+00", "1.01"),
        (2213.0, "2.2e+03", "2.2e+03", "2.2e+03"),
        ("inf", "inf", "inf", "inf"),
        ("nan", "nan", "nan", "nan"),
        ("-inf", "-inf", "-inf", "-inf"),
        ("?", "-", "-", "-"),
        (True, "-", "-", "-"),
    ],
)
def test_figures(value, difference, limit, ratio):
    assert figures.difference(value) == difference
    assert figures.limit(value) == limit
    assert figures.ratio(value) == ratio


def test_what_has_no_counterpart():
    row = {"torch": "a", "torch_kind": "Linear", "jax": "b", "jax_kind": "Dense"}
    rows = [row, row | {"jax": ""}, row | {"torch": "", "jax_kind": ""}]
    found = {"rows": rows, "rename": "rename={}"}
    lines = ["torch a (Linear) <-> jax b (Dense)", "torch a (Linear)", "jax b", "rename={}"]
    assert figures.unpaired(found) == lines
    assert figures.unpaired(found, most=1) == [lines[0], "and 2 more", "rename={}"]
    assert figures.unpaired({}) == []
