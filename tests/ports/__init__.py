"""Right ports whose structure is not their original's, each with the porter's own conversion.

A file holds ports of one kind. Of each, PyTorch's side is an instance, and JAX's weights are made
from its state dict by the port itself: what runs is what the porter made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import nn

Values = dict[str, np.ndarray]
Module = TypeVar("Module", bound=nn.Module)


def fresh(make: Callable[[], Module]) -> tuple[Module, Values]:
    """A module as PyTorch initialises it, and its state dict."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make()
    return module, {name: value.numpy().copy() for name, value in module.state_dict().items()}


def trained(make: Callable[[], Module]) -> tuple[Module, Values]:
    """A module as training leaves it: no scale is one, no bias zero; and its state dict."""

    def moved() -> Module:
        module = make()
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and tensor.numel() > 1 and tensor.std() == 0:
                spread = 0.3 * torch.randn_like(tensor)
                tensor.copy_(tensor * spread.exp() if name.endswith("var") else tensor + spread)
        return module

    return fresh(moved)
