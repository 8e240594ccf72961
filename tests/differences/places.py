"""Mistakes of functions, losses and optimizers: JAX makes each by itself.

The entry's candidates must give JAX's value, and not one that is 1 % off.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import torch
from torch import nn

from compare.differences.catalogue import Site, catalogue
from compare.differences.measuring import jax64, normal
from compare.share import to_numpy

CATALOGUE = catalogue()


def confirmed(code: str, site: Site) -> bool:
    """Whether one of the candidates gives JAX's value."""
    entry = CATALOGUE[code]
    assert re.fullmatch(entry.kinds, site.kind)
    assert site.what in entry.whats
    assert entry.edits is not None
    scale = np.nan_to_num(np.abs(site.theirs), posinf=0).max(initial=1e-9)
    for edit in entry.edits(site):
        assert edit.jax
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = to_numpy(edit.compute())
        except Exception:  # "not this one"
            continue
        if value.shape == site.theirs.shape and np.allclose(
            value, site.theirs, 1e-11, 1e-12 * scale, equal_nan=True
        ):
            return True
    return False


def off(value: np.ndarray) -> np.ndarray:
    """A value that is wrong by 1 %."""
    value = np.where(np.isnan(value), 0.5, value)
    return value + 0.01 * (np.abs(value).max(initial=0) or 1.0)


def check(code: str, site: Site) -> None:
    if site.theirs.shape == site.ours.shape:
        same = np.allclose(site.theirs, site.ours, 1e-9, 0, equal_nan=True)
        assert not same, "the mistake makes no difference"
    assert confirmed(code, site)
    site.theirs = off(site.theirs)
    assert not confirmed(code, site)


def place(kind: str, call: Any, wrong: Callable, *args: Any, what: str = "output", **kwargs: Any):
    """A site: PyTorch's call of the arguments, and what JAX made of their tensors."""
    inputs = tuple(a for a in args if isinstance(a, torch.Tensor))
    module = call if isinstance(call, nn.Module) else None
    site = Site(kind, what, np.zeros(0), np.zeros(0), inputs, module)
    if module is None:
        site.function, site.args, site.kwargs = call, args, kwargs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        output = call(*args, **kwargs)
        output = output[0] if isinstance(output, tuple) else output
        site.ours = to_numpy(output)
        if what == "gradient":
            site.cotangent = 1 + 0.1 * np.arange(output.numel()).reshape(output.shape)
            site.ours = to_numpy(site.result(lambda *x: call(*_mixed(args, x), **kwargs), *inputs))
    if what == "gradient":

        def pull(cotangent, first, *more):
            value, back = jax.vjp(lambda v: wrong(v, *more), first)
            return back(cotangent.astype(value.dtype))[0]

        site.theirs = np.asarray(jax64(pull, site.cotangent, *inputs))
    else:
        site.theirs = np.asarray(jax64(wrong, *inputs))
    return site


def _mixed(args: tuple, tensors: tuple) -> list:
    rest = iter(tensors)
    return [next(rest) if isinstance(a, torch.Tensor) else a for a in args]


X, Y = normal(4, 5), normal(4, 5, seed=1)
GRID = torch.linspace(-7, 7, 57, dtype=torch.float64)
KINKS = torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 3.0, 6.0], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 4, 1])
PADDED = torch.tensor([0, -100, 4, 1])
W = torch.tensor([0.5, 1.0, 2.0, 1.5, 0.7], dtype=torch.float64)
P, Q = torch.softmax(X, 1), torch.softmax(Y, 1)
BITS = (Y > 0).double()
SIGNS = Y.sign()
IMAGE = normal(1, 8, 6, 8)
ce = optax.softmax_cross_entropy_with_integer_labels


def label(row: tuple) -> str:
    return f"{row[0]}-{row[1]}"
