"""Normalisation of channels: every layer of the file in one program, each on its own images.

On one device SyncBatchNorm is BatchNorm, on both sides; tests/test_norm.py gives it two.
"""

from compare import Image, Twin

LAYERS = {
    "batch": ("BatchNorm", {}),
    "cumulative": ("BatchNorm", {"momentum": None}),
    "sync": ("SyncBatchNorm", {"momentum": 0.3}),
    "instance": ("InstanceNorm", {}),
    "tracked": ("InstanceNorm", {"affine": True, "track_running_stats": True}),
}


def torch_layers():
    from torch import nn

    from torchref.layers import norm

    return nn.ModuleDict(
        {key: getattr(norm, name)(3, **more) for key, (name, more) in LAYERS.items()}
    )


def torch_call(layers, x):
    parts = x.chunk(len(layers))
    return {key: layer(part) for (key, layer), part in zip(layers.items(), parts, strict=True)}


def jax_layers():
    import jax.numpy as jnp
    from flax import linen as nn

    from jaxnn.layers import norm

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x, *, train: bool = False):
            parts = jnp.split(x, len(LAYERS))
            return {
                key: getattr(norm, name)(3, **more, name=key)(part, train=train)
                for (key, (name, more)), part in zip(LAYERS.items(), parts, strict=True)
            }

    return Layers()


norm = Twin(
    torch=torch_layers,
    jax=jax_layers,
    torch_call=torch_call,
    inputs={"x": Image(10, 3, 4, 2)},
)
