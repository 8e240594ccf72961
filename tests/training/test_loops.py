"""Early stopping and the search for a learning rate: both sides."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import jaxnn.training.losses as jax_losses
import torchref.training.losses as torch_losses
from compare.share import to_jax, to_numpy, to_torch
from jaxnn.foundations.mlp import MLP
from jaxnn.training import loops as theirs
from jaxnn.training.optimizers import sgd
from jaxnn.training.steps import TrainState
from torchref.foundations.mlp import MLP as TorchMLP
from torchref.training import loops as ours
from torchref.training.optimizers import sgd as torch_sgd

FALLING = [5.0, 4.0, 4.5, 3.9, 3.95, 3.85, 3.9, 4.0]
SERIES = [
    (FALLING, 2, 0.0),
    (FALLING, 2, 0.2),
    (FALLING, 1, 0.0),
    (FALLING, 9, 0.0),
    ([np.nan, 3.0, np.nan, np.nan, 1.0], 2, 0.0),
    ([1.0, 1.0, 1.0], 2, 0.0),
    ([np.inf, np.inf, 1.0], 2, 0.0),
]


def early_torch(losses, patience, min_delta):
    """(epoch after which it stopped, weight that is restored); epoch e has the weight e."""
    model = torch.nn.Linear(1, 1, bias=False).double()
    stopping = ours.EarlyStopping(patience, min_delta)
    epoch = -1
    with torch.no_grad():
        model.weight.fill_(-1.0)
        for epoch, loss in enumerate(losses):
            model.weight.fill_(epoch)  # in place: a reference to the best would follow
            if stopping.update(loss, model):
                break
    stopping.restore(model)
    return epoch, model.weight.item() if stopping.best else -1.0


def early_jax(losses, patience, min_delta):
    stopping = theirs.EarlyStopping(patience, min_delta)
    update = jax.jit(stopping.update)
    state = stopping.init({"w": jnp.array(-1.0)})
    epoch = -1
    for epoch, loss in enumerate(losses):
        state = update(state, jnp.array(loss), {"w": jnp.array(float(epoch))})
        if stopping.stop(state):
            break
    return epoch, float(state.params["w"])


def early(losses, patience, min_delta):
    """By hand: the epoch of the first `patience` losses in a row that gain nothing."""
    best, kept, waited, epoch = np.inf, -1.0, 0, -1
    for epoch, loss in enumerate(losses):
        if best - loss > min_delta:
            best, kept, waited = loss, float(epoch), 0
        else:
            waited += 1
        if waited == patience:
            break
    return epoch, kept


@pytest.mark.parametrize(("losses", "patience", "min_delta"), SERIES)
def test_early_stopping(losses, patience, min_delta):
    with jax.enable_x64(True):
        found = early_jax(losses, patience, min_delta)
    assert found == early(losses, patience, min_delta)
    assert early_torch(losses, patience, min_delta) == found


def test_early_stopping_by_known_numbers():
    assert early_torch(FALLING, 2, 0.0) == (7, 5.0)
    assert early_torch(FALLING, 2, 0.2) == (3, 1.0)


def test_a_best_that_moves_on_is_found(monkeypatch):
    """The slip of keeping the model's own tensors in place of a copy."""
    monkeypatch.setattr(ours, "copy", SimpleNamespace(deepcopy=lambda given: given))
    assert early_torch(FALLING, 2, 0.2) != early(FALLING, 2, 0.2)


