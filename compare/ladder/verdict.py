"""Same or not: the two limits of the harness, applied to one tensor.

Tier 1, the same mathematics, in float64: ||t - j|| <= max(1e-9 ||t||, 8 N64), where N64 is the
worst of two torch runs whose weights and inputs were moved by one ulp. Correct twins agree to 1e-12
and better; the mildest real fault known shows at 1e-8.

Tier 2, the same numerics, in a backend's own dtype: ||R - R64|| <= 4 max(N, 4u ||R64||), where R64
is the float64 torch run on R's own branches, N the worst error of five torch runs of that dtype,
and u the unit roundoff of the dtype that the tensor has in those runs: under autocast some are
bfloat16 and others float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from compare.capture.distance import distance, finite_norm, parts

SAME, DIVERGED, INCONCLUSIVE, NOT_APPLICABLE = "SAME", "DIVERGED", "INCONCLUSIVE", "n/a"
RELATIVE = 1e-9
NOISE = 8.0
ZERO = 1e-10  # of the network's gradient scale: below it a gradient is analytically zero
DTYPES = ("float32", "bfloat16", "float16")  # in which a backend's numerics are judged
UNIT = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "tf32": 2.0**-11}
TOO_NOISY = 2.0**-10  # of a value, in float32
COARSE = 2.0**-2  # the same where a 16-bit type takes part, whose honest noise is a percent or two
SHAPE = "shape"  # the label of tensors whose shapes differ
SMALL = 16  # tensors with fewer elements borrow the stage's median noise


def worst(verdicts: Iterable[str]) -> str:
    """DIVERGED before INCONCLUSIVE before SAME; nothing compared is INCONCLUSIVE."""
    found = [v for v in verdicts if v != NOT_APPLICABLE]
    for verdict in (DIVERGED, INCONCLUSIVE):
        if verdict in found:
            return verdict
    return SAME if found else INCONCLUSIVE


@dataclass(frozen=True)
class Judged:
    """The verdict on one tensor.

    Args:
      name, other: its names on the two sides.
      verdict: SAME, DIVERGED or INCONCLUSIVE.
      difference: ||t - j||.
      size: ||t||.
      allowed: the largest difference that is the same.
      label: "zero" for an analytically zero gradient and what inherits from it, "chaotic", "shape"
        where the other side has another one, "inner" for a gradient that nothing trained shares,
        or "".
      detail: the worst element's index and both its values; what is wrong.
      shape: PyTorch's shape.
      dtype: of the run that was judged.
    """

    name: str
    other: str
    verdict: str
    difference: float
    size: float
    allowed: float
    label: str = ""
    detail: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = "float64"

    @property
    def relative(self) -> float:
        return self.difference / self.size if self.size else self.difference

    @property
    def limit(self) -> float:
        """What `relative` is compared with."""
        return self.allowed / self.size if self.size else self.allowed

    @property
    def ratio(self) -> float:
        """The difference over what is allowed."""
        return self.difference / self.allowed if self.allowed else float(self.difference > 0)


def element(t: np.ndarray, j: np.ndarray) -> str:
    """The worst element: its index and both values, never the arrays."""
    with np.errstate(invalid="ignore", over="ignore"):
        kind = np.complex128 if "c" in (t.dtype.kind, j.dtype.kind) else np.float64
        gap = np.abs(np.subtract(t, j, dtype=kind))
        gap = np.where(
            np.isfinite(gap), gap, np.where((t == j) | (np.isnan(t) & np.isnan(j)), 0, np.inf)
        )
    index = np.unravel_index(int(np.argmax(gap)), gap.shape) if gap.size else ()
    place = "[" + ", ".join(str(int(i)) for i in index) + "]" if index else ""
    return f"worst at {place or 'the scalar'}: torch {t[index]:.9g}, jax {j[index]:.9g}"


def tier1(
    name: str,
    other: str,
    t: np.ndarray,
    j: np.ndarray,
    noise: float,
    *,
    scale: float = 0.0,
    zero: bool = False,
) -> Judged:
    """Judges one tensor in float64; where it has huge elements, the others by themselves.

    Args:
      t, j: both sides' values, of one shape.
      noise: N64.
      scale: the network's gradient scale, for gradients; 0 elsewhere.
      zero: whether the tensor inherits the label of an analytically zero gradient.
    """
    judged = [
        _tier1(name, other, ours, theirs, noise / divided, scale, zero)
        for ours, theirs, divided in parts(t, j)
    ]
    verdict = worst(each.verdict for each in judged)
    found = max((each for each in judged if each.verdict == verdict), key=lambda each: each.ratio)
    return found


def _tier1(
    name: str,
    other: str,
    t: np.ndarray,
    j: np.ndarray,
    noise: float,
    scale: float,
    zero: bool,
) -> Judged:
    shape = t.shape
    difference, size = distance(t, j), finite_norm(t)
    allowed = max(RELATIVE * size, NOISE * noise if np.isfinite(noise) else 0.0)
    if not np.isfinite(allowed):  # the norm overflows: only equal tensors are the same
        allowed = 0.0
    if np.isnan(t).any() and difference <= allowed:
        where = f"NaN on both sides, {int(np.isnan(t).sum())} of {t.size} elements"
        where += ": give inputs and weights for which the models are finite"
        return Judged(name, other, INCONCLUSIVE, 0.0, 0.0, 0.0, "nan", where, shape)
    if zero:
        return Judged(name, other, SAME, difference, size, allowed, "zero", "", shape)
    if scale and max(size, difference) < ZERO * scale and NOISE * noise > RELATIVE * size:
        return Judged(name, other, SAME, difference, size, allowed, "zero", "", shape)
    if not difference <= allowed:
        return Judged(name, other, DIVERGED, difference, size, allowed, "", element(t, j), shape)
    if NOISE * noise > RELATIVE * size:
        detail = f"a move by one ulp changes it by {noise:.1e} of {size:.1e}: chaotic;"
        detail += " a lower learning rate, fewer steps or smaller inputs keep it comparable"
        return Judged(
            name, other, INCONCLUSIVE, difference, size, allowed, "chaotic", detail, shape
        )
    return Judged(name, other, SAME, difference, size, allowed, "", "", shape)


def unlike(
    name: str, other: str, ours: tuple[int, ...], theirs: tuple[int, ...], dtype: str = "float64"
) -> Judged:
    """The verdict on two tensors of different shapes."""
    detail = f"{ours} in PyTorch, {theirs} in JAX"
    return Judged(name, other, DIVERGED, np.inf, 0.0, 0.0, SHAPE, detail, ours, dtype)


def tier2(
    name: str,
    other: str,
    r: np.ndarray,
    r64: np.ndarray,
    noise: float,
    median: float,
    unit: float,
    scale: float = 0.0,
    dtype: str = "float32",
    too_noisy: float = TOO_NOISY,
) -> Judged:
    """Judges one tensor in a backend's own dtype.

    Args:
      r, r64: the run, and the float64 torch run on its branches.
      noise: N of this tensor.
      median: the stage's median of N / ||R64||, for tensors that are too small to have their own.
      unit: u of this tensor.
      scale: what stands for ||R64|| where that is zero by analysis: the network's gradient scale.
      dtype: of the run.
      too_noisy: N / ||R64|| above which the verdict is INCONCLUSIVE.
    """
    difference, size = distance(r64, r), scale or finite_norm(r64)
    if r64.size < SMALL:
        noise = max(noise, median * size)
    allowed = 4 * max(noise, 4 * unit * size)
    verdict, detail = SAME, ""
    if not difference <= allowed:
        verdict, detail = DIVERGED, element(r64, r)
    elif noise > too_noisy * size:
        verdict = INCONCLUSIVE
        detail = f"five reference runs spread by {noise:.1e} of {size:.1e}: too noisy to tell"
    return Judged(name, other, verdict, difference, size, allowed, "", detail, r64.shape, dtype)
