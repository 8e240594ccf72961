"""PyTorch's checkpoints return bit for bit; malformed and hostile ones are refused."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from compare.weights import torch_files
from tests.arrays import same_bits
from tests.weights.stored import ARRAYS, content, cut, native, refused


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "x.pth", "x.bin", "X.PT"])
def test_a_pytorch_state_returns_bit_for_bit(tmp_path, name):
    path = torch_files.write_torch(tmp_path / name, ARRAYS)
    found = torch_files.read_torch(path)
    assert found.keys() == ARRAYS.keys()
    assert all(same_bits(found[key], array) for key, array in native(ARRAYS).items())
    tensors = content(tmp_path)
    torch_files.write_torch(path, found)
    assert content(tmp_path) == tensors


@pytest.mark.parametrize(
    ("wrap", "notes"),
    [
        (lambda state: state, []),
        (lambda state: {"state_dict": state, "epoch": 3}, ["took 'state_dict', left 'epoch'"]),
        (lambda state: {"model": {"state_dict": state}}, ["took 'model'", "took 'state_dict'"]),
        (
            lambda state: {"module._orig_mod." + name: value for name, value in state.items()},
            ["dropped 'module.' before every name", "dropped '_orig_mod.' before every name"],
        ),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_training_checkpoints_are_unwrapped_and_it_is_said(tmp_path, wrap, notes, legacy):
    import torch

    state = wrap({"module.bias": torch.ones(2), "weight": torch.ones(2)})
    torch.save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
    said: list[str] = []
    assert list(torch_files.read_torch(tmp_path / "x.pt", said)) == ["module.bias", "weight"]
    assert said == notes


class Attack:
    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def torch_save(make, **options):
    def write(path: Path) -> None:
        import torch

        torch.save(make(torch, path), path, **options)

    return write


def attack(torch, path):
    return {"weight": torch.ones(2), "x": Attack(f"touch '{path.parent}/executed'")}


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"x": Attack(f"touch '{path.parent}/executed'")}, 2))


def stray_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no checkpoint")


def torchscript(path: Path) -> None:
    import torch

    module = torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))
    torch.jit.save(module, str(path))


legacy = {"_use_new_zipfile_serialization": False}
weights = torch_save(lambda torch, path: {"weight": torch.ones(4000)})
weights_legacy = torch_save(lambda torch, path: {"weight": torch.ones(4000)}, **legacy)
ones = "weight"
TORCH = {
    "runs code": (torch_save(attack), "system"),
    "runs code, old format": (torch_save(attack, **legacy), "system"),
    "runs code, bare pickle": (bare_pickle, "system"),
    "a whole module": (torch_save(lambda torch, path: torch.nn.Linear(2, 2)), "Linear"),
    "NumPy inside": (torch_save(lambda torch, path: {ones: np.ones(2)}), "numpy"),
    "newer pickle": (lambda p: p.write_bytes(pickle.dumps({"x": 1}, 4)), "more than weights"),
    "TorchScript": (torchscript, "TorchScript"),
    "cut": (cut(weights, 0.5), "truncated"),
    "cut, old format": (cut(weights_legacy, 0.5), "damaged"),
    "a byte left": (cut(weights, 0.0001), "not a PyTorch"),
    "any zip": (stray_zip, "no PyTorch checkpoint"),
    "text": (lambda p: p.write_text("weights"), "not a PyTorch"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "a list": (torch_save(lambda torch, path: [torch.ones(2)]), "holds a list"),
    "one tensor": (torch_save(lambda torch, path: torch.ones(2)), "holds a Tensor"),
    "no tensors": (torch_save(lambda torch, path: {}), "no tensors"),
    "an optimizer": (torch_save(lambda torch, path: {"state": {}, "lr": 0.1}), "'lr' (float)"),
    "numbered": (torch_save(lambda torch, path: {0: torch.ones(2)}), "0 is not the name"),
    "two models": (torch_save(lambda torch, path: {"model": {}, "state_dict": {}}), "both"),
    "sparse": (torch_save(lambda torch, path: {ones: torch.eye(2).to_sparse()}), "sparse"),
    "meta": (torch_save(lambda torch, path: {ones: torch.ones(2, device="meta")}), "meta"),
    "float8": (torch_save(lambda torch, path: {ones: torch.ones(2).to(torch.float8_e5m2)}), ones),
    "terabytes": (torch_save(lambda torch, path: {ones: torch.ones(1).expand(2**40)}), "expand"),
}


@pytest.mark.parametrize("case", TORCH)
def test_malformed_pytorch_checkpoints_are_refused(tmp_path, case):
    write, word = TORCH[case]
    path = tmp_path / "bad.pt"
    write(path)
    refused(tmp_path, torch_files.read_torch, path, word)
    assert not (tmp_path / "executed").exists()
