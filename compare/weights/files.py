"""Files that are whole or absent: atomic writes, and a safetensors reader that trusts nothing.

Nothing here imports a framework. bfloat16 needs `ml_dtypes`, which comes with JAX; where it is
absent such a tensor stays `uint16` and `SafeTensors.dtypes` says what it is.
"""

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compare.errors import DiptychError, bad, reason

HEADER_LIMIT = 100_000_000  # bytes; the limit of the safetensors library
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}
DTYPES = frozenset(_DTYPES.values())


class SafeTensors(NamedTuple):
    """What a safetensors file holds: arrays in file order, their true dtypes, and metadata."""

    tensors: dict[str, np.ndarray]
    dtypes: dict[str, str]
    metadata: dict[str, str]


def bfloat16() -> np.dtype | None:
    """NumPy's bfloat16 of `ml_dtypes`, or None where that package is absent."""
    try:
        import ml_dtypes
    except ImportError:
        return None
    return np.dtype(ml_dtypes.bfloat16)


# ------------------------------------------------------------------------------------------ writing


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which takes its name if and only if the body succeeds.

    An existing file keeps its content until then and its permissions afterwards; a symbolic link is
    written through.

    Raises:
      DiptychError: `path` is a folder or no regular file, or its folder is absent or not writable.
    """
    target = Path(os.path.realpath(path))
    mode = _mode_of_target(path, target)
    temporary = target.with_name(f".{target.name[:80]}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        # Created here, not by tempfile, whose 0600 would stay with the finished file.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode))
            yield temporary
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error) from error


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Writes `data` (text as UTF-8) to `path`, whole or not at all; to a pipe or device directly.

    Raises:
      DiptychError: the file cannot be written; what was there before is untouched.
    """
    raw = data.encode() if isinstance(data, str) else data
    target = Path(path)
    if target.exists() and not target.is_file() and not target.is_dir():
        try:
            target.write_bytes(raw)
        except OSError as error:
            raise unwritable(path, error) from error
        return target
    with replacing(path) as temporary:
        temporary.write_bytes(raw)
    return target


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes one safetensors file, whole or not at all, its tensors in the library's own order.

    Raises:
      DiptychError: a name or a dtype that the format has not, or a file that cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    arrays = {}
    for name, value in tensors.items():
        if not isinstance(name, str) or not name or name == "__metadata__":
            raise bad(path, f"{name!r} cannot name a tensor in a safetensors file", "rename it")
        array = native(value)
        if array.dtype.name not in DTYPES:
            raise bad(
                path,
                f"tensor {name!r} has dtype {array.dtype}, which safetensors lacks",
                "convert it first",
            )
        arrays[name] = array
    with replacing(path) as temporary:
        try:
            save_file(arrays, temporary, metadata=dict(metadata or {}))
        except (SafetensorError, UnicodeError) as error:
            raise unwritable(path, error) from error
    return Path(path)


def native(array: np.ndarray) -> np.ndarray:
    """The same values, C-contiguous and in this machine's byte order; 0-d arrays stay 0-d."""
    array = np.asarray(array, order="C")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _mode_of_target(path: str | os.PathLike[str], target: Path) -> int | None:
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unwritable(path, error) from error
    if stat.S_ISDIR(mode):
        raise bad(
            path, "cannot be written, because it is a folder", "give the name of a file in it"
        )
    if not stat.S_ISREG(mode):
        raise bad(
            path, "cannot be written, because it is not a regular file", "give the name of a file"
        )
    return mode


def unwritable(path: Any, error: Exception) -> DiptychError:
    """The error of a target that the system, or a library, could not write."""
    return bad(
        path, f"cannot be written ({reason(error)})", "give a path in an existing, writable folder"
    )


# ------------------------------------------------------------------------------------------ reading