@given(
    st.lists(st.sampled_from([1.0, 1.5, 2.0, 3.0, float("nan")]), min_size=1, max_size=6),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_early_stopping_on_any_series(losses, patience, min_delta):
    found = early_torch(losses, patience, min_delta)
    assert found == early(losses, patience, min_delta)
    assert found == early_jax(losses, patience, min_delta)


def network():
    """A small network, the same on both sides, and 24 batches of a smooth function."""
    rng = np.random.default_rng(0)
    sizes = [(4, 3), (1, 4)]
    weights = [(rng.standard_normal(s), 0.1 * rng.standard_normal(s[0])) for s in sizes]
    model = TorchMLP(3, (4,), 1).double()
    names = [name.removesuffix(".weight") for name in model.state_dict() if "weight" in name]
    state = {}
    for name, (weight, bias) in zip(names, weights, strict=True):
        state |= {f"{name}.weight": to_torch(weight), f"{name}.bias": to_torch(bias)}
    model.load_state_dict(state)
    layers = {
        name.rpartition(".")[2]: {"kernel": to_jax(w.T), "bias": to_jax(b)}
        for name, (w, b) in zip(names, weights, strict=True)
    }
    xs = rng.standard_normal((24, 8, 3))
    batches = [((x,), (np.sin(x.sum(1, keepdims=True)),)) for x in xs]
    return model, {"layers": layers}, batches


def crossed(batches, cross):
    return [((cross(x),), (cross(y),)) for (x,), (y,) in batches]


def test_both_range_tests_and_what_they_leave():
    """The same rates and losses; the model, its optimizer and its mode are as before."""
    with jax.enable_x64(True):
        model, params, batches = network()
        tx = sgd(lr=1.0, momentum=0.9)
        state = TrainState.create(apply_fn=MLP(3, (4,), 1).apply, params=params, tx=tx)
        found = theirs.lr_range_test(
            state, crossed(batches, to_jax), jax_losses.mse, start=1e-4, end=100.0
        )
        suggested = float(theirs.suggest_lr(*found))
        found = [to_numpy(value) for value in found]
    optimizer = torch_sgd(model.parameters(), lr=0.123, momentum=0.9)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.eval()
    wanted = ours.lr_range_test(
        model, optimizer, crossed(batches, to_torch), torch_losses.mse, start=1e-4, end=100.0
    )
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, to_numpy(other), rtol=1e-9)
    rates, losses = found
    assert 2 < len(losses) < len(batches), "it ends where the loss explodes"
    np.testing.assert_allclose(rates, 1e-4 * 1e6 ** (np.arange(len(rates)) / 23), rtol=1e-12)
    slope = np.gradient(losses, np.log(rates))
    assert suggested == float(ours.suggest_lr(*wanted)) == rates[slope.argmin()]
    assert not model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert optimizer.param_groups[0]["lr"] == 0.123
    assert not optimizer.state
    assert all(p.grad is None for p in model.parameters())


def test_the_model_is_put_back_after_an_error():
    model, _, batches = network()
    before = model.state_dict()["layers.0.weight"].clone()

    def loss(outputs, targets):
        if not torch.equal(before, model.state_dict()["layers.0.weight"]):
            raise RuntimeError("in the second step")
        return ((outputs - targets) ** 2).mean()

    optimizer = torch_sgd(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match="second"):
        ours.lr_range_test(model, optimizer, crossed(batches, to_torch), loss)
    assert torch.equal(before, model.state_dict()["layers.0.weight"])


def test_the_steepest_descent():
    """The rate before the valley, not the valley itself; a fault in either would be seen."""
    rates = np.geomspace(1e-4, 1.0, 9)
    losses = np.array([2.0, 2.0, 1.9, 1.6, 0.8, 0.4, 0.35, 0.5, 3.0])
    sides: list[tuple[Any, Callable]] = [(ours, to_torch), (theirs, jnp.array)]
    for side, cross in sides:
        found = float(side.suggest_lr(cross(rates), cross(losses)))
        np.testing.assert_allclose(found, 1e-2, rtol=1e-6)
        assert found < rates[losses.argmin()]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda side: side.EarlyStopping(patience=0), "patience"),
        (lambda side: side.EarlyStopping(min_delta=-0.1), "min_delta"),
        (lambda side: side.suggest_lr(np.ones(1), np.ones(1)), "losses"),
    ],
)
def test_bad_arguments(call, said):
    for side in (ours, theirs):
        with pytest.raises(ValueError, match=said):
            call(side)


@pytest.mark.parametrize(
    ("count", "options", "said"),
    [(1, {}, "batches"), (3, {"start": 0.0}, "start"), (3, {"start": 2.0, "end": 1.0}, "start")],
)
def test_bad_ranges(count, options, said):
    model, _, batches = network()
    optimizer = torch_sgd(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=said):
        ours.lr_range_test(model, optimizer, batches[:count], torch_losses.mse, **options)
    state: Any = None
    with pytest.raises(ValueError, match=said):
        theirs.lr_range_test(state, batches[:count], jax_losses.mse, **options)
