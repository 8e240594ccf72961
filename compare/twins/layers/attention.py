"""Attention in one program: the function, the layer packed and with separate projections."""

from importlib import import_module
from typing import Any

import numpy as np

from compare import Array, Twin

LAYERS: dict[str, dict[str, Any]] = {
    "own": {"embed_dim": 8, "num_heads": 2},
    "other": {"embed_dim": 8, "num_heads": 4, "kdim": 6, "vdim": 5, "batch_first": True}
    | {"add_bias_kv": True, "add_zero_attn": True},
}


def attend(package, layer, x, key, value, heads, bias, hidden, padding, **mode) -> dict:
    """Every function and layer of one side; a bias is added, what is hidden is not attended."""
    f = import_module(f"{package}.layers.attention").scaled_dot_product_attention
    q, k, v = heads
    found = {"heads": f(q, k[:, :1], v[:, :1], ~hidden, scale=0.3, enable_gqa=True)}
    found["own"], found["mean"] = layer["own"](x, x, x, padding, attn_mask=hidden, **mode)
    found["other"], found["each"] = layer["other"](
        x, key, value, attn_mask=bias, average_attn_weights=False, **mode
    )
    return found


def torch_layers():
    from torch import nn

    from torchref.layers.attention import MultiheadAttention

    class Layers(nn.ModuleDict):
        def forward(self, *inputs):
            return attend("torchref", self, *inputs)

    return Layers({name: MultiheadAttention(**config) for name, config in LAYERS.items()})


def jax_layers():
    import flax.linen as nn

    from jaxnn.layers.attention import MultiheadAttention

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, *inputs, train=False):
            layers = {n: MultiheadAttention(**config, name=n) for n, config in LAYERS.items()}
            return attend("jaxnn", layers, *inputs, train=train)

    return Layers()


attention = Twin(
    torch=torch_layers,
    jax=jax_layers,
    inputs={
        "x": Array((4, 4, 8)),
        "key": Array((4, 4, 6)),
        "value": Array((4, 4, 5)),
        "heads": Array((3, 2, 2, 4, 3)),
        "bias": Array((4, 4)),
        "hidden": np.triu(np.ones((4, 4), bool), 1),
        "padding": np.arange(4) >= np.array([[4], [2], [3], [1]]),
    },
    optimizer=("sgd", {"lr": 0.01}),
    layout="same",
)
