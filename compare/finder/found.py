"""What the finder has to say: the places, the origin, the cause."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.finder.lint import Finding
from compare.ladder.result import Result
from compare.share import to_numpy

Tensors = dict[str, np.ndarray]


@dataclass
class Row:
    """One place, as the table of a report has it.

    Args:
      torch, jax: its keys.
      difference: in the whole run, relative; None where it was not compared.
      replayed: alone, on the reference's inputs, relative.
      verdict: "same", "ORIGIN" or "inherited".
      between: of glue, the layer before.
    """

    torch: str
    jax: str
    difference: float | None
    replayed: float
    verdict: str = "same"
    between: str | None = None


@dataclass
class Origin:
    """Where two models part.

    Args:
      stage: the rung: "weights", "forward", "gradients", "step", "trajectory".
      torch, jax: the place on both sides.
      mode: "eval", "train", "train.<phase>".
      what: as in `Site`.
      difference, replayed: relative, in the whole run and alone.
      between: of glue, the layers that it lies between.
      torch_source, jax_source: "file:line".
      ours, theirs: both values.
      key: PyTorch's, of the tensor.
      within: the layers around a place that the values named, where those alone are paired.
      note: what the values tell of it; see `alignment`.
    """

    stage: str
    torch: str
    jax: str
    mode: str = "train"
    what: str = "output"
    difference: float = 0.0
    replayed: float | None = None
    between: tuple[str, str] | None = None
    torch_source: str = ""
    jax_source: str = ""
    ours: np.ndarray | None = None
    theirs: np.ndarray | None = None
    key: str = ""
    within: tuple[str, str] | None = None
    note: str = ""


@dataclass
class Cause:
    """Why, confirmed: with this edit PyTorch's side gives what JAX's gives."""

    difference: Difference
    edit: Edit
    before: float
    after: float


@dataclass
class Found:
    """What the finder has to say of one pair."""

    result: Result
    origin: Origin | None = None
    cause: Cause | None = None
    tried: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    lint: list[Finding] = field(default_factory=list)

    @property
    def window(self) -> Tensors:
        """The tensors around the origin: what the place was given, and what both sides made."""
        tensors: Tensors = {}
        if self.origin is not None and not self.sites:
            both = {"torch": self.origin.ours, "jax": self.origin.theirs}
            tensors |= {side: value for side, value in both.items() if value is not None}
        for site in self.sites[:1]:
            tensors |= {"torch": site.ours, "jax": site.theirs}
            for index, value in enumerate(site.inputs):
                if hasattr(value, "detach"):
                    tensors[f"input.{index}"] = to_numpy(value)
            if site.module is not None:
                state = site.module.state_dict()
                tensors |= {f"state.{name}": to_numpy(value) for name, value in state.items()}
        return tensors
