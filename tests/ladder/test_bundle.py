"""Bundles return bit for bit, and an altered one is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compare.ladder.bundle import Bundle, fingerprint, fingerprints
from compare.weights import files
from tests.arrays import same_bits
from tests.weights.stored import ARRAYS, content, native, refused


def test_a_bundle_returns_bit_for_bit_and_in_order(tmp_path):
    meta = {"seed": 0, "limits": [1e-9, float("inf")], "flags": {"x64": True}, "path": tmp_path}
    path = Bundle(dict(reversed(ARRAYS.items())), meta).save(tmp_path / "one.bundle")
    found = Bundle.load(path)
    assert list(found.tensors) == list(ARRAYS)[::-1]
    assert found.meta == meta | {"path": str(tmp_path)}
    assert all(same_bits(found.tensors[name], array) for name, array in native(ARRAYS).items())
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
    assert same_bits(found.widened("x"), array.astype(np.float32))
    assert found.save(path).read_bytes() == first


def test_an_empty_bundle_is_a_bundle(tmp_path):
    assert Bundle.load(Bundle().save(tmp_path / "x")).tensors == {}


def test_a_fingerprint_tells_name_dtype_shape_and_bytes():
    zero = np.zeros((2, 3), np.float32)
    others = [("x", zero.T), ("y", zero), ("x", zero.view(np.int32)), ("x", -zero)]
    assert len({fingerprint("x", zero), *(fingerprint(*other) for other in others)}) == 5
    assert fingerprint("x", np.asfortranarray(zero)) == fingerprint("x", zero)
    assert fingerprints({"a": zero, "b": zero}) != fingerprints({"b": zero, "a": zero})


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
