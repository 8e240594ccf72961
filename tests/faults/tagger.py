"""Two embeddings, torch.nn.GRU of two layers in both directions, a tag a token; RMSprop."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from torch import nn

from compare import Tokens, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import Dense, graded, same, trained

HELD_OUT = True
N, L, V, H, TAGS = 4, 5, 9, 3, 4
D = 2 * H
WEIGHTS = np.array([0.5, 1.0, 1.5, 3.0])


class TorchTagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.case = nn.Embedding(V, 4, padding_idx=0), nn.Embedding(3, 2)
        self.gru = nn.GRU(D, H, num_layers=2, batch_first=True, bidirectional=True)
        self.norm, self.fc, self.head = nn.LayerNorm(D), nn.Linear(D, D), nn.Linear(D, TAGS)

    def forward(self, tokens, cases):
        x, _ = self.gru(torch.cat([self.embed(tokens), self.case(cases)], -1))
        return self.head(torch.tanh(self.fc(self.norm(x))))


class Embed(fnn.Module):
    """torch's Embedding with padding_idx=0."""

    fault: str = ""

    @fnn.compact
    def __call__(self, ids):
        table = self.param("embedding", fnn.initializers.normal(), (V, 4))
        if self.fault != "padding's row trained":
            table = jnp.concatenate([jax.lax.stop_gradient(table[:1]), table[1:]])
        return table[ids]


class GRU(fnn.Module):
    """Both layers in both directions under torch's names."""

    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        on, finals, shared = self.fault.__eq__, [], {}
        for layer in range(2):
            forward, f = self._direction(x, f"l{layer}", shared)
            start = f if on("second direction starts where the first ends") else jnp.zeros_like(f)
            backward, b = self._direction(x[:, ::-1], f"l{layer}_reverse", shared, start)
            if not (on("outputs left reversed between the layers") and layer == 0):
                backward = backward[:, ::-1]
            both = [forward, forward] if on("one direction twice") else [forward, backward]
            x = jnp.concatenate(both, -1)
            if on("directions interleaved"):
                x = jnp.stack(both, -1).reshape(x.shape)
            if on("layers cut apart") and layer == 0:
                x = jax.lax.stop_gradient(x)
            finals += [f, b]
        return x, jnp.stack(finals)

    def _direction(self, x, suffix, shared, start=None):
        on = self.fault.__eq__
        shapes = {"weight_ih": (3 * H, D), "weight_hh": (3 * H, H)}
        shapes |= {"bias_ih": (3 * H,), "bias_hh": (3 * H,)}
        normal = fnn.initializers.normal()
        p = {n: self.param(f"{n}_{suffix}", normal, shape) for n, shape in shapes.items()}
        if on("layers share their weights"):
            p = shared.setdefault(suffix.replace("l1", "l0"), p)
        second = suffix.startswith("l1")
        h = jnp.zeros((len(x), H), x.dtype) if start is None else start
        seen = []
        for t in range(x.shape[1]):
            r_x, z_x, n_x = jnp.split(x[:, t] @ p["weight_ih"].T + p["bias_ih"], 3, -1)
            r_h, z_h, n_h = jnp.split(h @ p["weight_hh"].T + p["bias_hh"], 3, -1)
            r, z = jax.nn.sigmoid(r_x + r_h), jax.nn.sigmoid(z_x + z_h)
            if on("gates of Keras in the second layer") and second:
                r, z = z, r
            if on("bias outside the reset gate in the second layer") and second:
                b = p["bias_hh"][2 * H :]
                n_h, n_x = n_h - b, n_x + b
            n = jnp.tanh(n_x + r * n_h)
            h = (1 - z) * n + z * h
            seen.append(h)
        return jnp.stack(seen, 1), h


class JaxTagger(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, tokens, cases):
        fault, on = self.fault, self.fault.__eq__
        x = Embed(fault, name="embed")(tokens)
        c = fnn.Embed(3, 2, name="case")(cases)
        if on("cases of the next token"):
            c = jnp.roll(c, -1, 1)
        if on("cases of the first token alone"):
            c = 0 * c + c[:, :1]
        x = jnp.concatenate([c, x] if on("case before the word") else [x, c], -1)
        if on("padding masked in the input"):
            x = x * (tokens != 0)[..., None]
        x, _ = GRU(fault, name="gru")(x)
        x = {
            "gradient clipped behind the GRU": lambda: graded(
                x, lambda g: jnp.clip(g, -1e-3, 1e-3)
            ),
            "gradient of the last token alone": lambda: graded(
                x, lambda g: jnp.zeros_like(g).at[:, -1].set(g[:, -1])
            ),
            "last state for every token": lambda: 0 * x + x[:, -1:],
        }.get(fault, lambda: x)()
        eps = 1e-6 if on("eps of Flax") else 1e-5
        axes = (1, 2) if on("normalised over time too") else -1
        x = fnn.LayerNorm(epsilon=eps, reduction_axes=axes, name="norm")(x)
        turned = "kernel not transposed" if on("square kernel not transposed") else ""
        x = Dense(D, turned, name="fc")(x)
        activation = {"tanh left out": same, "hard tanh": jax.nn.hard_tanh, "relu": fnn.relu}
        x = fnn.Dense(TAGS, name="head")(activation.get(fault, jnp.tanh)(x))
        if on("scores of padding zero"):
            x = x * (tokens != 0)[..., None]
        return x


