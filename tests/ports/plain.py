"""Networks of dense layers as plain functions of a dict of arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compare import Array, Tokens, Twin
from tests.ports import fresh, trained


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)
        self.fc2, self.fc3 = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.norm(self.fc1(x)))
        return self.fc3(torch.tanh(self.fc2(h)))


def mlp_apply(p: dict, x: jax.Array) -> jax.Array:
    h = x @ p["w1"] + p["b1"]
    mean, var = h.mean(-1, keepdims=True), h.var(-1, keepdims=True)
    h = jnp.tanh((h - mean) * jax.lax.rsqrt(var + 1e-5) * p["gamma"] + p["beta"])
    return jnp.tanh(h @ p["w2"] + p["b2"]) @ p["w3"] + p["b3"]


_torch, _s = trained(Mlp)
mlp_params = {f"w{i}": _s[f"fc{i}.weight"].T for i in (1, 2, 3)}
mlp_params |= {f"b{i}": _s[f"fc{i}.bias"] for i in (1, 2, 3)}
mlp_params |= {"gamma": _s["norm.weight"], "beta": _s["norm.bias"]}
mlp = Twin(torch=_torch, jax=(mlp_apply, mlp_params), inputs={"x": Array((4, 6))})


class RMSNorm(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
        return y.type_as(x) * self.weight


class GatedMlp(nn.Module):
    def __init__(self, dim: int = 6, hidden: int = 10):
        super().__init__()
        self.norm = RMSNorm(dim)
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


def gated_apply(p: dict, x: jax.Array) -> jax.Array:
    h = x.astype(jnp.float32)
    h = h * jax.lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6)
    gate, up = jnp.split(h.astype(x.dtype) * p["scale"] @ p["wi"], 2, axis=-1)
    return x + (jax.nn.silu(gate) * up) @ p["wo"]


_torch, _s = trained(GatedMlp)
gated_params = {
    "scale": _s["norm.weight"],
    "wi": np.concatenate([_s["gate_proj.weight"].T, _s["up_proj.weight"].T], 1),
    "wo": _s["down_proj.weight"].T,
}
gated = Twin(torch=_torch, jax=(gated_apply, gated_params), inputs={"x": Array((2, 3, 6))})


class LanguageModel(nn.Module):
    """Its head is its table of words."""

    def __init__(self, vocab: int = 11, length: int = 6, dim: int = 8):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, dim), nn.Embedding(length, dim)
        self.fc = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, vocab, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)
        h = self.wte(ids) + self.wpe(positions)
        return self.head(h + F.gelu(self.fc(h), approximate="tanh"))


def tied_apply(p: dict, ids: jax.Array) -> jax.Array:
    h = p["tok"][ids] + p["pos"][: ids.shape[1]]
    h = h + jax.nn.gelu(h @ p["w"] + p["b"])
    return jnp.einsum("btd,vd->btv", h, p["tok"])


_torch, _s = fresh(LanguageModel)
tied_params = {
    "tok": _s["wte.weight"],
    "pos": _s["wpe.weight"],
    "w": _s["fc.weight"].T,
    "b": _s["fc.bias"],
}
tied = Twin(torch=_torch, jax=(tied_apply, tied_params), inputs={"ids": Tokens(2, 5, 11)})


class Experts(nn.Module):
    """Two experts, mixed by a softmax gate."""

    def __init__(self, dim: int = 5, hidden: int = 7):
        super().__init__()
        self.gate = nn.Linear(dim, 2, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        each = torch.stack([expert(x) for expert in self.experts], -1)
        return (each * weights.unsqueeze(-2)).sum(-1)


def experts_apply(p: dict, x: jax.Array) -> jax.Array:
    weights = jax.nn.softmax(x @ p["router"])
    h = jax.nn.relu(jnp.einsum("bd,edh->ebh", x, p["wi"]) + p["bi"][:, None])
    each = jnp.einsum("ebh,ehd->ebd", h, p["wo"]) + p["bo"][:, None]
    return jnp.einsum("be,ebd->bd", weights, each)


_torch, _s = fresh(Experts)
experts_params = {
    "router": _s["gate.weight"].T,
    "wi": np.stack([_s[f"experts.{e}.0.weight"].T for e in range(2)]),
    "bi": np.stack([_s[f"experts.{e}.0.bias"] for e in range(2)]),
    "wo": np.stack([_s[f"experts.{e}.2.weight"].T for e in range(2)]),
    "bo": np.stack([_s[f"experts.{e}.2.bias"] for e in range(2)]),
}
experts = Twin(torch=_torch, jax=(experts_apply, experts_params), inputs={"x": Array((4, 5))})


class Vae(nn.Module):
    def __init__(self, dim: int = 9, hidden: int = 6, latent: int = 3):
        super().__init__()
        self.enc = nn.Linear(dim, hidden)
        self.mu, self.logvar = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.dec1, self.dec2 = nn.Linear(latent, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.elu(self.enc(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * noise
        return torch.sigmoid(self.dec2(F.elu(self.dec1(z)))), mu, logvar


def vae_apply(params: dict, x: jax.Array, noise: jax.Array) -> tuple[jax.Array, ...]:
    enc, dec = params["encoder"], params["decoder"]
    h = jax.nn.elu(x @ enc["w0"] + enc["b0"])
    mu, logvar = jnp.split(h @ enc["w1"] + enc["b1"], 2, -1)
    z = mu + jnp.exp(logvar / 2) * noise
    y = jax.nn.elu(z @ dec["w0"] + dec["b0"]) @ dec["w1"] + dec["b1"]
    return jax.nn.sigmoid(y), mu, logvar


_torch, _s = fresh(Vae)
vae_params = {
    "encoder": {
        "w0": _s["enc.weight"].T,
        "b0": _s["enc.bias"],
        "w1": np.concatenate([_s["mu.weight"], _s["logvar.weight"]]).T,
        "b1": np.concatenate([_s["mu.bias"], _s["logvar.bias"]]),
    },
    "decoder": {
        "w0": _s["dec1.weight"].T,
        "b0": _s["dec1.bias"],
        "w1": _s["dec2.weight"].T,
        "b1": _s["dec2.bias"],
    },
}
vae = Twin(
    torch=_torch,
    jax=(vae_apply, vae_params),
    inputs={"x": Array((4, 9)), "noise": Array((4, 3))},
)


class Mixer(nn.Module):
    """A block of the MLP-mixer: dense layers over the tokens, then over the channels."""

    def __init__(self, tokens: int = 5, dim: int = 6):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.token = nn.Sequential(nn.Linear(tokens, 7), nn.GELU(), nn.Linear(7, tokens))
        self.channel = nn.Sequential(nn.Linear(dim, 8), nn.GELU(), nn.Linear(8, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channel(self.norm2(x))


def _normalised(x: jax.Array, scale: jax.Array, offset: jax.Array) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    var = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + offset


def mixer_apply(p: dict, x: jax.Array) -> jax.Array:
    y = _normalised(x, *p["ln"][0])
    y = jax.nn.gelu(jnp.einsum("btd,th->bhd", y, p["tok_in"]) + p["tb1"][:, None], False)
    x = x + jnp.einsum("bhd,ht->btd", y, p["tok_out"]) + p["tb2"][:, None]
    y = _normalised(x, *p["ln"][1])
    return x + jax.nn.gelu(y @ p["ch_in"] + p["cb1"], approximate=False) @ p["ch_out"] + p["cb2"]


_torch, _s = fresh(Mixer)
mixer_params = {
    "ln": [(_s[f"norm{i}.weight"], _s[f"norm{i}.bias"]) for i in (1, 2)],
    "tok_in": _s["token.0.weight"].T,
    "tok_out": _s["token.2.weight"].T,
    "ch_in": _s["channel.0.weight"].T,
    "ch_out": _s["channel.2.weight"].T,
    "tb1": _s["token.0.bias"],
    "tb2": _s["token.2.bias"],
    "cb1": _s["channel.0.bias"],
    "cb2": _s["channel.2.bias"],
}
mixer = Twin(torch=_torch, jax=(mixer_apply, mixer_params), inputs={"x": Array((2, 5, 6))})


class Deep(nn.Module):
    """Twelve layers of one shape, so that a list sorted as text is another list."""

    def __init__(self, dim: int = 4):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(12))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return x


def deep_apply(p: dict, x: jax.Array) -> jax.Array:
    for w, b in zip(p["w"], p["b"], strict=True):
        x = x + jnp.tanh(x @ w + b)
    return x


_torch, _s = fresh(Deep)
deep_params = {
    "w": [_s[f"layers.{i}.weight"].T for i in range(12)],
    "b": [_s[f"layers.{i}.bias"] for i in range(12)],
}
deep = Twin(torch=_torch, jax=(deep_apply, deep_params), inputs={"x": Array((3, 4))})


class Bilinear(nn.Module):
    """Scores of pairs, a table of features drawn once beside them."""

    frequencies: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", 2.0 * torch.randn(3, 4))
        self.pair = nn.Bilinear(8, 5, 6)
        self.out = nn.Linear(6, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        angles = x @ self.frequencies
        x = torch.cat([angles.sin(), angles.cos()], -1)
        return self.out(F.leaky_relu(self.pair(x, y), 0.2))


def bilinear_apply(p: dict, x: jax.Array, y: jax.Array) -> jax.Array:
    angles = x @ p["freqs"]
    x = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
    h = jnp.einsum("bi,ijo,bj->bo", x, p["tensor"], y) + p["bias"]
    return jax.nn.leaky_relu(h, 0.2) @ p["w"] + p["b"]


_torch, _s = fresh(Bilinear)
bilinear_params = {
    "freqs": _s["frequencies"],
    "tensor": _s["pair.weight"].transpose(1, 2, 0),
    "bias": _s["pair.bias"],
    "w": _s["out.weight"].T,
    "b": _s["out.bias"],
}
bilinear = Twin(
    torch=_torch,
    jax=(bilinear_apply, bilinear_params),
    inputs={"x": Array((4, 3)), "y": Array((4, 5))},
)
