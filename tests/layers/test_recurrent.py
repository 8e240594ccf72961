"""Recurrent cells and layers against torch.nn's, with every option; the peephole LSTM by hand."""

from itertools import product
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.layers import cells, peephole, recurrent
from tests.arrays import assert_same, normal
from torchref.layers import cells as torch_cells
from torchref.layers import peephole as torch_peephole
from torchref.layers import recurrent as torch_recurrent

ours = SimpleNamespace(cells=torch_cells, peephole=torch_peephole, recurrent=torch_recurrent)
theirs = SimpleNamespace(cells=cells, peephole=peephole, recurrent=recurrent)

N, L, D, H = 3, 5, 2, 4
LENGTHS = np.array([2, 5, 1])


def filled(module: torch.nn.Module) -> torch.nn.Module:
    """In float64, with generic parameters, in evaluation."""
    for index, parameter in enumerate(module.double().parameters()):
        parameter.data = to_torch(normal(index, *parameter.shape) / 2)
    return module.eval()


def tree(module: torch.nn.Module) -> dict:
    """The parameters as Linen's variables: the names and shapes are the same."""
    found: dict = {}
    for name, parameter in module.named_parameters():
        *path, last = name.split(".")
        place = found
        for part in path:
            place = place.setdefault(part, {})
        place[last] = to_numpy(parameter)
    return {"params": found}


def by_torch(module, arrays: tuple, lengths=None) -> list[np.ndarray]:
    """Outputs, then the gradients of the inputs, of sum of squares."""
    x, *state = (to_torch(a).requires_grad_() for a in arrays)
    y = call(module, x, state, None if lengths is None else to_torch(lengths))
    values = flat(y)
    total = torch.stack([(v**2).sum() for v in values]).sum()
    slopes = torch.autograd.grad(total, [x, *state])
    return [to_numpy(v) for v in (*values, *slopes)]


def by_jax(module, weights: dict, arrays: tuple, lengths=None) -> list[np.ndarray]:
    """The same, one operation after the other."""
    with jax.enable_x64(True):
        weights = jax.tree.map(to_jax, weights)

        def run(arrays):
            x, *state = arrays
            bound = module.bind(weights)
            values = flat(call(bound, x, state, None if lengths is None else to_jax(lengths)))
            return sum((v**2).sum() for v in values), values

        slopes, values = jax.grad(run, has_aux=True)([to_jax(a) for a in arrays])
        assert {v.dtype for v in values} == {jnp.dtype("float64")}
        return [to_numpy(v) for v in (*values, *slopes)]


def call(module, x, state, lengths):
    state = {"state": None if not state else state[0] if len(state) == 1 else tuple(state)}
    if "Cell" in type(module).__name__:
        return module(x, *(s for s in state.values() if s is not None))
    return module(x, **state) if lengths is None else module(x, lengths, **state)


def flat(values) -> list:
    if not isinstance(values, tuple):
        return [values]
    return [leaf for value in values for leaf in flat(value)]


def states(kind: str, rows: tuple[int, ...], proj: int = 0) -> tuple:
    h = normal(51, *rows, proj or H)
    return (h, normal(52, *rows, H)) if "LSTM" in kind else (h,)


CELLS = {"RNNCell": {}, "relu": {"nonlinearity": "relu"}, "LSTMCell": {}, "GRUCell": {}}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("started", [True, False])
def test_cells(kind, bias, started):
    name, config = "RNNCell" if kind == "relu" else kind, {**CELLS[kind], "bias": bias}
    cell = filled(getattr(ours.cells, name)(D, H, **config))
    arrays = (normal(50, N, D), *(states(kind, (N,)) if started else ()))
    found = by_jax(getattr(theirs.cells, name)(D, H, **config), tree(cell), arrays)
    assert_same(found, by_torch(cell, arrays))


def test_a_fault_is_found():
    """The two states, the two directions' parameters and the two biases of n exchanged."""
    lstm, gru = filled(ours.cells.LSTMCell(D, H)), filled(ours.cells.GRUCell(D, H))
    x, h, c = normal(50, N, D), *states("LSTM", (N,))
    both = filled(ours.recurrent.GRU(D, H, bidirectional=True))
    turned = tree(both)["params"]
    turned = {n: turned[n[:-8] if n.endswith("_reverse") else f"{n}_reverse"] for n in turned}
    swapped = tree(gru)["params"]
    swapped["bias_ih"], swapped["bias_hh"] = swapped["bias_hh"], swapped["bias_ih"]
    faults = [
        (theirs.cells.LSTMCell(D, H), tree(lstm), (x, c, h), by_torch(lstm, (x, h, c))),
        (theirs.cells.GRUCell(D, H), {"params": swapped}, (x, h), by_torch(gru, (x, h))),
        (
            theirs.recurrent.GRU(D, H, bidirectional=True),
            {"params": turned},
            (x[None],),
            by_torch(both, (x[None],)),
        ),
    ]
    for module, weights, arrays, wanted in faults:
        with pytest.raises(AssertionError):
            assert_same(by_jax(module, weights, arrays), wanted)


