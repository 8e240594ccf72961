"""Networks of several inputs or branches: what PyTorch joins the port splits, and the reverse."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compare import Array, Image, Twin
from tests.ports import fresh, trained
from tests.ports.convolution import conv, hwio
from tests.ports.eqx import mapped, with_weights


class Autoencoder(nn.Module):
    """The decoder's weight is the encoder's, transposed."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(7, 4)
        self.visible = nn.Parameter(torch.zeros(7))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(self.encoder(x))
        return torch.sigmoid(F.linear(h, self.encoder.weight.t(), self.visible))


def autoencoder_apply(p: dict, x: jax.Array) -> jax.Array:
    h = jax.nn.sigmoid(x @ p["W"] + p["hbias"])
    return jax.nn.sigmoid(h @ p["W"].T + p["vbias"])


_torch, _s = trained(Autoencoder)
autoencoder_params = {
    "W": _s["encoder.weight"].T,
    "hbias": _s["encoder.bias"],
    "vbias": _s["visible"],
}
autoencoder = Twin(
    torch=_torch, jax=(autoencoder_apply, autoencoder_params), inputs={"x": Array((4, 7))}
)


class Film(nn.Module):
    """Features scaled and moved by a condition, one dense layer for both."""

    def __init__(self):
        super().__init__()
        self.fc, self.film, self.out = nn.Linear(5, 6), nn.Linear(3, 12), nn.Linear(6, 2)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.film(c).chunk(2, -1)
        return self.out(torch.tanh(self.fc(x) * (1 + scale) + shift))


def film_apply(p: dict, x: jax.Array, c: jax.Array) -> jax.Array:
    scale = 1 + c @ p["scale"]["w"] + p["scale"]["b"]
    shift = c @ p["shift"]["w"] + p["shift"]["b"]
    h = jnp.tanh((x @ p["in"]["w"] + p["in"]["b"]) * scale + shift)
    return h @ p["out"]["w"] + p["out"]["b"]


_torch, _s = fresh(Film)
film_params = {
    "in": {"w": _s["fc.weight"].T, "b": _s["fc.bias"]},
    "scale": {"w": _s["film.weight"][:6].T, "b": _s["film.bias"][:6]},
    "shift": {"w": _s["film.weight"][6:].T, "b": _s["film.bias"][6:]},
    "out": {"w": _s["out.weight"].T, "b": _s["out.bias"]},
}
film = Twin(
    torch=_torch,
    jax=(film_apply, film_params),
    inputs={"x": Array((4, 5)), "c": Array((4, 3))},
)


class Additive(nn.Module):
    """Bahdanau's attention: a dense layer on query and key side by side."""

    def __init__(self):
        super().__init__()
        self.attn, self.v = nn.Linear(9, 6), nn.Linear(6, 1, bias=False)
        self.out = nn.Linear(5, 3)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        repeated = query.unsqueeze(1).expand(-1, keys.shape[1], -1)
        scores = self.v(torch.tanh(self.attn(torch.cat([repeated, keys], -1)))).squeeze(-1)
        weights = torch.softmax(scores, -1)
        return self.out(torch.bmm(weights.unsqueeze(1), keys).squeeze(1))


def additive_apply(p: dict, query: jax.Array, keys: jax.Array) -> jax.Array:
    h = jnp.tanh((query @ p["Wq"])[:, None] + keys @ p["Wk"] + p["b"])
    weights = jax.nn.softmax(h @ p["v"], axis=-1)
    return jnp.einsum("bt,btd->bd", weights, keys) @ p["Wo"] + p["bo"]


_torch, _s = fresh(Additive)
additive_params = {
    "Wq": _s["attn.weight"][:, :4].T,
    "Wk": _s["attn.weight"][:, 4:].T,
    "b": _s["attn.bias"],
    "v": _s["v.weight"][0],
    "Wo": _s["out.weight"].T,
    "bo": _s["out.bias"],
}
additive = Twin(
    torch=_torch,
    jax=(additive_apply, additive_params),
    inputs={"query": Array((3, 4)), "keys": Array((3, 6, 5))},
)


class Relational(nn.Module):
    """A graph convolution with a weight for each relation and one for the node itself."""

    def __init__(self, relations: int = 3):
        super().__init__()
        self.own = nn.Linear(4, 5)
        self.relations = nn.ModuleList(nn.Linear(4, 5, bias=False) for _ in range(relations))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        y = self.own(x)
        for number, linear in enumerate(self.relations):
            y = y + edges[number] @ linear(x)
        return torch.tanh(y)


