"""Fingerprints: equal for the same values in any order, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compare.capture.fingerprint import Index, alike, fingerprint, ordered


def same(a: np.ndarray, b: np.ndarray) -> bool:
    one, other = alike(fingerprint(a), fingerprint(b)), alike(fingerprint(b), fingerprint(a))
    assert one == other
    return one


ARRANGED: dict[str, Callable] = {
    "transposed": lambda x: x.T,
    "flat": np.ravel,
    "with an axis": lambda x: x[:, None],
    "reversed": lambda x: x[::-1, ::-1],
    "rounded": lambda x: x * (1 + 1e-12),
    "noise": lambda x: x + 1e-13 * np.abs(x).mean() * np.sin(np.arange(x.size)).reshape(x.shape),
}

OTHERS: dict[str, Callable] = {
    "one element": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 7, 1.001 * x, x),
    "scaled": lambda x: x * (1 + 1e-7),
    "shifted": lambda x: x + 1e-7,
    "negative": lambda x: -x,
    "absolute": np.abs,
    "broadcast": lambda x: np.broadcast_to(x, (2, *x.shape)),
    "one doubled": lambda x: np.concatenate([x.ravel()[:1], x.ravel()[:-1]]),
}


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e5])
@pytest.mark.parametrize("name", ARRANGED)
def test_the_order_does_not_count(name: str, scale: float, normal):
    x = scale * normal(0, 12, 9)
    assert same(x, ARRANGED[name](x))


@pytest.mark.parametrize("name", OTHERS)
def test_the_values_do(name: str, normal):
    x = normal(0, 12, 9)
    assert not same(x, OTHERS[name](x))


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e5])
def test_at_every_size(scale: float, normal):
    x = scale * normal(0, 12, 9)
    assert not same(x, (1 + 1e-6) * x)


def test_a_sum_that_cancels(normal):
    x = normal(0, 500)
    x = np.concatenate([1e5 + x, -1e5 - x])
    moved = x + 1e-12 * np.abs(x) * np.sign(normal(1, 1000))
    assert same(x, moved)
    assert not same(x, np.concatenate([x[:500], -x[:500] * (1 + 1e-7)]))


LARGE = (-np.inf, np.finfo(np.float64).min, float(np.finfo(np.float32).min), -1e30, -1e9)


@pytest.mark.parametrize("fill", LARGE)
def test_scores_stand_beside_a_mask(fill: float, normal):
    scores, mask = normal(0, 8, 8), np.tri(8) == 0
    masked = np.where(mask, -np.inf, scores)
    assert same(masked, np.where(mask, fill, scores))
    assert same(masked, np.where(mask, scores + fill if fill > -1e300 else fill, scores))
    assert not same(masked, np.where(mask, fill, 1.000001 * scores))
    assert not same(masked, np.where(mask, -fill, scores))
    assert not same(masked, np.where(mask.T, np.nan, scores))


def test_of_any_type(normal):
    assert same(np.arange(9), np.arange(9.0)[::-1])
    assert same(np.array([True, False]), np.array([0, 1]))
    pairs = normal(0, 6, 2)
    assert same(pairs, pairs[:, 0] + 1j * pairs[:, 1])
    assert not same(np.array([2**30, 1]), np.array([-(2**30), 1]))
    assert fingerprint(np.zeros((0, 3))).trivial


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(5),
        np.ones((2, 3)),
        np.full(4, 0.3),
        np.float64(7),
        np.tri(4),
        -np.tri(3),
        np.tri(2) > 0,
    ],
)
def test_what_proves_nothing(value: np.ndarray):
    assert fingerprint(value).trivial


@pytest.mark.parametrize("value", [np.arange(5.0), np.float64(0.3), np.array([1.0, 2.0, 1.0])])
def test_what_proves_something(value: np.ndarray):
    assert not fingerprint(value).trivial


def test_they_are_looked_up(normal):
    values = [normal(number, 4, 5) for number in range(20)]
    values.append(values[3].T)
    index = Index([*map(fingerprint, values), None])
    assert set(index.alike(fingerprint(values[3].ravel()))) == {3, 20}
    assert list(index.alike(fingerprint(2 * values[3]))) == []


def test_the_order_along_one_axis(normal):
    x = normal(0, 6, 5)
    assert ordered(x, 1) == pytest.approx(ordered(x[::-1], 1), abs=1e-12)
    assert abs(ordered(x, 1) - ordered(x[:, ::-1], 1)) > 1e-3
    assert ordered(x, 1) == pytest.approx(ordered(x.T, 0), abs=1e-12)
