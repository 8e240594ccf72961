"""Files are whole or absent, and nothing malformed gets in."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from compare.errors import DiptychError
from compare.ladder.bundle import Bundle
from compare.weights import files, flax_files, torch_files
from tests.weights.stored import refused, write_bundle, write_flax, write_torch


def raw(header, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), begin=0, end=4) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


SAFETENSORS = {
    "empty": (b"", "is empty"),
    "three bytes": (b"abc", "not a safetensors"),
    "text": (b"hello world, this is text", "not a safetensors"),
    "pickle": (pickle.dumps({"x": 1}, 2) * 9, "not a safetensors"),
    "header too large": (raw(b"{}", length=2**40), "claims"),
    "header past the end": (raw(b"{}", length=500), "truncated"),
    "header cut": (raw({"x": entry()}, b"1234")[:30], "truncated"),
    "header no JSON": (raw(b'{"x": '), "JSON"),
    "header no UTF-8": (raw(b'{"\xff": 1}'), "JSON"),
    "header bottomless": (raw(b'{"x":' + b"[" * 200_000), "JSON"),
    "name twice": (raw(b'{"x": 1, "x": 2}'), "twice"),
    "entry a number": (raw({"x": 1}), "'x'"),
    "entry incomplete": (raw({"x": {"dtype": "F32"}}), "'x'"),
    "data cut": (raw({"x": entry()}, b"12"), "truncated"),
    "bytes left over": (raw({"x": entry()}, b"12345678"), "follow"),
    "overlap": (raw({"x": entry(), "y": entry()}, b"1234"), "overlaps"),
    "gap": (raw({"x": entry(begin=4, end=8)}, b"12345678"), "gap"),
    "unknown dtype": (raw({"x": entry("F128")}, b"1234"), "F128"),
    "shape and bytes disagree": (raw({"x": entry(shape=(2,))}, b"1234"), "contradict"),
    "negative shape": (raw({"x": entry(shape=(-1, -1))}, b"1234"), "malformed"),
    "fractional shape": (raw({"x": entry(shape=(1.0,))}, b"1234"), "malformed"),
    "enormous empty shape": (raw({"x": entry(shape=(0, 2**70), end=0)}), "impossible"),
    "boolean 2": (raw({"x": entry("BOOL", end=1)}, b"\2"), "boolean"),
    "metadata of numbers": (raw({"__metadata__": {"a": 1}}), "metadata"),
}
READERS = {
    "bundle": Bundle.load,
    "torch": torch_files.read_torch,
    "flax": flax_files.read_flax,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", SAFETENSORS)
def test_malformed_safetensors_are_refused(tmp_path, reader, case):
    data, word = SAFETENSORS[case]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    refused(tmp_path, READERS[reader], path, word)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "x.msgpack"])
@pytest.mark.parametrize(("kind", "word"), [("absent", "No such file"), ("folder", "is a folder")])
def test_absent_files_and_folders_are_refused(tmp_path, name, kind, word):
    path = tmp_path / name
    if kind == "folder":
        path.mkdir()
    for reader in READERS.values():
        if reader is not Bundle.load and name.endswith((".pt", ".msgpack")):
            reader = torch_files.read_torch if name.endswith(".pt") else flax_files.read_flax
        refused(tmp_path, reader, path, word)


WRITERS = {
    "text": (lambda path: files.write_atomic(path, "text"), "x.txt"),
    "bundle": (write_bundle, "x.bundle"),
    "torch": (write_torch, "x.pt"),
    "torch safetensors": (write_torch, "x.safetensors"),
    "flax safetensors": (write_flax, "x.safetensors"),
    "msgpack": (write_flax, "x.msgpack"),
    "orbax": (write_flax, "x.orbax"),
}


@pytest.mark.parametrize("place", ["in a file", "in no folder", "on a folder"])
@pytest.mark.parametrize("writer", WRITERS)
def test_unwritable_targets_are_refused(tmp_path, writer, place):
    write, name = WRITERS[writer]
    path = tmp_path / "there" / name
    if place == "in a file":
        path.parent.write_text("a file")
    elif place == "on a folder":
        (path / "of the user").mkdir(parents=True)
    refused(tmp_path, write, path)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_failure_midway_keeps_what_was_there(tmp_path, writer, monkeypatch):
    write, name = WRITERS[writer]
    path = tmp_path / name
    write(path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(Path, "rename", fail)
    refused(tmp_path, write, path, "No space left")


@pytest.mark.parametrize(
    ("write", "name", "value", "word"),
    [
        (torch_files.write_torch, "x.pt", {"w": np.array(["a"])}, "'w'"),
        (torch_files.write_torch, "x.pt", {"w": 1.0}, "'w' is float"),
        (torch_files.write_torch, "x.pt", {}, "no tensors"),
        (torch_files.write_torch, "x.ckpt", {"w": np.ones(1)}, ".ckpt"),
        (torch_files.write_torch, "x", {"w": np.ones(1)}, "no suffix"),
        (torch_files.write_torch, "x.safetensors", {"__metadata__": np.ones(1)}, "__metadata__"),
        (flax_files.write_flax, "x.msgpack", [np.ones(1)], "holds a list"),
        (flax_files.write_flax, "x.msgpack", {None: np.ones(1)}, "None cannot be a name"),
        (flax_files.write_flax, "x.safetensors", {"a/b": np.ones(1), "a": {"b": np.ones(1)}}, "a"),
        (flax_files.write_flax, "x", {"w": np.array(None)}, "'w'"),
        (flax_files.write_flax, "x", {"w": np.ones(0)}, "every array is empty"),
        (lambda p, v: Bundle(v).save(p), "x", {"w": np.array(1j)}, "complex128"),
        (lambda p, v: Bundle(v).save(p), "x", {"": np.ones(1)}, "cannot name"),
        (lambda p, v: Bundle({}, v).save(p), "x", {"w": object()}, "object"),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path, write, name, value, word):
    refused(tmp_path, lambda path: write(path, value), tmp_path / name, word)


def test_an_existing_file_keeps_its_permissions_and_a_link_is_written_through(tmp_path):
    target, link = tmp_path / "report.html", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    files.write_atomic(link, "näw")
    assert link.is_symlink()
    assert target.read_bytes() == "näw".encode()
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    mode = (tmp_path / "usual").stat().st_mode
    assert files.write_atomic(tmp_path / "x", b"").stat().st_mode == mode


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDWR)
    files.write_atomic(path, "text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
    assert path.is_fifo()
    with pytest.raises(DiptychError, match="regular file"):
        write_bundle(path)
