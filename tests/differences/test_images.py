"""Images: wrong resizing and sampling of JAX's is recognised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import torch.nn.functional as F
from jax.scipy.ndimage import map_coordinates
from torch import nn

from compare.differences.measuring import normal
from tests.differences.places import IMAGE, check, label, place


def nn_resize(method: str, shape: tuple, **options: Any) -> Callable:
    return lambda v: jax.image.resize(v, (1, 8, *shape), method, **options)


# code, kind, PyTorch's call, JAX's mistake, arguments[, keywords]
PLACES: list[tuple] = [
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
]


@pytest.mark.parametrize("row", PLACES, ids=label)
def test_a_wrong_output_is_recognised(row: tuple):
    code, kind, call, wrong, *args = row
    check(code, place(kind, call, wrong, *args))
