"""The finder's candidates of functions, losses and optimizers.

JAX makes each mistake by itself; the entry's candidates must give its value, and not one that is
1 % off.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from jax.scipy.ndimage import map_coordinates
from torch import nn

from compare.differences.catalogue import Site, catalogue
from compare.differences.measuring import jax64, normal
from compare.share import to_jax, to_numpy, to_torch
from compare.weights.optim import SCHEDULE, START, slots, write_optax, write_torch

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


def nn_resize(method: str, shape: tuple, **options: Any) -> Callable:
    return lambda v: jax.image.resize(v, (1, 8, *shape), method, **options)


def smooth(labels: Any, alpha: float) -> Any:
    return optax.smooth_labels(jax.nn.one_hot(labels, 5, dtype=float), alpha)


def safe_mask(x: Any, y: Any, divide: Any) -> Any:
    mask = y != -100
    return jnp.where(mask, ce(x, jnp.where(mask, y, 0)), 0).sum() / divide


# code, kind, PyTorch's call, JAX's mistake, arguments[, keywords]
PLACES: list[tuple] = [
    ("ACT-01", "gelu", F.gelu, jax.nn.gelu, GRID),
    ("ACT-01", "gelu", F.gelu, lambda x: x * jax.nn.sigmoid(1.702 * x), GRID),
    ("ACT-01", "GELU", nn.GELU(), jax.nn.gelu, GRID),
    ("ACT-03", "LeakyReLU", nn.LeakyReLU(0.2), jax.nn.leaky_relu, GRID),
    ("ACT-03", "leaky_relu", F.leaky_relu, lambda x: jax.nn.leaky_relu(x, 0.3), GRID, 0.1),
    ("ACT-03", "rrelu", F.rrelu, jax.nn.leaky_relu, GRID),
    ("ACT-04", "elu", F.elu, jax.nn.elu, GRID, 0.5),
    ("ACT-04", "CELU", nn.CELU(0.5), lambda x: jax.nn.elu(x, 0.5), GRID),
    ("ACT-04", "selu", F.selu, jax.nn.elu, GRID),
    ("ACT-05", "softplus", F.softplus, jax.nn.softplus, GRID, 2.0),
    ("ACT-05", "Softplus", nn.Softplus(threshold=2.0), jax.nn.softplus, GRID),
    ("ACT-06", "softmax", F.softmax, jax.nn.softmax, X, 0),
    ("ACT-06", "LogSoftmax", nn.LogSoftmax(1), lambda x: jax.nn.log_softmax(x, 0), X),
    ("ACT-07", "log_softmax", F.log_softmax, jax.nn.softmax, X, -1),
    ("ACT-07", "softmax", F.softmax, jax.nn.log_softmax, X, -1),
    ("ACT-07", "LogSoftmax", nn.LogSoftmax(1), lambda x: jnp.log(jax.nn.softmax(x) + 1e-8), X),
    ("ACT-08", "silu", F.silu, jax.nn.gelu, GRID),
    ("ACT-08", "gelu", F.gelu, jax.nn.swish, GRID),
    ("ACT-08", "Tanh", nn.Tanh(), jax.nn.sigmoid, GRID),
    ("ACT-08", "sigmoid", torch.sigmoid, jnp.tanh, GRID),
    ("ACT-09", "hardsigmoid", F.hardsigmoid, lambda x: jnp.clip(0.2 * x + 0.5, 0, 1), GRID),
    ("ACT-09", "hardswish", F.hardswish, jax.nn.silu, GRID),
    ("ACT-09", "ReLU6", nn.ReLU6(), jax.nn.relu, GRID),
    ("ACT-10", "tanh", torch.tanh, lambda x: x, GRID),
    ("ACT-10", "Sigmoid", nn.Sigmoid(), lambda x: jax.nn.sigmoid(jax.nn.sigmoid(x)), GRID),
    ("ACT-11", "glue", torch.add, lambda x, y: jax.nn.relu(x + y), X, Y),
    ("ACT-12", "glu", F.glu, lambda x: jax.nn.sigmoid(x[:, :4]) * x[:, 4:], IMAGE[0, :, :, 0].T),
    ("ACT-12", "GLU", nn.GLU(1), lambda x: jax.nn.glu(x, 3), IMAGE[:, :, :, :].expand(1, 8, 6, 8)),
    (
        "ACT-13",
        "softmax",
        F.softmax,
        lambda x: jax.nn.softmax(x, where=jnp.isfinite(x)),
        torch.tensor([[-torch.inf, -torch.inf], [0.0, 1.0]], dtype=torch.float64),
        -1,
    ),
    (
        "ACT-14",
        "softshrink",
        F.softshrink,
        lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - 1, 0),
        GRID,
    ),
    ("GRAD-11", "median", torch.median, jnp.median, GRID[:8]),
    ("GRAD-12", "sign", torch.sign, jnp.sign, torch.tensor([1.0, torch.nan]).double()),
    ("LOSS-14", "cross_entropy", F.cross_entropy, lambda x, y: ce(x, y).sum(), X, LABELS),
    ("LOSS-14", "MSELoss", nn.MSELoss(), lambda x, y: ((x - y) ** 2).sum(1).mean(), X, Y),
    ("LOSS-14", "kl_div", F.kl_div, lambda x, y: optax.kl_divergence(x, y).mean(), Q.log(), P),
    ("LOSS-02", "cross_entropy", F.cross_entropy, lambda x, y: safe_mask(x, y, 4), X, PADDED),
    ("LOSS-02", "CrossEntropyLoss", nn.CrossEntropyLoss(), lambda x, y: ce(x, y).mean(), X, PADDED),
    (
        "LOSS-02",
        "CrossEntropyLoss",
        nn.CrossEntropyLoss(ignore_index=0),
        lambda x, y: ce(x, y).mean(),
        X,
        LABELS,
    ),
    (
        "LOSS-03",
        "cross_entropy",
        F.cross_entropy,
        lambda x, y, w: (ce(x, y) * w[y]).mean(),
        X,
        LABELS,
        W,
    ),
    (
        "LOSS-03",
        "CrossEntropyLoss",
        nn.CrossEntropyLoss(weight=W),
        lambda x, y: ce(x, y).mean(),
        X,
        LABELS,
    ),
    *(
        (
            "LOSS-04",
            "cross_entropy",
            F.cross_entropy,
            lambda x, y, a=a: optax.softmax_cross_entropy(x, smooth(y, a)).mean(),
            X,
            LABELS,
        )
        for a in (0.05, 0.1, 0.2)
    ),
    (
        "LOSS-04",
        "CrossEntropyLoss",
        nn.CrossEntropyLoss(label_smoothing=0.1),
        lambda x, y: optax.softmax_cross_entropy(
            x, jnp.where(jax.nn.one_hot(y, 5) > 0, 0.9, 0.1 / 4)
        ).mean(),
        X,
        LABELS,
    ),
    (
        "LOSS-05",
        "CrossEntropyLoss",
        nn.CrossEntropyLoss(weight=W, label_smoothing=0.1),
        lambda x, y: (
            (optax.softmax_cross_entropy(x, smooth(y, 0.1)) * to_jax(to_numpy(W))[y]).sum()
            / to_jax(to_numpy(W))[y].sum()
        ),
        X,
        LABELS,
    ),
    (
        "LOSS-06",
        "cross_entropy",
        F.cross_entropy,
        lambda x, y: ce(jax.nn.softmax(x), y).mean(),
        X,
        LABELS,
    ),
    (
        "LOSS-06",
        "nll_loss",
        F.nll_loss,
        lambda x, y: -jnp.take_along_axis(jnp.exp(x), y[:, None], 1).mean(),
        X.log_softmax(1),
        LABELS,
    ),
    (
        "LOSS-06",
        "cross_entropy",
        F.cross_entropy,
        lambda x, y: -jnp.log(jnp.take_along_axis(jax.nn.softmax(x), y[:, None], 1) + 1e-7).mean(),
        X,
        LABELS,
    ),
    (
        "LOSS-07",
        "cross_entropy",
        F.cross_entropy,
        lambda x, y: optax.softmax_cross_entropy(x, jax.nn.one_hot(y, 5)).mean(),
        torch.where(torch.arange(5) == 3, -torch.inf, X),
        LABELS,
    ),
    (
        "LOSS-08",
        "cross_entropy",
        F.cross_entropy,
        lambda x, y: ce(x, y).mean(),
        normal(2, 4, 4),
        torch.tensor([[0, 1, 2, 3], [3, 3, 1, 0]]),
    ),
    ("LOSS-01", "mse_loss", F.mse_loss, lambda x, y: optax.l2_loss(x, y).mean(), X, Y),
    (
        "LOSS-01",
        "loss",
        lambda x, y: ((x - y) ** 2).mean(),
        lambda x, y: optax.l2_loss(x, y).mean(),
        X,
        Y,
    ),
    (
        "LOSS-10",
        "smooth_l1_loss",
        F.smooth_l1_loss,
        lambda x, y: optax.huber_loss(x, y).mean(),
        X,
        Y,
        None,
        None,
        "mean",
        0.5,
    ),
    (
        "LOSS-10",
        "HuberLoss",
        nn.HuberLoss(delta=0.5),
        lambda x, y: (optax.huber_loss(x, y, delta=0.5) / 0.5).mean(),
        X,
        Y,
    ),
    ("LOSS-12", "l1_loss", F.l1_loss, lambda x, y: optax.log_cosh(x, y).mean(), X, Y),
    ("LOSS-12", "MSELoss", nn.MSELoss(), lambda x, y: jnp.abs(x - y).mean(), X, Y),
    ("LOSS-12", "mse_loss", F.mse_loss, lambda x, y: jnp.linalg.norm(x - y), X, Y),
    (
        "LOSS-12",
        "l1_loss",
        F.l1_loss,
        lambda x, y: ((x - y) ** 2).mean(),
        KINKS,
        torch.zeros(7).double(),
    ),
    ("LOSS-12", "smooth_l1_loss", F.smooth_l1_loss, lambda x, y: ((x - y) ** 2).mean(), X, Y),
    ("LOSS-12", "HuberLoss", nn.HuberLoss(), lambda x, y: jnp.abs(x - y).mean(), X, Y),
    (
        "LOSS-11",
        "loss",
        lambda x, y: F.mse_loss(x, y).sqrt(),
        lambda x, y: optax.squared_error(x, y).mean(),
        X,
        Y,
    ),
    ("LOSS-11", "mse_loss", F.mse_loss, lambda x, y: -optax.squared_error(x, y).mean(), X, Y),
    (
        "LOSS-13",
        "mse_loss",
        F.mse_loss,
        lambda x, y: ((x - y[:, 0]) ** 2).mean(),
        X[:, :1],
        Y[:, :1],
    ),
    (
        "LOSS-09",
        "kl_div",
        F.kl_div,
        lambda x, y: optax.kl_divergence(jnp.log(y), jnp.exp(x)).mean() / 5,
        Q.log(),
        P,
    ),
    (
        "LOSS-09",
        "KLDivLoss",
        nn.KLDivLoss(reduction="batchmean"),
        lambda x, y: optax.kl_divergence(x, y).sum(),
        Q.log(),
        P,
    ),
    (
        "LOSS-16",
        "binary_cross_entropy_with_logits",
        F.binary_cross_entropy_with_logits,
        lambda x, y: optax.sigmoid_binary_cross_entropy(jax.nn.sigmoid(x), y).mean(),
        X,
        BITS,
    ),
    (
        "LOSS-16",
        "BCELoss",
        nn.BCELoss(),
        lambda x, y: optax.sigmoid_binary_cross_entropy(x, y).mean(),
        P,
        BITS,
    ),
    (
        "LOSS-16",
        "binary_cross_entropy",
        F.binary_cross_entropy,
        lambda x, y: -(y * jnp.log(x + 1e-7) + (1 - y) * jnp.log(1 - x + 1e-7)).mean(),
        P,
        BITS,
    ),
    (
        "LOSS-15",
        "BCEWithLogitsLoss",
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0).double()),
        lambda x, y: optax.sigmoid_binary_cross_entropy(x, y).mean(),
        X,
        BITS,
    ),
    (
        "LOSS-15",
        "BCEWithLogitsLoss",
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0).double()),
        lambda x, y: 3 * optax.sigmoid_binary_cross_entropy(x, y).mean(),
        X,
        BITS,
    ),
    (
        "LOSS-16",
        "BCEWithLogitsLoss",
        nn.BCEWithLogitsLoss(),
        lambda x, y: -(y * jax.nn.log_sigmoid(x)).mean(),
        X,
        BITS,
    ),
    (
        "LOSS-16",
        "BCELoss",
        nn.BCELoss(),
        lambda x, y: -((1 - y) * jnp.log(x) + y * jnp.log1p(-x)).mean(),
        P,
        BITS,
    ),
    (
        "LOSS-09",
        "KLDivLoss",
        nn.KLDivLoss(reduction="batchmean"),
        lambda x, y: -(y * x).sum(1).mean(),
        Q.log(),
        P,
    ),
    (
        "LOSS-17",
        "gaussian_nll_loss",
        F.gaussian_nll_loss,
        lambda x, y, v: 0.5 * (jnp.log(v) + (x - y) ** 2 / v + jnp.log(2 * jnp.pi)).mean(),
        X,
        Y,
        P,
    ),
    (
        "LOSS-18",
        "poisson_nll_loss",
        F.poisson_nll_loss,
        lambda x, y: (x - y * jnp.log(x + 1e-8)).mean(),
        P,
        Q,
    ),
    (
        "LOSS-19",
        "cosine_similarity",
        F.cosine_similarity,
        lambda x, y: optax.cosine_similarity(x, y, epsilon=1e-8),
        1e-5 * X,
        1e-5 * Y,
    ),
    (
        "LOSS-20",
        "triplet_margin_loss",
        F.triplet_margin_loss,
        lambda a, p, n: optax.losses.triplet_margin_loss(a, p, n).mean(),
        X,
        Y,
        Q,
    ),
    (
        "LOSS-21",
        "loss",
        lambda x, y: (1 - x * y).relu().mean(),
        lambda x, y: (optax.hinge_loss(x, y) ** 2).mean(),
        X,
        SIGNS,
    ),
    (
        "LOSS-22",
        "MarginRankingLoss",
        nn.MarginRankingLoss(),
        lambda x, y, z: jnp.maximum(1 - z * (x - y), 0).mean(),
        X,
        Y,
        SIGNS,
    ),
    (
        "LOSS-22",
        "multi_margin_loss",
        F.multi_margin_loss,
        lambda x, y: (
            (
                jnp.maximum(1 - jnp.take_along_axis(x, y[:, None], 1) + x, 0) ** 2
                * (1 - jax.nn.one_hot(y, 5))
            ).sum(1)
            / 5
        ).mean(),
        X,
        LABELS,
    ),
    (
        "LOSS-23",
        "ctc_loss",
        F.ctc_loss,
        lambda x, y, n, k: optax.ctc_loss(
            jnp.swapaxes(x, 0, 1), jnp.zeros((2, 5)), y, (jnp.arange(2)[None] >= k[:, None]) * 1.0
        ).mean(),
        normal(5, 2, 4).log_softmax(-1),
        torch.tensor([[1, 2], [3, 1]]),
        torch.tensor([5, 5]),
        torch.tensor([2, 1]),
    ),
    (
        "LOSS-24",
        "cross_entropy",
        F.cross_entropy,
        lambda x, y: optax.softmax_cross_entropy(y, x).mean(),
        X,
        Q,
    ),
    ("DT-03", "std", torch.std, lambda x: jnp.std(x, 1), X, 1),
    (
        "DT-06",
        "floor_divide",
        torch.floor_divide,
        jax.lax.div,
        torch.tensor([-7]),
        torch.tensor([2]),
    ),
    ("DT-07", "remainder", torch.remainder, jax.lax.rem, X, torch.full_like(X, 2.0)),
    ("DT-08", "round", torch.round, jax.lax.round, torch.tensor([0.5, 2.5]).double()),
    (
        "IDX-02",
        "index_put",
        lambda x, i, v: torch.index_put(x, (i,) if isinstance(i, torch.Tensor) else i, v),
        lambda x, v: x.at[jnp.array([0, 0])].add(v),
        GRID,
        (torch.tensor([0, 0]),),
        torch.ones(2).double(),
    ),
    (
        "IDX-03",
        "scatter_reduce",
        torch.scatter_reduce,
        lambda x, i, s: jax.ops.segment_sum(s, i, 2) / 2,
        torch.ones(2).double(),
        0,
        torch.tensor([0, 1, 0, 1]),
        GRID[:4],
        "mean",
    ),
    ("IDX-05", "argsort", torch.argsort, jnp.argsort, torch.arange(999).remainder(3).double()),
    ("IDX-07", "bucketize", torch.bucketize, jnp.digitize, KINKS, KINKS),
    ("IDX-08", "repeat", torch.Tensor.repeat, lambda x: jnp.repeat(x, 2), KINKS, 2),
    ("IDX-08", "repeat_interleave", torch.repeat_interleave, lambda x: jnp.tile(x, 2), KINKS, 2),
    (
        "IDX-09",
        "meshgrid",
        lambda x, y: torch.meshgrid(x, y, indexing="ij")[0],
        lambda x, y: jnp.meshgrid(x, y)[0],
        KINKS,
        GRID,
    ),
    ("IDX-11", "transpose", torch.transpose, jnp.transpose, normal(3, 3, 3), 0, 1),
    ("IMG-01", "interpolate", F.interpolate, nn_resize("nearest", (9, 11)), IMAGE, (9, 11)),
    (
        "IMG-05",
        "Upsample",
        nn.Upsample((3, 5), mode="bilinear"),
        nn_resize("bilinear", (3, 5)),
        IMAGE,
    ),
    (
        "IMG-03",
        "interpolate",
        F.interpolate,
        nn_resize("bilinear", (9, 11)),
        IMAGE,
        (9, 11),
        None,
        "bilinear",
        True,
    ),
    (
        "IMG-04",
        "interpolate",
        F.interpolate,
        nn_resize("bicubic", (9, 11)),
        IMAGE,
        (9, 11),
        None,
        "bicubic",
    ),
    (
        "IMG-02",
        "interpolate",
        F.interpolate,
        nn_resize("bilinear", (9, 12)),
        IMAGE,
        None,
        1.6,
        "bilinear",
    ),
    (
        "IMG-06",
        "interpolate",
        F.interpolate,
        nn_resize("bilinear", (9, 11)),
        IMAGE,
        (9, 11),
        None,
        "bicubic",
    ),
    (
        "IMG-07",
        "grid_sample",
        F.grid_sample,
        lambda x, g: jax.vmap(
            lambda c: map_coordinates(c, [(g[0, ..., 1] + 1) * 2.5, (g[0, ..., 0] + 1) * 3.5], 1)
        )(x[0])[None],
        IMAGE,
        0.3 * normal(1, 3, 4, 2),
    ),
    (
        "IMG-08",
        "affine_grid",
        F.affine_grid,
        lambda t: (
            jnp.stack(
                [*jnp.meshgrid(jnp.linspace(-1, 1, 4), jnp.linspace(-1, 1, 3)), jnp.ones((3, 4))],
                -1,
            )
            @ t[0].T
        )[None],
        normal(1, 2, 3),
        [1, 1, 3, 4],
    ),
    ("LA-01", "eigvalsh", torch.linalg.eigvalsh, jnp.linalg.eigvalsh, normal(4, 4)),
    ("LA-03", "cholesky", torch.linalg.cholesky, jax.scipy.linalg.cholesky, X @ X.T + torch.eye(4)),
    (
        "LA-02",
        "linalg_cholesky",
        torch.linalg.cholesky,
        jnp.linalg.cholesky,
        X @ X.T + 9 * torch.eye(4) + torch.ones(4, 4).triu(1),
    ),
    (
        "LA-04",
        "pinv",
        torch.linalg.pinv,
        jnp.linalg.pinv,
        torch.diag(torch.tensor([1.0, 3.3e-15, 0.5]).double()),
    ),
    ("LA-05", "norm", torch.norm, lambda x: jnp.linalg.norm(x, 1), X, 1),
    (
        "LA-08",
        "solve_triangular",
        lambda a, b, upper=False: torch.linalg.solve_triangular(a, b, upper=upper),
        jax.scipy.linalg.solve_triangular,
        normal(3, 3),
        normal(3, 2),
    ),
    (
        "LA-11",
        "conv1d",
        F.conv1d,
        lambda x, w: jnp.convolve(x[0, 0], w[0, 0], mode="valid")[None, None],
        GRID[None, None],
        W[None, None],
    ),
    ("LA-14", "fft_rfft", torch.fft.rfft, lambda x: jnp.fft.rfft(x), GRID, None, -1, "ortho"),
]

GRADIENTS: list[tuple] = [
    ("ACT-08", "silu", F.silu, jax.nn.gelu, GRID),
    ("ACT-07", "log_softmax", F.log_softmax, jax.nn.softmax, X, -1),
    ("GRAD-01", "abs", torch.abs, jnp.abs, KINKS),
    ("GRAD-01", "l1_loss", F.l1_loss, lambda x, y: jnp.abs(x - y).mean(), KINKS, KINKS.relu()),
    ("GRAD-02", "clamp", torch.clamp, lambda x: jnp.clip(x, 0, 1), KINKS, 0.0, 1.0),
    ("GRAD-03", "LeakyReLU", nn.LeakyReLU(0.2), lambda x: jax.nn.leaky_relu(x, 0.2), KINKS),
    ("GRAD-04", "hardtanh", F.hardtanh, jax.nn.hard_tanh, KINKS),
    ("GRAD-05", "relu", F.relu, lambda x: jnp.maximum(x, 0), KINKS),
    ("GRAD-05", "ReLU", nn.ReLU(), lambda x: jnp.where(x >= 0, x, 0), KINKS),
    ("GRAD-06", "max", torch.max, lambda x: jnp.max(x, 0), torch.ones(3, 2).double(), 0),
    ("GRAD-07", "vector_norm", torch.linalg.vector_norm, jnp.linalg.norm, torch.zeros(3).double()),
    ("GRAD-08", "std", torch.std, lambda x: jnp.std(x, ddof=1), torch.ones(3).double()),
    (
        "GRAD-09",
        "cdist",
        torch.cdist,
        lambda x, y: jnp.sqrt(((x[:, None] - y[None]) ** 2).sum(-1)),
        X,
        X.clone(),
    ),
    (
        "GRAD-13",
        "silu",
        F.silu,
        lambda x: jax.lax.stop_gradient(jax.nn.silu(x)),
        GRID,
    ),
    (
        "LA-06",
        "det",
        torch.linalg.det,
        jnp.linalg.det,
        torch.tensor([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 1.0, 3.0]], dtype=torch.float64),
    ),
    (
        "LOSS-03",
        "CrossEntropyLoss",
        nn.CrossEntropyLoss(weight=W),
        lambda x, y: (ce(x, y) * to_jax(to_numpy(W))[y]).mean(),
        X,
        LABELS,
    ),
    ("LOSS-01", "mse_loss", F.mse_loss, lambda x, y: optax.l2_loss(x, y).mean(), X, Y),
    ("LOSS-09", "kl_div", F.kl_div, lambda x, y: optax.kl_divergence(x, y).mean(), Q.log(), P),
]


def _id(row: tuple) -> str:
    return f"{row[0]}-{row[1]}"


@pytest.mark.parametrize("row", PLACES, ids=_id)
def test_a_wrong_output_is_recognised(row: tuple):
    code, kind, call, wrong, *args = row
    check(code, place(kind, call, wrong, *args))


@pytest.mark.parametrize("row", GRADIENTS, ids=_id)
def test_a_wrong_gradient_is_recognised(row: tuple):
    code, kind, call, wrong, *args = row
    check(code, place(kind, call, wrong, *args, what="gradient"))


def test_a_conjugated_gradient_is_recognised():
    ours = to_numpy(torch.complex(normal(3), normal(3, seed=1)))
    check("LA-10", Site("abs", "gradient", np.conj(ours), ours))


@pytest.mark.parametrize("wrong", [lambda x, m: x * m, lambda x, m: x, lambda x, m: x * m / 0.3])
def test_wrong_dropout_is_recognised(wrong: Callable):
    mask = (Y > -0.5).double()
    site = place("Dropout", nn.Dropout(0.3).eval(), lambda x: wrong(x, to_jax(to_numpy(mask))), X)
    site.ours = to_numpy(X * mask / 0.7)
    check("DROP-01", site)


@pytest.mark.parametrize("kind", ["mse_loss", "l1_loss"])
@pytest.mark.parametrize("wrong", [lambda d: d.sum(), lambda d: d.sum(1).mean()])
def test_the_same_loss_reduced_otherwise_is_no_other_loss(kind: str, wrong: Callable):
    error = {"mse_loss": jnp.square, "l1_loss": jnp.abs}[kind]
    site = place(kind, getattr(F, kind), lambda x, y: wrong(error(x - y)), X, Y)
    assert confirmed("LOSS-14", site)
    assert not confirmed("LOSS-12", site)


# Optimizers: one update from a state that is not zero, on both sides.


def update(kind: str, options: dict[str, Any], wrong: Callable) -> Site:
    """A site: `wrong` gives an optax transformation, or the parameter from (g, p, state)."""
    start, gradient = to_numpy(normal(4, 3)), to_numpy(normal(4, 3, seed=1))
    parameter = nn.Parameter(to_torch(start))
    optimizer = getattr(torch.optim, kind)([parameter], **options)
    names = [s for s in slots((kind.lower(), options)) if s != "step"]
    state = {s: np.abs(to_numpy(normal(4, 3, seed=2 + i))) for i, s in enumerate(names)}
    if "grad_avg" in state:  # the square of a mean is below the mean of the squares
        state["grad_avg"] = 0.1 * state["grad_avg"]
    if "mu_product" in state:
        state["mu_product"] = np.asarray(0.6, np.float32)
    write_torch(optimizer, {parameter: "w"}, {k: {"w": v} for k, v in state.items()} | {"step": {}})
    if "mu_product" in state:
        optimizer.state[parameter]["mu_product"] = torch.tensor(0.6)
    parameter.grad = to_torch(gradient)
    optimizer.step()
    with jax.enable_x64(True):
        made: Any = wrong(*(to_jax(a) for a in (gradient, start)), state)
        if hasattr(made, "update"):
            tree = {"w": to_jax(start)}
            given = {k: {"w": v} for k, v in state.items()}
            filled = write_optax(
                made.init(tree), tree, given, lambda t: {k: to_jax(v) for k, v in t.items()}
            )
            moves, _ = made.update({"w": to_jax(gradient)}, filled, tree)
            made = tree["w"] + moves["w"]
        theirs = to_numpy(made)
    context = {
        "options": options,
        "gradient": gradient,
        "param": start,
        "state": state,
        "step": START,
        "schedule": SCHEDULE,
    }
    return Site(kind, "update", theirs, to_numpy(parameter), name="w", optimizer=context)


LR = {"lr": 0.1}
MOMENTUM = {"lr": 0.1, "momentum": 0.9}


def _adam(g: Any, p: Any, s: dict, t: int = START + 1, first: bool = True, second: bool = True):
    m = 0.9 * s["exp_avg"] + 0.1 * g
    v = 0.999 * s["exp_avg_sq"] + 0.001 * g * g
    m = m / (1 - 0.9**t) if first else m
    v = v / (1 - 0.999**t) if second else v
    return p - 0.1 * m / (jnp.sqrt(v) + 1e-8)


def _amsgrad(g: Any, p: Any, s: dict) -> Any:
    m = 0.9 * s["exp_avg"] + 0.1 * g
    v = (0.999 * s["exp_avg_sq"] + 0.001 * g * g) / (1 - 0.999**4)
    return p - 0.1 * m / (1 - 0.9**4) / (jnp.sqrt(jnp.maximum(s["max_exp_avg_sq"], v)) + 1e-8)


def _adadelta(g: Any, p: Any, s: dict) -> Any:
    v = 0.95 * s["square_avg"] + 0.05 * g * g
    return p - g * jnp.sqrt(s["acc_delta"] + 1e-6) / jnp.sqrt(v + 1e-6)


UPDATES: list[tuple] = [
    ("OPT-01", "Adam", {**LR, "eps": 1e-3}, lambda *_: optax.adam(0.1, eps=0.0, eps_root=1e-3)),
    ("OPT-01", "AdamW", {**LR, "eps": 1e-3}, lambda *_: optax.adamw(0.1, weight_decay=0.01)),
    ("OPT-01", "Adam", {**LR, "eps": 1e-3}, lambda *_: optax.adam(0.1, eps=1e-5)),
    ("OPT-02", "Adam", {**LR, "amsgrad": True}, _amsgrad),
    ("OPT-03", "AdamW", LR, lambda *_: optax.adamw(0.1)),
    ("OPT-03", "SGD", {**MOMENTUM, "weight_decay": 0.1}, lambda *_: optax.sgd(0.1, 0.9)),
    ("OPT-04", "Adam", {**LR, "weight_decay": 0.1}, lambda *_: optax.adamw(0.1, weight_decay=0.1)),
    (
        "OPT-04",
        "AdamW",
        {**LR, "weight_decay": 0.1},
        lambda *_: optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.1)),
    ),
    (
        "OPT-04",
        "AdamW",
        {**LR, "weight_decay": 0.1},
        lambda *_: optax.chain(optax.adam(0.1), optax.add_decayed_weights(-0.1)),
    ),
    (
        "OPT-05",
        "SGD",
        {**MOMENTUM, "weight_decay": 0.1},
        lambda *_: optax.chain(optax.sgd(0.1, 0.9), optax.add_decayed_weights(0.1)),
    ),
    (
        "OPT-05",
        "SGD",
        {**MOMENTUM, "weight_decay": 0.1, "nesterov": True},
        lambda *_: optax.chain(
            optax.trace(0.9, True), optax.add_decayed_weights(0.1), optax.scale(-0.1)
        ),
    ),
    ("OPT-06", "SGD", MOMENTUM, lambda g, p, s: p - (0.9 * s["momentum_buffer"] + 0.1 * g)),
    ("OPT-06", "SGD", MOMENTUM, lambda g, p, s: p - 0.1 * (0.9 * s["momentum_buffer"] + 0.1 * g)),
    (
        "OPT-06",
        "SGD",
        {**MOMENTUM, "dampening": 0.5},
        lambda *_: optax.sgd(0.1, 0.9),
    ),
    (
        "OPT-06",
        "SGD",
        {**MOMENTUM, "nesterov": True},
        lambda *_: optax.chain(optax.scale(0.1), optax.sgd(0.1, 0.9, nesterov=True)),
    ),
    (
        "OPT-06",
        "SGD",
        MOMENTUM,
        lambda *_: optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.1)),
    ),
    ("OPT-07", "SGD", MOMENTUM, lambda *_: optax.sgd(0.1, 0.9, nesterov=True)),
    ("OPT-07", "SGD", {**MOMENTUM, "nesterov": True}, lambda *_: optax.sgd(0.1, 0.9)),
    ("OPT-08", "RMSprop", LR, lambda *_: optax.rmsprop(0.1)),
    ("OPT-08", "RMSprop", LR, lambda *_: optax.rmsprop(0.1, decay=0.99)),
    (
        "OPT-09",
        "RMSprop",
        MOMENTUM,
        lambda *_: optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False, momentum=0.9),
    ),
    (
        "OPT-09",
        "RMSprop",
        {**LR, "centered": True},
        lambda *_: optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False),
    ),
    ("OPT-10", "Adagrad", LR, lambda *_: optax.adagrad(0.1)),
    (
        "OPT-10",
        "Adagrad",
        LR,
        lambda g, p, s: p - 0.1 * g / (jnp.sqrt(s["sum"] + 0.1 + g * g) + 1e-10),
    ),
    ("OPT-11", "Adam", LR, lambda *_: optax.chain(optax.scale_by_adam(), optax.scale(0.1))),
    ("OPT-12", "NAdam", LR, lambda *_: optax.nadam(0.1)),
    ("OPT-13", "RAdam", LR, lambda *_: optax.adam(0.1)),
    ("OPT-15", "Adam", LR, lambda *a: _adam(*a, first=False, second=False)),
    ("OPT-15", "Adam", LR, lambda *a: _adam(*a, first=False)),
    ("OPT-15", "Adam", LR, lambda *a: _adam(*a, second=False)),
    ("OPT-16", "Adam", LR, lambda *a: _adam(*a, t=START)),
    ("OPT-16", "Adam", LR, lambda *a: _adam(*a, t=START + 2)),
    ("OPT-17", "Adam", {**LR, "betas": (0.5, 0.99)}, lambda *_: optax.adam(0.1)),
    ("OPT-17", "AdamW", LR, lambda *_: optax.adamw(0.1, 0.999, 0.9, weight_decay=0.01)),
    ("OPT-18", "Adadelta", {}, _adadelta),
    ("OPT-19", "Adamax", {**LR, "eps": 1e-3}, lambda *_: optax.adamax(0.1, eps=1e-8)),
    ("OPT-20", "Adam", LR, lambda g, p, s: _adam(g, p, dict.fromkeys(s, 0.0), t=1)),
    ("OPT-22", "Adam", LR, lambda g, p, s: _adam(g / 4, p, s)),
    ("OPT-24", "Adam", LR, lambda g, p, s: p + g),
    ("OPT-24", "SGD", MOMENTUM, lambda g, p, s: p * 1.0),
    (
        "OPT-27",
        "SGD",
        MOMENTUM,
        lambda *_: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, 0.9)),
    ),
    (
        "OPT-27",
        "SGD",
        MOMENTUM,
        lambda *_: optax.chain(optax.clip(0.5), optax.sgd(0.1, 0.9)),
    ),
    ("OPT-27", "Adam", LR, lambda g, p, s: _adam(0.3719 * g, p, s)),
    ("OPT-30", "Adam", LR, lambda *_: optax.adam(0.013)),
    (
        "OPT-28",
        "SGD",
        MOMENTUM,
        lambda *_: optax.sgd(0.1 * SCHEDULE[START - 1] / SCHEDULE[START], 0.9),
    ),
    (
        "OPT-28",
        "Adam",
        LR,
        lambda *_: optax.adam(0.1 * SCHEDULE[START + 1] / SCHEDULE[START]),
    ),
]


@pytest.mark.parametrize("row", UPDATES, ids=_id)
def test_a_wrong_update_is_recognised(row: tuple):
    code, kind, options, wrong = row
    check(code, update(kind, options, wrong))


@pytest.mark.parametrize("code", ["OPT-27", "OPT-30"])
def test_a_factor_that_is_fitted_holds_for_every_parameter(code: str):
    """A trust ratio gives each parameter its own."""

    def halved(g, p, s):
        return _adam(0.37 * g, p, s) if code == "OPT-27" else p + 0.37 * (_adam(g, p, s) - p)

    site, same = update("Adam", LR, halved), update("Adam", LR, halved)
    other = update("Adam", LR, lambda g, p, s: _adam(g, p, s) if code == "OPT-27" else p + g)
    site.optimizer = {**site.optimizer, "others": lambda: [same]}
    assert confirmed(code, site)
    site.optimizer = {**site.optimizer, "others": lambda: [same, other]}
    assert not confirmed(code, site)


def test_a_rate_of_zero_freezes_no_single_parameter():
    site, other = (update("SGD", MOMENTUM, lambda g, p, s: p * 1.0) for _ in range(2))
    site.optimizer = {**site.optimizer, "others": lambda: [other]}
    assert confirmed("OPT-30", site)
    assert not confirmed("OPT-24", site)


def test_another_rate_is_no_late_schedule_where_there_is_none():
    site = update("Adam", LR, lambda *_: optax.adam(0.1 * SCHEDULE[START + 1] / SCHEDULE[START]))
    site.optimizer = {**site.optimizer, "schedule": ()}
    assert not confirmed("OPT-28", site)
    assert confirmed("OPT-30", site)


def first(kind: str, options: dict[str, Any], wrong: Any) -> Site:
    """A site: the update from each side's own start."""
    site = update(kind, options, wrong)
    start, gradient = site.optimizer["param"], site.optimizer["gradient"]
    parameter = nn.Parameter(to_torch(start))
    parameter.grad = to_torch(gradient)
    getattr(torch.optim, kind)([parameter], **options).step()
    with jax.enable_x64(True):
        transformation = wrong()
        moves, _ = transformation.update(
            to_jax(gradient), transformation.init(to_jax(start)), to_jax(start)
        )
        site.theirs = start + to_numpy(moves)
    site.what, site.ours = "start", to_numpy(parameter)
    site.optimizer = {**site.optimizer, "state": {}, "step": 0}
    return site


