"""Checkpoints across the frameworks: the weight map of a twin, applied to a file, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compare.errors import DiptychError, bad, install, some
from compare.weights import files, flax_files, torch_files
from compare.weights.link import Path as LeafPath
from compare.weights.map import WeightMap
from compare.weights.projections import ASSUMED
from compare.weights.shards import index_of
from compare.weights.trees import placed

TORCH, FLAX = "PyTorch", "Flax"
DTYPES = ("float64", "float32", "bfloat16", "float16")


@dataclass
class Conversion:
    """What a conversion did.

    Args:
      source, target: the frameworks, "PyTorch" or "Flax".
      read, written: tensors on either side.
      elements: numbers in the target.
      changed: tensors that the way back does not give as they were: left out, summed, rounded.
      notes: what a careful reader wants to know.
    """

    source: str
    target: str
    read: int
    written: int
    elements: int
    changed: int = 0
    notes: list[str] = field(default_factory=list)


def side(path: str | os.PathLike[str], target: str | os.PathLike[str] = "") -> str:
    """Whose checkpoint a file or folder is: by its suffix; by its names where both have that; and
    where names do not tell, by the suffix of the target.

    Raises:
      DiptychError: neither's, or it cannot be read.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if index_of(path):
        return TORCH
    if file.is_dir() or suffix in (".msgpack", ".orbax"):
        return FLAX
    if suffix in (".pt", ".pth", ".bin"):
        return TORCH
    if suffix == ".safetensors":
        return _side_of(files.read_safetensors(path), target)
    files.existing_file(path)
    known = ".pt .pth .bin .safetensors (PyTorch), .msgpack .safetensors or an Orbax folder (Flax)"
    raise bad(path, f"{suffix or 'no suffix'} is no checkpoint", f"there are {known}")


def _side_of(found: files.SafeTensors, target: str | os.PathLike[str]) -> str:
    if any("/" in name for name in found.tensors) or found.metadata.get("format") == "flax":
        return FLAX
    if found.metadata.get("format") == "pt":
        return TORCH
    ends = {name.rpartition(".")[2] for name in found.tensors}
    if ends & {"kernel", "embedding", "scale"}:
        return FLAX
    only_torch = set(torch_files.TORCH_SUFFIXES) - set(flax_files.FLAX_SUFFIXES)
    return FLAX if Path(target).suffix.lower() in only_torch else TORCH


def convert(
    weights: Callable[[], WeightMap],
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    force: bool = False,
    dtype: str | None = None,
) -> Conversion:
    """Converts a checkpoint of one framework into one of the other.

    Args:
      weights: gives the map of the model, in the size of the checkpoint; asked once that is read.
      source: the checkpoint, see `side`.
      target: of the other framework, its format by its suffix.
      force: replace what is there.
      dtype: of the numbers that are written, where it is to be another than that of the source:
        one of `DTYPES`. Integers stay as they are.

    Raises:
      DiptychError: the file is not a checkpoint of this twin, or the target exists or cannot be
        written. Nothing is written then.
    """
    if dtype not in (None, *DTYPES):
        raise bad("--dtype", f"{dtype} is no type to write", f"give one of {' '.join(DTYPES)}")
    kind = side(source, target)
    _target(kind, source, target, force)
    notes: list[str] = []
    read: Mapping[Any, np.ndarray]
    made: Mapping[Any, np.ndarray]
    if kind == TORCH:
        state = torch_files.read_torch(source, notes)
        found = weights()
        leaves = to_flax(found, state, str(source), notes)
        read, made = state, {found.keys.get(path[1:], path): v for path, v in leaves.items()}
    else:
        flat = _flat(flax_files.read_flax(source, notes))
        found = weights()
        flat = placed((link.jax for link in found.links), flat, str(source), notes)
        read, made = flat, to_torch(found, flat, str(source), notes)
    uncounted = {line.partition(":")[0] for line in found.uncounted}
    changed: set[Any] = set()
    if kind == TORCH:
        changed = {found.keys.get(x.jax[1:], x.jax) for x in found.links if x.adds}
        changed |= uncounted & {*read}
    if dtype:
        made, rounded = _cast(made, dtype)
        size = f"{sum(rounded.values())} numbers rounded" if rounded else "every number exact"
        notes.append(f"written as {dtype}, {size}")
        changed |= {*rounded}
    if kind == TORCH:
        flax_files.write_flax(target, _nested(made))
    else:
        torch_files.write_torch(target, {str(name): array for name, array in made.items()})
    cut = [link for link in found.links if link.how.endswith(ASSUMED)]
    packed = dict.fromkeys(x.torch if x.rows else "/".join(x.jax[1:]) for x in cut)
    if packed:
        notes.append(f"{some(packed)} cut in the order that the name says: diptych check proves it")
    strange = [name for name, array in read.items() if not _finite(array)]
    if strange:
        names = ["/".join(n) if isinstance(n, tuple) else n for n in strange]
        notes.append(f"NaN or infinity in {some(names)}, kept as it is")
    sizes = sum(array.size for array in made.values())
    other = FLAX if kind == TORCH else TORCH
    return Conversion(kind, other, len(read), len(made), sizes, len(changed), notes)


