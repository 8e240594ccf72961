"""Recurrent networks as scans of a hand-written cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax
from torch import Tensor, nn

from compare import Array, Tokens, Twin
from tests.ports import Values, fresh

D, H = 5, 6


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], **options: Any):
        super().__init__()
        self.rnn = kind(D, H, batch_first=True, **options)
        self.head = nn.Linear(2 * H if options.get("bidirectional") else H, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


x = {"x": Array((3, 4, D))}


def blocks(array: np.ndarray) -> list[np.ndarray]:
    """A packed tensor of PyTorch's, gate by gate."""
    return list(array.reshape(-1, H, *array.shape[1:]))


def over_time(step, carry, x: jax.Array, reverse: bool = False) -> jax.Array:
    """The outputs (B, T, H) of a step scanned over (B, T, D)."""
    ys = lax.scan(step, carry, x.swapaxes(0, 1), reverse=reverse)[1]
    return ys.swapaxes(0, 1)


# A matrix for each gate and source, a bias each.
def by_gate_apply(p: dict, x: jax.Array) -> jax.Array:
    def gate(name: str, x: jax.Array, h: jax.Array) -> jax.Array:
        return x @ p[f"W_x{name}"] + p[f"b_x{name}"] + h @ p[f"W_h{name}"] + p[f"b_h{name}"]

    def step(carry, x):
        h, c = carry
        i, f, o = (jax.nn.sigmoid(gate(name, x, h)) for name in "ifo")
        c = f * c + i * jnp.tanh(gate("c", x, h))
        h = o * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((x.shape[0], H), x.dtype)
    return over_time(step, (zeros, zeros), x) @ p["W_y"] + p["b_y"]


_torch, _s = fresh(lambda: Recurrent(nn.LSTM))
lstm_by_gate_params = {"W_y": _s["head.weight"].T, "b_y": _s["head.bias"]}
for _from, _name in (("x", "ih"), ("h", "hh")):
    for _gate, _w, _b in zip(
        "ifco",
        blocks(_s[f"rnn.weight_{_name}_l0"]),
        blocks(_s[f"rnn.bias_{_name}_l0"]),
        strict=True,
    ):
        lstm_by_gate_params |= {f"W_{_from}{_gate}": _w.T, f"b_{_from}{_gate}": _b}
lstm_by_gate = Twin(torch=_torch, jax=(by_gate_apply, lstm_by_gate_params), inputs=x)


# One matrix for the input beside the state, its gates in the order i, g, f, o.
def joint_apply(params: dict, x: jax.Array) -> jax.Array:
    cell, head = params["lstm"], params["linear"]

    def step(carry, x):
        h, c = carry
        gates = jnp.concatenate([x, h], -1) @ cell["w"] + cell["b_i"] + cell["b_h"]
        i, g, f, o = jnp.split(gates, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((x.shape[0], H), x.dtype)
    return over_time(step, (zeros, zeros), x) @ head["w"] + head["b"]


def igfo(array: np.ndarray) -> np.ndarray:
    i, f, g, o = blocks(array)
    return np.concatenate([i, g, f, o])


lstm_joint_params = {
    "lstm": {
        "w": igfo(np.concatenate([_s["rnn.weight_ih_l0"], _s["rnn.weight_hh_l0"]], 1)).T,
        "b_i": igfo(_s["rnn.bias_ih_l0"]),
        "b_h": igfo(_s["rnn.bias_hh_l0"]),
    },
    "linear": {"w": _s["head.weight"].T, "b": _s["head.bias"]},
}
lstm_joint = Twin(torch=_torch, jax=(joint_apply, lstm_joint_params), inputs=x)


# The gates r and z in one matrix, the candidate in another.
def gru_apply(p: dict, x: jax.Array) -> jax.Array:
    def step(h, x):
        rz = x @ p["wi"] + p["bi"] + h @ p["wh"] + p["bh"]
        r, z = jnp.split(jax.nn.sigmoid(rz), 2, -1)
        n = jnp.tanh(x @ p["win"] + p["bin"] + r * (h @ p["whn"] + p["bhn"]))
        h = (1 - z) * n + z * h
        return h, h

    h = jnp.zeros((x.shape[0], H), x.dtype)
    return over_time(step, h, x) @ p["out"] + p["bout"]


_torch, _s = fresh(lambda: Recurrent(nn.GRU))
gru_params = {
    "wi": _s["rnn.weight_ih_l0"][: 2 * H].T,
    "wh": _s["rnn.weight_hh_l0"][: 2 * H].T,
    "bi": _s["rnn.bias_ih_l0"][: 2 * H],
    "bh": _s["rnn.bias_hh_l0"][: 2 * H],
    "win": _s["rnn.weight_ih_l0"][2 * H :].T,
    "whn": _s["rnn.weight_hh_l0"][2 * H :].T,
    "bin": _s["rnn.bias_ih_l0"][2 * H :],
    "bhn": _s["rnn.bias_hh_l0"][2 * H :],
    "out": _s["head.weight"].T,
    "bout": _s["head.bias"],
}
gru = Twin(torch=_torch, jax=(gru_apply, gru_params), inputs=x)


# Both directions, the projections of the inputs before the scan.
def both_ways_apply(p: dict, x: jax.Array) -> jax.Array:
    def run(q: dict, reverse: bool) -> jax.Array:
        def step(h, u):
            h = jnp.tanh(u + h @ q["recurrent"] + q["recurrent_bias"])
            return h, h

        u = x @ q["kernel"] + q["bias"]
        return over_time(step, jnp.zeros((x.shape[0], H), x.dtype), u, reverse)

    y = jnp.concatenate([run(p["fwd"], False), run(p["bwd"], True)], -1)
    return y @ p["dense"]["kernel"] + p["dense"]["bias"]


_torch, _s = fresh(lambda: Recurrent(nn.RNN, bidirectional=True))


def _direction(s: Values, end: str) -> Values:
    return {
        "kernel": s[f"rnn.weight_ih_l0{end}"].T,
        "bias": s[f"rnn.bias_ih_l0{end}"],
        "recurrent": s[f"rnn.weight_hh_l0{end}"].T,
        "recurrent_bias": s[f"rnn.bias_hh_l0{end}"],
    }


both_ways_params = {
    "fwd": _direction(_s, ""),
    "bwd": _direction(_s, "_reverse"),
    "dense": {"kernel": _s["head.weight"].T, "bias": _s["head.bias"]},
}
both_ways = Twin(torch=_torch, jax=(both_ways_apply, both_ways_params), inputs=x)


# Two layers, stacked, an inner scan over them in each step of the outer one.
def stacked_apply(p: dict, x: jax.Array) -> jax.Array:
    def layer(below, q):
        h, w, u, b, c = q
        h = jnp.tanh(below @ w + b + h @ u + c)
        return h, h

    def step(states, x):
        below, states = lax.scan(layer, x, (states, p["w"], p["u"], p["b"], p["c"]))
        return states, below

    x = x @ p["proj"]
    return over_time(step, jnp.zeros((2, x.shape[0], H), x.dtype), x) @ p["v"] + p["d"]


class Stacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(D, H, bias=False)
        self.rnn = nn.RNN(H, H, 2, batch_first=True)
        self.head = nn.Linear(H, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.proj(x))[0])


