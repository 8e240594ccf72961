"""The two limits on the edges of arithmetic, and the order of verdicts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from compare.capture.distance import distance, norm
from compare.ladder import verdict as V
from tests.arrays import normal

INF, NAN = np.inf, np.nan
TINY, HUGE = 5e-324, 1.7e308


def array(*values: float, dtype: str = "float64") -> np.ndarray:
    return np.array(values, dtype)


def one(t, j, noise: float = 0.0, **options) -> V.Judged:
    """tier1 of two tensors that need no names."""
    return V.tier1("t", "j", np.asarray(t), np.asarray(j), noise, **options)


def two(r, r64, noise: float = 0.0, median: float = 0.0, unit: float = 2.0**-24) -> V.Judged:
    return V.tier2("t", "j", np.asarray(r), np.asarray(r64), noise, median, unit)


NORMS = {
    "empty": (np.zeros((0, 3)), 0.0),
    "scalar": (np.array(-3.0), 3.0),
    "plain": (array(3, 4), 5.0),
    "matrix": (np.full((2, 2), 2.0), 4.0),
    "zeros": (np.zeros(5), 0.0),
    "squares underflow": (array(3e-300, 4e-300), 5e-300),
    "smallest": (array(TINY), TINY),
    "squares overflow": (array(3e300, 4e300), 5e300),
    "float32, squares overflow": (array(3e30, 4e30, dtype="float32"), 5e30),
    "float16": (array(3e4, 4e4, dtype="float16"), 5e4),
    "integers": (array(3, 4, dtype="int64"), 5.0),
    "booleans": (np.array([True, True, False, True, True]), 2.0),
    "strided": (np.arange(12.0).reshape(3, 4).T[::2], float(np.sqrt(220))),
    "infinite": (array(1, -INF), INF),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.filterwarnings("error")
def test_norm(name: str):
    x, wanted = NORMS[name]
    assert norm(x) == pytest.approx(wanted, rel=1e-3 if "float16" in name else 1e-6)


@pytest.mark.filterwarnings("error")
def test_norm_is_the_same_at_every_scale():
    """The scaled branch is continuous with the plain one."""
    x = normal(0, 1000)
    for scale in (1e-200, 1e-110, 1e-100, 1e-99, 1.0, 1e99, 1e100, 1e200):
        assert norm(x * scale) / scale == pytest.approx(np.linalg.norm(x), rel=1e-13)


DISTANCES = {
    "equal": (array(1, 2), array(1, 2), 0.0),
    "plain": (array(1, 2), array(4, 6), 5.0),
    "equal infinities": (array(INF, -INF, 1), array(INF, -INF, 2), 1.0),
    "opposite infinities": (array(INF), array(-INF), INF),
    "infinity against a number": (array(INF, 1), array(HUGE, 1), INF),
    "number against infinity": (array(1, 1), array(1, INF), INF),
    "NaN against a number": (array(NAN, 1), array(1, 1), INF),
    "number against NaN": (array(0, 1), array(NAN, 1), INF),
    "NaN against infinity": (array(NAN), array(INF), INF),
    "NaN twice": (array(NAN, 1), array(NAN, 3), 2.0),
    "empty": (np.zeros((2, 0)), np.zeros((2, 0)), 0.0),
    "scalars": (np.array(1.0), np.array(3.0), 2.0),
    "float32 against float64": (array(1, dtype="float32"), array(1 + 1e-9), 1e-9),
    "tiny": (array(3e-300, 0), array(0, 4e-300), 5e-300),
    "huge": (array(3e300, 0), array(0, 4e300), 5e300),
    "integers": (array(1, 2, dtype="int64"), array(1, 4, dtype="int32"), 2.0),
    "booleans": (np.array([True, False]), np.array([False, False]), 1.0),
    "unsigned": (array(1, dtype="uint8"), array(3, dtype="uint8"), 2.0),
    "complex": (np.array([1 + 1j]), np.array([1 + 3j]), 2.0),
    "signed zeros": (array(0.0), array(-0.0), 0.0),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_distance(name: str):
    t, j, wanted = DISTANCES[name]
    assert distance(t, j) == pytest.approx(wanted, rel=1e-6)
    assert distance(j, t) == pytest.approx(wanted, rel=1e-6)


X = normal(1, 8, 8)


def off(relative: float, x: np.ndarray = X) -> np.ndarray:
    """x, moved by a part of its norm."""
    move = normal(2, *x.shape)
    return x + move * (relative * np.linalg.norm(x) / np.linalg.norm(move))


@pytest.mark.parametrize("scale", [1e-280, 1e-30, 1.0, 1e30, 1e280])
@pytest.mark.parametrize(
    ("relative", "noise", "verdict"),
    [
        (0.0, 0.0, V.SAME),
        (0.99e-9, 0.0, V.SAME),
        (1.01e-9, 0.0, V.DIVERGED),
        (1.01e-9, 1e-11, V.DIVERGED),  # 8 N64 below 1e-9: the larger of the two counts
        (0.99e-9, 1e-10, V.SAME),
        (7.9e-8, 1e-8, V.INCONCLUSIVE),  # within 8 N64, which is too much to tell
        (8.1e-8, 1e-8, V.DIVERGED),
        (0.0, 1e-8, V.INCONCLUSIVE),
        (1e-8, 1.24e-10, V.DIVERGED),
    ],
)
def test_limits_of_tier1(scale: float, relative: float, noise: float, verdict: str):
    judged = one(X * scale, off(relative) * scale, noise * scale * norm(X))
    assert judged.verdict == verdict
    assert judged.limit == pytest.approx(max(1e-9, 8 * noise), rel=1e-6)
    assert judged.relative == pytest.approx(relative, rel=1e-3, abs=1e-14)


EDGES = {
    "empty": (np.zeros((0, 3)), np.zeros((0, 3)), V.SAME),
    "equal scalars": (np.array(0.1), np.array(0.1), V.SAME),
    "scalars": (np.array(0.1), np.array(0.1 + 1e-9), V.DIVERGED),
    "both zero": (np.zeros(3), np.zeros(3), V.SAME),
    "zero against tiny": (np.zeros(3), np.full(3, 1e-300), V.DIVERGED),
    "smallest": (array(TINY), array(2 * TINY), V.DIVERGED),
    "infinities": (array(INF, 1), array(INF, 1), V.SAME),
    "infinities beside a difference": (array(INF, 1), array(INF, 1.1), V.DIVERGED),
    "opposite infinities": (array(INF, 1), array(-INF, 1), V.DIVERGED),
    "infinity on one side": (array(INF, 1), array(1, 1), V.DIVERGED),
    "NaN in torch": (array(NAN, 1), array(0, 1), V.DIVERGED),
    "NaN in jax": (array(0, 1), array(NAN, 1), V.DIVERGED),
    "NaN on both": (array(NAN, 1), array(NAN, 1), V.INCONCLUSIVE),
    "NaN everywhere": (array(NAN, NAN), array(NAN, NAN), V.INCONCLUSIVE),
    "NaN on both, elsewhere": (array(NAN, 1), array(1, NAN), V.DIVERGED),
    "NaN on both, beside a difference": (array(NAN, 1), array(NAN, 2), V.DIVERGED),
    "the largest numbers": (np.full(4, HUGE), np.full(4, -HUGE), V.DIVERGED),
    "the largest, a little off": (np.full(4, HUGE), np.full(4, HUGE * 0.99), V.DIVERGED),
    "the largest, equal": (np.full(4, HUGE), np.full(4, HUGE), V.SAME),
    "integers": (array(1, 2, dtype="int64"), array(1, 3, dtype="int64"), V.DIVERGED),
    "booleans": (np.array([True, False]), np.array([True, True]), V.DIVERGED),
    "a boolean": (np.array(True), np.array(False), V.DIVERGED),
    "complex": (np.array([1 + 1j]), np.array([1 + 2j]), V.DIVERGED),
    "equal complex": (np.array([1 + 1j]), np.array([1 + 1j]), V.SAME),
    "one element of many": (np.ones(10_000), np.r_[np.ones(9_999), 1 + 1e-6], V.DIVERGED),
    "a matrix and its transpose": (X - X.mean(), (X - X.mean()).T, V.DIVERGED),
    "rows in another order": (X, X[::-1], V.DIVERGED),
    "another sign": (X, -X, V.DIVERGED),
}


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_edges_of_tier1(name: str):
    t, j, verdict = EDGES[name]
    judged = one(t, j)
    assert judged.verdict == verdict
    assert judged.detail or verdict == V.SAME
    assert len(judged.detail) < 120


def test_infinite_noise_allows_nothing():
    assert one(X, off(1e-6), INF).verdict == V.DIVERGED


def test_the_worst_element_is_told():
    j = X.copy()
    j[3, 5] += 1
    detail = one(X, j).detail
    assert "[3, 5]" in detail
    assert f"{X[3, 5]:.9g}" in detail
    assert f"{j[3, 5]:.9g}" in detail


SPECK = 1e-12 * X  # against a gradient scale of one and more


@pytest.mark.parametrize(
    ("t", "j", "noise", "verdict"),
    [
        (SPECK, -SPECK, 1e-12, V.SAME),  # rounding on both sides of an analytic zero
        (SPECK, np.zeros_like(X), 1e-12, V.SAME),
        (SPECK, X, 1e-12, V.DIVERGED),  # but not where the other side has a gradient
        (SPECK, 1e-7 * X, 1e-12, V.DIVERGED),
        (SPECK, 2 * SPECK, 1e-25, V.DIVERGED),  # small and exact: no rounding
    ],
    ids=["signs", "zero", "a real one", "a small real one", "exact"],
)
def test_analytically_zero_gradients(t, j, noise: float, verdict: str):
    """The label excuses rounding, never a gradient that only one side has."""
    judged = one(t, j, noise * 8, scale=100.0)
    assert judged.verdict == verdict
    assert (judged.label == "zero") == (verdict == V.SAME)


def test_what_inherits_the_label_is_the_same_whatever_it_became():
    """Adam turns rounding into whole steps."""
    judged = one(X, X + 0.1, 1e-12, zero=True)
    assert (judged.verdict, judged.label) == (V.SAME, "zero")


U = 2.0**-24


@pytest.mark.parametrize("unit", [2.0**-24, 2.0**-8, 2.0**-11])
@pytest.mark.parametrize(
    ("units", "noise", "verdict"),
    [
        (15.9, 0.0, V.SAME),  # 4 * 4u
        (16.1, 0.0, V.DIVERGED),
        (39.0, 10.0, V.SAME),  # 4 N
        (41.0, 10.0, V.DIVERGED),
        (15.9, 1.0, V.SAME),  # N below 4u: the larger of the two counts
    ],
)
def test_limits_of_tier2(unit: float, units: float, noise: float, verdict: str):
    if unit > U and noise * unit > V.TOO_NOISY:
        verdict = V.INCONCLUSIVE if verdict == V.SAME else verdict
    judged = two(off(units * unit), X, noise * unit * norm(X), unit=unit)
    assert judged.verdict == verdict
    assert judged.limit == pytest.approx(4 * max(noise, 4) * unit)


@pytest.mark.parametrize(
    ("noise", "verdict"), [(0.99 * 2.0**-10, V.SAME), (1.01 * 2.0**-10, V.INCONCLUSIVE)]
)
def test_too_noisy_is_inconclusive(noise: float, verdict: str):
    assert two(off(1e-4), X, noise * norm(X)).verdict == verdict
    assert two(off(0.1), X, noise * norm(X)).verdict == V.DIVERGED


@pytest.mark.parametrize(("size", "verdict"), [(15, V.SAME), (16, V.DIVERGED)])
def test_small_tensors_borrow_the_median(size: int, verdict: str):
    x = X.ravel()[:size]
    assert two(off(3e-4, x), x, 0.0, median=1e-4).verdict == verdict


@pytest.mark.parametrize(
    ("r", "r64", "verdict"),
    [
        (array(NAN, 1), array(0, 1), V.DIVERGED),
        (array(INF, 1), array(1e39, 1), V.DIVERGED),
        (array(INF, 1), array(INF, 1), V.SAME),
        (np.zeros((0, 2)), np.zeros((0, 2)), V.SAME),
        (np.zeros(20), np.zeros(20), V.SAME),
        (array(1e-3), array(0), V.DIVERGED),
    ],
    ids=["NaN", "overflow", "infinities", "empty", "zeros", "not zero"],
)
def test_edges_of_tier2(r, r64, verdict: str):
    assert two(r, r64).verdict == verdict


@pytest.mark.parametrize("length", [1, 2, 3])
def test_precedence(length: int):
    order = [V.DIVERGED, V.INCONCLUSIVE, V.SAME]
    for found in itertools.product(order, repeat=length):
        assert V.worst(found) == min(found, key=order.index)
        assert V.worst([*found, V.NOT_APPLICABLE]) == V.worst(found)


def test_nothing_compared_is_inconclusive():
    assert V.worst([]) == V.INCONCLUSIVE
    assert V.worst([V.NOT_APPLICABLE]) == V.INCONCLUSIVE


FILLS = (-1e9, float(np.finfo(np.float32).min), float(np.finfo(np.float64).min))


@pytest.mark.parametrize("fill", FILLS)
def test_beside_a_mask_the_scores_are_judged_by_themselves(fill: float):
    scores = np.random.default_rng(0).standard_normal((4, 6))
    masked = np.where(np.tri(4, 6, dtype=bool), scores, fill)
    assert V.tier1("x", "x", masked, masked.copy(), 0.0).verdict == V.SAME
    rounded = masked * (1 - 1e-15)
    assert V.tier1("x", "x", masked, rounded, 0.0).verdict == V.SAME
    wrong = np.where(np.tri(4, 6, dtype=bool), scores * (1 + 1e-7), fill)
    judged = V.tier1("x", "x", masked, wrong, 0.0)
    assert judged.verdict == V.DIVERGED
    assert 1e-8 < judged.relative < 1e-6
    assert V.tier1("x", "x", masked, np.where(masked == fill, fill / 2, masked), 0.0).verdict == (
        V.DIVERGED
    )
    unmasked = V.tier1("x", "x", masked, scores, 0.0)
    assert unmasked.verdict == V.DIVERGED
