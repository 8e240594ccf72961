"""PyTorch's model: its tensors by name, built from a seed, never changed."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import torch
from torch import nn

from compare.errors import whose
from compare.share import to_numpy
from compare.twin import Phase, Twin
from compare.weights.link import Leaf


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer by name, also the buffers that a state dict leaves out."""
    return {**model.state_dict(keep_vars=True), **dict(model.named_buffers())}


def copied(model: Any) -> Any:
    """A deep copy, also where the older weight_norm keeps a computed weight that refuses it."""
    memo = {}
    for module in model.modules() if isinstance(model, nn.Module) else ():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach()
    return copy.deepcopy(model, memo)


def specification(model: Any) -> tuple[dict[str, Leaf], dict[str, str]]:
    """The tensors of a model by name, and its tied names."""
    if not isinstance(model, nn.Module):
        return {}, {}
    owners = {name: type(m).__name__ for name, m in model.named_modules(remove_duplicate=False)}
    persistent = model.state_dict()
    found: dict[str, Leaf] = {}
    aliases: dict[str, str] = {}
    first: dict[Any, str] = {}
    for name, tensor in state(model).items():
        storage = id(tensor)
        if tensor.numel() and not tensor.is_meta:
            storage = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if storage in first:
            aliases[name] = first[storage]
            continue
        first[storage] = name
        layer = owners.get(name.rpartition(".")[0], "")
        layer = next((kind for kind in ("LSTM", "GRU", "RNN") if kind in layer), layer)
        found[name] = Leaf(
            tuple(tensor.shape),
            str(tensor.dtype)[6:],
            layer,
            isinstance(tensor, nn.Parameter),
            name in persistent,
        )
    return found, aliases


def modules(model: Any) -> list[str]:
    """The names of a model's modules; a function has none."""
    if not isinstance(model, nn.Module):
        return []
    return [name for name, _ in model.named_modules(remove_duplicate=False)]


def construct(twin: Twin, seed: int) -> Any:
    """The model with its own initialisation, drawn from a seed that is the twin's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with whose("PyTorch's model"):
            return twin.build("torch")


def values(model: Any) -> dict[str, np.ndarray]:
    """The model's state as NumPy arrays."""
    if not isinstance(model, nn.Module):
        return {}
    return {name: to_numpy(tensor) for name, tensor in state(model).items()}


def trained(model: Any, phase: Phase) -> dict[str, nn.Parameter]:
    """The parameters that a phase trains."""
    if not isinstance(model, nn.Module):
        return {}
    named = model.named_parameters()
    return {name: p for name, p in named if re.search(phase.trains, name) and p.requires_grad}
