"""The whole pairing in a file: as it is written it changes nothing, edited it does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from compare import Twin, check, find
from compare.errors import DiptychError
from compare.ladder.pair import Pair
from compare.ladder.pairs import pairings, rows
from compare.weights.map import WeightMap
from compare.weights.named import written
from examples import quickstart
from tests.ladder import test_unpaired
from tests.ports import attention, linen, nnx, plain, recurrent, scanned

TWINS = {
    "linen": quickstart.encoder,
    "linen, by values": linen.classifier,
    "linen, in a scan": scanned.linen_scan,
    "nnx": nnx.decoder,
    "nnx, a leaf whose name says nothing": nnx.mixture,
    "functions": plain.vae,
    "packed heads": attention.block,
    "packed gates": recurrent.both_ways,
    "linen, packed": Twin(
        torch=test_unpaired.Recurrent,
        jax=test_unpaired.LinenRecurrent(),
        inputs=test_unpaired.SEQUENCE,
        rename={"one": "first", "two": "second"},
    ),
}


def links(weights: WeightMap) -> set[Any]:
    return {(x.torch, x.jax, x.rows, x.part, x.perm, x.split, x.adds) for x in weights.links}


def state(twin: Twin) -> tuple[str, set[Any], dict[str, Any]]:
    pair = Pair(dataclasses.replace(twin, name="net"))
    found = {mode: (each.pairs, each.stacked) for mode, each in pairings(pair)[0].items()}
    return written(rows(pair)), links(pair.weights), found


@pytest.mark.parametrize("name", TWINS)
def test_a_file_as_it_was_written_changes_nothing(name: str, tmp_path: Path):
    file = tmp_path / "net.pairs"
    text, *before = state(TWINS[name])
    file.write_text(text)
    assert before[0]
    again, *after = state(dataclasses.replace(TWINS[name], rename=file))
    assert after == before
    said = {line.partition("#")[0].strip() for line in text.splitlines()}
    assert said == {line.partition("#")[0].strip() for line in again.splitlines()}


def edited(tmp_path: Path, *changes: tuple[str, str]) -> Twin:
    """The encoder of the quickstart with words of its file exchanged."""
    file = tmp_path / "net.pairs"
    text = written(rows(Pair(quickstart.encoder)))
    for old, new in changes:
        assert f"  {old}  " in text, old
        text = text.replace(f"  {old}  ", f"  {new}  ")
    file.write_text(text)
    return dataclasses.replace(quickstart.encoder, rename=str(file), name="net")


def file_of(twin: Twin) -> Path:
    assert isinstance(twin.rename, str)
    return Path(twin.rename)


def test_leaves_that_are_exchanged(tmp_path: Path):
    one, two = (f"blocks_{i}/fc1/kernel" for i in (0, 1))
    twin = edited(tmp_path, (one, "?"), (two, one), ("?", two))
    met = {link.torch: "/".join(link.jax[1:]) for link in Pair(twin).weights.links}
    assert met["blocks.0.fc1.weight"] == two
    assert met["blocks.1.fc1.weight"] == one
    assert check(quickstart.encoder).verdict == "SAME"
    assert find(twin).verdict == "DIVERGED"


def test_layers_that_are_exchanged(tmp_path: Path):
    twin = edited(tmp_path, *((f"blocks_{a}/fc1", b) for a, b in ((0, "?"), (1, "blocks_0/fc1"))))
    text = file_of(twin).read_text().replace("  ?  ", "  blocks_1/fc1  ")
    file_of(twin).write_text(text)
    (found, *_) = pairings(Pair(twin))
    assert found["eval"].pairs["blocks.0.fc1"] == "blocks_1/fc1"
    assert found["eval"].pairs["blocks.1.fc1"] == "blocks_0/fc1"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("blocks_1/fc1/kernel", "blocks_1/fc1/kernal", "JAX has no leaf blocks_1/fc1/kernal"),
        ("blocks_1/fc1/kernel", "blocks_1/fc1", "JAX has no leaf blocks_1/fc1"),
        ("blocks_1/fc1/kernel", "blocks_0/fc1/kernel", "is the leaf of blocks.0.fc1.weight alr"),
        ("blocks_1/gelu", "blocks_1/relu", "JAX has no layer blocks_1/relu"),
    ],
)
def test_a_line_that_names_nothing(old: str, new: str, said: str, tmp_path: Path):
    twin = edited(tmp_path, (old, new))
    lines = file_of(twin).read_text().splitlines()
    ours = "blocks.1.act" if "layer" in said else "blocks.1.fc1.weight"
    number = next(i for i, line in enumerate(lines, 1) if line.startswith(f"{ours} "))
    for call in (find, lambda twin: rows(Pair(twin))):
        with pytest.raises(DiptychError) as caught:
            call(twin)
        assert f"net.pairs:{number}: " in str(caught.value)
        assert said in str(caught.value)


def test_a_name_that_pytorch_has_not(tmp_path: Path):
    file = tmp_path / "net.pairs"
    file.write_text("head head\nblocks.9.fc1 blocks_0/fc1\n")
    with pytest.raises(DiptychError, match=r"net.pairs:2: PyTorch has no module and no tensor bl"):
        Pair(dataclasses.replace(quickstart.encoder, rename=file))


def test_what_is_suggested_to_a_file_are_its_lines(tmp_path: Path):
    """The leftovers have lines of their own; with those that are suggested nothing is left over."""
    ours, other, inputs, *_ = test_unpaired.KINDS["Linen"]
    file = tmp_path / "net.pairs"
    twin = Twin(torch=ours, jax=other(), inputs=inputs, name="net")
    file.write_text(text := written(rows(Pair(twin))))
    assert ["blocks.0.alpha.weight", "-"] in [line.split()[:2] for line in text.splitlines()]
    twin = dataclasses.replace(twin, rename=file)
    line = test_unpaired.leftovers(Pair(twin)).line
    assert line.startswith(f"{file}: blocks.0.alpha block_0/alpha_proj; ")
    file.write_text(text + line.partition(": ")[2].replace("; ", "\n"))
    assert not Pair(twin).weights.differences
