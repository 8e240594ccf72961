"""Attention with fused, split and per-head projections, as plain functions."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compare import Array, Image, Tokens, Twin
from tests.ports import fresh, trained

D, HEADS, HEAD = 12, 3, 4


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(D, D) for _ in range(3))
        self.out_proj = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        each = (f(x).unflatten(-1, (HEADS, HEAD)).transpose(1, 2) for f in self.projections())
        return self.out_proj(F.scaled_dot_product_attention(*each).transpose(1, 2).flatten(-2))

    def projections(self) -> tuple[nn.Linear, ...]:
        return self.q_proj, self.k_proj, self.v_proj


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """softmax(q k^T / sqrt(d)) v of (B, T, H, d), heads merged."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = jnp.where(mask, scores, -1e9)
    y = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v)
    return y.reshape(*y.shape[:2], -1)


def heads(x: jax.Array, count: int = HEADS) -> jax.Array:
    return x.reshape(*x.shape[:-1], count, -1)


x = {"x": Array((2, 5, D))}


# One matrix for all three projections.
def fused_apply(p: dict, x: jax.Array) -> jax.Array:
    q, k, v = (heads(y) for y in jnp.split(x @ p["qkv"] + p["b_qkv"], 3, axis=-1))
    return attend(q, k, v) @ p["o"] + p["b_o"]


_torch, _s = fresh(SelfAttention)
_qkv = [_s[f"{n}_proj.weight"].T for n in "qkv"]
_bias = [_s[f"{n}_proj.bias"] for n in "qkv"]
fused_params = {
    "qkv": np.concatenate(_qkv, 1),
    "b_qkv": np.concatenate(_bias),
    "o": _s["out_proj.weight"].T,
    "b_o": _s["out_proj.bias"],
}
fused = Twin(torch=_torch, jax=(fused_apply, fused_params), inputs=x)


class Unbiased(SelfAttention):
    """Its biases start at zero."""

    def __init__(self):
        super().__init__()
        for layer in (*self.projections(), self.out_proj):
            nn.init.zeros_(layer.bias)


_zero, _z = fresh(Unbiased)
fused_initial_params = {
    "qkv": np.concatenate([_z[f"{n}_proj.weight"].T for n in "qkv"], 1),
    "b_qkv": np.concatenate([_z[f"{n}_proj.bias"] for n in "qkv"]),
    "o": _z["out_proj.weight"].T,
    "b_o": _z["out_proj.bias"],
}
fused_initial = Twin(torch=_zero, jax=(fused_apply, fused_initial_params), inputs=x)


# A tensor of (3, heads, d, head), contracted at once.
def per_head_apply(p: dict, x: jax.Array) -> jax.Array:
    q, k, v = jnp.einsum("btd,shde->sbthe", x, p["wqkv"]) + p["bqkv"][:, None, None]
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q * HEAD**-0.5, k))
    return jnp.einsum("bhqk,bkhd,hde->bqe", weights, v, p["wo"]) + p["bo"]


per_head_params = {
    "wqkv": np.stack([w.reshape(D, HEADS, HEAD).transpose(1, 0, 2) for w in _qkv]),
    "bqkv": np.stack([b.reshape(HEADS, HEAD) for b in _bias]),
    "wo": _s["out_proj.weight"].T.reshape(HEADS, HEAD, D),
    "bo": _s["out_proj.bias"],
}
per_head = Twin(torch=_torch, jax=(per_head_apply, per_head_params), inputs=x)


class Block(nn.Module):
    """A block of GPT-2: one projection in PyTorch, three in JAX; its biases start at zero."""

    mask: Tensor

    def __init__(self, length: int = 5):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.c_attn, self.c_proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.fc, self.proj = nn.Linear(D, 2 * D), nn.Linear(2 * D, D)
        self.register_buffer("mask", torch.ones(length, length).tril().bool(), persistent=False)
        for layer in (self.c_attn, self.c_proj, self.fc, self.proj):
            nn.init.normal_(layer.weight, std=0.2)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).split(c, dim=2)
        q, k, v = (y.view(b, t, HEADS, HEAD).transpose(1, 2) for y in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(HEAD)
        scores = scores.masked_fill(~self.mask[:t, :t], float("-inf"))
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, c)
        x = x + self.c_proj(y)
        return x + self.proj(F.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


def layer_norm(p: dict, x: jax.Array) -> jax.Array:
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-5) * p["g"] + p["b"]


