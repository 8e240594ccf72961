"""Normalisation within an example: every layer of the file in one program, each on its own rows."""

from compare import Array, Image, Twin

ROWS = {
    "layer": ("LayerNorm", (6,), {}),
    "layers": ("LayerNorm", ((4, 6),), {}),
    "rms": ("RMSNorm", (6,), {}),
}
GROUPS = {
    "groups": ("GroupNorm", (2, 6), {}),
    "own_groups": ("GroupNorm", (6, 6), {"affine": False}),
}
LAYERS = ROWS | GROUPS


def torch_layers():
    from torch import nn

    from torchref.layers import layer_norm

    made = {key: getattr(layer_norm, name)(*a, **kw) for key, (name, a, kw) in LAYERS.items()}
    return nn.ModuleDict(made)


def torch_call(layers, x, images):
    parts = (*x, *images.chunk(len(GROUPS)))
    return {key: layer(part) for (key, layer), part in zip(layers.items(), parts, strict=True)}


def jax_layers():
    import jax.numpy as jnp
    from flax import linen as nn

    from jaxnn.layers import layer_norm

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x, images):
            parts = (*x, *jnp.split(images, len(GROUPS)))
            return {
                key: getattr(layer_norm, name)(*args, **more, name=key)(part)
                for (key, (name, args, more)), part in zip(LAYERS.items(), parts, strict=True)
            }

    return Layers()


layer_norm = Twin(
    torch=torch_layers,
    jax=jax_layers,
    torch_call=torch_call,
    inputs={"x": Array((3, 3, 4, 6)), "images": Image(4, 6, 2, 3)},
)
