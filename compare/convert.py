"""Checkpoints across the frameworks: the weight map of a twin, applied to a file, bit for bit."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compare import checkpoints, files
from compare.checkpoints import need
from compare.errors import DiptychError
from compare.files import bad, reason
from compare.twin import Twin, generator
from compare.weights import Path as LeafPath
from compare.weights import WeightMap
from compare.weights import build as build_map

TORCH, FLAX = "PyTorch", "Flax"
COUNTER = "num_batches_tracked"
# In-place initialisers, which have nothing to do on the meta device (and import a second of code).
_FILLS = frozenset("uniform_ normal_ trunc_normal_ fill_ zero_ copy_ bernoulli_ erfinv_".split())


@dataclass
class Conversion:
    """What a conversion did.

    Args:
      source, target: the frameworks, "PyTorch" or "Flax".
      read, written: tensors on either side.
      elements: numbers in the target.
      notes: what a careful reader wants to know.
    """

    source: str
    target: str
    read: int
    written: int
    elements: int
    notes: list[str] = field(default_factory=list)


def configured(twin: Twin, small: bool = False, config: Mapping[str, Any] | None = None) -> Twin:
    """The twin at its published size (or its small one), with some constructor keywords changed."""
    sized = twin if small else twin.published()
    if not config:
        return sized
    if twin.torch is not None:
        raise DiptychError(f"{twin.name}: a twin of your own takes no --config; change its file")
    return dataclasses.replace(sized, config={**sized.config, **config})


def weight_map(twin: Twin) -> WeightMap:
    """The bijection between both sides' tensors, from their shapes alone: no weights are made.

    Raises:
      DiptychError: a side cannot be built, or the two sides do not hold the same tensors.
    """
    need("torch", "torch", twin.name)
    need("flax", "jax", twin.name)
    from compare.capture import jax_side, torch_side
    from compare.ladder import Pair

    try:
        leaves, aliases = torch_side.specification(_on_meta(twin))
        batch = twin.draw(generator(0, "inputs"))
        model = twin.build("jax")
        shapes = jax_side.shapes(twin, model, batch)
        kinds = jax_side.kinds(twin, model, batch, leaves)
        found = build_map(leaves, shapes, twin.rename, aliases, kinds)
        if found.differences and not twin.room:  # names that differ: the order of execution tells
            found = Pair(twin).weights
    except DiptychError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {reason(error)}"
        given = f" with {dict(twin.config)}" if twin.config else ""
        raise DiptychError(f"{twin.name} cannot be built{given} ({what})") from error
    if found.differences:
        more = len(found.differences) - 1
        rest = f" (and {more} more)" if more else ""
        raise DiptychError(f"{twin.name} has no weight map: {found.differences[0]}{rest}")
    return found


def _on_meta(twin: Twin) -> Any:
    """The PyTorch model without memory or values; an instance that the twin holds is as it is."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Idle(TorchFunctionMode):
        """Skips what would only fill memory."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            kwargs = kwargs or {}
            name = getattr(func, "__name__", "")
            if name in _FILLS or getattr(func, "__module__", None) == "torch.nn.init":
                target = args[0] if args else kwargs.get("tensor")
                if isinstance(target, torch.Tensor) and target.is_meta:
                    return target
            return func(*args, **kwargs)

    try:
        with torch.device("meta"), Idle():
            return twin.build("torch")
    except (NotImplementedError, RuntimeError):  # a constructor that reads its own values
        return twin.build("torch")


def side(path: str | os.PathLike[str]) -> str:
    """Whose checkpoint a file or folder is, by its suffix, or by its names where both have that.

    Raises:
      DiptychError: neither's, or it cannot be read.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if file.is_dir() or suffix in (".msgpack", ".orbax"):
        return FLAX
    if suffix in (".pt", ".pth", ".bin"):
        return TORCH
    if suffix == ".safetensors":
        return _side_of(files.read_safetensors(path))
    files.existing_file(path)
    known = ".pt .pth .bin .safetensors (PyTorch), .msgpack .safetensors or an Orbax folder (Flax)"
    raise bad(path, f"{suffix or 'no suffix'} is no checkpoint", f"there are {known}")


def _side_of(found: files.SafeTensors) -> str:
    if any("/" in name for name in found.tensors):
        return FLAX
    return FLAX if found.metadata.get("format") == "flax" else TORCH


