"""A user's folder, in which every command is called."""

import json
import os
import pickle
import sys

import numpy as np
import pytest

from compare.weights import flax_files, torch_files

PAIRS = """
import flax.linen as linen
import jax.numpy as jnp
import torch
from torch import nn

from compare import Array, Twin


class Norm(nn.Module):
    def __init__(self, fill=None):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        if fill is not None:
            nn.init.constant_(self.norm.weight, fill)

    def forward(self, x):
        return self.norm(x)


class Flax(linen.Module):
    epsilon: float = 1e-5

    @linen.compact
    def __call__(self, x):
        return linen.LayerNorm(epsilon=self.epsilon, name="norm")(x)


def pair(torch=Norm, jax=Flax, **more):
    return Twin(torch=torch, jax=jax, inputs={"x": Array((3, 6))}, **more)


def fails(x):
    raise RuntimeError("this side has had enough\\nand says so at length")


right = pair()
slipped = pair(jax=lambda: Flax(1e-6))
hollow = pair(torch=lambda: Norm(float("nan")))
torch_fails = pair(torch=fails, jax=lambda x: x)
jax_fails = pair(torch=lambda x: x, jax=fails)
function = lambda: pair()
square = nn.Linear(6, 6)
kernel = jnp.asarray(square.weight.detach().numpy())
fc = {"kernel": kernel.T, "bias": jnp.asarray(square.bias.detach().numpy())}


class Square(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = square

    def forward(self, x):
        return self.fc(x)


class Dense(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(6, name="fc")(x)


converted = pair(Square(), Dense(), variables={"params": {"fc": fc}})
untransposed = pair(Square(), Dense(), variables={"params": {"fc": fc | {"kernel": kernel}}})


class Sides(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.left(x) * self.right(x).sin()


class FlaxSides(linen.Module):
    @linen.compact
    def __call__(self, x):
        left, right = linen.Dense(6, name="l")(x), linen.Dense(6, name="r")(x)
        return left * jnp.sin(right)


sides = pair(Sides, FlaxSides)
renamed = pair(Sides, FlaxSides, rename={"left": "l", "right": "r"})
halved = pair(Square(), Dense(), variables={"params": {"fc": {"kernel": kernel.T}}})
one_sided = Twin(torch=Norm, inputs={"x": Array((3, 6))})
number = 3


def makes_none():
    return None


def makes_error():
    return 1 / 0
"""

MODULES = {
    "porter_pairs.py": PAIRS,
    "porter_raises.py": "wrong = 1\n\nraise ValueError('it fails')\n",
    "porter_syntax.py": "def encoder(:\n",
    "porter_exits.py": "import sys\n\nsys.exit(0)\n",
    "porter_needs.py": "import porter_needs_this\n",
    "porter_empty.py": "",
}


class Evil:
    def __reduce__(self):
        return os.system, ("touch stolen",)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """What a user may have lying about, whole and broken; one folder: modules are imported once."""
    folder = tmp_path_factory.mktemp("user")
    for name, text in MODULES.items():
        (folder / name).write_text(text)
    (folder / "folder").mkdir()
    (folder / "text.txt").write_text("no checkpoint, no report\n")
    (folder / "notes.json").write_text("[1, 2, 3]\n")
    (folder / "broken.json").write_text('{"schema": 1, "verdict"')
    whole = {
        "schema": 1,
        "verdict": "SAME",
        "twins": [],
        "skipped": [],
        "environment": {},
        "run": {},
    }
    (folder / "schema.json").write_text(json.dumps(whole | {"schema": 99}))
    (folder / "verdict.json").write_text(json.dumps(whole | {"verdict": ["SAME"]}))
    (folder / "parts.json").write_text(json.dumps({"schema": 1, "verdict": "SAME"}))
    (folder / "entry.json").write_text(json.dumps(whole | {"twins": [{"name": 3}]}))
    (folder / "lie.json").write_text(json.dumps(whole))
    shapes = {"0.weight": (32, 64), "0.bias": 32, "2.weight": (16, 32), "2.bias": 16}
    shapes |= {"4.weight": (10, 16), "4.bias": 10}
    good = {f"layers.{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}
    torch_files.write_torch(folder / "good.pt", good)
    torch_files.write_torch(folder / "shape.pt", good | {"layers.4.bias": np.ones(11, np.float32)})
    torch_files.write_torch(folder / "more.pt", good | {"layers.6.bias": np.ones(1, np.float32)})
    torch_files.write_torch(folder / "less.pt", {"layers.0.weight": good["layers.0.weight"]})
    flax_files.write_flax(folder / "other.msgpack", {"params": {"a": {"kernel": np.ones(2)}}})
    (folder / "empty.pt").write_bytes(b"")
    (folder / "cut.pt").write_bytes((folder / "good.pt").read_bytes()[:900])
    (folder / "cut.msgpack").write_bytes((folder / "other.msgpack").read_bytes()[:9])
    (folder / "evil.pt").write_bytes(pickle.dumps(Evil()))
    (folder / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    """Every test runs in that folder, and leaves the path of imports as it was."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
