"""PyTorch's checkpoints, read and written bit for bit as NumPy arrays."""

import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compare.errors import DiptychError, bad, reason, some
from compare.weights import files
from compare.weights.checkpoints import (
    array_of,
    from_torch,
    need,
    not_empty,
    read_safetensors,
    suffix_of,
)
from compare.weights.files import unwritable
from compare.weights.shards import index_of, shards

TORCH_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's
_EXPANSION = 1 << 30  # bytes by which expanded (stride 0) tensors may exceed their file


def read_torch(
    path: str | os.PathLike[str], notes: list[str] | None = None
) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dict, of one file or of those that an index lists.

    Training checkpoints are unwrapped (`{"state_dict": …}`, `{"model_state_dict": …}`,
    `{"model": …}`) and a `module.` or `_orig_mod.` before every name is dropped; each such step
    adds a line to `notes`.

    Returns:
      name -> array, in the order of the file. bfloat16 is that of `ml_dtypes`.

    Raises:
      DiptychError: the file is absent, damaged or would run code, or an entry is no dense tensor.
    """
    notes = [] if notes is None else notes
    if index := index_of(path):
        return _read_shards(index, notes)
    if suffix_of(path, TORCH_SUFFIXES, "PyTorch") == ".safetensors":
        state = read_safetensors(path)
    else:
        state = {
            name: from_torch(path, name, value) for name, value in _load_torch(path, notes).items()
        }
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) and name != prefix for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
            notes.append(f"dropped {prefix!r} before every name")
    return state


def _read_shards(index: Path, notes: list[str]) -> dict[str, np.ndarray]:
    state: dict[str, np.ndarray] = {}
    listed = shards(index)
    for file, names in listed.items():
        found = read_torch(file)
        if wrong := found.keys() ^ set(names):
            what = f"{file.name} and its index differ in {some(sorted(wrong))}"
            raise bad(index, what, "fetch both again")
        state |= found
    not_empty(index, state)
    notes.append(f"read {len(listed)} files that {index.name} lists")
    return state


def write_torch(path: str | os.PathLike[str], state: Mapping[str, Any]) -> Path:
    """Writes a flat state (NumPy arrays or torch tensors) as a plain dict, whole or not at all.

    Raises:
      DiptychError: the suffix or a dtype is unknown, or the file cannot be written.
    """
    suffix = suffix_of(path, TORCH_SUFFIXES, "PyTorch")
    arrays = {name: array_of(path, name, value) for name, value in state.items()}
    not_empty(path, arrays)
    if suffix == ".safetensors":
        return files.write_safetensors(path, arrays, {"format": "pt"})
    torch = need("torch", "torch", path)
    tensors = {name: _to_torch(array) for name, array in arrays.items()}
    with files.replacing(path) as temporary, temporary.open("wb") as stream:
        # A stream, because torch writes a file's own name, here a temporary one, into the archive.
        try:
            torch.save(tensors, stream)
        except RuntimeError as error:
            raise unwritable(path, error) from error
    return Path(path)


def _load_torch(path: Any, notes: list[str]) -> Mapping[str, Any]:
    file = files.existing_file(path)
    with file.open("rb") as stream:
        magic = stream.read(4)
    archive = magic == b"PK\x03\x04"
    if not archive and magic[:1] != b"\x80":
        raise bad(path, "is not a PyTorch checkpoint", "check the path, or its suffix")
    if archive and not zipfile.is_zipfile(file):
        raise bad(path, "is truncated", "write or fetch it again")
    torch = need("torch", "torch", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:  # whatever a hostile or broken file provokes
        raise _refusal(path, error) from error
    found = _unwrap(path, found, notes)
    others = [
        f"{name!r} ({type(value).__name__})"
        for name, value in found.items()
        if not isinstance(value, torch.Tensor)
    ]
    if others:
        raise bad(path, f"not a tensor: {some(others)}", "save model.state_dict() alone")
    not_empty(path, found)
    # A few bytes can announce terabytes by a stride of 0. Tied weights are counted once for each
    # name, hence the factor.
    wanted = sum(tensor.numel() * tensor.element_size() for tensor in found.values())
    if wanted > 8 * file.stat().st_size + _EXPANSION:
        size = f"expand to {wanted} bytes, far more than the file"
        raise bad(path, f"its tensors {size}", "save them contiguous")
    return found


def _unwrap(path: Any, found: Any, notes: list[str]) -> dict[str, Any]:
    for _ in range(4):
        if not isinstance(found, Mapping):
            kind = type(found).__name__
            raise bad(path, f"holds a {kind}, not a dict of tensors", "save model.state_dict()")
        inner = [key for key in _WRAPPERS if isinstance(found.get(key), Mapping)]
        if len(inner) > 1:
            both = f"{inner[0]!r} and {inner[1]!r}"
            raise bad(path, f"holds both {both}", "save the one that is meant alone")
        if not inner:
            break
        left = [repr(key) for key in found if key != inner[0]]
        notes.append(f"took {inner[0]!r}" + (f", left {some(left)}" if left else ""))
        found = found[inner[0]]
    strange = [repr(name) for name in found if not isinstance(name, str)]
    if strange:
        raise bad(
            path, f"{strange[0]} is not the name of a tensor", "save model.state_dict() alone"
        )
    return dict(found)


def _refusal(path: Any, error: Exception) -> DiptychError:
    text = str(error)
    remedy = "save model.state_dict() with torch.save, or as .safetensors"
    if name := re.search(r"GLOBAL (\S+)", text):
        return bad(path, f"refused, it is more than weights: it calls {name[1]}", remedy)
    if "TorchScript" in text:
        return bad(path, "refused, it is a TorchScript program", remedy)
    if line := re.search(r"^(Unsupported .*)$|WeightsUnpickler error: (\S.*)$", text, re.MULTILINE):
        return bad(path, f"refused, it is more than weights ({(line[1] or line[2])[:120]})", remedy)
    what = f"is damaged or no PyTorch checkpoint ({reason(error)})"
    return bad(path, what, "write or fetch it again")


def _to_torch(array: np.ndarray) -> Any:
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    # By name, because torch knows only one of NumPy's two kinds of 64-bit integers.
    return torch.from_numpy(array.copy().view(array.dtype.name))
