"""Captures that travel: of two machines that know nothing of one another."""

from compare.ladder.captures import capture, diff
from compare.ladder.pair import Pair
from compare.ladder.verdict import DIVERGED, SAME
from tests.dropouts import net, none


def test_captures():
    """Two machines, that know nothing of one another, give the same masks."""
    ours, theirs, faulty = (
        capture(Pair(net(**options), steps=2), backend, "float64", lambda doing: None)
        for backend, options in (("torch:cpu", {}), ("xla:cpu", {}), ("xla:cpu", {"two": none}))
    )
    assert diff(ours, theirs).verdict == SAME
    assert diff(ours, faulty).verdict == DIVERGED
