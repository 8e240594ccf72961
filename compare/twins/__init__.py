"""The catalogue: a file per architecture, at the path that it has in the mirror."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from compare.twin import Twin


def functions(room: str, **inputs: Any) -> Callable[[Callable], Twin]:
    """Makes one twin of a file of functions, so that they share its compiled programs.

    It decorates `name(module, *inputs) -> dict of values`, which calls the functions of `module`,
    either side's, each on values of its own, so that its gradients are its own, too.

    Args:
      room: the relative path of the mirrored files.
      inputs: as of `Twin`.
    """

    def made(call: Callable) -> Twin:
        return Twin(
            torch=Side("torchref", room, call), jax=Side("jaxnn", room, call), inputs=inputs
        )

    return made


@dataclass(frozen=True)
class Side:
    """The functions of a file of one tree, called as one."""

    tree: str
    room: str
    call: Callable

    @property
    def module(self) -> str:
        """The dotted name of the file."""
        return f"{self.tree}.{self.room.replace('/', '.')}"

    def __call__(self, *arrays: Any) -> Mapping[str, Any]:
        return self.call(import_module(self.module), *arrays)


def own(module: Any, matrix: Any) -> Any:
    """A kernel in the side's own layout: (out, in) in PyTorch, (in, out) in JAX."""
    return matrix if in_torch(module) else matrix.T


def in_torch(module: Any) -> bool:
    """Which side a module of the mirror is on."""
    return module.__name__.startswith("torchref")