@given(
    kind=st.sampled_from(["RNN", "LSTM", "GRU"]),
    layers=st.integers(1, 2),
    bias=st.booleans(),
    bidirectional=st.booleans(),
    proj=st.sampled_from([0, 1, 3]),
    started=st.booleans(),
    padded=st.booleans(),
)
def test_layers(kind, layers, bias, bidirectional, proj, started, padded):
    config = {"num_layers": layers, "bias": bias, "bidirectional": bidirectional}
    if kind == "LSTM":
        config["proj_size"] = proj
    layer = filled(getattr(ours.recurrent, kind)(D, H, **config))
    rows = (layers * (1 + bidirectional), N)
    state = states(kind, rows, proj if kind == "LSTM" else 0) if started else ()
    arrays, lengths = (normal(50, N, L, D), *state), LENGTHS if padded else None
    found = by_jax(getattr(theirs.recurrent, kind)(D, H, **config), tree(layer), arrays, lengths)
    assert_same(found, by_torch(layer, arrays, lengths))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_parameters_start_as_in_torch(kind):
    """Names, shapes and bounds."""
    more = {"proj_size": 2} if kind == "LSTM" else {}
    config = {"num_layers": 2, "bidirectional": True, **more}
    wanted = getattr(ours.recurrent, kind)(D, 64, **config)
    layer = getattr(theirs.recurrent, kind)(D, 64, **config)
    found = jax.eval_shape(layer.init, jax.random.key(0), jnp.ones((N, L, D)))["params"]
    shapes = {name: tuple(p.shape) for name, p in wanted.named_parameters()}
    assert {name: leaf.shape for name, leaf in found.items()} == shapes
    cell = getattr(theirs.cells, f"{kind}Cell")(D, 64)
    for leaf in cell.init(jax.random.key(0), jnp.ones((N, D)))["params"].values():
        assert 0.11 < np.abs(leaf).max() <= 1 / 8
        assert abs(leaf.mean()) < 0.05


def test_dropout_is_between_layers_alone():
    """A rate of one leaves the upper layer nothing; one layer has no place for dropout."""
    x = normal(50, N, L, D)
    for layers, train in product((1, 2), (False, True)):
        config = {"num_layers": layers, "dropout": 1.0}
        if layers == 1:
            with pytest.warns(UserWarning, match="non-zero dropout"):  # jax: silent
                gru = filled(ours.recurrent.GRU(D, H, **config))
        else:
            gru = filled(ours.recurrent.GRU(D, H, **config))
        wanted = gru.train(train)(to_torch(x))[0]
        with jax.enable_x64(True):
            layer = theirs.recurrent.GRU(D, H, **config)
            rngs = {"dropout": jax.random.key(0)}
            found, _ = layer.apply(tree(gru), to_jax(x), train=train, rngs=rngs)
            assert_same([to_numpy(found)], [to_numpy(wanted)], (layers, train))


@pytest.mark.parametrize("started", [True, False])
def test_peepholes(started):
    """Both sides, and without peepholes torch.nn's LSTM."""
    lstm = filled(ours.peephole.PeepholeLSTM(D, H))
    arrays = (normal(50, N, L, D), *(states("LSTM", (N,)) if started else ()))
    wanted = by_torch(lstm, arrays)
    assert_same(by_jax(theirs.peephole.PeepholeLSTM(D, H), tree(lstm), arrays), wanted)
    with torch.no_grad():
        for gate in "ifo":
            lstm.get_parameter(f"cell.weight_c{gate}").zero_()
    named = dict(lstm.get_submodule("cell").named_parameters())
    biases = {"bias_ih_l0": named["bias"], "bias_hh_l0": torch.zeros_like(named["bias"])}
    plain = filled(ours.recurrent.LSTM(D, H))
    plain.load_state_dict({f"{n}_l0": named[n] for n in ("weight_ih", "weight_hh")} | biases)
    without = by_jax(theirs.peephole.PeepholeLSTM(D, H), tree(lstm), arrays)
    stacked = (arrays[0], *(a[None] for a in arrays[1:]))
    wanted_plain = [
        v.reshape(f.shape) for v, f in zip(by_torch(plain, stacked), without, strict=True)
    ]
    assert_same(without, wanted_plain)
    with pytest.raises(AssertionError):
        assert_same(without, wanted)


@pytest.mark.parametrize(
    ("module", "config", "said"),
    [
        ("RNN", {"nonlinearity": "gelu"}, "nonlinearity"),
        ("LSTM", {"proj_size": H}, "proj_size"),
        ("LSTM", {"proj_size": -1}, "proj_size"),
        ("GRU", {"dropout": 1.5}, "dropout"),
    ],
)
def test_bad_arguments(module, config, said):
    with pytest.raises(ValueError, match=said):
        getattr(ours.recurrent, module)(D, H, **config)
    layer = getattr(theirs.recurrent, module)(D, H, **config)
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(layer.init, jax.random.key(0), jnp.ones((N, L, D)))
