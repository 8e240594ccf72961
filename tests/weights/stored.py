"""Arrays to store, what may damage a file, and how its refusal must read."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from compare.errors import DiptychError
from compare.ladder.bundle import Bundle
from compare.weights import files, flax_files, torch_files

NANS = np.array([0x7FF0DEAD00000001, 0xFFF8000000000BAD], np.uint64).view(np.float64)

# Every dtype that is promised, the awkward shapes and layouts, and values that converting changes.
ARRAYS = {
    "params/layer.1/kernel": np.arange(6.0).reshape(2, 3),
    "params/nan": NANS,
    "params/float32": np.array([1e-45, -0.0, np.inf], np.float32),
    "params/float16": np.array([65504, 6e-8], np.float16),
    "params/bfloat16": np.array([0x7FC1, 0x8000, 0x0001], np.uint16).view(ml_dtypes.bfloat16),
    "params/bfloat16 0-d": np.array(1.5, ml_dtypes.bfloat16),
    "params/0-d": np.array(2.5),
    "params/count": np.array(2**53 + 1, np.int64),
    "params/strided": np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)[::2],
    "params/swapped": np.arange(3, dtype=">f4"),
    "params/complex": np.array([1 - 2j], np.complex64),
    "stats/bool": np.array([True, False]),
    "stats/bool 0-d": np.array(True),
    "stats/empty": np.zeros((0, 3), np.float32),
    "stats/empty bfloat16": np.zeros((2, 0), ml_dtypes.bfloat16),
    **{f"ints/{d}": np.array([0, np.iinfo(d).max], d) for d in "bBhHiIqQ"},
}


def native(arrays):
    """As they are stored."""
    return {name: files.native(array) for name, array in arrays.items()}


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def refused(folder: Path, action, path: Path, *words: str) -> None:
    """`action(path)` fails with one line that names the file, and leaves the folder as it was."""
    before = content(folder)
    with pytest.raises(DiptychError) as caught:
        action(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "; " in message, "no remedy"
    for word in words:
        assert word in message
    assert caught.value.exit_code == 2
    assert content(folder) == before


def cut(write, share: float):
    """What writes a file, and then cuts it off."""

    def cut_off(path: Path) -> None:
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return cut_off


def write_bundle(path):
    return Bundle({"x": np.ones(2)}).save(path)


def write_torch(path):
    return torch_files.write_torch(path, {"x": np.ones(2)})


def write_flax(path):
    return flax_files.write_flax(path, {"x": np.ones(2)})
