"""Bundles: an ordered set of named tensors with metadata, in memory or as one safetensors file.

A bundle is what `capture` yields and `compare` reads. Neither torch nor JAX is needed to open one,
so that one machine can capture on CUDA and another compare.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from compare.errors import bad, reason, some
from compare.weights import files

SCHEMA = 1
_KEY = "diptych"


@dataclass(eq=False)
class Bundle:
    """Named tensors in order, with metadata.

    Attributes:
      tensors: name -> array, in order. Any dtype that safetensors has; 0-d and empty arrays too.
      meta: whatever JSON can hold: versions, device, flags, threads, seed, hashes.
      dtypes: the true dtype of arrays that cannot say it themselves: `{"x": "bfloat16"}` where
        `tensors["x"]` is the uint16 view of bfloat16. `load` fills it for every bfloat16 tensor.
    """

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)

    def dtype(self, name: str) -> str:
        """The true dtype of a tensor: `"float64"`, `"bfloat16"`, …"""
        return self.dtypes.get(name, self.tensors[name].dtype.name)

    def widened(self, name: str) -> np.ndarray:
        """The tensor in a dtype that NumPy computes with: bfloat16 becomes float32, exactly."""
        array = self.tensors[name]
        if self.dtype(name) != "bfloat16":
            return array
        return (array.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the bundle to one file, whole or not at all.

        Raises:
          DiptychError: the file cannot be written, or a tensor or the metadata cannot be stored.
        """
        stored, record = {}, []
        for name, value in self.tensors.items():
            dtype, array = self.dtype(name), files.native(value)
            stored[name] = array.view(np.uint16) if dtype == "bfloat16" else array
            record.append([name, dtype, list(array.shape), fingerprint(name, array, dtype)])
        try:
            meta = json.loads(json.dumps(self.meta, default=_plain))
        except (TypeError, ValueError) as error:
            what = f"the bundle's metadata is not JSON ({reason(error)})"
            raise bad(path, what, "keep text, numbers, lists and dicts") from error
        content = {"schema": SCHEMA, "sha256": _seal(record, meta), "tensors": record, "meta": meta}
        return files.write_safetensors(path, stored, {_KEY: json.dumps(content)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a bundle and verifies the hash of every tensor.

        Raises:
          DiptychError: no bundle, one of another schema, or a truncated, altered or incomplete one.
        """
        found = files.read_safetensors(path)
        record, meta = _contents(path, found.metadata)
        names = [name for name, *_ in record]
        missing = [name for name in names if name not in found.tensors]
        if missing:
            raise bad(
                path,
                f"{some(map(repr, missing))} missing from the bundle",
                "capture it again",
            )
        surplus = sorted(found.tensors.keys() - set(names))
        if surplus:
            raise bad(
                path,
                f"{some(map(repr, surplus))} not in the bundle's list",
                "capture it again",
            )
        tensors, dtypes = {}, {}
        for name, dtype, _, sha256 in record:
            array = found.tensors[name]
            packed = dtype == "bfloat16" and array.dtype == np.uint16
            if fingerprint(name, array, dtype if packed else None) != sha256:
                raise bad(
                    path, f"tensor {name!r} was altered (its hash is wrong)", "capture it again"
                )
            if dtype == "bfloat16":
                dtypes[name] = dtype
                wide = files.bfloat16()
                array = array if wide is None else array.view(wide)
            tensors[name] = array
        return cls(tensors, meta, dtypes)


def fingerprint(name: str, array: np.ndarray, dtype: str | None = None) -> str:
    """SHA-256 of a tensor: its name, dtype, shape and bytes, as hexadecimal text."""
    array = files.native(array)
    label = json.dumps([name, dtype or array.dtype.name, list(array.shape)])
    digest = hashlib.sha256(label.encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def fingerprints(tensors: Mapping[str, np.ndarray]) -> str:
    """One SHA-256 over a set of tensors in their order, e.g. of all weights or of all inputs."""
    digest = hashlib.sha256()
    for name, array in tensors.items():
        digest.update(fingerprint(name, array).encode())
    return digest.hexdigest()


def _contents(path: Any, metadata: Mapping[str, str]) -> tuple[list[Any], dict[str, Any]]:
    if _KEY not in metadata:
        raise bad(
            path, "is a safetensors file but not a bundle", "write one with `diptych capture`"
        )
    try:
        content = json.loads(metadata[_KEY])
        schema = content["schema"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise bad(path, "the bundle's record is damaged", "capture it again") from error
    if schema != SCHEMA:
        what = f"is a bundle of schema {schema!r}, this diptych reads schema {SCHEMA}"
        raise bad(path, what, "capture it again with one version")
    try:
        record, meta = content["tensors"], content["meta"]
        intact = content["sha256"] == _seal(record, meta) and isinstance(meta, dict)
        intact = intact and all(len(row) == 4 and isinstance(row[0], str) for row in record)
    except (TypeError, KeyError, RecursionError) as error:
        raise bad(path, "the bundle's record is damaged", "capture it again") from error
    if not intact:
        raise bad(path, "the bundle's record was altered (its hash is wrong)", "capture it again")
    return record, meta


def _seal(record: list[Any], meta: Any) -> str:
    return hashlib.sha256(json.dumps([record, meta]).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a {type(value).__name__} is in it")
