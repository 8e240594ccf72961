"""PyTorch's model: its tensors by name, and which names are one tensor."""

from torch import nn

from compare.capture.torch_model import specification


def test_storages_that_are_shared_are_aliases_too():
    a, b = nn.Linear(3, 4), nn.Linear(3, 4)
    b.weight.data = a.weight.data
    leaves, aliases = specification(nn.ModuleDict({"a": a, "b": b}))
    assert aliases == {"b.weight": "a.weight"}
    assert "b.weight" not in leaves
