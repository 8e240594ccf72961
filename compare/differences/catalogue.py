"""The catalogue of differences: what PyTorch and JAX do otherwise, measured, and how to mend it.

Every file here holds `Difference`s of one family at module level; they are found, not listed. The
finder hands the place where two models part, a `Site`, to the differences of its kind. Each gives
the edits of PyTorch's side that would imitate the other's habit; the edit after which PyTorch's
result is JAX's is the cause.
"""

from __future__ import annotations

import copy
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Edit:
    """One change to PyTorch's side that imitates what JAX's side may be doing.

    Args:
      jax: what to write on JAX's side to get PyTorch's result, one line.
      torch: what to write on PyTorch's side to get JAX's result, one line; "" if nothing can.
      compute: PyTorch's result with the change, a tensor of the shape of `Site.theirs` (of another
        shape, or an exception, is "not this one").
    """

    jax: str
    torch: str
    compute: Callable[[], Any]


@dataclass
class Site:
    """The place where two models part, alone, on the reference's own inputs, in float64.

    Args:
      kind: the class of PyTorch's module ("LayerNorm"), the name of the function ("gelu",
        "cross_entropy", "matmul"), "glue" between two layers as a whole, or the optimizer's class
        ("Adam").
      what: "output", "gradient" (of its input), "param" (the gradient of a parameter), "buffer",
        "loss", "update" (a parameter after one optimizer step), "start" (after the first one) or
        "state" (what JAX's optimizer alone keeps of a parameter, after one step).
      theirs: JAX's value, with PyTorch's axes.
      ours: PyTorch's value.
      inputs: what the place was given: the module's or function's tensor arguments; of "glue" the
        values it was made of.
      module: of a module, a float64 copy with its parameters, in the mode of the run.
      function, args, kwargs: of a function, the call that PyTorch made.
      cotangent: of "gradient" and "param", the gradient of the place's output; of several outputs
        one each, None where none comes.
      output: which of several outputs `theirs` is.
      name: of "param" and "buffer", its own name ("weight"); of the optimizer, the parameter's.
      jax: hyper-parameters of JAX's module as far as they are known ("epsilon", "strides", …).
      within: of a function that is part of glue: the glue's result with another in its place.
      towards: of glue: the kind of the layer that it leads to.
      optimizer: of "update", "start" and "state", {"options": torch's keywords, "gradient",
        "param", "state": {slot: array}, "step": updates made before, "schedule": the learning
        rate's factors by step, if both sides follow them, "others": of "update", a function that
        gives the sites of the other parameters}.
    """

    kind: str
    what: str
    theirs: np.ndarray
    ours: np.ndarray
    inputs: tuple[Any, ...] = ()
    module: Any = None
    function: Callable | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    cotangent: np.ndarray | Sequence[np.ndarray | None] | None = None
    name: str = ""
    jax: Mapping[str, Any] = field(default_factory=dict)
    within: Callable[[Any], Any] | None = None
    towards: str = ""
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    output: int = 0

    def changed(self, **attributes: Any) -> Callable[[], Any]:
        """The module's result with some of its attributes changed: `changed(eps=1e-6)`."""

        def compute() -> Any:
            module = copy.deepcopy(self.module)
            for name, value in attributes.items():
                setattr(module, name, value)
            return self.result(module, *self.inputs)

        return compute

    def called(self, *args: Any, function: Callable | None = None, **kwargs: Any) -> Callable:
        """The function's result with other arguments: `called(approximate="tanh")`.

        Positional arguments, where any are given, replace all of the call's own; keywords are
        added to its own.
        """

        def compute() -> Any:
            call: Any = function or self.function
            given = {**self.kwargs, **kwargs}
            return self.result(lambda *inputs: call(*inputs, **given), *(args or self.args))

        return compute

    def replaced(self, function: Callable) -> Callable[[], Any]:
        """The result of another function of the same inputs."""
        return lambda: self.result(function, *self.inputs)

    def result(self, call: Any, *inputs: Any) -> Any:
        """What `what` asks for, of one call: its output, its input's gradient, a buffer, …"""
        import torch

        if self.within is not None:
            own = {id(value): index for index, value in enumerate(self.args)}
            return self.within(
                lambda *args, **_: call(*(args[own[id(x)]] if id(x) in own else x for x in inputs))
            )
        with torch.enable_grad():
            given = [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in inputs]
            floats = [x for x in given if isinstance(x, torch.Tensor) and x.is_floating_point()]
            if floats:
                floats[0].requires_grad_()
            keywords = self.kwargs if isinstance(call, torch.nn.Module) else {}
            output = call(*given, **keywords)
            if self.what == "buffer":
                return dict(call.named_buffers())[self.name]
            outputs = list(_tensors(output))
            if self.what in ("output", "loss"):
                return outputs[self.output if len(outputs) > 1 else 0]
            if self.what == "param":
                leaf = dict(call.named_parameters())[self.name].requires_grad_()
            else:
                leaf = floats[0]
            several = isinstance(self.cotangent, (tuple, list))
            cotangents: Any = self.cotangent if several else (self.cotangent,)
            back = [
                (y, torch.as_tensor(g, dtype=y.dtype))
                for y, g in zip(outputs, cotangents, strict=False)
                if g is not None
            ]
            ends, given = zip(*back, strict=True)
            (gradient,) = torch.autograd.grad(ends, leaf, given)
            return gradient


def _tensors(output: Any) -> Iterator[Any]:
    """The tensors of nested tuples."""
    if isinstance(output, (tuple, list)):
        for item in output:
            yield from _tensors(item)
    elif output is not None:
        yield output


@dataclass(frozen=True)
class Difference:
    """One habit that the two frameworks do not share.

    Args:
      code: "ACT-01": the family and a number, never given again.
      title: a few words.
      torch, jax: what each does, with its default, one line each.
      fix_torch, fix_jax: the edit that makes this side do as the other, one line each.
      kinds: the kinds of `Site` that it may explain, as `re.fullmatch` has it; "" for none: some
        are no single layer's.
      measure: the largest absolute difference of the two frameworks without the edit and with it,
        in float64, on generic input.
      edits: the candidates at a site.
      whats: the values of `Site.what` that it may explain.
      gone: "jaxlib 0.11.2": the package and the version since which the two agree; "" for none.
    """

    code: str
    title: str
    torch: str
    jax: str
    fix_torch: str
    fix_jax: str
    kinds: str
    measure: Callable[[], tuple[float, float]]
    edits: Callable[[Site], Iterator[Edit]] | None = None
    whats: tuple[str, ...] = ("output", "gradient")
    gone: str = ""

    @property
    def here(self) -> bool:
        """Whether what is installed shows it."""
        package, _, version = self.gone.partition(" ")
        try:
            return not package or _release(metadata.version(package)) < _release(version)
        except metadata.PackageNotFoundError:
            return True


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version: "0.12.0.1" and "2.14.1+debian" can be compared."""
    return tuple(map(int, re.findall(r"\d+", version.partition("+")[0])))


def catalogue() -> dict[str, Difference]:
    """Every difference by code, in the order of the codes."""
    found: dict[str, Difference] = {}
    for file in pkgutil.iter_modules([str(Path(__file__).parent)]):
        for value in vars(importlib.import_module(f"compare.differences.{file.name}")).values():
            if isinstance(value, Difference) and found.setdefault(value.code, value) is not value:
                raise ValueError(f"two differences have the code {value.code}")
    return dict(sorted(found.items()))
