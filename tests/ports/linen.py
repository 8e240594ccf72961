"""Linen modules with variables that the port has made from PyTorch's state dict."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn

from compare import Array, Image, Tokens, Twin
from tests.ports import Values, fresh, trained
from tests.ports.attention import SelfAttention

D, HEADS, HEAD = 12, 3, 4


def dense(s: Values, name: str) -> Values:
    return {"kernel": s[f"{name}.weight"].T, "bias": s[f"{name}.bias"]}


def conv(s: Values, name: str) -> Values:
    return {"kernel": s[f"{name}.weight"].transpose(2, 3, 1, 0), "bias": s[f"{name}.bias"]}


class General(fnn.Module):
    """Projections to and from heads by DenseGeneral."""

    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        q, k, v = (fnn.DenseGeneral((HEADS, HEAD), name=n)(x) for n in ("q", "k", "v"))
        y = fnn.dot_product_attention(q, k, v)
        return fnn.DenseGeneral(D, axis=(-2, -1), name="o")(y)


_torch, _s = fresh(SelfAttention)
general_params = {
    n: {
        "kernel": _s[f"{n}_proj.weight"].T.reshape(D, HEADS, HEAD),
        "bias": _s[f"{n}_proj.bias"].reshape(HEADS, HEAD),
    }
    for n in "qkv"
}
general_params["o"] = {
    "kernel": _s["out_proj.weight"].T.reshape(HEADS, HEAD, D),
    "bias": _s["out_proj.bias"],
}
general = Twin(
    torch=_torch,
    jax=General(),
    variables={"params": general_params},
    inputs={"x": Array((2, 5, D))},
)


class FlaxAttention(fnn.Module):
    """Flax's own attention, beside separate projections."""

    @fnn.compact
    def __call__(self, x: jax.Array) -> Any:
        return fnn.MultiHeadDotProductAttention(HEADS)(x, x)


_names = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
flax_attention_params = {
    "MultiHeadDotProductAttention_0": {
        **{ours: general_params[theirs[0]] for ours, theirs in _names.items()},
        "out": general_params["o"],
    }
}
flax_attention = Twin(
    torch=_torch,
    jax=FlaxAttention(),
    variables={"params": flax_attention_params},
    inputs={"x": Array((2, 5, D))},
)