def block_apply(p: dict, x: jax.Array) -> jax.Array:
    def dense(name: str, x: jax.Array) -> jax.Array:
        return x @ p[name]["w"] + p[name]["b"]

    h = layer_norm(p["ln_1"], x)
    q, k, v = (heads(dense(name, h)) for name in ("query", "key", "value"))
    mask = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
    x = x + dense("attn_out", attend(q, k, v, mask))
    return x + dense("mlp_out", jax.nn.gelu(dense("mlp_in", layer_norm(p["ln_2"], x))))


_torch, _s = fresh(Block)
block_params = {
    **{n: {"g": _s[f"{n}.weight"], "b": _s[f"{n}.bias"]} for n in ("ln_1", "ln_2")},
    **{
        name: {
            "w": _s["c_attn.weight"][i * D : (i + 1) * D].T,
            "b": _s["c_attn.bias"][i * D : (i + 1) * D],
        }
        for i, name in enumerate(("query", "key", "value"))
    },
    **{
        ours: {"w": _s[f"{theirs}.weight"].T, "b": _s[f"{theirs}.bias"]}
        for ours, theirs in (("attn_out", "c_proj"), ("mlp_in", "fc"), ("mlp_out", "proj"))
    },
}
block = Twin(torch=_torch, jax=(block_apply, block_params), inputs=x)


