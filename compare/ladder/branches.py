"""The sides of a kink that two runs took: ReLU's signs, the places of a maximum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from compare.ladder import verdict as V
from compare.ladder.noise import Noise
from compare.ladder.pairing import Pairing
from compare.ladder.result import Stage
from compare.layout import align


def branches(
    theirs: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    pairing: Pairing,
    layout: str,
) -> dict[str, np.ndarray]:
    """A run's branches in one mode under PyTorch's keys and axes, whose shapes are given."""
    found = {}
    for key, other in pairing.pairs.items():
        calls = pairing.stacked.get(key, [key])
        if other not in theirs or any(call not in shapes for call in calls):
            continue
        for call, value in zip(
            calls, theirs[other] if key in pairing.stacked else [theirs[other]], strict=True
        ):
            aligned = align(value, shapes[call], layout)
            if aligned is not None:
                found[call] = aligned
    return found


def judge_flips(stage: Stage, flips: Mapping[str, Any], noise: Noise) -> None:
    """The branches that differ from float64's: not more than the references', nor farther."""
    for key, flip in flips.items():
        others = noise.flips.get(key, [])
        most = max((f.count for f in others), default=0)
        error = max((f.error for f in others), default=0.0)
        mode, _, place = key.partition("/")
        reach = 4 * max(error, 4 * noise.unit(f"{mode}/layer/{place}") * flip.scale)
        if flip.count > 4 * max(most, 1):
            text = f"{key}: {flip.count} branches differ from float64's, references: {most}"
            stage.findings.append((V.DIVERGED, text))
        elif flip.farthest > reach:
            place = f"{flip.farthest:.1e} from the kink; rounding reaches {reach:.1e}"
            text = f"{key}: a branch differs {place}"
            stage.findings.append((V.DIVERGED, text))
