"""Source lines are the user's, whatever their folders are called."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from compare import find
from compare.discover import find as discovered

PORT = """
import flax.linen as linen
import torch
from compare import Array, Twin


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(6)

    def forward(self, x):
        return self.norm(x)


class Flax(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.LayerNorm(epsilon=1e-3, name="norm")(x)


twin = Twin(torch=Net, jax=Flax, inputs={"x": Array((3, 6))})
"""


@pytest.mark.parametrize("folder", ["torch", "jax", "flax", "compare/capture"])
def test_a_folder_that_is_called_like_a_framework(folder: str, tmp_path: Path, monkeypatch):
    home = tmp_path / folder
    home.mkdir(parents=True)
    name = f"port_in_{folder.replace('/', '_')}"
    (home / f"{name}.py").write_text(textwrap.dedent(PORT))
    monkeypatch.syspath_prepend(home)
    monkeypatch.chdir(tmp_path)
    origin = find(*discovered(f"{name}:twin")).origin
    assert origin is not None
    assert origin["torch_source"] == f"{folder}/{name}.py:13"
    assert origin["jax_source"] == f"{folder}/{name}.py:19"