class Packed(nn.Module):
    """PyTorch's own attention with a causal mask."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.mha = nn.MultiheadAttention(D, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        y = self.norm(x)
        return x + self.mha(y, y, y, attn_mask=mask, need_weights=False)[0]


class Separate(fnn.Module):
    """A dense layer for each projection, in setup."""

    def setup(self):
        self.ln = fnn.LayerNorm(epsilon=1e-5)
        self.to_q, self.to_k, self.to_v = (fnn.Dense(D) for _ in range(3))
        self.to_out = fnn.Dense(D)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.ln(x)
        q, k, v = (
            f(y).reshape(*y.shape[:2], HEADS, HEAD) for f in (self.to_q, self.to_k, self.to_v)
        )
        mask = fnn.make_causal_mask(jnp.ones(x.shape[:2]))
        return x + self.to_out(fnn.dot_product_attention(q, k, v, mask=mask).reshape(x.shape))


_torch, _s = trained(Packed)
separate_params = {
    "ln": {"scale": _s["norm.weight"], "bias": _s["norm.bias"]},
    **{
        f"to_{n}": {
            "kernel": _s["mha.in_proj_weight"][i * D : (i + 1) * D].T,
            "bias": _s["mha.in_proj_bias"][i * D : (i + 1) * D],
        }
        for i, n in enumerate("qkv")
    },
    "to_out": dense(_s, "mha.out_proj"),
}
separate = Twin(
    torch=_torch,
    jax=(Separate().apply, {"params": separate_params}),
    inputs={"x": Array((2, 5, D))},
)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4))
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.body(x))
        return self.head(x.mean((-2, -1)))


class LinenClassifier(fnn.Module):
    """Layers named by Linen; its batch norm keeps the biased variance, so none is trained."""

    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def norm(x: jax.Array) -> jax.Array:
            return fnn.BatchNorm(use_running_average=True, epsilon=1e-5)(x)

        x = fnn.relu(norm(fnn.Conv(4, (3, 3), strides=2, padding=1)(x)))
        x = fnn.relu(x + norm(fnn.Conv(4, (3, 3), padding=1)(x)))
        return fnn.Dense(3)(x.mean((1, 2)))


def call_eval(model: nn.Module, x: Tensor) -> Tensor:
    return model.eval()(x)


_torch, _s = trained(Classifier)
classifier_variables = {
    "params": {
        "Conv_0": conv(_s, "stem.0"),
        "BatchNorm_0": {"scale": _s["stem.1.weight"], "bias": _s["stem.1.bias"]},
        "Conv_1": conv(_s, "body.0"),
        "BatchNorm_1": {"scale": _s["body.1.weight"], "bias": _s["body.1.bias"]},
        "Dense_0": dense(_s, "head"),
    },
    "batch_stats": {
        f"BatchNorm_{i}": {"mean": _s[f"{n}.1.running_mean"], "var": _s[f"{n}.1.running_var"]}
        for i, n in enumerate(("stem", "body"))
    },
}
classifier = Twin(
    torch=_torch,
    jax=LinenClassifier(),
    variables=classifier_variables,
    inputs={"x": Image(2, 3, 8, 8)},
    torch_call=call_eval,
)


class Tagger(nn.Module):
    """A recurrence without biases, as the port's cells have one where PyTorch has two."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 5)
        self.rnn, self.tags = nn.GRU(5, 6, batch_first=True, bias=False), nn.Linear(6, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.tags(self.rnn(self.words(ids))[0])


class LinenTagger(fnn.Module):
    """One dense layer for each gate and source, in a scan."""

    @fnn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        class Cell(fnn.Module):
            @fnn.compact
            def __call__(self, h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
                def gate(name: str, x: jax.Array) -> jax.Array:
                    return fnn.Dense(6, use_bias=False, name=name)(x)

                z = fnn.sigmoid(gate("xz", x) + gate("hz", h))
                r = fnn.sigmoid(gate("xr", x) + gate("hr", h))
                n = fnn.tanh(gate("xn", x) + r * gate("hn", h))
                h = n * (1 - z) + z * h
                return h, h

        scanned = fnn.scan(
            Cell,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        x = fnn.Embed(9, 5)(ids)
        _, y = scanned(name="cell")(jnp.zeros((len(ids), 6), x.dtype), x)
        return fnn.Dense(4)(y)


_torch, _s = fresh(Tagger)
tagger_params: dict = {
    "Embed_0": {"embedding": _s["words.weight"]},
    "Dense_0": dense(_s, "tags"),
    "cell": {
        f"{source}{gate}": {"kernel": _s[f"rnn.weight_{name}_l0"][6 * i : 6 * i + 6].T}
        for source, name in (("x", "ih"), ("h", "hh"))
        for i, gate in enumerate("rzn")
    },
}
tagger = Twin(
    torch=_torch,
    jax=LinenTagger(),
    variables={"params": tagger_params},
    inputs={"ids": Tokens(3, 4, 9)},
)


class Siamese(nn.Module):
    """One dense layer on two inputs side by side."""

    def __init__(self):
        super().__init__()
        self.joint, self.out = nn.Linear(12, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.out(torch.relu(self.joint(torch.cat([x, y], -1))))


class Added(fnn.Module):
    """A dense layer for each, their sum."""

    @fnn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        h = fnn.Dense(8, name="of_x")(x) + fnn.Dense(8, use_bias=False, name="of_y")(y)
        return fnn.Dense(2, name="out")(fnn.relu(h))


_torch, _s = fresh(Siamese)
added_params = {
    "of_x": {"kernel": _s["joint.weight"][:, :6].T, "bias": _s["joint.bias"]},
    "of_y": {"kernel": _s["joint.weight"][:, 6:].T},
    "out": dense(_s, "out"),
}
added = Twin(
    torch=_torch,
    jax=Added(),
    variables={"params": added_params},
    inputs={"x": Array((4, 6)), "y": Array((4, 6))},
)


class Dueling(nn.Module):
    """Two streams with heads of one and of several outputs."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 8), nn.ReLU())
        self.value = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
        self.advantage = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        a = self.advantage(h)
        return self.value(h) + a - a.mean(-1, keepdim=True)


def dueling_apply(p: dict, x: jax.Array) -> jax.Array:
    """On weights with PyTorch's own names, dotted, in its own layout."""

    def linear(name: str, x: jax.Array) -> jax.Array:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    h = jnp.maximum(linear("body.0", x), 0)
    v, a = (linear(f"{n}.2", jax.nn.relu(linear(f"{n}.0", h))) for n in ("value", "advantage"))
    return v + (a - a.mean(-1, keepdims=True))


_torch, _s = fresh(Dueling)
dueling_params = {name: np.array(value) for name, value in _s.items()}
dueling = Twin(torch=_torch, jax=(dueling_apply, dueling_params), inputs={"x": Array((4, 5))})