_torch, _s = fresh(Stacked)
stacked_params = {
    "proj": _s["proj.weight"].T,
    "w": np.stack([_s[f"rnn.weight_ih_l{i}"].T for i in range(2)]),
    "u": np.stack([_s[f"rnn.weight_hh_l{i}"].T for i in range(2)]),
    "b": np.stack([_s[f"rnn.bias_ih_l{i}"] for i in range(2)]),
    "c": np.stack([_s[f"rnn.bias_hh_l{i}"] for i in range(2)]),
    "v": _s["head.weight"].T,
    "d": _s["head.bias"],
}
stacked = Twin(torch=_torch, jax=(stacked_apply, stacked_params), inputs=x)


class Decoder(nn.Module):
    """A cell in a loop over words, its state kept by hand; the weights packed as PyTorch's are."""

    def __init__(self, vocab: int = 9):
        super().__init__()
        self.embed, self.cell = nn.Embedding(vocab, D), nn.LSTMCell(D, H)
        self.drop_in = nn.Linear(H, vocab)

    def forward(self, ids: Tensor) -> Tensor:
        emb, outputs = self.embed(ids), []
        h = c = emb.new_zeros(len(ids), H)
        for t in range(ids.shape[1]):
            h, c = self.cell(emb[:, t], (h, c))
            outputs.append(self.drop_in(h))
        return torch.stack(outputs, 1)


def decoder_apply(p: dict, ids: jax.Array) -> jax.Array:
    emb = jnp.take(p["embedding"], ids, axis=0)

    def step(carry, e):
        h, c = carry
        gates = e @ p["W_ih"].T + p["b_ih"] + h @ p["W_hh"].T + p["b_hh"]
        i, f, g, o = (gates[:, n * H : (n + 1) * H] for n in range(4))
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return ((h := jax.nn.sigmoid(o) * jnp.tanh(c)), c), h @ p["W_out"] + p["b_out"]

    zeros = jnp.zeros((ids.shape[0], H), emb.dtype)
    return over_time(step, (zeros, zeros), emb)


_torch, _s = fresh(Decoder)
decoder_params = {
    "embedding": _s["embed.weight"],
    "W_ih": _s["cell.weight_ih"],
    "W_hh": _s["cell.weight_hh"],
    "b_ih": _s["cell.bias_ih"],
    "b_hh": _s["cell.bias_hh"],
    "W_out": _s["drop_in.weight"].T,
    "b_out": _s["drop_in.bias"],
}
decoder = Twin(torch=_torch, jax=(decoder_apply, decoder_params), inputs={"ids": Tokens(3, 4, 9)})
