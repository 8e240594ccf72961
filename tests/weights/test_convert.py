"""Checkpoints from one framework to the other and back: the same bits, or one clear line."""

import dataclasses
import json
import re
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from flax import linen
from torch import nn

from compare import Array, Image, Tokens, Twin
from compare.discover import catalogue, find
from compare.errors import DiptychError
from compare.ladder.weight_map import weight_map
from compare.weights import convert as conversion
from compare.weights import flax_files, torch_files
from compare.weights.convert import FLAX, TORCH, Conversion, side
from tests.arrays import same_bits

MANIFESTS = sorted((Path(__file__).parent / "manifests").glob("*.json"))
TWINS = {name: twin for name, twin in catalogue().items() if twin.name}


def convert(twin, source, target, **options) -> Conversion:
    return conversion.convert(partial(weight_map, twin), source, target, **options)


def state(twin, dtype=None, seed=0) -> dict[str, np.ndarray]:
    """Values for every tensor of a twin's PyTorch side: any bits at all, NaN and infinity too."""
    rng = np.random.default_rng(seed)
    with torch.device("meta"):
        model = twin.build("torch")
    found, tied = {}, {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        wanted = np.dtype(str(tensor.dtype).removeprefix("torch."))
        wanted = np.dtype(dtype) if dtype and wanted.kind == "f" else wanted
        raw = rng.integers(0, 256, tensor.numel() * wanted.itemsize, np.uint8)
        found[name] = tied.setdefault(id(tensor), raw.view(wanted).reshape(tuple(tensor.shape)))
    return found


def same(one, two) -> bool:
    """Names in order, dtypes, shapes and bits."""
    return list(one) == list(two) and all(map(same_bits, one.values(), two.values()))


def there_and_back(twin, values, tmp_path, torch_suffix, flax_suffix):
    """The state dict after a way to Flax and back, through files."""
    source, middle = tmp_path / f"one{torch_suffix}", tmp_path / f"two{flax_suffix}"
    back = tmp_path / f"three{torch_suffix}"
    torch_files.write_torch(source, values)
    assert convert(twin, source, middle).target == FLAX
    assert convert(twin, middle, back).target == TORCH
    return torch_files.read_torch(back)


WEIGHTED = [name for name, twin in TWINS.items() if twin.config]


@pytest.mark.parametrize("name", WEIGHTED)
def test_every_twin_keeps_its_bits(name, tmp_path):
    values = state(TWINS[name])
    back = there_and_back(TWINS[name], values, tmp_path, ".safetensors", ".safetensors")
    assert same(back, torch_files.read_torch(tmp_path / "one.safetensors"))
    assert {k: v.tobytes() for k, v in back.items()} == {k: v.tobytes() for k, v in values.items()}


@pytest.mark.parametrize("flax_suffix", [".msgpack", ".orbax", "", ".safetensors"])
@pytest.mark.parametrize("torch_suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_every_format_keeps_the_bits(torch_suffix, flax_suffix, tmp_path):
    twin = find("cnn/lenet:LeNet")[0]
    values = state(twin)
    back = there_and_back(twin, values, tmp_path, torch_suffix, flax_suffix)
    assert same(back, torch_files.read_torch(tmp_path / f"one{torch_suffix}"))
    assert {k: v.tobytes() for k, v in back.items()} == {k: v.tobytes() for k, v in values.items()}


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_every_dtype_keeps_its_bits(dtype, tmp_path):
    twin = find("foundations/mlp:MLP")[0]
    values = state(twin, dtype)
    assert same(there_and_back(twin, values, tmp_path, ".pt", ".msgpack"), values)


def test_shapes_in_flax_are_the_models(tmp_path):
    twin = find("cnn/resnet:resnet18")[0]
    twin = twin.configured({"width": 8, "num_classes": 7})
    torch_files.write_torch(tmp_path / "one.pt", state(twin))
    convert(twin, tmp_path / "one.pt", tmp_path / "two.msgpack")
    tree = flax_files.read_flax(tmp_path / "two.msgpack")
    assert set(tree) == {"params", "batch_stats"}
    assert tree["params"]["fc"]["kernel"].shape == (64, 7)
    assert tree["params"]["conv1"]["kernel"].shape == (7, 7, 3, 8)
    counter = tree["batch_stats"]["layer1"]["0"]["bn1"]["num_batches_tracked"]
    assert (counter.shape, counter.dtype) == ((), np.int64)


def test_converted_weights_are_the_same_network(tmp_path):
    import jax.numpy as jnp

    twin = find("cnn/lenet:LeNet")[0]
    torch.manual_seed(0)
    ours, theirs = twin.build("torch").eval(), twin.build("jax")
    torch.save({"state_dict": ours.state_dict(), "epoch": 3}, tmp_path / "lenet.pth")
    done = convert(twin, tmp_path / "lenet.pth", tmp_path / "lenet.msgpack")
    assert done.notes == ["took 'state_dict', left 'epoch'"]
    x = np.random.default_rng(0).standard_normal((2, 1, 28, 28), np.float32)
    variables = flax_files.read_flax(tmp_path / "lenet.msgpack")
    found = theirs.apply(variables, jnp.asarray(x.transpose(0, 2, 3, 1).copy()))
    with torch.no_grad():
        wanted = ours(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(np.asarray(found), wanted, atol=1e-6)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_published_names_and_shapes(path):
    """PyTorch's side has the names, the shapes and the order that published weights have."""
    (name,) = [name for name in TWINS if name.endswith(f":{path.stem}")]
    with torch.device("meta"):
        model = TWINS[name].published().build("torch")
    found = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    assert list(found.items()) == list(json.loads(path.read_text()).items())


def test_manifests_are_those_of_the_installed_torchvision():
    kept = []  # a Library that is dropped takes its operators along
    for name in ("nms", "qnms"):  # compiled operators that a CPU build of torch lacks
        kept.append(torch.library.Library("torchvision", "FRAGMENT"))
        kept[-1].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    models = pytest.importorskip("torchvision.models")
    for path in MANIFESTS:
        with torch.device("meta"):
            theirs = getattr(models, path.stem)()
        found = {key: list(tensor.shape) for key, tensor in theirs.state_dict().items()}
        assert found == json.loads(path.read_text())


class TorchTied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(self.embed(x))


class FlaxTied(linen.Module):
    @linen.compact
    def __call__(self, x):
        embed = linen.Embed(7, 4, name="embed")
        return embed.attend(embed(x))


TIED = Twin(torch=TorchTied, jax=FlaxTied, inputs={"x": Tokens(2, 3, 7)}, name="tied")


def test_tied_weights_are_one_tensor_there_and_two_names_here(tmp_path):
    values = {name: array for name, array in state(TIED).items() if name == "embed.weight"}
    both = values | {"out.weight": values["embed.weight"]}
    back = there_and_back(TIED, both, tmp_path, ".pt", ".msgpack")
    assert same(back, both)
    assert len(weight_map(TIED).links) == 1
    apart = {**both, "out.weight": both["embed.weight"] + 1}
    torch_files.write_torch(tmp_path / "apart.pt", apart)
    with pytest.raises(DiptychError, match=r"out\.weight and embed\.weight are one tensor"):
        convert(TIED, tmp_path / "apart.pt", tmp_path / "apart.msgpack")
    assert not (tmp_path / "apart.msgpack").exists()


class TorchTiedLate(TorchTied):
    """The head is registered first: the name that the file lacks carries the tensor."""

    def __init__(self):
        nn.Module.__init__(self)
        self.out = nn.Linear(4, 7, bias=False)
        self.embed = nn.Embedding(7, 4)
        self.out.weight = self.embed.weight


@pytest.mark.parametrize("model", [TorchTied, TorchTiedLate])
@pytest.mark.parametrize("kept", ["embed.weight", "out.weight"])
def test_tied_weights_may_be_stored_once(model, kept, tmp_path):
    twin = dataclasses.replace(TIED, torch=model)
    value = np.random.default_rng(0).standard_normal((7, 4), np.float32)
    torch_files.write_torch(tmp_path / "one.safetensors", {kept: value})
    convert(twin, tmp_path / "one.safetensors", tmp_path / "two.msgpack")
    tree = flax_files.read_flax(tmp_path / "two.msgpack")
    assert same_bits(tree["params"]["embed"]["embedding"], value)
    convert(twin, tmp_path / "two.msgpack", tmp_path / "three.pt")
    back = torch_files.read_torch(tmp_path / "three.pt")
    assert back.keys() == {"embed.weight", "out.weight"}
    assert all(same_bits(array, value) for array in back.values())
    torch_files.write_torch(tmp_path / "none.pt", {"other.weight": value})
    with pytest.raises(DiptychError, match="lacks"):
        convert(twin, tmp_path / "none.pt", tmp_path / "none.msgpack")


class TorchLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


class FlaxLSTM(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.RNN(linen.OptimizedLSTMCell(3, name="rnn"))(x)


LSTM = Twin(torch=TorchLSTM, jax=FlaxLSTM, inputs={"x": Array((2, 5, 4))}, name="lstm")


def test_a_sum_of_two_biases_is_said_and_comes_back_as_one(tmp_path):
    torch.manual_seed(0)
    model = LSTM.build("torch")
    torch.save(model.state_dict(), tmp_path / "one.pt")
    there = convert(LSTM, tmp_path / "one.pt", tmp_path / "two.msgpack")
    assert there.changed == 4
    assert any("rnn/hi/bias is rnn.bias_ih_l0 + rnn.bias_hh_l0" in note for note in there.notes)
    back = convert(LSTM, tmp_path / "two.msgpack", tmp_path / "three.pt")
    assert back.changed == 0
    assert any("rnn.bias_ih_l0 set to 0" in note for note in back.notes)
    one, three = (torch_files.read_torch(tmp_path / name) for name in ("one.pt", "three.pt"))
    assert not three["rnn.bias_ih_l0"].any()
    np.testing.assert_array_equal(
        three["rnn.bias_hh_l0"], one["rnn.bias_ih_l0"] + one["rnn.bias_hh_l0"]
    )
    again = LSTM.build("torch")
    again.load_state_dict({name: torch.from_numpy(array) for name, array in three.items()})
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(again(x), model(x))
    three["rnn.bias_hh_l0"] = one["rnn.bias_hh_l0"]  # one of the two alone is another network
    again.load_state_dict({name: torch.from_numpy(array) for name, array in three.items()})
    assert not torch.allclose(again(x), model(x), atol=1e-3)
    tree = flax_files.read_flax(tmp_path / "two.msgpack")
    tree["params"]["rnn"]["hi"]["bias"][0] = -0.0
    flax_files.write_flax(tmp_path / "zero.msgpack", tree)
    convert(LSTM, tmp_path / "zero.msgpack", tmp_path / "zero.pt")
    convert(LSTM, tmp_path / "zero.pt", tmp_path / "again.msgpack")
    found = flax_files.read_flax(tmp_path / "again.msgpack")["params"]["rnn"]["hi"]["bias"]
    assert same_bits(found, tree["params"]["rnn"]["hi"]["bias"])


def test_tensors_that_make_one_leaf_are_of_one_type(tmp_path):
    values = state(LSTM) | {"rnn.bias_ih_l0": np.ones(12, ml_dtypes.bfloat16)}
    torch_files.write_torch(tmp_path / "one.pt", values)
    with pytest.raises(DiptychError, match=r"made of (float32 and bfloat16|bfloat16 and float32)"):
        convert(LSTM, tmp_path / "one.pt", tmp_path / "two.msgpack")
    assert not (tmp_path / "two.msgpack").exists()


def test_another_type_is_written_where_it_is_asked_for(tmp_path):
    twin = find("foundations/mlp:MLP")[0]
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(v.shape, np.float32) for name, v in state(twin).items()}
    torch_files.write_torch(tmp_path / "one.pt", values)
    down = convert(twin, tmp_path / "one.pt", tmp_path / "two.msgpack", dtype="bfloat16")
    assert down.changed == len(values)
    assert any(re.match(r"written as bfloat16, \d+ numbers rounded", n) for n in down.notes)
    up = convert(twin, tmp_path / "two.msgpack", tmp_path / "three.pt", dtype="float32")
    assert up.changed == 0
    assert "written as float32, every number exact" in up.notes
    found = torch_files.read_torch(tmp_path / "three.pt")
    rounded = {n: v.astype(ml_dtypes.bfloat16).astype(np.float32) for n, v in values.items()}
    assert same(found, rounded)
    assert not same(found, values)
    with pytest.raises(DiptychError, match="int8 is no type to write"):
        convert(twin, tmp_path / "one.pt", tmp_path / "four.msgpack", dtype="int8")


class FlaxNorm(linen.Module):
    @linen.compact
    def __call__(self, x, *, train=False):
        return linen.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name="bn")(x)


class TorchNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(x)


def test_a_counter_that_flax_lacks_is_said_and_begins_again(tmp_path):
    twin = Twin(torch=TorchNorm, jax=FlaxNorm, inputs={"x": Image(2, 3, 4, 4)}, name="norm")
    values = state(twin) | {"bn.num_batches_tracked": np.array(5, np.int64)}
    torch_files.write_torch(tmp_path / "one.pt", values)
    there = convert(twin, tmp_path / "one.pt", tmp_path / "two.msgpack")
    back = convert(twin, tmp_path / "two.msgpack", tmp_path / "three.pt")
    assert any("bn.num_batches_tracked: Flax's own" in note for note in there.notes)
    assert any("bn.num_batches_tracked set to 0" in note for note in back.notes)
    found = torch_files.read_torch(tmp_path / "three.pt")
    assert same(found, values | {"bn.num_batches_tracked": np.array(0, np.int64)})


def test_nan_is_kept_and_said(tmp_path):
    twin = find("foundations/mlp:MLP")[0]
    values = {name: np.zeros_like(array) for name, array in state(twin).items()}
    next(iter(values.values())).flat[3] = np.nan
    torch_files.write_torch(tmp_path / "one.pt", values)
    done = convert(twin, tmp_path / "one.pt", tmp_path / "two.msgpack")
    assert done.notes == [f"NaN or infinity in {next(iter(values))}, kept as it is"]


def test_whose_a_safetensors_file_is(tmp_path):
    one, other = {"a.b": np.zeros(2)}, {"params": {"a": {"b": np.zeros(2)}}}
    assert side(torch_files.write_torch(tmp_path / "a.safetensors", one)) == TORCH
    assert side(flax_files.write_flax(tmp_path / "b.safetensors", other)) == FLAX
    assert (
        side(torch_files.write_torch(tmp_path / "c.safetensors", {"weight": np.ones(1)})) == TORCH
    )
    assert side(flax_files.write_flax(tmp_path / "d.safetensors", {"scale": np.ones(1)})) == FLAX


def test_the_model_is_built_without_memory():
    """Meta tensors: a wide ResNet that would need 60 GB has a weight map at once."""
    twin = find("cnn/resnet:resnet152")[0].published().configured({"width": 1024})
    found = weight_map(twin)
    assert not found.differences
    assert sum(np.prod(leaf.shape, dtype=np.int64) for leaf in found.leaves.values()) > 1e10