class Grouped(nn.Module):
    """Llama's attention: rotary positions, two heads of keys and values for four of queries."""

    def __init__(self, dim: int = 16, heads: int = 4, groups: int = 2):
        super().__init__()
        self.heads, self.groups, self.head = heads, groups, dim // heads
        self.wq = nn.Linear(dim, heads * self.head, bias=False)
        self.wk = nn.Linear(dim, groups * self.head, bias=False)
        self.wv = nn.Linear(dim, groups * self.head, bias=False)
        self.wo = nn.Linear(heads * self.head, dim, bias=False)

    def rotated(self, x: Tensor) -> Tensor:
        inverse = 1.0 / 10000 ** (torch.arange(0, self.head, 2, device=x.device) / self.head)
        angles = torch.outer(torch.arange(x.shape[1], device=x.device), inverse)
        angles = torch.cat([angles, angles], -1)[:, None]
        one, two = x.chunk(2, -1)
        return x * angles.cos() + torch.cat([-two, one], -1) * angles.sin()

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = self.rotated(self.wq(x).view(b, t, self.heads, self.head)).transpose(1, 2)
        k = self.rotated(self.wk(x).view(b, t, self.groups, self.head)).transpose(1, 2)
        v = self.wv(x).view(b, t, self.groups, self.head).transpose(1, 2)
        k, v = (y.repeat_interleave(self.heads // self.groups, 1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(y.transpose(1, 2).reshape(b, t, -1))


def rotary(x: jax.Array) -> jax.Array:
    half = x.shape[-1] // 2
    frequencies = 10000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None] * frequencies
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    one, two = x[..., :half], x[..., half:]
    return jnp.concatenate([one * cos - two * sin, two * cos + one * sin], -1).astype(x.dtype)


def grouped_apply(p: dict, x: jax.Array) -> jax.Array:
    b, t, d = x.shape
    q, k, v = jnp.split(x @ p["wqkv"], [d, d + d // 2], axis=-1)
    q, k, v = rotary(heads(q, 4)).reshape(b, t, 2, 2, -1), rotary(heads(k, 2)), heads(v, 2)
    scores = jnp.einsum("bqgrd,bkgd->bgrqk", q, k) / jnp.sqrt(q.shape[-1])
    causal = jnp.arange(t)[:, None] >= jnp.arange(t)
    weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
    return jnp.einsum("bgrqk,bkgd->bqgrd", weights, v).reshape(b, t, d) @ p["wo"]


_torch, _s = fresh(Grouped)
grouped_params = {
    "wqkv": np.concatenate([_s[f"w{n}.weight"].T for n in "qkv"], 1),
    "wo": _s["wo.weight"].T,
}
grouped = Twin(torch=_torch, jax=(grouped_apply, grouped_params), inputs={"x": Array((2, 5, 16))})


class Cross(nn.Module):
    """PyTorch's own attention with its packed projections, from one sequence to another."""

    def __init__(self):
        super().__init__()
        self.attn, self.norm = nn.MultiheadAttention(D, HEADS, batch_first=True), nn.LayerNorm(D)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.norm(x + self.attn(x, memory, memory, need_weights=False)[0])


def cross_apply(p: dict, x: jax.Array, memory: jax.Array) -> jax.Array:
    q = heads(x @ p["q"]["kernel"] + p["q"]["bias"])
    k, v = jnp.split(heads(memory @ p["kv"]["kernel"] + p["kv"]["bias"], 2 * HEADS), 2, axis=2)
    x = x + attend(q, k, v) @ p["o"]["kernel"] + p["o"]["bias"]
    return layer_norm(p["norm"], x)


_torch, _s = trained(Cross)
cross_params = {
    "q": {"kernel": _s["attn.in_proj_weight"][:D].T, "bias": _s["attn.in_proj_bias"][:D]},
    "kv": {"kernel": _s["attn.in_proj_weight"][D:].T, "bias": _s["attn.in_proj_bias"][D:]},
    "o": {"kernel": _s["attn.out_proj.weight"].T, "bias": _s["attn.out_proj.bias"]},
    "norm": {"g": _s["norm.weight"], "b": _s["norm.bias"]},
}
cross = Twin(
    torch=_torch, jax=(cross_apply, cross_params), inputs={**x, "memory": Array((2, 4, D))}
)


class Patches(nn.Module):
    """A small vision transformer's front: patches by a convolution, a class token, positions."""

    def __init__(self, patch: int = 4, count: int = 4):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, D, patch, stride=patch)
        self.cls_token = nn.Parameter(0.1 * torch.randn(1, 1, D))
        self.pos_embed = nn.Parameter(0.1 * torch.randn(1, count + 1, D))
        self.norm, self.attn, self.head = nn.LayerNorm(D), SelfAttention(), nn.Linear(D, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        x = x + self.attn(self.norm(x))
        return self.head(x[:, 0])


def patches_apply(p: dict, images: jax.Array) -> jax.Array:
    b, h, w, c = images.shape
    x = images.reshape(b, h // 4, 4, w // 4, 4, c).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(b, -1, 4 * 4 * c) @ p["patch"]["kernel"] + p["patch"]["bias"]
    cls = jnp.broadcast_to(p["cls"], (b, 1, D))
    x = jnp.concatenate([cls, x], axis=1) + p["pos"]
    x = x + fused_apply(p["attn"], layer_norm(p["norm"], x))
    return x[:, 0] @ p["head"]["kernel"] + p["head"]["bias"]


_torch, _s = trained(Patches)
patches_params = {
    "patch": {
        "kernel": _s["patch_embed.weight"].transpose(2, 3, 1, 0).reshape(-1, D),
        "bias": _s["patch_embed.bias"],
    },
    "cls": _s["cls_token"][0, 0],
    "pos": _s["pos_embed"][0],
    "norm": {"g": _s["norm.weight"], "b": _s["norm.bias"]},
    "attn": {
        "qkv": np.concatenate([_s[f"attn.{n}_proj.weight"].T for n in "qkv"], 1),
        "b_qkv": np.concatenate([_s[f"attn.{n}_proj.bias"] for n in "qkv"]),
        "o": _s["attn.out_proj.weight"].T,
        "b_o": _s["attn.out_proj.bias"],
    },
    "head": {"kernel": _s["head.weight"].T, "bias": _s["head.bias"]},
}
patches = Twin(torch=_torch, jax=(patches_apply, patches_params), inputs={"x": Image(2, 3, 8, 8)})


class Encoder(nn.Module):
    """Words, sinusoidal positions, and PyTorch's own encoder layer."""

    def __init__(self, vocab: int = 10):
        super().__init__()
        self.embed = nn.Embedding(vocab, D)
        self.layer = nn.TransformerEncoderLayer(
            D, HEADS, 2 * D, dropout=0.0, batch_first=True, norm_first=True
        )
        self.out = nn.Linear(D, vocab)

    def forward(self, ids: Tensor) -> Tensor:
        t = torch.arange(ids.shape[1], device=ids.device).unsqueeze(1)
        rate = torch.exp(torch.arange(0, D, 2, device=ids.device) * (-math.log(10000.0) / D))
        table = torch.stack([torch.sin(t * rate), torch.cos(t * rate)], -1).flatten(1)
        return self.out(self.layer(self.embed(ids) * math.sqrt(D) + table))


def encoder_apply(p: dict, ids: jax.Array) -> jax.Array:
    t = jnp.arange(ids.shape[1], dtype=jnp.float32)[:, None]
    rate = jnp.exp(jnp.arange(0, D, 2, dtype=jnp.float32) * (-math.log(10000.0) / D))
    table = jnp.zeros((ids.shape[1], D))
    table = table.at[:, 0::2].set(jnp.sin(t * rate)).at[:, 1::2].set(jnp.cos(t * rate))
    x = p["embed"][ids] * math.sqrt(D) + table
    x = x + fused_apply(p["attn"], layer_norm(p["ln1"], x))
    h = jax.nn.relu(layer_norm(p["ln2"], x) @ p["w1"] + p["b1"])
    x = x + h @ p["w2"] + p["b2"]
    return x @ p["out"] + p["b_out"]


_torch, _s = trained(Encoder)
encoder_params = {
    "embed": _s["embed.weight"],
    "attn": {
        "qkv": _s["layer.self_attn.in_proj_weight"].T,
        "b_qkv": _s["layer.self_attn.in_proj_bias"],
        "o": _s["layer.self_attn.out_proj.weight"].T,
        "b_o": _s["layer.self_attn.out_proj.bias"],
    },
    **{
        f"ln{i}": {"g": _s[f"layer.norm{i}.weight"], "b": _s[f"layer.norm{i}.bias"]} for i in (1, 2)
    },
    **{f"w{i}": _s[f"layer.linear{i}.weight"].T for i in (1, 2)},
    **{f"b{i}": _s[f"layer.linear{i}.bias"] for i in (1, 2)},
    "out": _s["out.weight"].T,
    "b_out": _s["out.bias"],
}
encoder = Twin(torch=_torch, jax=(encoder_apply, encoder_params), inputs={"ids": Tokens(2, 5, 10)})


class Window(nn.Module):
    """Attention in a window with Swin's table of relative positions."""

    index: Tensor

    def __init__(self, size: int = 2):
        super().__init__()
        self.qkv, self.proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.table = nn.Parameter(torch.randn((2 * size - 1) ** 2, HEADS))
        at = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij"))
        apart = at.flatten(1)[:, :, None] - at.flatten(1)[:, None] + size - 1
        self.register_buffer("index", apart[0] * (2 * size - 1) + apart[1])

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, HEAD).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1)
        weights = ((q * HEAD**-0.5) @ k.transpose(-2, -1) + bias).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


def window_apply(p: dict, x: jax.Array) -> jax.Array:
    q, k, v = (jnp.einsum("bnd,dhe->bnhe", x, p[n]) + p[f"{n}_bias"] for n in "qkv")
    i, j = jnp.divmod(jnp.arange(4), 2)
    index = 3 * (i[:, None] - i + 1) + (j[:, None] - j + 1)
    scores = jnp.einsum("bqhe,bkhe->bhqk", q, k) / 2 + p["rel_bias"][:, index]
    y = jnp.einsum("bhqk,bkhe->bqhe", jax.nn.softmax(scores), v)
    return jnp.einsum("bqhe,hed->bqd", y, p["o"]) + p["o_bias"]


_torch, _s = fresh(Window)
window_params = {
    **{
        n: _s["qkv.weight"][i * D : (i + 1) * D].T.reshape(D, HEADS, HEAD)
        for i, n in enumerate("qkv")
    },
    **{
        f"{n}_bias": _s["qkv.bias"][i * D : (i + 1) * D].reshape(HEADS, HEAD)
        for i, n in enumerate("qkv")
    },
    "rel_bias": _s["table"].T,
    "o": _s["proj.weight"].T.reshape(HEADS, HEAD, D),
    "o_bias": _s["proj.bias"],
}
window = Twin(torch=_torch, jax=(window_apply, window_params), inputs={"x": Array((2, 4, D))})
