"""Matrices of known singular values, both sides' functions, and errors in units of rounding.

A result is judged by what defines it: residuals and orthogonality in units of eps times the size.
"""

import functools
import importlib
from typing import Any

import jax
import numpy as np
import pytest
import torch

from compare.share import to_jax, to_numpy, to_torch
from tests.arrays import normal

EPS = np.finfo(np.float64).eps


def rotated(singular_values, m: int, n: int) -> np.ndarray:
    """A matrix with the given singular values, and generic singular vectors."""
    u, v = (np.linalg.qr(normal(seed, k, k))[0] for seed, k in enumerate((m, n)))
    return u[:, : len(singular_values)] * singular_values @ v[:, : len(singular_values)].T


SQUARE = {
    "well": rotated([3, 2.5, 2, 1.5, 1], 5, 5),
    "ill": rotated(np.logspace(0, -10, 5), 5, 5),
    "deficient": rotated([3, 2, 1], 5, 5),
    "zero": np.zeros((5, 5)),
    "one": np.array([[-2.0]]),
    "empty": np.zeros((0, 0)),
}
TALL = {
    "well": rotated([3, 2, 1], 5, 3),
    "ill": rotated(np.logspace(0, -10, 3), 5, 3),
    "deficient": rotated([3, 2], 5, 3),
    "zero": np.zeros((5, 3)),
    "one": np.array([[-2.0]]),
    "empty": np.zeros((0, 0)),
}
REGULAR = ("well", "ill", "one", "empty")
SIDES = ("jax", "torch")


@functools.cache
def compiled(room: str, name: str, options: tuple):
    module = importlib.import_module(f"jaxnn.linalg.{room}")
    return jax.jit(functools.partial(getattr(module, name), **dict(options)))


def run(side: str, room: str, name: str, *arrays: np.ndarray, **options) -> Any:
    """A function of one side on NumPy arrays, in float64; NumPy arrays come back."""
    if side == "torch":
        module = importlib.import_module(f"torchref.linalg.{room}")
        out = getattr(module, name)(*map(to_torch, arrays), **options)
    else:
        with jax.enable_x64(True):
            given = [to_jax(a) for a in arrays]
            out = compiled(room, name, tuple(options.items()))(*given)
    many = isinstance(out, tuple)
    found = [to_numpy(x) for x in (out if many else [out])]
    assert all(x.dtype in (np.float64, np.int64, np.int32, bool) for x in found)
    return tuple(found) if many else found[0]


def size(a: np.ndarray) -> float:
    return float(np.abs(a).max(initial=0))


def error(found: np.ndarray, wanted: np.ndarray, scale: float | None = None) -> float:
    """The largest error, in units of eps times the largest side times the scale of the values."""
    assert found.shape == wanted.shape
    scale = size(wanted) if scale is None else scale
    return size(found - wanted) / (EPS * max((1, *wanted.shape)) * (scale or 1))


def skew(q: np.ndarray) -> float:
    """How far columns are from orthonormal, in the same units."""
    return error(q.T @ q, np.eye(q.shape[1]))


SHAPED = [pytest.param(a, id=name) for name, a in TALL.items()]
SHAPED += [pytest.param(TALL[name].T, id=f"{name}-wide") for name in ("well", "deficient")]
SHAPED += [pytest.param(SQUARE["ill"], id="ill-square")]
# A bidiagonal matrix with zeros on its diagonal.
SHAPED += [pytest.param(np.diag([1.0, 0, 2, 3, 0]) + np.diag(np.ones(4), 1), id="zero-diagonal")]


def gradients(side: str, room: str, name: str, loss, *arrays: np.ndarray) -> list[np.ndarray]:
    """The gradients by the arrays; `loss` maps the function's outputs to a scalar."""
    tree = {"torch": "torchref", "jax": "jaxnn"}[side]
    function = getattr(importlib.import_module(f"{tree}.linalg.{room}"), name)
    if side == "torch":
        leaves = [to_torch(a).requires_grad_() for a in arrays]
        return [to_numpy(g) for g in torch.autograd.grad(loss(function(*leaves)), leaves)]
    with jax.enable_x64(True):
        places = tuple(range(len(arrays)))
        grad = jax.jit(jax.grad(lambda *given: loss(function(*given)), argnums=places))
        return [to_numpy(g) for g in grad(*map(to_jax, arrays))]
