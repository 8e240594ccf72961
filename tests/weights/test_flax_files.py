"""Flax's checkpoints return bit for bit; malformed ones are refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from compare.weights import flax_files
from tests.arrays import same_bits
from tests.weights.stored import ARRAYS, cut, native, refused, write_flax


def flat(tree, above=()):
    if not isinstance(tree, dict):
        return {"/".join(above): tree}
    return {key: leaf for k, sub in tree.items() for key, leaf in flat(sub, (*above, k)).items()}


def nested(arrays):
    return flax_files._nest("", [(tuple(name.split("/")), array) for name, array in arrays.items()])


@pytest.mark.parametrize("name", ["x.safetensors", "x.msgpack", "x.orbax", "x"])
def test_flax_variables_return_bit_for_bit(tmp_path, name):
    path = flax_files.write_flax(tmp_path / name, nested(ARRAYS))
    flax_files.write_flax(path, nested(ARRAYS))  # over what is there
    assert os.listdir(tmp_path) == [name]
    found = flat(flax_files.read_flax(path))
    assert found.keys() == ARRAYS.keys()
    assert all(same_bits(found[key], array) for key, array in native(ARRAYS).items())
    assert all(array.flags.writeable for array in found.values())


def test_an_orbax_manager_is_read_through_its_step(tmp_path):
    flax_files.write_flax(tmp_path / "step" / ".." / "item", {"params": {"w": np.ones(3)}})
    (tmp_path / "5").mkdir()
    shutil.move(tmp_path / "item", tmp_path / "5" / "default")
    assert flax_files.read_flax(tmp_path / "5")["params"]["w"].sum() == 3


def msgpack(value):
    def write(path: Path) -> None:
        from flax import serialization

        path.write_bytes(serialization.msgpack_serialize(value))

    return write


def msgpack_objects(path: Path) -> None:
    """An array whose bytes would be taken for pointers."""
    import msgpack

    pointers = msgpack.ExtType(1, msgpack.packb(([1], "object", b"12345678")))
    with path.open("wb") as stream:
        msgpack.pack({"w": pointers}, stream)


def orbax(path: Path) -> None:
    flax_files.write_flax(path, {"params": {"w": np.ones(300)}})


def orbax_without(pattern: str):
    def write(path: Path) -> None:
        orbax(path)
        for part in path.glob(pattern):
            shutil.rmtree(part) if part.is_dir() else part.unlink()

    return write


FLAX = {
    "msgpack cut": ("x.msgpack", cut(msgpack({"w": np.ones(30)}), 0.7), "damaged"),
    "msgpack of text": ("x.msgpack", lambda p: p.write_text("weights"), "damaged"),
    "msgpack empty": ("x.msgpack", lambda p: p.write_bytes(b""), "is empty"),
    "msgpack objects": ("x.msgpack", msgpack_objects, "OBJECT"),
    "msgpack no tree": ("x.msgpack", msgpack(np.ones(3)), "holds a ndarray"),
    "msgpack number": ("x.msgpack", msgpack({"params": {"w": 1}}), "'params/w'"),
    "msgpack nothing": ("x.msgpack", msgpack({"params": {}}), "no tensors"),
    "msgpack slashes": ("x.msgpack", msgpack({"a//b": np.ones(1)}), "'a//b'"),
    "name inside a name": (
        "x.safetensors",
        lambda p: save_file({"a": np.ones(1), "a/b": np.ones(1)}, p),
        "'a/b'",
    ),
    "name with a hole": ("x.safetensors", lambda p: save_file({"a//b": np.ones(1)}, p), "'a//b'"),
    "no tensors": ("x.safetensors", lambda p: save_file({}, p), "no tensors"),
    "orbax absent": ("x", lambda p: None, "No such file"),
    "orbax a file": ("x.orbax", lambda p: p.write_bytes(b"1"), "not an Orbax folder"),
    "orbax any folder": ("x", lambda p: p.mkdir(), "not an Orbax checkpoint"),
    "orbax without list": ("x", orbax_without("_METADATA"), "not an Orbax checkpoint"),
    "orbax without data": ("x", orbax_without("d"), "damaged"),
    "orbax without index": ("x", orbax_without("manifest*"), "damaged"),
    "unknown suffix": ("x.h5", lambda p: p.write_bytes(b"1"), ".msgpack"),
}


@pytest.mark.parametrize("case", FLAX)
def test_malformed_flax_checkpoints_are_refused(tmp_path, case):
    name, write, word = FLAX[case]
    write(tmp_path / name)
    refused(tmp_path, flax_files.read_flax, tmp_path / name, word)


def test_an_orbax_folder_returns_when_its_successor_cannot_take_its_place(tmp_path, monkeypatch):
    path = write_flax(tmp_path / "x")
    rename = Path.rename

    def fail(self, target):
        if self.name == "new" and Path(target) == path:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    refused(tmp_path, write_flax, path, "No space left")
    assert flax_files.read_flax(path)["x"].sum() == 2
