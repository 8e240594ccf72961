"""The crossing: what passes between NumPy, PyTorch and JAX is whole, and shared with nobody."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

from compare.share import to_jax, to_numpy, to_torch

FLOATS = ["float16", "float32", "float64"]
OTHERS = ["bool", "int8", "int16", "int32", "int64", "uint8"]
AWKWARD = {
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "strided": np.arange(24, dtype=np.float32).reshape(4, 6)[::2, 1::3],
    "reversed": np.arange(6, dtype=np.float32)[::-1],
    "broadcast": np.broadcast_to(np.float32(3), (4, 5)),
    "special": np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32),
}


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "while a program runs"])
def test_a_copy_is_finished_when_it_is_handed_over(busy: bool):
    """The source is overwritten at once, again and again; a late reader would see it."""
    work = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, x: x @ x / 600, x))
    load = jnp.ones((600, 600))
    jax.block_until_ready(work(load))
    source = np.empty((300, 300), np.float32)
    kept, running = [], []
    for value in range(150):
        if busy and value % 10 == 0:
            running.append(work(load))
        source.fill(value)
        kept.append(to_jax(source))
        source.fill(-1)
    wrong = [i for i, x in enumerate(kept) if not np.all(np.asarray(x) == i)]
    assert not wrong
    jax.block_until_ready(running)


def test_an_argument_of_a_running_program_is_its_own():
    """A jitted call may read its arguments after it has returned."""
    double = jax.jit(lambda x: x + x)
    source, results = np.empty((300, 300), np.float32), []
    for value in range(150):
        source.fill(value)
        results.append(double(to_jax(source)))
        source.fill(-1)
    assert not [i for i, x in enumerate(results) if not np.all(np.asarray(x) == 2 * i)]


@pytest.mark.parametrize("crossing", [to_torch, to_jax])
@pytest.mark.parametrize("order", ["C", "F"])
def test_nothing_is_shared_on_the_way_in(crossing, order: Any):
    source = np.asarray(np.arange(90_000, dtype=np.float32).reshape(300, 300), order=order)
    crossed, before = crossing(source), source.copy()
    source[:] = -1
    np.testing.assert_array_equal(np.asarray(crossed), before)
    if crossing is to_torch:
        source[:] = before
        crossed.mul_(3)
        np.testing.assert_array_equal(source, before)


def test_nothing_is_shared_on_the_way_out():
    tensor = torch.arange(9000.0)
    array, before = to_numpy(tensor), np.arange(9000, dtype=np.float32)
    tensor.zero_()
    np.testing.assert_array_equal(array, before)
    array[:] = 7
    assert float(tensor.abs().max()) == 0


def test_arrays_of_jax_come_out_read_only_and_survive_donation():
    value = jnp.arange(9000.0)
    array, before = to_numpy(value), np.arange(9000, dtype=np.float32)
    with pytest.raises(ValueError):
        array[0] = 1
    jax.block_until_ready(jax.jit(lambda x: x * 0 - 1, donate_argnums=0)(value))
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("dtype", [*FLOATS, *OTHERS])
def test_dtypes_are_kept(dtype: str):
    source = np.array([0, 1, 1, 0], dtype)
    assert to_numpy(to_torch(source)).dtype == source.dtype
    with jax.enable_x64(True):
        assert to_numpy(to_jax(source)).dtype == source.dtype


@pytest.mark.parametrize("dtype", [*FLOATS, *OTHERS])
def test_only_floating_values_take_the_asked_dtype(dtype: str):
    source = np.array([0, 1], dtype)
    wanted = "float64" if dtype in FLOATS else dtype
    assert to_numpy(to_torch(source, torch.float64)).dtype == wanted
    with jax.enable_x64(True):
        assert to_numpy(to_jax(source, np.float64)).dtype == wanted


def test_bfloat16_keeps_its_values():
    source = np.array([1.0, 3.140625, -0.0, np.inf], np.float32)
    for low in (torch.tensor(source).bfloat16(), jnp.asarray(source, jnp.bfloat16)):
        array = to_numpy(low)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, source)


def test_bfloat16_is_a_floating_dtype():
    source = np.array([1.0, 3.140625], ml_dtypes.bfloat16)
    with jax.enable_x64(True):
        assert to_jax(source, np.float64).dtype == np.float64


def bits(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(array.tobytes(), np.uint32)


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_arrays_cross_whole(name: str):
    source = AWKWARD[name]
    for crossed in (to_numpy(to_torch(source)), to_numpy(to_jax(source))):
        assert crossed.shape == source.shape
        np.testing.assert_array_equal(bits(crossed), bits(source))


def test_read_only_arrays_and_gradients_cross():
    source = np.arange(4, dtype=np.float32)
    source.flags.writeable = False
    assert to_torch(source).add_(1).tolist() == [1, 2, 3, 4]
    assert to_jax(source).tolist() == [0, 1, 2, 3]
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    assert to_numpy(parameter.t()).shape == (2, 2)
