"""No hidden float32: what names it is lifted to float64 and listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Twin
from compare.capture.lifting import lifted
from tests.toys import climb, trouble


def wide(torch_cast: Callable, jax_cast: Callable, act: Any = (torch.tanh, jnp.tanh), **dense: Any):
    """A pair that casts between two layers."""

    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.b(act[0](torch_cast(self.a(x))).to(self.b.weight.dtype))

    class Jax(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            x = act[1](jax_cast(fnn.Dense(4, name="a", **dense)(x)))
            return fnn.Dense(4, name="b", **dense)(x)

    return Torch, Jax


def keep(x):
    return x


def down(x):
    return x.astype(jnp.float32)


def up_and_down(f: Callable) -> Callable:
    """What an attention or a norm does: computes in float32 whatever it is given."""
    return lambda x: f(x.astype(jnp.float32)).astype(x.dtype)


@jax.custom_vjp
def own_rule(x):
    return jnp.tanh(x.astype(jnp.float32)).astype(x.dtype)


own_rule.defvjp(
    lambda x: (own_rule(x), x),
    lambda x, g: (((1 - jnp.tanh(x.astype(jnp.float32)) ** 2) * g).astype(x.dtype),),
)

TENTHS = (0.1, 0.2, 0.3, 0.4)

FLOAT32 = {
    "torch .float()": wide(lambda x: x.float(), keep),
    "torch .to(dtype)": wide(lambda x: x.to(torch.float32), keep),
    "torch .to(dtype=)": wide(lambda x: x.to(dtype=torch.float32), keep),
    "torch .type()": wide(lambda x: x.type(torch.float32), keep),
    "torch softmax(dtype=)": wide(
        lambda x: torch.softmax(x, -1, dtype=torch.float32), lambda x: jax.nn.softmax(x, -1)
    ),
    "jax astype": wide(keep, down),
    "jax astype and back": wide(keep, keep, (torch.tanh, up_and_down(jnp.tanh))),
    "both": wide(lambda x: x.float(), down),
    "Dense(dtype=float32)": wide(keep, keep, dtype=jnp.float32),
    "Dense(dtype=float32), a scalar": wide(
        keep, keep, (lambda x: 0.1 * x, lambda x: 0.1 * x), dtype=jnp.float32
    ),
    "Dense(dtype=float32), gelu": wide(
        keep,
        keep,
        (F.gelu, exact_gelu := lambda x: jax.nn.gelu(x, approximate=False)),
        dtype=jnp.float32,
    ),
    "leaky_relu of float32": wide(keep, down, (F.leaky_relu, jax.nn.leaky_relu)),
    "zeros of float32": wide(keep, lambda x: x + jnp.zeros(4, jnp.float32)),
    "arange of float32": wide(
        lambda x: x * torch.arange(4), lambda x: x * jnp.arange(4, dtype=jnp.float32)
    ),
    "arange of float32, in steps": wide(
        lambda x: x * torch.cos(0.1 ** torch.arange(0, 2, 0.5, dtype=x.dtype)),
        lambda x: x * jnp.cos(0.1 ** jnp.arange(0, 2, 0.5, dtype=jnp.float32)),
    ),
    "linspace of float32": wide(
        lambda x: x * torch.linspace(0, 1, 4, dtype=x.dtype),
        lambda x: x * jnp.linspace(0, 1, 4, dtype=jnp.float32),
    ),
    "iota of float32": wide(
        lambda x: x * torch.arange(4), lambda x: x * jax.lax.iota(jnp.float32, 4)
    ),
    "a literal of float32": wide(
        lambda x: x * torch.tensor(TENTHS, dtype=x.dtype),
        lambda x: x * jnp.array(TENTHS, jnp.float32),
    ),
    "a scalar of float32": wide(lambda x: x * 0.1, lambda x: x * jnp.float32(0.1)),
    "eye of float32": wide(
        lambda x: x @ torch.eye(4, dtype=x.dtype), lambda x: x @ jnp.eye(4, dtype=jnp.float32)
    ),
    "full of float32": wide(lambda x: x + 0.1, lambda x: x + jnp.full(4, 0.1, jnp.float32)),
    "mean in float32": wide(
        lambda x: x - x.mean(-1, keepdim=True),
        lambda x: x - jnp.mean(x, -1, keepdims=True, dtype=jnp.float32),
    ),
    "matmul into float32": wide(
        lambda x: x @ x.T @ x,
        lambda x: jnp.matmul(x @ x.T, x, preferred_element_type=jnp.float32),
    ),
    "cond of float32": wide(
        keep, down, (torch.tanh, lambda x: jax.lax.cond(x.sum() > 1e9, jnp.sin, jnp.tanh, x))
    ),
    "while of float32": wide(
        keep,
        down,
        (
            lambda x: torch.tanh(torch.tanh(x)),
            lambda x: jax.lax.fori_loop(0, 2, lambda _, x: jnp.tanh(x), x),
        ),
    ),
    "custom_vjp that casts": wide(keep, keep, (torch.tanh, own_rule)),
}


@pytest.mark.parametrize("name", FLOAT32)
def test_float32_is_lifted_and_listed(name: str):
    ours, theirs = FLOAT32[name]
    result = climb(Twin(torch=ours, jax=theirs, inputs={"x": Array((2, 3))}, name=name), steps=2)
    assert result.verdict == "SAME", trouble(result)
    wanted = {"both": {"torch", "jax"}}.get(name, {"torch" if name.startswith("torch") else "jax"})
    assert {text.partition(" ")[0] for text in result.lifted} == wanted
    assert all(f"{Path(__file__).name}:" in text and "float32" in text for text in result.lifted)


@pytest.mark.parametrize("wrong", [(0.1, 0.2, 0.3, 0.4000004), (0.1, 0.2, 0.4, 0.3)])
def test_a_wrong_literal_of_float32_is_found(wrong: tuple):
    ours, theirs = wide(
        lambda x: x * torch.tensor(TENTHS, dtype=x.dtype),
        lambda x: x * jnp.array(wrong, jnp.float32),
    )
    result = climb(Twin(torch=ours, jax=theirs, inputs={"x": Array((2, 3))}), steps=2)
    assert result.stages["forward"].verdict == "DIVERGED"


def test_bits_that_are_read_as_float32_stay_so():
    found: dict[str, None] = {}
    with jax.enable_x64(True), lifted(found):
        bits = jnp.full(2, 0x3F800000, jnp.int32)
        read = bits.view(jnp.float32), jax.lax.bitcast_convert_type(bits, jnp.float32)
    assert [x.dtype for x in read] == [jnp.float32] * 2
    assert all((x == 1).all() for x in read)
    assert not found


def test_numbers_that_a_model_draws_in_float32_are_no_crash():
    def jax_side(x):
        return x + 0.1 * jax.random.normal(jax.random.key(0), x.shape, jnp.float32)

    twin = Twin(torch=lambda x: x, jax=jax_side, inputs={"x": Array((2, 3))})
    assert climb(twin, steps=2).verdict == "DIVERGED"


def test_the_carry_of_flax_recurrences_is_lifted():
    class Jax(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            return fnn.RNN(fnn.LSTMCell(4, name="cell"))(x)

    twin = Twin(torch=TorchLSTM, jax=Jax, inputs={"x": Array((2, 3, 3))}, name="lstm")
    result = climb(twin, steps=2)
    assert result.verdict == "SAME", trouble(result)


class TorchLSTM(nn.Module):
    """An LSTM by hand with one bias, as Flax has it."""

    def __init__(self):
        super().__init__()
        ours = {f"i{gate}": nn.Linear(3, 4, bias=False) for gate in "ifgo"}
        self.cell = nn.ModuleDict(ours | {f"h{gate}": nn.Linear(4, 4) for gate in "ifgo"})

    def forward(self, x):
        cell, out = self.cell, []
        h = c = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            i, f, g, o = (cell[f"i{n}"](x[:, t]) + cell[f"h{n}"](h) for n in "ifgo")
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            out.append(h)
        return torch.stack(out, 1)
