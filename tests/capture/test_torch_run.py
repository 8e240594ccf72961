"""PyTorch's side of a capture: compiled, too."""

import pytest

from compare.api import check
from compare.discover import find


@pytest.mark.parametrize("name", ["foundations/perceptron:rosenblatt", "foundations/mlp:MLP"])
def test_compiled_by_torch(name):
    """One that is a graph, and one that steers Python by its values, which no graph can."""
    report = check(*find(name), steps=1, backends=["torch:cpu+compile"])
    assert report.verdict == "SAME"
    assert report.twins[0]["coverage"]["skipped"] == []
