"""Embedding: the padding's row at the start and in training, and indices that are no rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.layers.embedding import Embedding
from tests.arrays import assert_same, normal
from torchref.layers.embedding import Embedding as TorchEmbedding


def both(x: np.ndarray, rows: int, padding: int | None) -> list[list[np.ndarray]]:
    """Values, and gradients of the sum of the squares, for each side; weights with no zero row."""
    weight = normal(rows, rows, 3)
    table = TorchEmbedding(rows, 3, padding_idx=padding).double()
    table.weight.data = to_torch(weight)
    value = table(to_torch(x))
    (gradient,) = torch.autograd.grad((value**2).sum(), table.weight)

    def loss(weight):
        layer = Embedding(rows, 3, padding_idx=padding).bind({"params": {"embedding": weight}})
        value = layer(jnp.asarray(x))
        return (value**2).sum(), value

    with jax.enable_x64(True):
        theirs, ours = jax.grad(loss, has_aux=True)(to_jax(weight))
        return [[to_numpy(ours), to_numpy(theirs)], [to_numpy(value), to_numpy(gradient)]]


@given(
    x=st.lists(st.integers(0, 4), min_size=4, max_size=4),
    padding=st.sampled_from([None, 0, 4, -2]),
)
def test_values_and_gradients(x, padding):
    assert_same(*both(np.reshape(x, (2, 2)), 5, padding))


def test_a_padding_that_trains_is_found():
    x = np.array([[0, 1], [1, 2]])
    with pytest.raises(AssertionError):
        assert_same(both(x, 5, None)[0], both(x, 5, 1)[1])


def test_the_start():
    """Standard normal, with one row of zeros, on both sides."""
    layer = Embedding(1000, 8, padding_idx=-3)
    weight = layer.init(jax.random.key(0), jnp.zeros((1,), int))["params"]["embedding"]
    for start in (np.asarray(weight), to_numpy(TorchEmbedding(1000, 8, padding_idx=-3).weight)):
        np.testing.assert_array_equal(np.flatnonzero((start == 0).all(1)), [997])
        assert abs(start.std() - 1) < 0.05


@pytest.mark.parametrize("index", [5, -1, -5])
def test_an_index_that_is_no_row(index):
    """NaN where torch raises; what is inside is not touched."""
    x = np.array([1, index])
    with pytest.raises(IndexError):
        TorchEmbedding(5, 3)(to_torch(x))
    value = Embedding(5, 3).apply({"params": {"embedding": jnp.ones((5, 3))}}, jnp.asarray(x))
    np.testing.assert_array_equal(value, [[1, 1, 1], [np.nan] * 3])


@pytest.mark.parametrize(
    ("layer", "x", "said"),
    [
        (Embedding(5, 3, padding_idx=5), jnp.zeros(2, int), "padding_idx"),
        (Embedding(5, 3, padding_idx=-6), jnp.zeros(2, int), "padding_idx"),
        (Embedding(5, 3), jnp.zeros(2), "x of type"),
    ],
)
def test_bad_arguments(layer, x, said):
    with pytest.raises(ValueError, match=said):
        layer.apply({"params": {"embedding": jnp.ones((5, 3))}}, x)
