"""The functions of one PyTorch pass in the order of their calls: what glue is made of.

Between two named layers a model computes with plain functions. They are kept as they were called,
so that any stretch of them can be run again, forward and backward, with one of them changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

Ref = tuple[int, int]
"""A tensor and its version: an in-place function gives another one."""


def ref(tensor: torch.Tensor) -> Ref:
    return id(tensor), tensor._version


@dataclass
class Op:
    """One call: its arguments, flattened, and the tensors that it read and gave."""

    name: str
    function: Callable
    leaves: list[Any]
    spec: TreeSpec
    reads: list[Ref | None]
    gives: list[tuple[Ref, int]] = field(default_factory=list)
    changes: list[tuple[Ref, int]] = field(default_factory=list)  # in place, of its own arguments

    @property
    def args(self) -> tuple[Any, ...]:
        return tree_unflatten(self.leaves, self.spec)[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        return tree_unflatten(self.leaves, self.spec)[1]

    @property
    def form(self) -> tuple[Any, ...]:
        """The function, the shapes that it is given, and its other arguments."""
        shown = (
            tuple(x.shape) if r else repr(x) for r, x in zip(self.reads, self.leaves, strict=True)
        )
        return self.name, *shown

    @property
    def refs(self) -> list[Ref]:
        return [r for r, _ in self.gives + self.changes]

    def run(self, values: dict[Ref, torch.Tensor], call: Callable | None) -> None:
        """Calls it, or another function, on other values, and adds what that gives."""
        leaves = [
            values.get(r, leaf) if r else leaf
            for r, leaf in zip(self.reads, self.leaves, strict=True)
        ]
        for _, index in self.changes:
            leaves[index] = leaves[index].clone()
        args, kwargs = tree_unflatten(leaves, self.spec)
        flat, _ = tree_flatten((call or self.function)(*args, **kwargs))
        values |= {r: leaves[index] for r, index in self.changes}
        values |= {r: flat[index] for r, index in self.gives}


class Program:
    """The calls of one pass, and which of their tensors are inputs and outputs of layers.

    Args:
      inputs: by key, also "out…", the model's outputs, and "loss".
      outputs: of layers: the keys under which one is known, and its value.
      modules: the names of those that are modules, by key.
    """

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.inputs: dict[str, Ref] = {}
        self.outputs: dict[Ref, tuple[list[str], torch.Tensor]] = {}
        self.modules: dict[str, str] = {}
        self._alive: list[Any] = []  # an id is given again when its tensor is gone

    def call(self, function: Callable, args: Any, kwargs: Any, run: Callable[[], Any]) -> Any:
        """Runs one call, and keeps it."""
        leaves, spec = tree_flatten((tuple(args), dict(kwargs)))
        reads = [ref(x) if isinstance(x, torch.Tensor) else None for x in leaves]
        op = Op(_name(function), function, leaves, spec, reads)
        output = run()
        flat, _ = tree_flatten(output)
        op.changes = [
            (ref(x), i)
            for i, x in enumerate(leaves)
            if isinstance(x, torch.Tensor) and ref(x) != reads[i]
        ]
        changed = {r for r, _ in op.changes}
        op.gives = [
            (ref(x), i)
            for i, x in enumerate(flat)
            if isinstance(x, torch.Tensor) and ref(x) not in changed
        ]
        if op.refs:
            self._alive.append(flat)
            self.ops.append(op)
        return output

    def output(self, key: str, tensor: torch.Tensor, module: str = "") -> None:
        """Names a layer's output, and keeps it as it is now."""
        if module:
            self.modules[key] = module
        if ref(tensor) not in self.outputs:
            self.outputs[ref(tensor)] = [], tensor.detach().clone()
            self._alive.append(tensor)
        self.outputs[ref(tensor)][0].append(key)

    def known(self, keys: Collection[str]) -> dict[Ref, torch.Tensor]:
        """The outputs of some layers."""
        return {r: v for r, (names, v) in self.outputs.items() if any(n in keys for n in names)}

    def source(self, key: str) -> Ref:
        """The tensor that is a layer's output, or "input/…", one of the model's."""
        return next(r for r, (names, _) in self.outputs.items() if key in names)

    def name(self, tensor: Ref, keys: Collection[str]) -> str:
        """The layer, of some, that gives a tensor: the outermost."""
        return [name for name in self.outputs[tensor][0] if name in keys][-1]

    def stretch(self, targets: Sequence[Ref], known: Collection[Ref]) -> tuple[list[int], set[Ref]]:
        """The calls that make some tensors of known ones, in order, and all that they read."""
        needed, chosen = set(targets), []
        for index in reversed(range(len(self.ops))):
            op = self.ops[index]
            if any(r in needed and r not in known for r in op.refs):
                chosen.append(index)
                needed |= {r for r in op.reads if r}
        return chosen[::-1], needed

    def users(self, source: Ref, known: Collection[Ref]) -> dict[str, Ref]:
        """What a tensor reaches with no known one between, by key: the inputs of layers, the
        outermost of several, and the outputs of modules that it is made in."""
        reached = {source}
        for op in self.ops:
            if any(r in reached for r in op.reads):
                reached |= {r for r in op.refs if r not in known}
        inputs = {key: r for key, r in self.inputs.items() if r in reached}
        callers = tuple(re.sub(r":in.*", ".", key) for key in inputs if ":in" in key)
        users = {key: r for key, r in inputs.items() if not key.startswith(callers)}
        made = self.outputs[source][0][0]
        for op in self.ops:
            if any(r in reached for r in op.reads):
                for r in set(op.refs) & set(known) - {source}:
                    users |= {k: r for k in self.outputs[r][0] if made.startswith(self._inside(k))}
        return users

    def _inside(self, key: str) -> str:
        """What the names of a module's own layers begin with; nothing else has that."""
        return f"{self.modules[key]}." if key in self.modules else "/"

    def run(
        self,
        targets: Sequence[Ref],
        known: Mapping[Ref, torch.Tensor],
        change: Mapping[int, Callable],
    ) -> list[torch.Tensor]:
        """The tensors again, made of known ones, with other functions in some calls' places."""
        values = dict(known)
        for index in self.stretch(targets, known)[0]:
            self.ops[index].run(values, change.get(index))
        return [values[target] for target in targets]

    def gradient(
        self,
        source: Ref,
        cotangents: Mapping[Ref, torch.Tensor],
        known: Mapping[Ref, torch.Tensor],
        change: Mapping[int, Callable],
    ) -> torch.Tensor:
        """The gradient of a named tensor from those of what is made of it.

        Raises:
          ValueError: for a change that shows forward already.
        """
        with torch.enable_grad():
            leaf = self.outputs[source][1].clone().requires_grad_()
            start = {r: value for r, value in known.items() if r not in cotangents} | {source: leaf}
            made = self.run(list(cotangents), start, change)
            plain = self.run(list(cotangents), start, {}) if change else made
            if not all(map(torch.allclose, made, plain)):
                raise ValueError("the forward pass is another")
            (gradient,) = torch.autograd.grad(
                made, leaf, list(cotangents.values()), allow_unused=True, materialize_grads=True
            )
        return gradient


def _name(function: Callable) -> str:
    """ "__matmul__" -> "matmul", "masked_fill_" -> "masked_fill", the property T -> "T"."""
    name = function.__name__
    if name == "__get__":
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    return SPELLINGS.get(name, name.strip("_"))


SPELLINGS = {
    "__truediv__": "div",
    "__rtruediv__": "reciprocal",
    "__rmul__": "mul",
    "__radd__": "add",
    "__rsub__": "rsub",
    "__rmatmul__": "matmul",
    "__imul__": "mul",
    "__iadd__": "add",
    "__isub__": "sub",
    "__itruediv__": "div",
    "true_divide": "div",
    "bmm": "matmul",
    "multiply": "mul",
    "__invert__": "logical_not",
}
