"""Flax's checkpoints, read and written bit for bit as NumPy arrays."""

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from compare.errors import DiptychError, bad, reason
from compare.weights import files
from compare.weights.checkpoints import (
    array_of,
    bfloat16,
    need,
    not_empty,
    read_safetensors,
    suffix_of,
)
from compare.weights.files import unwritable
from compare.weights.trees import unwrapped

FLAX_SUFFIXES = (".safetensors", ".msgpack", ".orbax", "")
_EMPTY = "diptych_empty"  # where an Orbax folder keeps the arrays that Orbax cannot store


def read_flax(path: str | os.PathLike[str], notes: list[str] | None = None) -> dict[str, Any]:
    """Reads Flax variables.

    Of a training checkpoint the weights are taken, which adds a line to `notes`. A list is a dict
    of its indices; a name with slashes is several.

    Returns:
      The nested dict of the variables, its leaves NumPy arrays that own their memory.

    Raises:
      DiptychError: the file or folder is absent or damaged, or a leaf is no array.
    """
    suffix = suffix_of(path, FLAX_SUFFIXES, "Flax")
    if suffix == ".safetensors":
        leaves = [(tuple(name.split("/")), value) for name, value in read_safetensors(path).items()]
        return _nest(path, leaves)
    tree = _read_msgpack(path) if suffix == ".msgpack" else _read_orbax(path)
    leaves = list(_leaves(path, unwrapped(tree, [] if notes is None else notes)))
    not_empty(path, leaves)
    arrays = [(names, array_of(path, "/".join(names), leaf).copy()) for names, leaf in leaves]
    return _nest(path, [(tuple("/".join(names).split("/")), leaf) for names, leaf in arrays])


def write_flax(path: str | os.PathLike[str], variables: Mapping[str, Any]) -> Path:
    """Writes Flax variables (a nested dict of NumPy or JAX arrays), whole or not at all.

    An Orbax folder of that name is replaced, any other folder is left alone. Collections without
    arrays are not kept.

    Raises:
      DiptychError: the suffix, a dtype or a name is unusable, or the target cannot be written.
    """
    suffix = suffix_of(path, FLAX_SUFFIXES, "Flax")
    arrays = [
        (names, array_of(path, "/".join(names), leaf)) for names, leaf in _leaves(path, variables)
    ]
    leaves = [(tuple("/".join(names).split("/")), leaf) for names, leaf in arrays]
    not_empty(path, leaves)
    tree = _nest(path, leaves)
    if suffix == ".safetensors":
        return files.write_safetensors(
            path, {"/".join(names): leaf for names, leaf in leaves}, {"format": "flax"}
        )
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
        what = f"is damaged or no msgpack of Flax ({reason(error)})"
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
            empty = np.zeros(shape, bfloat16(path, names[-1]) if dtype == "bfloat16" else dtype)
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
            path, f"is a damaged Orbax folder ({reason(error)})", "write or fetch it again"
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


def _leaves(
    path: Any, tree: Any, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, list | tuple) and above:
        tree = dict(enumerate(tree))
    if not isinstance(tree, Mapping):
        if not above:
            what = f"holds a {type(tree).__name__}, not a dict of arrays"
            raise bad(path, what, "give a model's variables")
        yield above, tree
        return
    if len(above) > 100:
        raise bad(path, "is nested more than 100 deep", "give a model's variables")
    for key, value in tree.items():
        if not isinstance(key, str | int) or key == "":
            raise bad(path, f"{key!r} cannot be a name in Flax variables", "rename it")
        yield from _leaves(path, value, (*above, str(key)))


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