def test_a_start_of_the_optimizer_is_recognised():
    """Optax's accumulator starts at 0.1, an average at 0."""
    options = {"lr": 0.1, "eps": 0.0}
    check("OPT-10", first("Adagrad", options, lambda *_: optax.adagrad(0.1, eps=0.0)))
    average = optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.1))
    check("OPT-06", first("SGD", {**MOMENTUM, "dampening": 0.9}, lambda *_: average))


def test_a_state_that_adam_has_not_is_recognised():
    """The largest second moment, which moves no parameter in the first update."""
    site = update("Adam", LR, lambda *_: optax.amsgrad(0.1))
    moment = 0.999 * site.optimizer["state"]["exp_avg_sq"] + 0.001 * site.optimizer["gradient"] ** 2
    site.what, site.ours = "state", np.zeros_like(moment)
    site.theirs = moment / (1 - 0.999 ** (START + 1))
    check("OPT-02", site)


def test_every_entry_with_candidates_is_tested():
    tested = {row[0] for row in (*PLACES, *GRADIENTS, *UPDATES)} | {"DROP-01", "LA-10"}
    families = ("ACT", "GRAD", "LOSS", "OPT", "SCH", "DT", "IDX", "IMG", "LA", "INIT", "DROP")
    owned = {
        code
        for code, entry in CATALOGUE.items()
        if entry.edits is not None and code.split("-")[0] in families
    }
    assert owned == tested


def test_the_schedule_of_the_run_is_seen_in_the_update():
    """A candidate is made with PyTorch's own learning rate, whatever the options say."""
    site = update("Adam", LR, lambda *a: _adam(*a, second=False))
    site.optimizer = {**site.optimizer, "options": {"lr": 0.13}}
    assert confirmed("OPT-15", site)
