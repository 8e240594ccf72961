"""Values and gradients of one function on both sides: float64, channels last."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import torch

from compare.share import to_jax, to_numpy, to_torch
from tests.arrays import normal


def cotangent(shape: tuple[int, ...]) -> np.ndarray:
    """What is passed back: generic, the same for the same shape."""
    return normal(len(shape), *shape)


def by_torch(function: Callable, x: np.ndarray) -> list[np.ndarray]:
    """The value, indices if there are any, and the gradient at x, (N, ..., C)."""
    # A copy keeps the order in memory, and with it torch's kernels for channels last.
    given = to_torch(np.ascontiguousarray(np.moveaxis(x, -1, 1))).requires_grad_()
    output = function(given)
    value, *places = output if isinstance(output, tuple) else (output,)
    back = np.moveaxis(cotangent(np.moveaxis(np.empty(value.shape), 1, -1).shape), -1, 1)
    (gradient,) = torch.autograd.grad(value, given, to_torch(back))
    return [np.moveaxis(to_numpy(a.detach()), 1, -1) for a in (value, *places, gradient)]


def by_jax(functions: Mapping[str, Callable], x: Mapping[str, np.ndarray]) -> dict[str, list]:
    """The same for several functions, each at its own x, in one program."""

    def parted(function: Callable, x: jax.Array) -> tuple[jax.Array, list]:
        output = function(x)
        value, *places = output if isinstance(output, tuple) else (output,)
        return value, places

    @jax.jit
    def program(x: dict) -> dict:
        found = {}
        for name, function in functions.items():
            value, back, places = jax.vjp(lambda a, f=function: parted(f, a), x[name], has_aux=True)
            found[name] = [value, *places, *back(jnp.asarray(cotangent(value.shape)))]
        return found

    with jax.enable_x64(True):
        found = program({name: to_jax(x[name]) for name in functions})
        return jax.tree.map(to_numpy, found)
