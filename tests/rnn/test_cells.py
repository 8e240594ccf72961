"""The LSTM's cells, written out, against torch.nn's layer, Flax's cells and each other."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.rnn import lstm, peephole
from tests.arrays import assert_same, normal
from torchref.rnn import lstm as torch_lstm
from torchref.rnn import peephole as torch_peephole

N, L, D, H = 3, 6, 2, 4
STATE = normal(1, N, D), normal(2, N, H), normal(3, N, H)  # x, h, c
PACKED = normal(4, 4 * H, D), normal(5, 4 * H, H), normal(6, 4 * H), normal(7, 4 * H)
SIDES = pytest.mark.parametrize("side", ["jax", "torch"])


def run(side: str, name: str, *arrays: np.ndarray) -> list[np.ndarray]:
    """The new h and c of a cell."""
    with jax.enable_x64(True):
        rooms = (lstm, peephole) if side == "jax" else (torch_lstm, torch_peephole)
        cell = next(getattr(room, name) for room in rooms if hasattr(room, name))
        cross = to_jax if side == "jax" else to_torch
        return [to_numpy(value) for value in cell(*map(cross, arrays))]


def joined(weights: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The same with one bias."""
    w_ih, w_hh, b_ih, b_hh = weights
    return w_ih, w_hh, b_ih + b_hh


@SIDES
def test_the_cell_step_by_step_is_torch_s_layer(side: str):
    x = normal(8, N, L, D)
    layer = torch.nn.LSTM(D, H, batch_first=True).double()
    with torch.no_grad():
        for parameter, array in zip(layer.parameters(), PACKED, strict=True):
            parameter.copy_(to_torch(array))
    h = c = np.zeros((N, H))
    outputs = []
    for t in range(L):
        h, c = run(side, "lstm_cell", x[:, t], h, c, *PACKED)
        outputs.append(h)
    wanted, (last_h, last_c) = layer(to_torch(x))
    wanted = [to_numpy(value) for value in (wanted, last_h[0], last_c[0])]
    assert_same([np.stack(outputs, 1), h, c], wanted)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.OptimizedLSTMCell])
@pytest.mark.parametrize("order", ["ifgo", "iofg"])
def test_flax_s_cells_are_the_cell_in_the_order_of_the_gates_alone(cell: type, order: str):
    x, h, c = STATE
    w_ih, w_hh, bias = joined(PACKED)
    params = {}
    with jax.enable_x64(True):
        for k, gate in enumerate(order):
            rows = slice(k * H, (k + 1) * H)
            params[f"i{gate}"] = {"kernel": to_jax(w_ih[rows].T)}
            params[f"h{gate}"] = {"kernel": to_jax(w_hh[rows].T), "bias": to_jax(bias[rows])}
        module = cell(H, param_dtype=jnp.float64)
        (new_c, new_h), _ = module.apply({"params": params}, (to_jax(c), to_jax(h)), to_jax(x))
        found = [to_numpy(new_h), to_numpy(new_c)]
    wanted = run("jax", "lstm_cell", x, h, c, *PACKED)
    if order == "ifgo":
        assert_same(found, wanted)
    else:
        assert abs(found[0] - wanted[0]).max() > 0.01


@SIDES
def test_peepholes_of_weight_0_are_not_there(side: str):
    without = run(side, "peephole_lstm_cell", *STATE, *joined(PACKED), *np.zeros((3, H)))
    assert_same(without, run(side, "lstm_cell", *STATE, *PACKED))
    seeing = run(side, "peephole_lstm_cell", *STATE, *joined(PACKED), *normal(9, 3, H))
    assert abs(seeing[1] - without[1]).max() > 0.01


@SIDES
def test_only_with_peepholes_the_gates_see_what_a_shut_output_gate_hides(side: str):
    """With h = 0, c' is linear in c where no gate sees c."""
    x, h, c = STATE
    for holes in (np.zeros((3, H)), normal(9, 3, H)):
        args = *joined(PACKED), *holes
        new = [run(side, "peephole_lstm_cell", x, 0 * h, c + k, *args)[1] for k in range(3)]
        bent = abs((new[2] - new[1]) - (new[1] - new[0])).max()
        assert bent > 0.01 if holes.any() else bent < 1e-12


@SIDES
def test_coupled_gates_are_an_lstm_s_with_tied_rows(side: str):
    """sigmoid(-a) = 1 - sigmoid(a): the forget rows are the negative input rows."""
    blocks = [w.reshape(4, H, -1) for w in joined(PACKED)]
    three = [b[[0, 2, 3]].reshape(3 * H, -1).squeeze() for b in blocks]
    tied = [np.stack([b[0], -b[0], b[2], b[3]]).reshape(4 * H, -1).squeeze() for b in blocks]
    found = run(side, "coupled_lstm_cell", *STATE, *three)
    assert_same(found, run(side, "lstm_cell", *STATE, *tied, np.zeros(4 * H)))
    assert abs(found[1] - run(side, "lstm_cell", *STATE, *PACKED)[1]).max() > 0.01


@SIDES
def test_a_coupled_cell_state_stays_within_1(side: str):
    x, h, c = STATE
    c = np.tanh(c)
    three = [w.reshape(4, H, -1)[[0, 2, 3]].reshape(3 * H, -1).squeeze() for w in joined(PACKED)]
    for _ in range(100):
        h, c = run(side, "coupled_lstm_cell", x, h, c, *three)
        assert abs(c).max() <= 1
