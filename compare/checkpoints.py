"""Checkpoint files of both frameworks, read and written bit for bit as NumPy arrays.

  PyTorch   .safetensors   .pt .pth .bin
  Flax      .safetensors   .msgpack        an Orbax folder (a name without suffix, or .orbax)

A PyTorch state is a flat dict of names (`layer1.0.conv1.weight`), Flax variables are a nested one
(`{"params": {"layer1": …}}`), which a safetensors file holds under names joined by "/". A framework
is imported only where the format is its own: safetensors needs neither. No file is ever unpickled
except by `torch.load(weights_only=True)`.
"""

import importlib
import logging
import os
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from compare import files
from compare.errors import DiptychError
from compare.files import bad, unwritable

TORCH_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
FLAX_SUFFIXES = (".safetensors", ".msgpack", ".orbax", "")

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's
_EMPTY = "diptych_empty"  # where an Orbax folder keeps the arrays that Orbax cannot store
_EXPANSION = 1 << 30  # bytes by which expanded (stride 0) tensors may exceed their file

# ------------------------------------------------------------------------------------------ PyTorch


def read_torch(
    path: str | os.PathLike[str], notes: list[str] | None = None
) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dict.

    Training checkpoints are unwrapped (`{"state_dict": …}`, `{"model_state_dict": …}`,
    `{"model": …}`) and a `module.` or `_orig_mod.` before every name is dropped; each such step
    adds a line to `notes`.

    Returns:
      name -> array, in the order of the file. bfloat16 is that of `ml_dtypes`.

    Raises:
      DiptychError: the file is absent, damaged or would run code, or an entry is no dense tensor.
    """
    notes = [] if notes is None else notes
    if _suffix(path, TORCH_SUFFIXES, "PyTorch") == ".safetensors":
        state = _read_safetensors(path)
    else:
        state = {
            name: _from_torch(path, name, value) for name, value in _load_torch(path, notes).items()
        }
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) and name != prefix for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
            notes.append(f"dropped {prefix!r} before every name")
    return state


def write_torch(path: str | os.PathLike[str], state: Mapping[str, Any]) -> Path:
    """Writes a flat state (NumPy arrays or torch tensors) as a plain dict, whole or not at all.

    Raises:
      DiptychError: the suffix or a dtype is unknown, or the file cannot be written.
    """
    suffix = _suffix(path, TORCH_SUFFIXES, "PyTorch")
    arrays = {name: _array(path, name, value) for name, value in state.items()}
    _not_empty(path, arrays)
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
        raise bad(path, f"not a tensor: {files.some(others)}", "save model.state_dict() alone")
    _not_empty(path, found)
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
        notes.append(f"took {inner[0]!r}" + (f", left {files.some(left)}" if left else ""))
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
    what = f"is damaged or no PyTorch checkpoint ({files.reason(error)})"
    return bad(path, what, "write or fetch it again")


def _from_torch(path: Any, name: str, tensor: Any) -> np.ndarray:
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
        return tensor.view(torch.int16).numpy().copy().view(_bfloat16(path, name))
    return tensor.numpy().copy()


def _to_torch(array: np.ndarray) -> Any:
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    # By name, because torch knows only one of NumPy's two kinds of 64-bit integers.
    return torch.from_numpy(array.copy().view(array.dtype.name))


# --------------------------------------------------------------------------------------------- Flax


def read_flax(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads Flax variables.

    Returns:
      The nested dict of the variables, its leaves NumPy arrays that own their memory.

    Raises:
      DiptychError: the file or folder is absent or damaged, or a leaf is no array.
    """
    suffix = _suffix(path, FLAX_SUFFIXES, "Flax")
    if suffix == ".safetensors":
        leaves = [
            (tuple(name.split("/")), value) for name, value in _read_safetensors(path).items()
        ]
        return _nest(path, leaves)
    tree = _read_msgpack(path) if suffix == ".msgpack" else _read_orbax(path)
    leaves = list(_leaves(path, tree))
    _not_empty(path, leaves)
    return _nest(
        path, [(names, _array(path, "/".join(names), leaf).copy()) for names, leaf in leaves]
    )