def convert(
    twin: Twin,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    force: bool = False,
) -> Conversion:
    """Converts a checkpoint of one framework into one of the other.

    Args:
      twin: whose weights these are, in the size of the checkpoint.
      source: the checkpoint, see `side`.
      target: of the other framework, its format by its suffix.
      force: replace what is there.

    Raises:
      DiptychError: the file is not a checkpoint of this twin, or the target exists or cannot be
        written. Nothing is written then.
    """
    kind = side(source)
    _target(kind, source, target, force)
    notes: list[str] = []
    if kind == TORCH:
        state = checkpoints.read_torch(source, notes)
        found = _with_weights(twin)
        leaves = to_flax(found, state, str(source), notes)
        tree: dict[str, Any] = {}
        for path, leaf in leaves.items():
            node = tree
            for part in path[:-1]:
                node = node.setdefault(part, {})
            node[path[-1]] = leaf
        checkpoints.write_flax(target, tree)
        read, written = state, leaves
    else:
        flat = _flat(checkpoints.read_flax(source))
        found = _with_weights(twin)
        result = to_torch(found, flat, str(source), notes)
        checkpoints.write_torch(target, result)
        read, written = flat, result
    strange = [name for name, array in read.items() if not _finite(array)]
    if strange:
        names = ["/".join(n) if isinstance(n, tuple) else n for n in strange]
        notes.append(f"NaN or infinity in {files.some(names)}, kept as it is")
    sizes = sum(array.size for array in written.values())
    return Conversion(kind, FLAX if kind == TORCH else TORCH, len(read), len(written), sizes, notes)


def _with_weights(twin: Twin) -> WeightMap:
    found = weight_map(twin)
    if not found.links:
        raise DiptychError(f"{twin.name} has no weights to convert")
    return found


def to_flax(
    found: WeightMap, state: Mapping[str, np.ndarray], source: str, notes: list[str]
) -> dict[LeafPath, np.ndarray]:
    """Flax leaves by path from a state dict.

    Raises:
      DiptychError: `state` is not one of this model's.
    """
    counters = {line.partition(":")[0] for line in found.uncounted}
    found.check_state(state, source)
    for alias, name in found.aliases.items():
        if alias in state and not _equal(state[alias], state[name]):
            raise DiptychError(
                f"{source}: {alias} and {name} are one tensor in the model, not here"
            )
    dropped = [name for name in state if name in counters]
    if dropped:
        notes.append(f"left {files.some(dropped)}: Flax's own BatchNorm does not count")
    return found.to_jax(state)


def to_torch(
    found: WeightMap, leaves: Mapping[LeafPath, np.ndarray], source: str, notes: list[str]
) -> dict[str, np.ndarray]:
    """A state dict, in the model's own order, from Flax leaves by path.

    Raises:
      DiptychError: `leaves` are not this model's, or several that make one tensor differ in dtype.
    """
    found.check_leaves(leaves, source)
    kinds: dict[str, np.dtype] = {}
    for link in found.links:
        kind = kinds.setdefault(link.torch, leaves[link.jax].dtype)
        if leaves[link.jax].dtype != kind:
            both = f"{kind} and {leaves[link.jax].dtype}"
            raise DiptychError(f"{source}: {link.torch} is {both} in parts; give it one dtype")
    state = found.to_torch(leaves)
    for alias, name in found.aliases.items():
        state[alias] = state[name]
    counters = [line.partition(":")[0] for line in found.uncounted]
    for name in counters:
        state[name] = np.zeros(found.leaves[name].shape, found.leaves[name].dtype)
    if counters:
        notes.append(f"{files.some(counters)} set to 0: Flax's own BatchNorm does not count")
    order = [*found.leaves, *found.aliases]
    return {name: state[name] for name in order if name in state}


def _target(kind: str, source: Any, target: Any, force: bool) -> None:
    """Refuses a target before anything is read."""
    known = checkpoints.FLAX_SUFFIXES if kind == TORCH else checkpoints.TORCH_SUFFIXES
    other = FLAX if kind == TORCH else TORCH
    suffix = Path(target).suffix.lower()
    if suffix not in known:
        names = " ".join(name or "(none: an Orbax folder)" for name in known)
        what = f"{source} is a {kind} checkpoint, so this must be one of {other}"
        raise bad(target, what, f"its suffix is one of {names}")
    if os.path.exists(target):
        if os.path.realpath(source) == os.path.realpath(target):
            raise bad(target, "is the source itself", "give another name")
        if not force:
            raise bad(target, "exists", "give another name, or --force")


def _flat(tree: Mapping[str, Any], above: LeafPath = ()) -> dict[LeafPath, np.ndarray]:
    flat: dict[LeafPath, np.ndarray] = {}
    for name, value in tree.items():
        path = (*above, name)
        flat |= _flat(value, path) if isinstance(value, Mapping) else {path: value}
    return flat


def _equal(one: np.ndarray, two: np.ndarray) -> bool:
    """Bit for bit, so that NaN equals itself."""
    return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()


def _finite(array: np.ndarray) -> bool:
    if array.dtype.kind in "biu":
        return True
    with np.errstate(invalid="ignore"):  # bfloat16's own test for NaN warns of NaN
        return bool(np.isfinite(array).all())
