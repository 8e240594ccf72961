"""The one crossing: arrays pass between NumPy, PyTorch and JAX here, and never share memory.

On CPU `jax.device_put` and DLPack alias NumPy's memory for good, and `jnp.array` may return before
its copy is finished; so whatever crosses is copied first, by NumPy, into memory nobody else has.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def to_torch(array: np.ndarray, dtype: Any = None, device: Any = "cpu") -> Any:
    """A torch tensor with a private copy of `array`; `dtype` is for floating values only."""
    import torch

    tensor = torch.from_numpy(np.array(array, copy=True))
    return tensor.to(device, dtype if tensor.is_floating_point() else None)


def to_jax(array: np.ndarray, dtype: Any = None, device: Any = None) -> Any:
    """A jax array with a private copy of `array`; `dtype` is for floating values only."""
    import jax
    import jax.numpy as jnp

    floating = jnp.issubdtype(np.asarray(array).dtype, jnp.floating)
    private = np.array(array, dtype=dtype if floating else None, copy=True)
    return jax.device_put(private, device)  # jnp.asarray compiles a program for every new shape


def to_numpy(value: Any, copy: bool = True) -> np.ndarray:
    """A NumPy array that nothing else writes to; bfloat16 keeps its values as float32.

    A torch tensor is copied, unless `copy` is False: then it must be one that nobody writes to any
    more. A jax array, which nobody can write to, is not. Of a tensor that is split over devices
    comes the whole; in PyTorch (a DTensor) all its processes have to ask.
    """
    if type(value).__module__.startswith("torch"):
        value = value.full_tensor() if hasattr(value, "full_tensor") else value
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return np.array(value.numpy(), copy=copy or None)
    value = np.asarray(value)
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else value