def write_flax(path: str | os.PathLike[str], variables: Mapping[str, Any]) -> Path:
    """Writes Flax variables (a nested dict of NumPy or JAX arrays), whole or not at all.

    An Orbax folder of that name is replaced, any other folder is left alone. Collections without
    arrays are not kept.

    Raises:
      DiptychError: the suffix, a dtype or a name is unusable, or the target cannot be written.
    """
    suffix = _suffix(path, FLAX_SUFFIXES, "Flax")
    leaves = [
        (names, _array(path, "/".join(names), leaf)) for names, leaf in _leaves(path, variables)
    ]
    _not_empty(path, leaves)
    if suffix == ".safetensors":
        return files.write_safetensors(
            path, {"/".join(names): leaf for names, leaf in leaves}, {"format": "flax"}
        )
    tree = _nest(path, leaves)
    if suffix == ".msgpack":
        serialization = need("flax.serialization", "jax", path)
        return files.write_atomic(path, serialization.msgpack_serialize(tree))
    return _write_orbax(path, leaves)


def _read_msgpack(path: Any) -> Any:
    file = files.existing_file(path)
    serialization = need("flax.serialization", "jax", path)
    try:
        return serialization.msgpack_restore(file.read_bytes())
    except Exception as error:  # whatever a hostile or broken file provokes
        what = f"is damaged or no msgpack of Flax ({files.reason(error)})"
        raise bad(path, what, "write or fetch it again") from error


def _read_orbax(path: Any) -> Any:
    folder = Path(path).absolute()
    if not folder.exists():
        raise bad(path, "cannot be read (No such file or directory)", "check the path")
    if not folder.is_dir():
        known = " ".join(FLAX_SUFFIXES[:2])
        raise bad(
            path, "is not an Orbax folder", f"give one, or a file that ends in one of {known}"
        )
    if not _is_orbax(folder):  # a CheckpointManager puts the variables one folder deeper
        inner = [child for child in sorted(folder.iterdir()) if child.is_dir() and _is_orbax(child)]
        if len(inner) != 1:
            what = (
                f"holds {len(inner)} Orbax checkpoints" if inner else "is not an Orbax checkpoint"
            )
            raise bad(path, what, "give the folder that holds the file _METADATA")
        folder = inner[0]
    ocp = need("orbax.checkpoint", "jax", path)
    import jax

    try:
        with _quiet():
            reader = ocp.PyTreeCheckpointer()
            metadata = reader.metadata(folder).item_metadata
            if metadata is None:
                raise ValueError("parts of it are missing")
            # Without this every float64 leaf would come back as a float32 JAX array.
            plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.tree)
            tree = reader.restore(folder, restore_args=plain)
        for names, dtype, shape in (metadata.custom_metadata or {}).get(_EMPTY, []):
            empty = np.zeros(shape, _bfloat16(path, names[-1]) if dtype == "bfloat16" else dtype)
            if empty.size:
                raise ValueError("an empty array with elements")
            node = tree
            for name in names[:-1]:
                node = node.setdefault(name, {})
            node[names[-1]] = empty
    except DiptychError:
        raise
    except Exception as error:  # Orbax and TensorStore raise many kinds
        raise bad(
            path, f"is a damaged Orbax folder ({files.reason(error)})", "write or fetch it again"
        ) from error
    return tree


