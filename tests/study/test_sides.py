"""What crosses to the two sides of a lesson: arrays, images, weights, batches; and differences."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from compare import DiptychError
from compare.study.lessons import lesson


def test_each_side_is_given_its_own_arrays_and_numpy_comes_back():
    seen = {}

    def by(side):
        def run(x, pair, name):
            seen[side] = type(x), x.dtype, type(pair["a"][0]), name
            return {"sum": x.sum(), "twice": [x, x], "uneven": [x, x[:1]]}

        return run

    with lesson("arrays") as same:
        x = same.rng.random(3)
        ours, theirs = same.run(by("jax"), by("torch"), x, {"a": (x, 2)}, "word")
        assert isinstance(x, np.ndarray)
    assert issubclass(seen["jax"][0], jax.Array)
    assert seen["jax"][1:] == (np.float64, seen["jax"][0], "word")
    assert seen["torch"] == (torch.Tensor, torch.float64, torch.Tensor, "word")
    assert same.failures == []
    assert [name for name, _ in same.held] == ["sum", "twice", "uneven.0", "uneven.1"]
    for found in (ours, theirs):
        assert found["twice"].shape == (2, 3)
        assert [type(each) for each in found["uneven"]] == [np.ndarray] * 2


def test_images_stand_as_each_framework_has_them():
    shapes = []

    def run(x):
        shapes.append(tuple(x.shape))
        return {"x": x, "list": [x, x]}

    with lesson("images") as same:
        x = same.rng.random((2, 3, 4, 5))
        ours, theirs = same.run(run, run, same.images(x))
    assert shapes == [(2, 4, 5, 3), (2, 3, 4, 5)]
    assert same.failures == []
    np.testing.assert_array_equal(ours["x"], x)
    assert ours["list"].shape == theirs["list"].shape == (2, 2, 3, 4, 5)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3)(x)
        return nn.Dense(2)(x)


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = torch.nn.ModuleList([torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)])

    def forward(self, x):
        return self.parts[1](self.parts[0](x))


def with_weights(change=lambda variables: variables):
    def by_jax(variables, x):
        return {"y": Net().apply(variables, x), "weights": change(variables)}

    def by_torch(state, x):
        net = TorchNet()
        net.load_state_dict(state)
        return {"y": net(x), "weights": net.state_dict()}

    with lesson("weights") as same:
        x = same.rng.random((5, 4))
        weights = same.weights(Net(), TorchNet, x, rename={r"parts\.(\d+)": r"Dense_\1"})
        _, theirs = same.run(by_jax, by_torch, weights, x)
    return same, theirs


def test_both_sides_start_from_the_same_weights_drawn_from_the_seed():
    (same, one), (_, two) = with_weights(), with_weights()
    assert same.failures == []
    assert "weights.parts.1.bias" in dict(same.held)
    np.testing.assert_array_equal(
        one["weights"]["parts.0.weight"], two["weights"]["parts.0.weight"]
    )


def test_weights_that_differ_afterwards_are_seen():
    same, _ = with_weights(lambda variables: jax.tree.map(lambda leaf: leaf + 1e-6, variables))
    assert len(same.failures) == 4
    assert all(line.startswith("weights.parts.") for line in same.failures)


def test_batches_are_the_same_for_both_sides_and_every_epoch_has_each_example_once():
    def run(batches):
        assert len(batches) == 4
        return {"rows": [x for x, _ in batches], "labels": [labels for _, labels in batches]}

    with lesson("batches") as same:
        x, labels = np.arange(12.0).reshape(6, 2), np.arange(6)
        ours, theirs = same.run(run, run, same.batches(4, 3, x, labels))
        steps, _ = same.run(*[lambda steps: {"n": [jnp.ones(1) for _ in steps]}] * 2, same.steps(3))
        alone = list(same.batches(2, 2, x))
    assert same.failures == []
    assert sorted(theirs["labels"][:2].ravel()) == list(range(6))
    np.testing.assert_array_equal(ours["rows"][..., 0], 2.0 * theirs["labels"])
    assert steps["n"].shape == (3, 1)
    assert [each.shape for each in alone] == [(2, 2)] * 2


def test_a_side_that_differs_is_seen():
    with lesson("differs") as same:
        same.run(lambda x: {"y": x, "z": x}, lambda x: {"y": x, "z": x * (1 + 1e-8)}, np.ones(3))
    assert same.failures == ["z: differs by 1.0e-08, allowed 1e-09"]
    with pytest.raises(ValueError, match="names differ"), lesson("names") as same:
        same.run(lambda x: {"y": x}, lambda x: {"z": x}, np.ones(3))


def test_the_table_and_what_was_held_are_printed(capsys):
    with lesson("table") as same:
        same("the number", 1.0, 1.0 + 1e-15)
        same.row("loss", 0.123456789, 2)
        same.row("a word", "yes", "no")
        same.holds("it is small", True)
        with pytest.raises(DiptychError, match="'both' takes one number"):
            same.row("both", np.ones(2), 1.0)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["JAX", "PyTorch"],
        ["loss", "0.123457", "2"],
        ["a", "word", "yes", "no"],
    ]
    assert lines[3:] == ["  held equal, to 1e-15: the number", "  holds: it is small"]
