"""One pass as a list of operations and of the values that they read and give, on either side."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from compare.capture.fingerprint import Fingerprint

INTEGERS = "integers"


@dataclass(frozen=True)
class Operation:
    """One operation of PyTorch's dispatcher, or one equation of a jaxpr.

    Args:
      name: "addmm", "dot_general".
      source: "file:line" of user code.
      place: the key of the module or function that it runs in; in JAX the name stack.
      layer: whether that is a place which is named and made of no others.
      reads, gives: values by number.
      moves: whether it only arranges elements: a view, a transposition, a concatenation.
      order: of a product, by value read: a sum that tells in which order the elements stand along
        the axis that is summed over.
      of: in PyTorch's backward pass the number of the operation that it differentiates.
    """

    name: str
    source: str
    place: str
    reads: tuple[int, ...]
    gives: tuple[int, ...]
    layer: bool = False
    moves: bool = False
    order: dict[int, float] = field(default_factory=dict)
    of: int | None = None


@dataclass
class Operations:
    """One pass.

    Args:
      operations: in order of execution.
      prints: of every value; None for what depends on nothing that is given.
      given: what the pass is given, by value: "weight/…", "data", or `INTEGERS`, which are data
        without a gradient.
      ends: what it comes to: "out…", "loss", "gradient/…".
      seed: the gradient of the loss, which is one, where the pass goes back, too.
    """

    operations: list[Operation] = field(default_factory=list)
    prints: list[Fingerprint | None] = field(default_factory=list)
    given: dict[int, str] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    seed: int | None = None

    def value(self, print_: Fingerprint | None) -> int:
        """The number of a new value."""
        self.prints.append(print_)
        return len(self.prints) - 1

    @cached_property
    def producers(self) -> dict[int, int]:
        """The operation that gives each value; what is given has none."""
        return {v: i for i, op in enumerate(self.operations) for v in op.gives}

    @cached_property
    def depends(self) -> list[tuple[bool, bool]]:
        """Of each value: on data, on weights."""
        found = [(False, False)] * len(self.prints)
        for value, kind in self.given.items():
            weight = kind.startswith("weight/")
            found[value] = (not weight, weight)
        for op in self.operations:
            data, weights = (any(found[v][i] for v in op.reads) for i in (0, 1))
            for value in op.gives:
                found[value] = (data, weights)
        return found

    @cached_property
    def gradients(self) -> list[bool]:
        """Of each value, whether it is made of the gradient of the loss."""
        found = [value == self.seed for value in range(len(self.prints))]
        for op in self.operations:
            if any(found[v] for v in op.reads):
                for value in op.gives:
                    found[value] = True
        return found

    @cached_property
    def readers(self) -> dict[int, list[int]]:
        """The operations that read each value, in order of execution."""
        found: dict[int, list[int]] = {}
        for number, op in enumerate(self.operations):
            for value in dict.fromkeys(op.reads):
                found.setdefault(value, []).append(number)
        return found