def relational_apply(p: dict, x: jax.Array, edges: jax.Array) -> jax.Array:
    y = jnp.einsum("rij,jd,rdo->io", edges, x, p["relations"])
    return jnp.tanh(y + x @ p["self"] + p["bias"])


_torch, _s = fresh(Relational)
relational_params = {
    "relations": np.stack([_s[f"relations.{i}.weight"].T for i in range(3)]),
    "self": _s["own.weight"].T,
    "bias": _s["own.bias"],
}
relational = Twin(
    torch=_torch,
    jax=(relational_apply, relational_params),
    inputs={"x": Array((6, 4)), "edges": Array((3, 6, 6))},
)


class Branches(nn.Module):
    """An inception block; the port does its parallel one-by-one convolutions in one."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(4, 3, 1)
        self.reduce, self.three = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.relu(self.one(x)), torch.tanh(self.three(F.relu(self.reduce(x))))], 1)


def branches_apply(p: dict, x: jax.Array) -> jax.Array:
    y = jax.nn.relu(x @ p["k1"] + p["b1"])
    return jnp.concatenate([y[..., :3], jnp.tanh(conv(y[..., 3:], p["k3"]) + p["b3"])], -1)


_torch, _s = fresh(Branches)
branches_params = {
    "k1": np.concatenate([_s["one.weight"], _s["reduce.weight"]])[:, :, 0, 0].T,
    "b1": np.concatenate([_s["one.bias"], _s["reduce.bias"]]),
    "k3": hwio(_s["three.weight"]),
    "b3": _s["three.bias"],
}
branches = Twin(
    torch=_torch, jax=(branches_apply, branches_params), inputs={"x": Image(2, 4, 5, 5)}
)


class Critic(nn.Module):
    """Two networks of one kind on state and action; the port maps one over both."""

    def __init__(self):
        super().__init__()
        self.q1, self.q2 = (
            nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
            for _ in range(2)
        )

    def forward(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([state, action], -1)
        return self.q1(both), self.q2(both)


def critic_apply(p: list, state: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    def one(layers: list, x: jax.Array) -> jax.Array:
        for w, b in layers[:-1]:
            x = jnp.tanh(x @ w + b)
        return x @ layers[-1][0] + layers[-1][1]

    first, second = jax.vmap(one, (0, None))(p, jnp.concatenate([state, action], -1))
    return first, second


_torch, _s = fresh(Critic)
critic_params = [
    (
        np.stack([_s[f"q{n}.{i}.weight"].T for n in (1, 2)]),
        np.stack([_s[f"q{n}.{i}.bias"] for n in (1, 2)]),
    )
    for i in (0, 2, 4)
]
critic = Twin(
    torch=_torch,
    jax=(critic_apply, critic_params),
    inputs={"state": Array((4, 4)), "action": Array((4, 2))},
)


class Highway(nn.Module):
    """Transform and carry by two layers; the port has Equinox modules in a list."""

    def __init__(self):
        super().__init__()
        self.transform = nn.ModuleList(nn.Linear(5, 5) for _ in range(2))
        self.gate = nn.ModuleList(nn.Linear(5, 5) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for transform, gate in zip(self.transform, self.gate, strict=True):
            g = torch.sigmoid(gate(x))
            x = g * torch.tanh(transform(x)) + (1 - g) * x
        return x


class EqxHighway(eqx.Module):
    layers: list[eqx.nn.Linear]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            h, g = jnp.split(layer(x), 2)
            g = jax.nn.sigmoid(g)
            x = x + g * (jnp.tanh(h) - x)
        return x


_torch, _s = fresh(Highway)
_joint = {
    f"{i}.{leaf}": np.concatenate([_s[f"{name}.{i}.{leaf}"] for name in ("transform", "gate")])
    for i in range(2)
    for leaf in ("weight", "bias")
}
highway = Twin(
    torch=_torch,
    jax=EqxHighway(
        [with_weights(eqx.nn.Linear(5, 10, key=jr.key(0)), _joint, str(i)) for i in range(2)]
    ),
    inputs={"x": Array((3, 5))},
    jax_call=mapped,
)
