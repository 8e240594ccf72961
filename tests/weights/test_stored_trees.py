"""Flax's weights as people store them: each is read into the same checkpoint of PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import torch
from flax import nnx, serialization
from flax.training.train_state import TrainState
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file
from torch import nn

from compare import Array, Twin
from compare.ladder.weight_map import weight_map
from compare.weights import convert as conversion
from compare.weights import flax_files, torch_files
from tests.weights.stored import content, refused


class Torch(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(self.layers[1](self.layers[0](x).relu()))


class Layers(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        init = fnn.with_partitioning(fnn.initializers.lecun_normal(), ("embed", "mlp"))
        x = fnn.relu(fnn.Dense(4, name="0", kernel_init=init)(x))
        return fnn.Dense(4, name="1", kernel_init=init)(x)


class Flax(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        return fnn.LayerNorm(name="norm")(Layers(name="layers")(x))


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.layers[1](nnx.relu(self.layers[0](x))))


INPUTS = {"x": Array((2, 4))}
LINEN = Twin(torch=Torch, jax=Flax, inputs=INPUTS, name="linen")
NNX = Twin(torch=Torch, jax=lambda: Nnx(nnx.Rngs(0)), inputs=INPUTS, name="nnx")


def convert(twin: Twin, source: Path, target: Path, **options: Any) -> conversion.Conversion:
    return conversion.convert(partial(weight_map, twin), source, target, **options)


def msgpack(tree: Any) -> Callable[[Path], Any]:
    tree = jax.tree.map(np.asarray, tree)
    return lambda path: path.write_bytes(serialization.msgpack_serialize(tree))


def orbax(tree: Any) -> Callable[[Path], Any]:
    def write(path: Path) -> None:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, tree)

    return write


def safetensors(tree: dict[str, Any]) -> Callable[[Path], Any]:
    return lambda path: save_file({name: np.asarray(leaf) for name, leaf in tree.items()}, path)


BOXED = Flax().init(jax.random.key(0), jnp.ones((2, 4)))
PLAIN = fnn.meta.unbox(BOXED)
PARAMS = PLAIN["params"]
LISTED = {"layers": [PARAMS["layers"]["0"], PARAMS["layers"]["1"]], "norm": PARAMS["norm"]}
TRAINING = TrainState.create(
    apply_fn=None,  # pyrefly: ignore[bad-argument-type]
    params=PARAMS,
    tx=optax.adam(1e-3),
)
MODEL = Nnx(nnx.Rngs(0))
nnx.update(MODEL, nnx.State({"layers": {0: PARAMS["layers"]["0"], 1: PARAMS["layers"]["1"]}}))
nnx.update(MODEL, nnx.State({"norm": PARAMS["norm"]}))
STATE = nnx.state(MODEL)
WEIGHTS = nnx.to_pure_dict(nnx.state(MODEL, nnx.Param))

STORED = {
    "boxed.msgpack": (LINEN, lambda p: p.write_bytes(serialization.to_bytes(BOXED))),
    "boxed": (LINEN, orbax(BOXED)),
    "parameters alone.msgpack": (LINEN, msgpack(PARAMS)),
    "slashes.msgpack": (LINEN, msgpack(flatten_dict(PLAIN, sep="/"))),
    "dots.msgpack": (LINEN, msgpack(flatten_dict(PLAIN, sep="."))),
    "dots, parameters alone.msgpack": (LINEN, msgpack(flatten_dict(PARAMS, sep="."))),
    "dots under params.msgpack": (LINEN, msgpack({"params": flatten_dict(PARAMS, sep=".")})),
    "slashes.safetensors": (LINEN, safetensors(flatten_dict(PLAIN, sep="/"))),
    "dots.safetensors": (LINEN, safetensors(flatten_dict(PLAIN, sep="."))),
    "dots, alone.safetensors": (LINEN, safetensors(flatten_dict(PARAMS, sep="."))),
    "slashes": (LINEN, orbax(flatten_dict(PLAIN, sep="/"))),
    "dots": (LINEN, orbax(flatten_dict(PLAIN, sep="."))),
    "list.msgpack": (LINEN, msgpack(LISTED)),
    "list": (LINEN, orbax({"params": LISTED})),
    "training.msgpack": (LINEN, lambda p: p.write_bytes(serialization.to_bytes(TRAINING))),
    "training": (LINEN, orbax(TRAINING)),
    "a model of a run.msgpack": (LINEN, msgpack({"model": PLAIN, "epoch": np.array(3)})),
    "variables as parameters.msgpack": (LINEN, msgpack({"params": PLAIN})),
    "state of NNX": (NNX, orbax(STATE)),
    "plain state of NNX.msgpack": (NNX, msgpack(WEIGHTS)),
}


@pytest.mark.parametrize("name", STORED)
def test_weights_are_found_and_return(name: str, tmp_path: Path):
    twin, write = STORED[name]
    write(tmp_path / name)
    done = convert(twin, tmp_path / name, tmp_path / "one.pt")
    assert (done.source, done.written, done.changed) == ("Flax", 6, 0)
    found = torch_files.read_torch(tmp_path / "one.pt")
    wanted = {f"layers.{i}.weight": np.asarray(PARAMS["layers"][i]["kernel"]).T for i in "01"}
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key], value)
    first, second = wanted.values()
    assert not np.array_equal(first, second)
    convert(twin, tmp_path / "one.pt", tmp_path / "two.msgpack")
    convert(twin, tmp_path / "two.msgpack", tmp_path / "three.pt")
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "three.pt").read_bytes()


def test_what_is_left_out_is_said(tmp_path: Path):
    for name, words in {
        "training.msgpack": "left 'step', 'opt_state'",
        "a model of a run.msgpack": "took 'model', left 'epoch'",
        "state of NNX": "the state of random numbers",
    }.items():
        twin, write = STORED[name]
        write(tmp_path / name)
        done = convert(twin, tmp_path / name, tmp_path / f"{name}.pt")
        assert any(words in note for note in done.notes)


FLAT = flatten_dict(PLAIN, sep=".")
WRONG = {
    "surplus": (FLAT | {"params.layers.2.kernel": np.ones(3)}, "has unknown"),
    "missing": ({k: v for k, v in FLAT.items() if "norm" not in k}, "lacks"),
    "twice": (FLAT | flatten_dict(PARAMS, sep="."), "two leaves are params/"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_flat_tree_of_another_model_is_refused(case: str, tmp_path: Path):
    tree, words = WRONG[case]
    msgpack(tree)(tmp_path / "x.msgpack")
    before = content(tmp_path)
    with pytest.raises(conversion.DiptychError, match=words):
        convert(LINEN, tmp_path / "x.msgpack", tmp_path / "y.pt")
    assert content(tmp_path) == before


def test_keys_of_the_users_own_tree(tmp_path: Path):
    """A plain function's flat parameters: what is written is what the function takes."""
    names = ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
    params = {name: jnp.zeros((4, 4) if "weight" in name else 4) for name in names}

    def apply(params, x):
        x = jax.nn.relu(x @ params["layers.0.weight"].T + params["layers.0.bias"])
        return x @ params["layers.1.weight"].T + params["layers.1.bias"]

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

        def forward(self, x):
            return self.layers[1](self.layers[0](x).relu())

    torch.manual_seed(0)
    model = Two()
    twin = Twin(torch=Two, jax=(apply, params), inputs=INPUTS, name="flat")
    torch.save(model.state_dict(), tmp_path / "one.pt")
    convert(twin, tmp_path / "one.pt", tmp_path / "two.msgpack")
    back = serialization.from_bytes(params, (tmp_path / "two.msgpack").read_bytes())
    x = np.ones((2, 4), np.float32)
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(apply(back, x), wanted, atol=1e-6)
    exchanged = back | {names[0]: back[names[2]], names[2]: back[names[0]]}
    assert np.abs(apply(exchanged, x) - wanted).max() > 1e-3
    convert(twin, tmp_path / "one.pt", tmp_path / "two.safetensors")
    for source in ("two.msgpack", "two.safetensors"):
        convert(twin, tmp_path / source, tmp_path / "three.pt", force=True)
        same = torch_files.read_torch(tmp_path / "three.pt")
        assert all(same[n].tobytes() == v.numpy().tobytes() for n, v in model.state_dict().items())


def test_names_that_meet_are_refused(tmp_path: Path):
    path = tmp_path / "x.msgpack"
    msgpack({"a/b": np.ones(1), "a": {"b": np.ones(1)}})(path)
    refused(tmp_path, flax_files.read_flax, path, "'a/b'")
