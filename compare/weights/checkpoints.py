"""What checkpoint files of both frameworks share; `torch_files` and `flax_files` read and write.

  PyTorch   .safetensors   .pt .pth .bin
  Flax      .safetensors   .msgpack        an Orbax folder (a name without suffix, or .orbax)

A PyTorch state is a flat dict of names (`layer1.0.conv1.weight`), Flax variables are a nested one
(`{"params": {"layer1": …}}`), which a safetensors file holds under names joined by "/". A framework
is imported only where the format is its own: safetensors needs neither. No file is ever unpickled
except by `torch.load(weights_only=True)`.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from compare.errors import EXTRAS, bad, install, reason
from compare.weights import files


def need(module: str, extra: str, path: Any) -> Any:
    """Imports `module`, which `path` needs.

    Raises:
      DiptychError: it is not installed; the message is the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        remedy = f"install it with: {install(*EXTRAS[extra])}"
        raise bad(path, f"needs {package} ({reason(error)})", remedy) from error


def suffix_of(path: Any, known: tuple[str, ...], framework: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in known:
        names = " ".join(name or "(none: an Orbax folder)" for name in known)
        raise bad(
            path, f"{suffix or 'no suffix'} is no {framework} checkpoint", f"use one of {names}"
        )
    return suffix


def read_safetensors(path: Any) -> dict[str, np.ndarray]:
    found = files.read_safetensors(path)
    for name, dtype in found.dtypes.items():
        if dtype == "bfloat16":
            bfloat16(path, name)
    not_empty(path, found.tensors)
    return found.tensors


def bfloat16(path: Any, name: str) -> np.dtype:
    dtype = files.bfloat16()
    if dtype is None:
        remedy = f"install it with: {install('ml_dtypes')}"
        raise bad(path, f"{name!r} is bfloat16, which needs ml_dtypes", remedy)
    return dtype


def not_empty(path: Any, tensors: Any) -> None:
    if not tensors:
        raise bad(path, "no tensors to convert", "save the model's variables, not an empty dict")


def array_of(path: Any, name: str, value: Any) -> np.ndarray:
    """A leaf as a contiguous NumPy array, bit for bit."""
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        return from_torch(path, name, value)
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "name", None) not in files.DTYPES:
        kind = type(value).__name__ if dtype is None else f"of dtype {dtype}"
        raise bad(
            path, f"{name!r} is {kind}, not an array of a plain dtype", "leave it out or convert it"
        )
    return files.native(value)


def from_torch(path: Any, name: str, tensor: Any) -> np.ndarray:
    """A dense tensor of PyTorch's as a NumPy array of its own, bit for bit."""
    import torch

    tensor = tensor.detach()
    dense = tensor.layout == torch.strided
    kind = str(tensor.dtype if dense else tensor.layout).removeprefix("torch.")
    if tensor.device.type == "meta":
        raise bad(
            path, f"{name!r} is on the meta device and has no values", "save it from a real one"
        )
    if kind not in files.DTYPES:
        raise bad(
            path, f"{name!r} is {kind}, not a dense tensor of a plain dtype", "convert it first"
        )
    tensor = tensor.cpu().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().copy().view(bfloat16(path, name))
    return tensor.numpy().copy()
