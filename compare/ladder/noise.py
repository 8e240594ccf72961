"""What rounding alone does: the reference moved by one ulp, and its runs in a lower dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from compare.capture.distance import distance
from compare.capture.taps import Section
from compare.ladder import verdict as V
from compare.ladder.pair import REFERENCE, Pair


@dataclass
class Noise:
    """What five reference runs of a dtype show of its rounding.

    Args:
      dtype: what is judged, "float32", "bfloat16" or "float16".
      stored: of the runs' parameters and inputs; float32 under autocast.
      errors: N, the worst error, by tensor.
      flips: the branches that each run took otherwise than float64, by kink.
      dtypes: of tensors that have another dtype than the runs': autocast's, or upcast ones.
      least: u of the judged backend's matrix products, where those are coarser (TF32).
      sides: 2 where both of what is compared are rounded so, and neither is float64.
    """

    dtype: str
    stored: str
    errors: dict[str, float] = field(default_factory=dict)
    flips: dict[str, list[Any]] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    least: float = 0.0
    sides: int = 1

    def unit(self, name: str) -> float:
        """u of a tensor; what is wider than float32 on PyTorch's side need not be in JAX."""
        own = V.UNIT.get(self.dtypes.get(name, self.stored), V.UNIT["float32"])
        return self.sides * max(own, self.least)

    @property
    def too_noisy(self) -> float:
        """The share of a value that noise may be."""
        halves = {"float16", "bfloat16"}.intersection([self.dtype, *self.dtypes.values()])
        return V.COARSE if halves else V.TOO_NOISY


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


def numerical_noise(pair: Pair, dtype: str, progress: Callable[[str], None]) -> Noise:
    """Five reference runs of a dtype, one plain and four moved by one ulp, on their branches."""
    noise = Noise(dtype, pair.stored(dtype))
    for index in range(5):
        progress(f"{dtype} reference {index + 1} of 5")
        move = {"moved": ("reference", index)} if index else {}
        run = pair.run(REFERENCE, noise.stored, **move)
        truth = pair.run(REFERENCE, impose=run.branches.__getitem__)
        for section, exact in together(run, truth):
            errors = {
                name: distance(exact.tensors[name], value)
                for name, value in section.tensors.items()
                if value.dtype.kind == "f"
            }
            known = noise.errors
            noise.errors |= {k: max(known.get(k, 0.0), error) for k, error in errors.items()}
            del section, exact
        noise.dtypes |= run.dtypes
        for key, flip in truth.flips.items():
            noise.flips.setdefault(key, []).append(flip)
    return noise
