"""Query, key and value, split or packed: converted, they are the same network."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from compare import Array, Twin, check
from compare.ladder.weight_map import weight_map
from compare.weights import flax_files, torch_files
from compare.weights.build import build
from compare.weights.convert import convert
from compare.weights.link import Leaf

WIDE, HEADS = 8, 2
QKV = ("q_proj", "k_proj", "v_proj")
NAMED = ("query", "key", "value")


class Conv1D(nn.Module):
    """The linear layer of transformers' GPT-2."""

    def __init__(self, out: int, wide: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(wide, out))
        self.bias = nn.Parameter(torch.randn(out))

    def forward(self, x):
        return x @ self.weight + self.bias


class Attention(nn.Module):
    def __init__(self, names: tuple[str, ...], out: str, conv: bool = False):
        super().__init__()
        self.names, self.last = names, out
        for name, size in [*((n, 3 * WIDE // len(names)) for n in names), (out, WIDE)]:
            setattr(self, name, Conv1D(size, WIDE) if conv else nn.Linear(WIDE, size))

    def forward(self, x):
        together = torch.cat([getattr(self, name)(x) for name in self.names], -1)
        parts = together.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = parts
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return getattr(self, self.last)(mixed)


class Torch(nn.Module):
    def __init__(self, *attention: Any):
        super().__init__()
        self.attn = Attention(*attention)

    def forward(self, x):
        return self.attn(x)


class FlaxAttention(fnn.Module):
    names: tuple[str, ...]
    last: str
    features: tuple[int, ...] = ()

    @fnn.compact
    def __call__(self, x):
        size = self.features or (3 * WIDE // len(self.names),)
        made = [fnn.DenseGeneral(size, name=name)(x) for name in self.names]
        if len(made) == 1 and len(size) > 1:
            axis = 2 + size.index(3)
            q, k, v = jnp.moveaxis(made[0], axis, 0)
        else:
            flat = jnp.concatenate([y.reshape(*x.shape[:2], -1) for y in made], -1)
            q, k, v = jnp.moveaxis(flat.reshape(*x.shape[:2], 3, HEADS, -1), 2, 0)
        mixed = jax.nn.dot_product_attention(q, k, v)
        return fnn.Dense(WIDE, name=self.last)(mixed.reshape(x.shape))


class Flax(fnn.Module):
    attention: Any

    @fnn.compact
    def __call__(self, x):
        return self.attention.copy(name="attn", parent=self)(x)


def pair(ours: tuple, theirs: tuple) -> Twin:
    inputs = {"x": Array((2, 3, WIDE))}
    return Twin(torch=lambda: Torch(*ours), jax=lambda: Flax(FlaxAttention(*theirs)), inputs=inputs)


HEADED = (HEADS, WIDE // HEADS)
PAIRS = {
    "packed, split": pair((("c_attn",), "c_proj"), (QKV, "c_proj")),
    "packed, split by head": pair((("qkv",), "out"), (NAMED, "out", HEADED)),
    "split, packed": pair((QKV, "o_proj"), (("c_attn",), "o_proj")),
    "split, stacked before the heads": pair((NAMED, "out"), (("qkv",), "out", (3, *HEADED))),
    "split, stacked after the heads": pair(
        (NAMED, "out"), (("to_qkv",), "out", (HEADS, 3, WIDE // HEADS))
    ),
    "split under other names": pair((QKV, "out"), (NAMED, "out", HEADED)),
    "packed under another name": pair((("c_attn",), "out"), (("qkv",), "out")),
    "GPT-2's matrices": pair((("c_attn",), "c_proj", True), (NAMED, "c_proj", HEADED)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_projections_are_the_same_network_and_return(name: str, tmp_path):
    twin = PAIRS[name]
    torch.manual_seed(0)
    model = twin.build("torch")
    torch.save(model.state_dict(), tmp_path / "one.pt")
    there = convert(partial(weight_map, twin), tmp_path / "one.pt", tmp_path / "two.msgpack")
    assert there.changed == 0
    assert any("diptych check proves it" in n for n in there.notes) == ("under" not in name)
    convert(partial(weight_map, twin), tmp_path / "two.msgpack", tmp_path / "three.pt")
    one, back = (torch_files.read_torch(tmp_path / f) for f in ("one.pt", "three.pt"))
    assert list(back) == list(one)
    assert all(one[key].tobytes() == back[key].tobytes() for key in one)

    x = np.random.default_rng(0).standard_normal((2, 3, WIDE), np.float32)
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    run = lambda v: np.asarray(twin.build("jax").apply(v, x))  # noqa: E731
    variables = flax_files.read_flax(tmp_path / "two.msgpack")
    np.testing.assert_allclose(run(variables), wanted, atol=1e-5)
    attention = variables["params"]["attn"]
    if len(attention) == 4:  # exchanged, it is another network
        first, second = [key for key in attention if key[0] in "qk"]
        attention[first], attention[second] = attention[second], attention[first]
    else:
        packed = next(key for key in attention if "out" not in key and "proj" not in key)
        kernel = attention[packed]["kernel"]
        axis = kernel.shape.index(3) if 3 in kernel.shape else 1
        attention[packed]["kernel"] = np.roll(kernel, kernel.shape[axis] // 3, axis)
    assert np.abs(run(variables) - wanted).max() > 1e-3


@pytest.mark.parametrize(("order", "verdict"), [(QKV, "SAME"), (QKV[1::-1] + QKV[2:], "DIVERGED")])
def test_check_proves_the_order_of_the_rows(order: tuple[str, ...], verdict: str):
    """A port that takes the rows in another order than the name says."""
    twin = pair((("c_attn",), "c_proj"), (order, "c_proj"))
    assert check(twin, stages=("forward",)).verdict == verdict


def mapped(ours: dict[str, tuple], theirs: dict[str, tuple]):
    leaves = {name: Leaf(shape, "float32", "Linear") for name, shape in ours.items()}
    return build(leaves, {("params", *n.split("/")): s for n, s in theirs.items()}, {})


def test_heads_that_share_keys_and_values():
    """Grouped queries: the widths are those of the leaves."""
    theirs = {"a/q/kernel": (8, 8), "a/k/kernel": (8, 4), "a/v/kernel": (8, 4)}
    found = mapped({"a.qkv_proj.weight": (16, 8)}, theirs)
    assert not found.differences
    assert [link.rows for link in found.links] == [(0, 8), (8, 12), (12, 16)]


def test_the_order_is_the_names():
    theirs = {f"a/{name}/kernel": (8, 8) for name in "qkv"}
    found = mapped({"a.kqv.weight": (24, 8)}, theirs)
    assert [link.jax[-2] for link in found.links] == ["k", "q", "v"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        # three side by side in each head, as a name says
        ({"a.query_key_value.weight": (24, 8)}, {f"a/{n}/kernel": (8, 8) for n in "qkv"}),
        # three heads: which axis is which is open
        ({f"a.{n}.weight": (9, 9) for n in "qkv"}, {"a/qkv/kernel": (9, 3, 3, 3)}),
        # rows that nothing takes
        ({"a.qkv.weight": (25, 8)}, {f"a/{n}/kernel": (8, 8) for n in "qkv"}),
    ],
)
def test_what_is_open_is_not_guessed(ours: dict, theirs: dict):
    assert mapped(ours, theirs).differences
