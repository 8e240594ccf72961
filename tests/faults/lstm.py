"""torch.nn.LSTM of two layers over padded sequences, beside a scan; RMSprop."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Lengths, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import trained

N, L, D, H = 4, 5, 3, 4


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(D, H, num_layers=2, batch_first=True), nn.Linear(2 * H, 3)

    def forward(self, x, lengths):
        x, (_, c) = self.lstm(x)
        last = x[torch.arange(N), lengths - 1]
        return self.fc(torch.cat([last, c[-1]], 1))


class LSTM(fnn.Module):
    """The layers under torch's names; the first has the faults."""

    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        states = []
        for layer in range(2):
            x, state = self._layer(x, layer, "" if layer else self.fault)
            states.append(state)
        h, c = zip(*states, strict=True)
        return x, (jnp.stack(h), jnp.stack(c))

    def _layer(self, x, layer, fault):
        on, size = fault.__eq__, x.shape[-1]
        shapes = {"weight_ih": (4 * H, size), "weight_hh": (4 * H, H)}
        shapes |= {"bias_ih": (4 * H,), "bias_hh": (4 * H,)}
        if on("one bias in the layer"):
            del shapes["bias_hh"]
        normal = fnn.initializers.normal()
        p = {n: self.param(f"{n}_l{layer}", normal, shape) for n, shape in shapes.items()}
        if on("recurrent kernel not transposed"):
            p["weight_hh"] = p["weight_hh"].reshape(4, H, H).swapaxes(1, 2).reshape(4 * H, H)
        bias = {
            "one bias in the layer": lambda: p["bias_ih"],
            "input bias alone": lambda: p["bias_ih"],
            "input bias twice": lambda: 2 * p["bias_ih"],
        }.get(fault, lambda: p["bias_ih"] + p["bias_hh"])()

        def step(state, x):
            h, c = state
            gates = x @ p["weight_ih"].T + h @ p["weight_hh"].T + bias
            i, f, g, o = jnp.split(gates, 4, -1)
            if on("gates in the order i, f, o, g"):
                g, o = o, g
            if on("gates in the order f, i, g, o"):
                i, f = f, i
            if on("forget gate raised by one"):
                f = f + 1.0
            i, f, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o)
            if on("input gate tied to the forget gate"):
                i = 1 - f
            g = {
                "sigmoid for the candidate": jax.nn.sigmoid,
                "candidate by a sigmoid": lambda x: 2 * jax.nn.sigmoid(2 * x) - 1,
            }.get(fault, jnp.tanh)(g)
            shown = c
            c = f * c + i * g
            if on("cell clipped"):
                c = jnp.clip(c, -0.1, 0.1)
            if on("cell detached"):
                c = jax.lax.stop_gradient(c)
            shown = shown if on("output of the cell before") else c
            h = o * (shown if on("cell shown without tanh") else jnp.tanh(shown))
            return (h, c), c if on("cell for the output") else h

        start = jnp.ones((N, H)) if on("state starts at one") else jnp.zeros((N, H))
        start = (start.astype(x.dtype),) * 2
        steps = jnp.moveaxis(x, 1, 0)
        state, y = jax.lax.scan(step, start, steps, reverse=on("read backwards"))
        return jnp.moveaxis(y, 0, 1), state


class JaxNet(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x, lengths):
        fault, on = self.fault, self.fault.__eq__
        if on("first step lost"):
            x = x.at[:, 0].set(0.0)
        x, (_, c) = LSTM(fault, name="lstm")(x)
        last = {
            "padding read at the end": lambda: x[:, -1],
            "ends off by one": lambda: x[jnp.arange(N), lengths - 2],
            "mean over time": lambda: x.mean(1),
            "ends of the other sequences": lambda: x[jnp.arange(N), lengths[::-1] - 1],
        }.get(fault, lambda: x[jnp.arange(N), lengths - 1])()
        c = c[0] if on("cell of the first layer") else c[-1]
        both = [c, last] if on("state and cell swapped") else [last, c]
        return fnn.Dense(3, name="fc")(jnp.concatenate(both, 1))


def losses(fault: str) -> tuple[Any, Any]:
    return F.mse_loss, {
        "sum over the features": lambda x, y: ((x - y) ** 2).sum(1).mean(),
        "root of the squares": lambda x, y: jnp.sqrt(((x - y) ** 2).mean()),
        "a half before the squares": lambda x, y: 0.5 * ((x - y) ** 2).mean(),
        "targets moved": lambda x, y: ((x - jnp.roll(y, 1, 0)) ** 2).mean(),
    }.get(fault, lambda x, y: ((x - y) ** 2).mean())


def optimizer(fault: str) -> tuple[Any, Any]:
    options: dict[str, Any] = {"decay": 0.9, "eps": 1e-3, "eps_in_sqrt": False}
    options |= {
        "eps inside the root": {"eps": 1e-6, "eps_in_sqrt": True},
        "decay of torch": {"decay": 0.99},
        "centred": {"centered": True},
    }.get(fault, {})
    chain = optax.rmsprop(0.01, **options)
    return trained("RMSprop", chain, lr=0.01, alpha=0.9, eps=1e-3)


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchNet,
        jax=JaxNet(fault),
        inputs={"x": Array((N, L, D)), "lengths": Lengths(N, L)},
        targets={"y": Array((N, 3))},
        loss=losses(fault),
        optimizer=optimizer(fault),
        name="lstm",
    )


READ = ("lstm", "fc")
FAULTS = table(
    __name__,
    twin,
    {
        "one bias in the layer": ("weights", "lstm", "RNN-02"),
        "first step lost": ("forward", ("the input", "lstm"), None),
        "recurrent kernel not transposed": ("forward", "lstm", None),
        "input bias alone": ("forward", "lstm", "RNN-02"),
        "input bias twice": ("forward", "lstm", "RNN-02"),
        "gates in the order i, f, o, g": ("forward", "lstm", "RNN-01"),
        "gates in the order f, i, g, o": ("forward", "lstm", "RNN-01"),
        "forget gate raised by one": ("forward", "lstm", "RNN-05"),
        "input gate tied to the forget gate": ("forward", "lstm", None),
        "sigmoid for the candidate": ("forward", "lstm", None),
        "cell clipped": ("forward", "lstm", None),
        "output of the cell before": ("forward", "lstm", None),
        "cell shown without tanh": ("forward", "lstm", None),
        "cell for the output": ("forward", "lstm", None),
        "state starts at one": ("forward", "lstm", None),
        "read backwards": ("forward", "lstm", None),
        "padding read at the end": ("forward", READ, None),
        "ends off by one": ("forward", READ, None),
        "mean over time": ("forward", READ, None),
        "ends of the other sequences": ("forward", READ, None),
        "cell of the first layer": ("forward", READ, None),
        "state and cell swapped": ("forward", READ, None),
        "cell detached": ("gradients", "lstm", "GRAD-13"),
        "sum over the features": ("forward", "the loss", "LOSS-14"),
        "root of the squares": ("forward", "the loss", "LOSS-11"),
        "a half before the squares": ("forward", "the loss", "LOSS-01"),
        "targets moved": ("forward", "the loss", None),
        "eps inside the root": ("step", OPTIMIZER, "OPT-08"),
        "decay of torch": ("step", OPTIMIZER, "OPT-08"),
        "centred": ("step", OPTIMIZER, "OPT-09"),
    },
)
EQUIVALENT = {"candidate by a sigmoid": "tanh(x) = 2 sigmoid(2 x) - 1"}
