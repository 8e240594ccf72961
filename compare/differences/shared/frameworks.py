"""Both frameworks under the names that their users give them, for every file of the catalogue.

A name stands for its module from the start and imports it when something of it is first asked for:
the catalogue can be read with neither framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["F", "fnn", "jax", "jnp", "lax", "lr_scheduler", "nn", "optax", "torch"]


class Module:
    """A module that is imported when it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:
    import flax.linen as fnn
    import jax
    import jax.numpy as jnp
    import optax
    import torch
    import torch.nn.functional as F
    from jax import lax
    from torch import nn
    from torch.optim import lr_scheduler
else:
    torch, nn, F = Module("torch"), Module("torch.nn"), Module("torch.nn.functional")
    lr_scheduler = Module("torch.optim.lr_scheduler")
    jax, jnp, lax = Module("jax"), Module("jax.numpy"), Module("jax.lax")
    fnn, optax = Module("flax.linen"), Module("optax")
