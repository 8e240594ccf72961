"""The bidirectional LSTM and sequences of different lengths: padding is not there for it."""

import jax
import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.rnn.bilstm import BiLSTM as JaxBiLSTM
from tests.arrays import normal
from torchref.rnn.bilstm import BiLSTM

LENGTHS = np.array([9, 2, 5, 1, 7])
INSIDE = np.arange(9) < LENGTHS[:, None]
X = normal(1, 5, 9, 3)


@pytest.fixture(scope="module")
def net() -> BiLSTM:
    net = BiLSTM(3, 4, 2).double()
    for index, parameter in enumerate(net.parameters()):
        parameter.data = to_torch(normal(index, *parameter.shape) / 2)
    return net


def run(side: str, net: BiLSTM, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    if side == "torch":
        return to_numpy(net(to_torch(x), to_torch(lengths)))
    with jax.enable_x64(True):
        params: dict = {"lstm": {}, "fc": {}}
        for name, array in net.lstm.named_parameters():
            params["lstm"][name] = to_jax(to_numpy(array))
        kernel, bias = (to_jax(to_numpy(array)) for array in net.fc.parameters())
        params["fc"] = {"kernel": kernel.T, "bias": bias}
        module = JaxBiLSTM(3, 4, 2)
        return to_numpy(module.apply({"params": params}, to_jax(x), to_jax(lengths)))


@pytest.mark.parametrize("side", ["jax", "torch"])
def test_padded_is_as_each_sequence_alone_and_as_packed_by_hand(side: str, net: BiLSTM):
    found = run(side, net, X, LENGTHS)
    assert not found[~INSIDE].any()
    for n, length in enumerate(LENGTHS):
        alone = run("torch", net, X[n : n + 1, :length], LENGTHS[n : n + 1])
        np.testing.assert_allclose(found[n, :length], alone[0], rtol=1e-9, atol=1e-12)
    plain = torch.nn.LSTM(3, 4, batch_first=True, bidirectional=True).double()
    plain.load_state_dict(net.lstm.state_dict())
    pack = pack_padded_sequence(to_torch(X), to_torch(LENGTHS), True, enforce_sorted=False)
    assert len(pack.data) == LENGTHS.sum()
    by_hand = to_numpy(net.fc(pad_packed_sequence(plain(pack)[0], True)[0]))
    np.testing.assert_allclose(found[INSIDE], by_hand[INSIDE], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("side", ["jax", "torch"])
def test_told_that_all_are_full_it_is_wrong_for_all_that_are_not(side: str, net: BiLSTM):
    found, wrong = run(side, net, X, LENGTHS), run(side, net, X, np.full(5, 9))
    gap = abs(found - wrong).max(-1).max(1, where=INSIDE, initial=0)
    assert ((gap > 1e-3) == (LENGTHS < 9)).all()
