"""What a comparison comes to: the rungs, and all that was found of one candidate backend."""

from __future__ import annotations

from dataclasses import dataclass, field

from compare.capture.taps import Tap
from compare.ladder import verdict as V
from compare.ladder.pairing import Leftovers, Pairing
from compare.ladder.verdict import Judged

STAGES = ("weights", "forward", "gradients", "step", "trajectory")
Info = dict[str, dict[str, Tap]]


@dataclass
class Stage:
    """One rung of the ladder.

    Args:
      judged: tier 1, in float64.
      numerics: tier 2, in the backend's own dtype.
      findings: what no tensor's verdict says, with the verdict that it makes.
    """

    name: str
    judged: list[Judged] = field(default_factory=list)
    numerics: list[Judged] = field(default_factory=list)
    findings: list[tuple[str, str]] = field(default_factory=list)
    compared: str = ""
    applicable: bool = True

    @property
    def verdict(self) -> str:
        if not self.applicable:
            return V.NOT_APPLICABLE
        tensors = [j.verdict for j in (*self.judged, *self.numerics)]
        return V.worst([*tensors, *(v for v, _ in self.findings)])

    @property
    def worst(self) -> Judged | None:
        """The tensor that came nearest to its limit, or went farthest beyond it."""
        counted = [j for j in self.judged if j.label not in ("zero", "nan", "inner", "shape")]
        return max(counted, key=lambda j: j.ratio, default=None)


@dataclass
class Result:
    """What one candidate backend of one twin came to."""

    name: str
    reference: str
    candidate: str
    stages: dict[str, Stage] = field(default_factory=lambda: {name: Stage(name) for name in STAGES})
    pairing: dict[str, Pairing] = field(default_factory=dict)
    info: Info = field(default_factory=dict)
    others: Info = field(default_factory=dict)
    losses: list[tuple[int, str, float, float]] = field(default_factory=list)
    leaves: int = 0
    moved: int = 0
    buffers: int = 0
    skipped: list[str] = field(default_factory=list)
    lifted: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    by_order: list[str] = field(default_factory=list)
    dropout: str = ""
    compiler: bool = False
    unpaired: Leftovers = field(default_factory=Leftovers)

    @property
    def verdict(self) -> str:
        return V.worst(stage.verdict for stage in self.stages.values())

    @property
    def kind(self) -> str | None:
        """What diverged: "mathematics", "numerics" where float64 agrees, the "compiler" alone."""
        if self.verdict != V.DIVERGED:
            return None
        if self.compiler:
            return "compiler"
        exact = [j.verdict for stage in self.stages.values() for j in stage.judged]
        shown = [v for s in self.stages.values() if not s.numerics for v, _ in s.findings]
        return "mathematics" if V.DIVERGED in (*exact, *shown) else "numerics"