def _write_orbax(path: Any, leaves: list[tuple[tuple[str, ...], np.ndarray]]) -> Path:
    target = Path(os.path.realpath(path))
    if target.exists() and not _is_orbax(target):
        raise bad(path, "exists and is not an Orbax folder", "give another name")
    ocp = need("orbax.checkpoint", "jax", path)
    # Orbax cannot store arrays without elements: they go into its metadata.
    empty = [
        [list(names), leaf.dtype.name, list(leaf.shape)] for names, leaf in leaves if leaf.size == 0
    ]
    tree = _nest(path, [(names, leaf) for names, leaf in leaves if leaf.size])
    if not tree:
        raise bad(
            path, "every array is empty, which Orbax cannot store", "write .safetensors or .msgpack"
        )
    try:
        work = Path(
            tempfile.mkdtemp(prefix=f".{target.name[:80]}.", suffix=".tmp", dir=target.parent)
        )
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        new, old = work / "new", work / "old"
        with _quiet():
            ocp.PyTreeCheckpointer().save(
                new, args=ocp.args.PyTreeSave(tree, custom_metadata={_EMPTY: empty})
            )
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    except Exception as error:  # Orbax and TensorStore raise many kinds
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Path(path)


def _is_orbax(folder: Path) -> bool:
    return (folder / "_METADATA").is_file()


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


# ------------------------------------------------------------------------------------------- shared


def need(module: str, extra: str, path: Any) -> Any:
    """Imports `module`, which `path` needs.

    Raises:
      DiptychError: it is not installed; the message is the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        remedy = f'install it with: pip install "diptych[{extra}]"'
        raise bad(path, f"needs {package} ({files.reason(error)})", remedy) from error


def _suffix(path: Any, known: tuple[str, ...], framework: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in known:
        names = " ".join(name or "(none: an Orbax folder)" for name in known)
        raise bad(
            path, f"{suffix or 'no suffix'} is no {framework} checkpoint", f"use one of {names}"
        )
    return suffix


def _read_safetensors(path: Any) -> dict[str, np.ndarray]:
    found = files.read_safetensors(path)
    for name, dtype in found.dtypes.items():
        if dtype == "bfloat16":
            _bfloat16(path, name)
    _not_empty(path, found.tensors)
    return found.tensors


def _bfloat16(path: Any, name: str) -> np.dtype:
    dtype = files.bfloat16()
    if dtype is None:
        remedy = "install it with: pip install ml_dtypes"
        raise bad(path, f"{name!r} is bfloat16, which needs ml_dtypes", remedy)
    return dtype


def _not_empty(path: Any, tensors: Any) -> None:
    if not tensors:
        raise bad(path, "no tensors to convert", "save the model's variables, not an empty dict")


def _array(path: Any, name: str, value: Any) -> np.ndarray:
    """A leaf as a contiguous NumPy array, bit for bit."""
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        return _from_torch(path, name, value)
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "name", None) not in files.DTYPES:
        kind = type(value).__name__ if dtype is None else f"of dtype {dtype}"
        raise bad(
            path, f"{name!r} is {kind}, not an array of a plain dtype", "leave it out or convert it"
        )
    return files.native(value)


def _leaves(
    path: Any, tree: Any, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(tree, Mapping):
        if not above or isinstance(tree, list | tuple):
            where = f"{'/'.join(above)!r} is" if above else "holds"
            what = f"{where} a {type(tree).__name__}, not a dict of arrays"
            raise bad(path, what, "give a model's variables")
        yield above, tree
        return
    if len(above) > 100:
        raise bad(path, "is nested more than 100 deep", "give a model's variables")
    for key, value in tree.items():
        if not isinstance(key, str) or not key or "/" in key:
            raise bad(path, f"{key!r} cannot be a name in Flax variables", "rename it")
        yield from _leaves(path, value, (*above, key))


def _nest(path: Any, leaves: list[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for names, value in leaves:
        node: Any = tree
        for name in names[:-1]:
            node = node.setdefault(name, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict) or names[-1] in node or not all(names):
            what = f"the name {'/'.join(names)!r} is empty in part or lies inside another tensor"
            raise bad(path, what, "rename it")
        node[names[-1]] = value
    return tree
