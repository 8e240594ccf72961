"""Files: bundles and checkpoints return bit for bit, and nothing malformed gets in."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compare.errors import DiptychError
from compare.ladder.bundle import Bundle, fingerprint, fingerprints
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


def same(one, two) -> bool:
    return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()


def native(arrays):
    return {name: files.native(array) for name, array in arrays.items()}


def flat(tree, above=()):
    if not isinstance(tree, dict):
        return {"/".join(above): tree}
    return {key: leaf for k, sub in tree.items() for key, leaf in flat(sub, (*above, k)).items()}


def nested(arrays):
    return flax_files._nest("", [(tuple(name.split("/")), array) for name, array in arrays.items()])


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


# -------------------------------------------------------------------------------------- round trips


def test_a_bundle_returns_bit_for_bit_and_in_order(tmp_path):
    meta = {"seed": 0, "limits": [1e-9, float("inf")], "flags": {"x64": True}, "path": tmp_path}
    path = Bundle(dict(reversed(ARRAYS.items())), meta).save(tmp_path / "one.bundle")
    found = Bundle.load(path)
    assert list(found.tensors) == list(ARRAYS)[::-1]
    assert found.meta == meta | {"path": str(tmp_path)}
    assert all(same(found.tensors[name], array) for name, array in native(ARRAYS).items())
    assert all(array.flags.writeable for array in found.tensors.values())
    first = path.read_bytes()
    assert found.save(path).read_bytes() == first
    assert content(tmp_path) == {"one.bundle": first}


def test_a_bundle_needs_no_bfloat16(tmp_path, monkeypatch):
    array = ARRAYS["params/bfloat16"]
    path = Bundle({"x": array}).save(tmp_path / "x.bundle")
    first = path.read_bytes()
    monkeypatch.setattr(files, "bfloat16", lambda: None)
    found = Bundle.load(path)
    assert found.tensors["x"].dtype == np.uint16
    assert found.dtype("x") == "bfloat16"
    assert same(found.widened("x"), array.astype(np.float32))
    assert found.save(path).read_bytes() == first


def test_an_empty_bundle_is_a_bundle(tmp_path):
    assert Bundle.load(Bundle().save(tmp_path / "x")).tensors == {}


def test_a_fingerprint_tells_name_dtype_shape_and_bytes():
    zero = np.zeros((2, 3), np.float32)
    others = [("x", zero.T), ("y", zero), ("x", zero.view(np.int32)), ("x", -zero)]
    assert len({fingerprint("x", zero), *(fingerprint(*other) for other in others)}) == 5
    assert fingerprint("x", np.asfortranarray(zero)) == fingerprint("x", zero)
    assert fingerprints({"a": zero, "b": zero}) != fingerprints({"b": zero, "a": zero})


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "x.pth", "x.bin", "X.PT"])
def test_a_pytorch_state_returns_bit_for_bit(tmp_path, name):
    path = torch_files.write_torch(tmp_path / name, ARRAYS)
    found = torch_files.read_torch(path)
    assert found.keys() == ARRAYS.keys()
    assert all(same(found[key], array) for key, array in native(ARRAYS).items())
    tensors = content(tmp_path)
    torch_files.write_torch(path, found)
    assert content(tmp_path) == tensors


@pytest.mark.parametrize("name", ["x.safetensors", "x.msgpack", "x.orbax", "x"])
def test_flax_variables_return_bit_for_bit(tmp_path, name):
    path = flax_files.write_flax(tmp_path / name, nested(ARRAYS))
    flax_files.write_flax(path, nested(ARRAYS))  # over what is there
    assert os.listdir(tmp_path) == [name]
    found = flat(flax_files.read_flax(path))
    assert found.keys() == ARRAYS.keys()
    assert all(same(found[key], array) for key, array in native(ARRAYS).items())
    assert all(array.flags.writeable for array in found.values())


def test_checkpoints_are_those_of_the_frameworks(tmp_path):
    import jax.numpy as jnp
    import torch
    from flax import serialization
    from safetensors.torch import load_file as load_torch

    weight = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T.requires_grad_()
    for suffix in ("pt", "safetensors"):
        path = torch_files.write_torch(tmp_path / f"x.{suffix}", {"w": weight})
        found = torch.load(path) if suffix == "pt" else load_torch(path)
        assert torch.equal(found["w"], weight)
    path = flax_files.write_flax(tmp_path / "x.msgpack", {"params": {"w": jnp.ones(3)}})
    assert (
        serialization.from_bytes({"params": {"w": 0}}, path.read_bytes())["params"]["w"].sum() == 3
    )


def test_an_orbax_manager_is_read_through_its_step(tmp_path):
    flax_files.write_flax(tmp_path / "step" / ".." / "item", {"params": {"w": np.ones(3)}})
    (tmp_path / "5").mkdir()
    shutil.move(tmp_path / "item", tmp_path / "5" / "default")
    assert flax_files.read_flax(tmp_path / "5")["params"]["w"].sum() == 3


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


def test_bundles_and_safetensors_import_no_framework(tmp_path):
    code = """
