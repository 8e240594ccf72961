"""A table that one side rounds to float32 is no difference; a wrong table is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as fnn
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from compare import Array, Twin
from compare.capture.tables import Value, unrounded
from tests.toys import climb, trouble

POWERS = np.arange(0, 8, 2) / 8
ROUNDED = (10000.0**-POWERS).astype(np.float32)


def torch_formula(theta: float = 10000.0) -> torch.Tensor:
    return 1.0 / theta ** (torch.arange(0, 8, 2, dtype=torch.float32) / 8)


class Held(nn.Module):
    """A table of float32, in a buffer or a plain attribute, and a layer norm."""

    def __init__(self, table: torch.Tensor, buffer: bool = True):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        if buffer:
            self.register_buffer("table", table, persistent=False)
        else:
            self.table = table

    def forward(self, x):
        return self.norm(x) * torch.cos(torch.arange(6, dtype=x.dtype)[:, None] * self.table)


class Computed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        table = torch_formula()
        return self.norm(x) * torch.cos(torch.arange(6, dtype=x.dtype)[:, None] * table)


class Jax(fnn.Module):
    table: Callable
    eps: float = 1e-5

    @fnn.compact
    def __call__(self, x):
        table, x = self.table(), fnn.LayerNorm(epsilon=self.eps, name="norm")(x)
        return x * jnp.cos(jnp.arange(6).astype(x.dtype)[:, None] * table)


def jax_formula(theta: float = 10000.0) -> Any:
    return 1.0 / theta ** (jnp.arange(0, 8, 2, dtype=jnp.float32) / 8)


def jax_held() -> Any:
    return ROUNDED


def twin(torch_side: Any, jax_side: Any) -> Twin:
    return Twin(torch=torch_side, jax=jax_side, inputs={"x": Array((2, 6, 4))})


RIGHT = {
    "a buffer": (lambda: Held(torch_formula()), Jax(jax_formula), "torch table: 4 numbers"),
    "an attribute": (lambda: Held(torch_formula(), False), Jax(jax_formula), "torch table: 4"),
    "a literal of JAX's": (Computed, Jax(jax_held), "jax tests/ladder/test_tables.py:"),
    "a literal that JAX computes with in float32": (
        Computed,
        Jax(lambda: jnp.sqrt(ROUNDED) ** 2),
        "jax tests/ladder/test_tables.py:",
    ),
    "both hold one, of a float64 formula and of a float32 one": (
        lambda: Held(torch.tensor(np.nextafter(ROUNDED, np.float32(1)))),
        Jax(jax_held),
        "torch table: 4 numbers",
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_table_rounded_to_float32_is_the_same_and_listed(name: str):
    ours, theirs, line = RIGHT[name]
    result = climb(twin(ours, theirs), steps=2)
    assert result.verdict == "SAME", trouble(result)
    assert len(result.rounded) == 1
    assert result.rounded[0].startswith(line)
    assert "off by" in result.rounded[0]


def wrong(index: int, factor: float) -> torch.Tensor:
    table = torch_formula()
    table[index] *= factor
    return table


FAULTS = {
    "a number wrong by a thousandth": (lambda: Held(wrong(1, 1.001)), Jax(jax_formula)),
    "the smallest number wrong by a hundred thousandth": (
        lambda: Held(wrong(3, 1.00001)),
        Jax(jax_formula),
    ),
    "another base": (lambda: Held(torch_formula(10001.0)), Jax(jax_formula)),
    "another base on JAX's side": (Computed, Jax(lambda: jax_formula(10001.0))),
    "a literal in another order": (Computed, Jax(lambda: ROUNDED[::-1].copy())),
    "another eps beside a right table": (
        lambda: Held(torch_formula()),
        Jax(jax_formula, eps=1e-6),
    ),
    "another eps beside a right literal": (Computed, Jax(jax_held, eps=1e-6)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_table_or_another_fault_beside_one_is_found(name: str):
    result = climb(twin(*FAULTS[name]), steps=2)
    assert result.stages["forward"].verdict == "DIVERGED"


def test_where_both_sides_have_the_same_numbers_nothing_is_listed():
    result = climb(twin(lambda: Held(torch.tensor(ROUNDED)), Jax(jax_held)), steps=2)
    assert result.verdict == "SAME", trouble(result)
    assert not result.rounded


def test_the_rows_of_a_longer_table_are_held_to_those_that_are_computed():
    angles = np.arange(32)[:, None] * 10000.0**-POWERS
    in_float32 = np.cos(angles.astype(np.float32)).astype(np.float64)
    exact, held = np.cos(angles)[:8], Value("cos", in_float32)
    (table,) = unrounded([held], [Value("f.py:1", exact)], [in_float32[:8]])
    assert (table.exact[:8] == exact).all()
    assert (table.exact[8:] == in_float32[8:]).all()
    moved = Value("cos", in_float32 + 1e-4 * np.eye(32, 4))
    assert not unrounded([moved], [Value("f.py:1", exact)], [in_float32[:8]])