def losses(fault: str) -> tuple[Any, Any]:
    def ours(x, y):
        weight = torch.as_tensor(WEIGHTS, dtype=x.dtype)
        return F.cross_entropy(x.flatten(0, 1), y.flatten(), weight=weight)

    def loss(x, y):
        each = optax.softmax_cross_entropy_with_integer_labels(x, y)
        w = jnp.asarray(WEIGHTS, x.dtype)
        chosen = w[x.argmax(-1)] if fault == "weights of the predicted tag" else w[y]
        chosen = w[::-1][y] if fault == "weights backwards" else chosen
        return {
            "divided by the number of tokens": lambda: (each * chosen).mean(),
            "mean of each sentence's mean": lambda: ((each * chosen).sum(1) / chosen.sum(1)).mean(),
            "logits weighted": lambda: optax.softmax_cross_entropy_with_integer_labels(
                x * w, y
            ).mean(),
        }.get(fault, lambda: (each * chosen).sum() / chosen.sum())()

    return ours, loss


def optimizer(fault: str) -> tuple[Any, Any]:
    on = fault.__eq__
    rms = optax.scale_by_rms(0.9, 1e-3, eps_in_sqrt=False)
    if on("eps inside the root"):
        rms = optax.scale_by_rms(0.9, 1e-6, eps_in_sqrt=True)
    if on("centred unasked"):
        rms = optax.scale_by_stddev(0.9, 1e-6)
    rate, momentum = optax.scale(-0.005), optax.trace(0.9)
    chain = {
        "clipped by the norm": (optax.clip_by_global_norm(0.05), rms, momentum, rate),
        "momentum before the division": (momentum, rms, rate),
        "updates of signs": (rms, momentum, optax.stateless(lambda u, _: jax.tree.map(jnp.sign, u)),
                             rate),
        "Nesterov's momentum": (rms, optax.trace(0.9, nesterov=True), rate),
    }.get(fault, (rms, momentum, rate))  # fmt: skip
    return trained("RMSprop", *chain, lr=0.005, alpha=0.9, eps=1e-3, momentum=0.9)


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchTagger,
        jax=JaxTagger(fault),
        inputs={"tokens": Tokens(N, L, V), "cases": Tokens(N, L, 3)},
        targets={"y": Tokens(N, L, TAGS)},
        loss=losses(fault),
        optimizer=optimizer(fault),
        name="tagger",
    )


INPUT = ("case", "gru")
FAULTS = table(
    __name__,
    twin,
    {
        "padding's row trained": ("gradients", "embed.weight", "EMB-01"),
        "cases of the next token": ("forward", INPUT, None),
        "cases of the first token alone": ("forward", INPUT, None),
        "case before the word": ("forward", INPUT, None),
        "padding masked in the input": ("forward", INPUT, None),
        "second direction starts where the first ends": ("forward", "gru", None),
        "outputs left reversed between the layers": ("forward", "gru", "RNN-10"),
        "one direction twice": ("forward", "gru", None),
        "directions interleaved": ("forward", "gru", None),
        "layers cut apart": ("gradients", "gru", "GRAD-13"),
        "layers share their weights": ("forward", "gru", None),
        "gates of Keras in the second layer": ("forward", "gru", "RNN-09"),
        "bias outside the reset gate in the second layer": ("forward", "gru", "RNN-06"),
        "gradient clipped behind the GRU": ("gradients", ("gru", "norm"), None),
        "gradient of the last token alone": ("gradients", ("gru", "norm"), None),
        "last state for every token": ("forward", ("gru", "norm"), None),
        "eps of Flax": ("forward", "norm", "LN-01"),
        "normalised over time too": ("forward", "norm", "LN-02"),
        "square kernel not transposed": ("forward", "fc", "LIN-01"),
        "tanh left out": ("forward", ("fc", "head"), "ACT-10"),
        "hard tanh": ("forward", ("fc", "head"), ("ACT-08", "ACT-09")),
        "relu": ("forward", ("fc", "head"), "ACT-08"),
        "scores of padding zero": ("forward", ("head", "the output"), None),
        "weights of the predicted tag": ("forward", "the loss", None),
        "weights backwards": ("forward", "the loss", None),
        "divided by the number of tokens": ("forward", "the loss", "LOSS-03"),
        "mean of each sentence's mean": ("forward", "the loss", None),
        "logits weighted": ("forward", "the loss", None),
        "eps inside the root": ("step", OPTIMIZER, "OPT-08"),
        "centred unasked": ("step", OPTIMIZER, "OPT-09"),
        "clipped by the norm": ("step", OPTIMIZER, "OPT-27"),
        "momentum before the division": ("step", OPTIMIZER, None),
        "updates of signs": ("step", OPTIMIZER, None),
        "Nesterov's momentum": ("step", OPTIMIZER, "OPT-07"),
    },
)