def existing_file(path: str | os.PathLike[str]) -> Path:
    """`path`, if it is a file that holds something.

    Raises:
      DiptychError: no such file, a folder, or an empty file.
    """
    file = Path(path)
    try:
        status = file.stat()
    except OSError as error:
        raise bad(path, f"cannot be read ({reason(error)})", "check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise bad(path, "is a folder", "give the file in it")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise bad(path, "is empty", "write it again")
    if not os.access(file, os.R_OK):
        raise bad(path, "cannot be read (Permission denied)", "make it readable")
    return file


def read_safetensors(path: str | os.PathLike[str]) -> SafeTensors:
    """Reads a safetensors file into arrays that own their memory, bit for bit.

    The header is checked in full before any data is read, and no size in it is believed unless the
    file is that long.

    Raises:
      DiptychError: absent, empty, a folder, truncated, no safetensors file, or of an unknown dtype.
    """
    file = existing_file(path)
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            header, start = _header(path, stream, size)
            metadata = header.pop("__metadata__", {})
            if not isinstance(metadata, dict) or not all(
                isinstance(value, str) for value in metadata.values()
            ):
                raise _damaged(path, "its metadata is not text")
            entries = _entries(path, header, size - start)
            tensors, dtypes = {}, {}
            for name, dtype, shape, begin, end in entries:
                stream.seek(start + begin)
                tensors[name] = _tensor(path, name, dtype, shape, stream, end - begin)
                dtypes[name] = dtype
    except OSError as error:
        raise bad(path, f"cannot be read ({reason(error)})", "check the path") from error
    return SafeTensors(tensors, dtypes, metadata)


def _header(path: Any, stream: Any, size: int) -> tuple[dict[str, Any], int]:
    lead = stream.read(9)
    if len(lead) < 9 or lead[8:] != b"{":
        raise bad(path, "is not a safetensors file", "check the path, or its suffix")
    length = int.from_bytes(lead[:8], "little")
    if length > HEADER_LIMIT:
        raise _damaged(path, f"its header claims {length} bytes, more than the format allows")
    if 8 + length > size:
        raise _truncated(path, 8 + length, size)
    try:
        header = json.loads(lead[8:] + stream.read(length - 1), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not valid JSON, {reason(error)}") from error
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _entries(
    path: Any, header: dict[str, Any], size: int
) -> list[tuple[str, str, tuple[int, ...], int, int]]:
    entries = []
    for name, entry in header.items():
        try:
            code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        except (TypeError, KeyError, ValueError) as error:
            raise _damaged(path, f"the entry of tensor {name!r} is malformed") from error
        if code not in _DTYPES:
            known = " ".join(_DTYPES)
            raise bad(
                path, f"tensor {name!r} has dtype {code!r}, not one of {known}", "convert it first"
            )
        if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
            raise _damaged(path, f"the entry of tensor {name!r} is malformed")
        if end - begin != math.prod(shape) * _stored(_DTYPES[code]).itemsize:
            raise _damaged(
                path,
                f"tensor {name!r} has {end - begin} bytes, which its shape and dtype contradict",
            )
        entries.append((name, _DTYPES[code], shape, begin, end))
    entries.sort(key=lambda entry: entry[3:])
    reached = 0
    for name, _, _, begin, end in entries:
        if begin != reached:
            raise _damaged(path, f"tensor {name!r} overlaps another or leaves a gap")
        reached = end
    if reached > size:
        raise _truncated(path, reached, size)
    if reached < size:
        raise _damaged(path, f"{size - reached} bytes follow the last tensor")
    return entries


def _tensor(
    path: Any, name: str, dtype: str, shape: tuple[int, ...], stream: Any, size: int
) -> np.ndarray:
    raw = np.fromfile(stream, np.uint8, size)
    if raw.size != size:
        raise _truncated(path, size, raw.size)
    if dtype == "bool" and size and raw.max() > 1:
        raise _damaged(path, f"tensor {name!r} is boolean and holds a byte other than 0 and 1")
    try:
        array = raw.view(_stored(dtype)).reshape(shape)
    except ValueError as error:
        raise _damaged(path, f"tensor {name!r} has an impossible shape") from error
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    wide = bfloat16() if dtype == "bfloat16" else None
    return array if wide is None else array.view(wide)


def _stored(dtype: str) -> np.dtype:
    return np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")


def _damaged(path: Any, why: str) -> DiptychError:
    return bad(path, f"is damaged ({why})", "write or fetch it again")


def _truncated(path: Any, wanted: int, found: int) -> DiptychError:
    return bad(
        path, f"is truncated ({wanted} bytes announced, {found} found)", "write or fetch it again"
    )