def to_flax(
    found: WeightMap, state: Mapping[str, np.ndarray], source: str, notes: list[str]
) -> dict[LeafPath, np.ndarray]:
    """Flax leaves by path from a state dict.

    Raises:
      DiptychError: `state` is not one of this model's.
    """
    counters = {line.partition(":")[0] for line in found.uncounted}
    state = dict(state)
    for alias, name in found.aliases.items():  # who saves tied tensors once chooses a name
        if name not in state and alias in state:
            state[name] = state[alias]
            notes.append(f"{name} is taken from {alias}: they are one tensor in the model")
    found.check_state(state, source)
    kinds: dict[LeafPath, np.dtype] = {}
    for link in found.links:
        one, two = kinds.setdefault(link.jax, state[link.torch].dtype), state[link.torch].dtype
        if one != two:
            both = f"{one} and {two}"
            where = "/".join(link.jax)
            raise DiptychError(f"{source}: {where} is made of {both}; give them one dtype")
    for alias, name in found.aliases.items():
        if alias in state and not _equal(state[alias], state[name]):
            raise DiptychError(
                f"{source}: {alias} and {name} are one tensor in the model, not here"
            )
    dropped = [name for name in state if name in counters]
    if dropped:
        notes.append(f"left {some(dropped)}: Flax's own BatchNorm does not count")
    leaves = found.to_jax(state)
    for link in found.links:
        if link.adds:  # summed in float64
            leaves[link.jax] = leaves[link.jax].astype(state[link.torch].dtype)
    notes += [f"{leaf} is {' + '.join(names)}, rounded" for leaf, names in found.summed.items()]
    return leaves


def to_torch(
    found: WeightMap, leaves: Mapping[LeafPath, np.ndarray], source: str, notes: list[str]
) -> dict[str, np.ndarray]:
    """A state dict, in the model's own order with tied names last, from Flax leaves by path.

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
    for link in found.links:
        if link.adds:  # the other tensor has the whole sum
            link.taken(state[link.torch])[...] = 0
    alone = dict.fromkeys(link.torch for link in found.links if link.adds)
    if alone:
        notes.append(
            f"{some(alone)} set to 0 where Flax has one bias for two: the other has the sum"
        )
    for alias, name in found.aliases.items():
        state[alias] = state[name]
    counters = [line.partition(":")[0] for line in found.uncounted]
    for name in counters:
        state[name] = np.zeros(found.leaves[name].shape, found.leaves[name].dtype)
    if counters:
        notes.append(f"{some(counters)} set to 0: Flax's own BatchNorm does not count")
    order = [*found.leaves, *found.aliases]
    return {name: state[name] for name in order if name in state}


def _target(kind: str, source: Any, target: Any, force: bool) -> None:
    """Refuses a target before anything is read."""
    known = flax_files.FLAX_SUFFIXES if kind == TORCH else torch_files.TORCH_SUFFIXES
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


def _cast(made: Mapping[Any, np.ndarray], dtype: str) -> tuple[dict[Any, Any], dict[Any, int]]:
    """Tensors in another type, and how many numbers of each are rounded, where any are."""
    wanted = files.bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
    if wanted is None:
        raise bad("--dtype", "bfloat16 needs ml_dtypes", f"install it with: {install('ml_dtypes')}")
    cast, rounded = {}, {}
    for name, array in made.items():
        if array.dtype.kind in "biuc" or array.dtype == wanted:
            cast[name] = array
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            cast[name] = array.astype(wanted)
            back = cast[name].astype(array.dtype)
            apart = int(np.count_nonzero((back != array) & ~(np.isnan(back) & np.isnan(array))))
        if apart:
            rounded[name] = apart
    return cast, rounded


def _nested(leaves: Mapping[Any, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = leaf
    return tree


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
