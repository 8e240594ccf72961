"""The operations of one pass, on either side: what they read and give, and where they stand."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Twin
from compare.capture.fingerprint import alike, fingerprint
from compare.capture.operations import Operations
from compare.ladder.pair import Pair
from tests.toys import climb


def pair(ours: Any, theirs: Any, *shape: int, **fields: Any) -> Pair:
    return Pair(Twin(torch=ours, jax=theirs, inputs={"x": Array(shape)}, **fields), steps=1)


def torch_side(function: Any, *shape: int) -> tuple[Operations, np.ndarray]:
    made = pair(function, lambda x: x, *shape)
    return made.run("torch:cpu").operations(None), made.given.batch["x"].astype(np.float64)


def jax_side(function: Callable, *shape: int) -> tuple[Operations, np.ndarray]:
    made = pair(lambda x: x, function, *shape)
    return made.run("xla:cpu").operations(None), made.given.batch["x"].astype(np.float64)


def holds(of: Operations, value: int, wanted: Any) -> bool:
    print_ = of.prints[value]
    return print_ is not None and alike(print_, fingerprint(np.asarray(wanted)))


def sources(of: Operations) -> list[str]:
    lines = (op.source.rpartition(":") for op in of.operations if op.source)
    return [linecache.getline(name, int(number)).strip() for name, _, number in lines]


def depends_on(of: Operations, value: int) -> set[int]:
    """What is given that a value is made of."""
    waiting, found = [value], set()
    while waiting:
        value = waiting.pop()
        found |= {value} & set(of.given)
        number = of.producers.get(value)
        waiting += () if number is None else of.operations[number].reads
    return found


def written(x):
    buffer = torch.zeros(3, 4, dtype=x.dtype)
    for row in range(3):
        buffer[row] = x[row].sin()
    x = x.clone()
    x[:, 0].mul_(2.0)
    return buffer, x, x.t().contiguous()


def test_what_is_written_through_a_view_is_read_as_it_is():
    of, x = torch_side(written, 3, 4)
    doubled = x * np.array([2.0, 1, 1, 1])
    assert holds(of, of.ends["out.0"], np.sin(x))
    assert holds(of, of.ends["out.1"], doubled)
    assert holds(of, of.ends["out.2"], doubled)
    assert all(depends_on(of, value) == set(of.given) for value in of.ends.values())


def test_an_address_that_is_given_again_is_another_value():
    def chain(x):
        for _ in range(30):  # each frees the one before
            x = torch.cos(x) + 0.1
        return x

    of, x = torch_side(chain, 3, 4)
    for op in of.operations:
        x = np.cos(x) if op.name == "cos" else x + 0.1
        assert holds(of, op.gives[0], x)
    assert len(of.operations) == 60


class Normed(nn.Module):
    """A layer with running statistics, a function, and glue."""

    def __init__(self):
        super().__init__()
        self.norm, self.inner = nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x):
        return F.gelu(self.inner(self.norm(x))) + 1.0


def test_places_and_weights():
    made = pair(Normed, lambda x: x, 6, 4)
    of = made.run("torch:cpu").operations(made.twin.updates[0])
    places = {op.name: (op.place, op.layer) for op in of.operations}
    assert places["native_batch_norm"] == ("norm", True)
    assert places["addmm"] == ("inner.0", True)
    assert (places["relu"], places["gelu"]) == (("inner.1", True), ("gelu", True))
    ones = [op for op in of.operations if op.name == "add" and not op.layer]
    assert [op.place for op in ones][:1] == [""]
    named = {kind for kind in of.given.values() if kind != "data"}
    assert {"weight/norm.weight", "weight/inner.0.weight"} <= named
    assert "loss" in of.ends


@jax.custom_jvp
def custom(x):
    return jnp.sin(x) * 2.0


custom.defjvps(lambda t, ans, x: t * ans)


def test_functions_are_gone_into():
    @jax.jit
    def called(x):
        return jnp.where(x > 0, x, 0.5 * x)

    def model(x):
        x = jax.checkpoint(called)(custom(x))
        return jax.lax.cond(x.sum() > -1e9, jnp.cos, jnp.tan, x)

    of, x = jax_side(model, 3, 4)
    sine = 2 * np.sin(x)
    kept = np.where(sine > 0, sine, 0.5 * sine)
    for wanted in (np.sin(x), sine, 0.5 * sine, kept, np.cos(kept)):
        assert any(holds(of, value, wanted) for op in of.operations for value in op.gives)
    assert "tan" not in [op.name for op in of.operations]
    assert holds(of, of.ends["out"], np.cos(kept))


def test_a_function_of_the_library_stands_where_it_is_called():
    def model(x):
        first = jax.nn.silu(x)
        return jax.nn.silu(first + 1.0)

    of, _ = jax_side(model, 3, 4)
    lines = sources(of)
    assert "first = jax.nn.silu(x)" in lines
    assert lines[-1] == "return jax.nn.silu(first + 1.0)"


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_step_by_step(reverse: bool):
    def model(x):
        def step(carry, row):
            carry = jnp.tanh(carry + row)
            return carry, carry * 3.0

        last, rows = jax.lax.scan(step, jnp.zeros(4, x.dtype), x, reverse=reverse)
        return last, rows

    of, x = jax_side(model, 3, 4)
    carry, rows = np.zeros(4), []
    for row in x[::-1] if reverse else x:
        carry = np.tanh(carry + row)
        rows.append(3 * carry)
        for wanted in (row, carry, 3 * carry):
            assert any(holds(of, value, wanted) for op in of.operations for value in op.gives)
    assert holds(of, of.ends["out.0"], carry)
    assert holds(of, of.ends["out.1"], np.stack(rows))
    assert [op.name for op in of.operations].count("tanh") == 3
    assert depends_on(of, of.ends["out.0"]) == {n for n, kind in of.given.items() if kind == "data"}


class Dropped(nn.Module):
    """Dropout in each of three steps."""

    def forward(self, x):
        return torch.stack([F.dropout(row.sin(), 0.5, self.training) for row in x.unbind(0)])


def dropped(model, tree, x, *, train):
    def step(key, row):
        key, used = jax.random.split(key)
        keep = jax.random.bernoulli(used, 0.5, row.shape)
        return key, jnp.where(keep, jnp.sin(row) / 0.5, 0.0) if train else jnp.sin(row)

    return jax.lax.scan(step, jax.random.key(0), x)[1]


def test_both_sides_drop_the_same():
    twin = Twin(torch=Dropped, jax=lambda x: x, jax_call=dropped, inputs={"x": Array((3, 40))})
    made = Pair(twin, steps=1)
    made.given.shared |= made.run("xla:cpu").shared()
    ours, theirs = (made.run(b).operations(twin.updates[0]) for b in ("torch:cpu", "xla:cpu"))
    one, other = ours.prints[ours.ends["out"]], theirs.prints[theirs.ends["out"]]
    assert one is not None
    assert other is not None
    assert alike(one, other), climb(twin).verdict
    assert not one.trivial


def test_no_value_is_kept():
    """The peak of the operations' memory does not grow with their number."""
    import tracemalloc

    def deep(x):
        for _ in range(60):
            x = jnp.cos(x)
        return x

    made = pair(lambda x: x, deep, 200, 1000)
    run = made.run("xla:cpu")
    tracemalloc.start()
    of = run.operations(None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(of.operations) == 60
    assert peak < 30 * 8 * 200 * 1000
