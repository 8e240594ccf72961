"""A checkpoint in several files: read as one, and never outside its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compare.errors import DiptychError
from compare.weights.convert import TORCH, side
from compare.weights.torch_files import read_torch, write_torch

STATE = {name: np.arange(4, dtype=np.float32) + i for i, name in enumerate("abc")}


def written(folder: Path, suffix: str = "safetensors", **placed: str) -> Path:
    files = {f"m-1.{suffix}": {"a": STATE["a"]}, f"m-2.{suffix}": {n: STATE[n] for n in "bc"}}
    for file, state in files.items():
        write_torch(folder / file, state)
    where = {name: file for file, state in files.items() for name in state}
    index = folder / f"m.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 48}, "weight_map": where | placed}))
    return index


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("folder", [False, True])
def test_several_files_are_one_checkpoint(tmp_path: Path, suffix: str, folder: bool):
    index = written(tmp_path, suffix)
    notes: list[str] = []
    path = tmp_path if folder else index
    state = read_torch(path, notes)
    assert side(path) == TORCH
    assert state.keys() == STATE.keys()
    for name, value in STATE.items():
        np.testing.assert_array_equal(state[name], value)
    assert notes == [f"read 2 files that {index.name} lists"]


@pytest.mark.parametrize(
    ("placed", "said"),
    [
        ({"a": "../m-1.safetensors"}, "not in a file beside it"),
        ({"a": "/etc/passwd"}, "not in a file beside it"),
        ({"a": ".."}, "not in a file beside it"),
        ({"d": "m-1.safetensors"}, "m-1.safetensors and its index differ in d"),
        ({"a": "m-2.safetensors"}, "m-2.safetensors and its index differ in a"),
        ({"a": "m-3.safetensors"}, "No such file"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path: Path, placed: dict[str, str], said: str):
    with pytest.raises(DiptychError, match=said):
        read_torch(written(tmp_path, **placed))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', "not JSON"])
def test_what_is_no_index_is_refused(tmp_path: Path, text: str):
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(DiptychError, match=r"index|empty"):
        read_torch(index)


def test_a_folder_with_two_says_so(tmp_path: Path):
    written(tmp_path)
    written(tmp_path, "bin")
    with pytest.raises(DiptychError, match="holds 2 indices"):
        read_torch(tmp_path)
