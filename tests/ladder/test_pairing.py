"""The pairing of recorded places: what is stacked in a scan."""

from __future__ import annotations

import pytest

from compare.capture.taps import Tap
from compare.ladder.pairing import match


@pytest.mark.parametrize("calls", [1, 2])
def test_functions_in_a_scan_are_stacked_only_if_it_is_known_which_is_which(calls: int):
    """Two sigmoids in a step: PyTorch's calls alternate, and JAX has each of its own stacked."""

    def info(count: int, steps: int = 0) -> dict[str, Tap]:
        keys = ["sigmoid", *(f"sigmoid#{i}" for i in range(1, count))]
        return {key: Tap("", "sigmoid", function=True, steps=steps) for key in keys}

    found = match(info(3 * calls), info(calls, steps=3), {})
    assert found.stacked == ({"sigmoid": [*info(3)]} if calls == 1 else {})
    assert set(found.pairs) == set(found.stacked)