import sys, numpy as np
from compare.weights import flax_files, torch_files
from compare.ladder.bundle import Bundle
Bundle.load(Bundle({"x": np.ones(2)}).save("x.bundle"))
torch_files.read_torch(torch_files.write_torch("x.safetensors", {"x": np.ones(2)}))
flax_files.read_flax(flax_files.write_flax("y.safetensors", {"x": np.ones(2)}))
assert not {"torch", "jax", "flax"} & sys.modules.keys()
"""
    environment = os.environ | {"PYTHONPATH": str(Path(files.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


# ---------------------------------------------------------------------------- malformed safetensors


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


# ---------------------------------------------------------------------------------- altered bundles


def altered(path: Path, others=(), drop=(), **record) -> None:
    """Rewrites a bundle with other tensors or another record, as a hostile tool would."""
    header = path.read_bytes()
    length = int.from_bytes(header[:8], "little")
    own = json.loads(json.loads(header[8 : 8 + length])["__metadata__"]["diptych"])
    left = {name: array for name, array in load_file(path).items() if name not in drop}
    save_file(left | dict(others), path, {"diptych": json.dumps(own | record)})


BUNDLES = {
    "no bundle": (lambda p: save_file({"x": np.ones(1)}, p), "not a bundle"),
    "record no JSON": (lambda p: save_file({"x": np.ones(1)}, p, {"diptych": "{"}), "damaged"),
    "record a number": (lambda p: save_file({"x": np.ones(1)}, p, {"diptych": "1"}), "damaged"),
    "record bare": (lambda p: save_file({}, p, {"diptych": '{"schema": 1}'}), "damaged"),
    "later schema": (lambda p: altered(p, schema=2), "schema 2"),
    "schema a text": (lambda p: altered(p, schema="1"), "schema 1"),
    "metadata altered": (lambda p: altered(p, meta={"seed": 1}), "record was altered"),
    "list altered": (lambda p: altered(p, tensors=[]), "record was altered"),
    "value altered": (lambda p: altered(p, {"a": np.ones(2, np.float32)}), "'a' was altered"),
    "sign of zero": (lambda p: altered(p, {"a": -np.zeros(2, np.float32)}), "'a' was altered"),
    "dtype altered": (lambda p: altered(p, {"a": np.zeros(2, np.int32)}), "'a' was altered"),
    "shape altered": (lambda p: altered(p, {"a": np.zeros((1, 2), np.float32)}), "was altered"),
    "tensor missing": (lambda p: altered(p, drop=["a"]), "'a' missing"),
    "tensor surplus": (lambda p: altered(p, {"z": np.ones(2)}), "'z' not in"),
}


@pytest.mark.parametrize("case", BUNDLES)
def test_altered_bundles_are_refused(tmp_path, case):
    path = tmp_path / "x.bundle"
    Bundle({"a": np.zeros(2, np.float32), "b": np.ones(3)}, {"seed": 0}).save(path)
    alter, word = BUNDLES[case]
    alter(path)
    refused(tmp_path, Bundle.load, path, word)


def test_every_cut_of_a_bundle_is_refused(tmp_path):
    whole = Bundle({"a": np.arange(4.0)}, {"seed": 0}).save(tmp_path / "x").read_bytes()
    for size in range(0, len(whole), 7):
        (tmp_path / "x").write_bytes(whole[:size])
        refused(tmp_path, Bundle.load, tmp_path / "x")


# -------------------------------------------------------------------- malformed PyTorch checkpoints


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


def cut(write, share: float):
    def cut_off(path: Path) -> None:
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return cut_off


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


# ----------------------------------------------------------------------- malformed Flax checkpoints


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
    "msgpack slash": ("x.msgpack", msgpack({"a/b": np.ones(1)}), "'a/b'"),
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


# ------------------------------------------------------------------------------------------ writing


def write_bundle(path):
    return Bundle({"x": np.ones(2)}).save(path)


def write_torch(path):
    return torch_files.write_torch(path, {"x": np.ones(2)})


def write_flax(path):
    return flax_files.write_flax(path, {"x": np.ones(2)})


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


@pytest.mark.parametrize(
    ("write", "name", "value", "word"),
    [
        (torch_files.write_torch, "x.pt", {"w": np.array(["a"])}, "'w'"),
        (torch_files.write_torch, "x.pt", {"w": 1.0}, "'w' is float"),
        (torch_files.write_torch, "x.pt", {}, "no tensors"),
        (torch_files.write_torch, "x.ckpt", {"w": np.ones(1)}, ".ckpt"),
        (torch_files.write_torch, "x", {"w": np.ones(1)}, "no suffix"),
        (torch_files.write_torch, "x.safetensors", {"__metadata__": np.ones(1)}, "__metadata__"),
        (flax_files.write_flax, "x.msgpack", {"w": [np.ones(1)]}, "'w' is a list"),
        (flax_files.write_flax, "x.msgpack", {0: np.ones(1)}, "0 cannot be a name"),
        (flax_files.write_flax, "x.safetensors", {"a/b": np.ones(1)}, "'a/b'"),
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


@pytest.mark.parametrize(
    ("module", "name", "line"),
    [
        ("torch", "x.pt", 'pip install "diptych[torch]"'),
        ("flax.serialization", "x.msgpack", 'pip install "diptych[jax]"'),
        ("orbax.checkpoint", "x.orbax", 'pip install "diptych[jax]"'),
    ],
)
def test_a_missing_framework_is_said_with_the_line_that_installs_it(
    tmp_path, monkeypatch, module, name, line
):
    write = write_torch if module == "torch" else write_flax
    read = torch_files.read_torch if module == "torch" else flax_files.read_flax
    path = write(tmp_path / name)
    monkeypatch.setitem(sys.modules, module, None)
    refused(tmp_path, write, path, line)
    refused(tmp_path, read, path, line)
