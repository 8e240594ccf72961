"""What rounding alone does: the reference moved by one ulp, and its runs in a lower dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from compare.capture.distance import distance
from compare.capture.taps import Section
from compare.ladder.pair import REFERENCE, Pair


def together(run: Any, truth: Any) -> Iterator[tuple[Section, Section]]:
    """Sections of a run and of the float64 run on its branches, side by side, none kept."""
    others = truth.sections(False)
    return map(lambda section: (section, next(others)), run.sections(False))  # noqa: C417


def moved(pair: Pair) -> list[Any]:
    """Two float64 reference runs with weights and inputs moved by one random ulp."""
    return [pair.run(REFERENCE, moved=("moved", i)) for i in range(2)]


def mathematical_noise(section: Section, streams: list[Iterator[Section]]) -> dict[str, float]:
    """N64: how far the worst of the moved runs is from the plain one, by tensor."""
    noise = dict.fromkeys(section.tensors, 0.0)
    for stream in streams:
        other = next(stream).tensors
        for name, t in section.tensors.items():
            if name in other:
                noise[name] = max(noise[name], distance(t, other[name]))
        del other  # before the next is made
    return noise


def numerical_noise(
    pair: Pair, dtype: str, progress: Callable[[str], None]
) -> tuple[dict[str, float], dict[str, list[Any]]]:
    """N: the worst error of five reference runs of a dtype, by tensor; and their branch flips."""
    noise: dict[str, float] = {}
    flips: dict[str, list[Any]] = {}
    for index in range(5):
        progress(f"{dtype} reference {index + 1} of 5")
        move = {"moved": ("reference", index)} if index else {}
        run = pair.run(REFERENCE, dtype, **move)
        truth = pair.run(REFERENCE, impose=run.branches.__getitem__)
        for section, exact in together(run, truth):
            errors = {
                name: distance(exact.tensors[name], value)
                for name, value in section.tensors.items()
                if value.dtype.kind == "f"
            }
            noise |= {name: max(noise.get(name, 0.0), error) for name, error in errors.items()}
            del section, exact
        for key, flip in truth.flips.items():
            flips.setdefault(key, []).append(flip)
    return noise, flips
