"""The constant tensors that a PyTorch model holds beside its weights, and what a run makes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from compare.capture.tables import Value, covering
from compare.capture.torch_recorder import leaves, source
from compare.share import to_numpy


def attributes(model: Any) -> dict[str, torch.Tensor]:
    """Tensors of float32 that modules hold as plain attributes, by dotted name."""
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    return {
        f"{name}.{attribute}".lstrip("."): value
        for name, module in modules
        for attribute, value in vars(module).items()
        if isinstance(value, torch.Tensor) and value.dtype == torch.float32
    }


def widen(model: Any, values: dict[str, np.ndarray]) -> None:
    """Plain attributes in float64, as the buffers are: the given values, where there are any."""
    for name, tensor in attributes(model).items():
        owner, _, attribute = name.rpartition(".")
        if not tensor.requires_grad:
            wide = torch.tensor(values[name]) if name in values else tensor.double()
            setattr(model.get_submodule(owner), attribute, wide.to(tensor.device))


def held(model: Any, mapped: Collection[str]) -> list[Value]:
    """The tables of a model: buffers that are not `mapped` to JAX's, and plain attributes."""
    buffers = dict(model.named_buffers()) if isinstance(model, nn.Module) else {}
    found = {n: b for n, b in buffers.items() if n not in mapped} | attributes(model)
    return [
        Value(name, to_numpy(tensor).astype(np.float64), held=True)
        for name, tensor in found.items()
        if tensor.is_floating_point()
    ]


class Made(TorchDispatchMode):
    """Keeps what a run makes, of the values that may be one of some tables."""

    def __init__(self, tables: list[np.ndarray]):
        super().__init__()
        self.tables, self.found = tables, list[Value]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for _, tensor in leaves(result):
            if tensor.is_floating_point() and any(tensor.numel() <= t.size for t in self.tables):
                array = to_numpy(tensor).astype(np.float64)
                if any(covering(table, array) is not None for table in self.tables):
                    self.found.append(Value(source(), array))
        return result
