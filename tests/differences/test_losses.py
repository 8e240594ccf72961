"""Losses: wrong values and gradients of JAX's are recognised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compare.differences.measuring import normal
from compare.share import to_jax, to_numpy
from tests.differences.places import (
    BITS,
    KINKS,
    LABELS,
    PADDED,
    SIGNS,
    P,
    Q,
    W,
    X,
    Y,
    ce,
    check,
    confirmed,
    label,
    place,
)


def smooth(labels: Any, alpha: float) -> Any:
    return optax.smooth_labels(jax.nn.one_hot(labels, 5, dtype=float), alpha)


def safe_mask(x: Any, y: Any, divide: Any) -> Any:
    mask = y != -100
    return jnp.where(mask, ce(x, jnp.where(mask, y, 0)), 0).sum() / divide


# code, kind, PyTorch's call, JAX's mistake, arguments[, keywords]
PLACES: list[tuple] = [
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
]


@pytest.mark.parametrize("row", PLACES, ids=label)
def test_a_wrong_output_is_recognised(row: tuple):
    code, kind, call, wrong, *args = row
    check(code, place(kind, call, wrong, *args))


GRADIENTS: list[tuple] = [
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


@pytest.mark.parametrize("row", GRADIENTS, ids=label)
def test_a_wrong_gradient_is_recognised(row: tuple):
    code, kind, call, wrong, *args = row
    check(code, place(kind, call, wrong, *args, what="gradient"))


@pytest.mark.parametrize("kind", ["mse_loss", "l1_loss"])
@pytest.mark.parametrize("wrong", [lambda d: d.sum(), lambda d: d.sum(1).mean()])
def test_the_same_loss_reduced_otherwise_is_no_other_loss(kind: str, wrong: Callable):
    error = {"mse_loss": jnp.square, "l1_loss": jnp.abs}[kind]
    site = place(kind, getattr(F, kind), lambda x, y: wrong(error(x - y)), X, Y)
    assert confirmed("LOSS-14", site)
    assert not confirmed("LOSS-12", site)
