"""Convolutions, transposed ones and patches in one program, each on its own images of x.

They share their code, and so one program: `transposed` and `patches` have no twin of their own.
"""

import importlib

from compare import Array, Image, Twin

LAYERS = {
    "replicate": (
        "Conv1d",
        (4, 6, 3),
        {"stride": 2, "padding": 2, "dilation": 2, "padding_mode": "replicate"},
    ),
    "reflect": (
        "Conv2d",
        (4, 6, (3, 2)),
        {"padding": "same", "groups": 2, "padding_mode": "reflect"},
    ),
    "small": ("Conv2d", (4, 3, 3), {"stride": 2, "padding": 1, "bias": False}),
    "circular": ("Conv3d", (4, 3, (1, 2, 3)), {"padding": (0, 1, 1), "padding_mode": "circular"}),
    "crossing": ("ConvTranspose1d", (4, 3, 4), {"stride": 3, "padding": 1, "dilation": 2}),
    "grouped_t": (
        "ConvTranspose2d",
        (4, 6, 3),
        {"stride": 2, "padding": 1, "output_padding": (1, 0), "groups": 2},
    ),
    "volumes": ("ConvTranspose3d", (4, 2, 2), {"stride": (1, 2, 1), "bias": False}),
}
SIZES = {"1": (48,), "2": (6, 8), "3": (2, 4, 6)}


def layer(package, which, **more):
    """One of the layers, from the file that it is in."""
    kind, given, options = LAYERS[which]
    file = "transposed" if "Transpose" in kind else "convolution"
    module = importlib.import_module(f"{package}.layers.{file}")
    return getattr(module, kind)(*given, **options, **more)


def every(package, layers, x, kernel):
    """What each makes of its two images; sequences and volumes are images of another shape."""
    by_patches = importlib.import_module(f"{package}.layers.patches").conv_by_patches
    first, found = package == "torchref", {}  # the channels
    kernel = kernel.reshape(5, 4, 2, 2)
    kernel = kernel if first else kernel.transpose(2, 3, 1, 0)
    for i, name in enumerate(LAYERS):
        sizes = SIZES[LAYERS[name][0][-2]]
        shape = (2, 4, *sizes) if first else (2, *sizes, 4)
        y = layers[name](x[2 * i : 2 * i + 2].reshape(shape))
        found[name] = y if len(sizes) > 1 else y[..., None] if first else y[:, :, None]
    found["by_patches"] = by_patches(x[-2:], kernel, stride=(1, 2), padding=1, dilation=(2, 1))
    return found


def torch_layers():
    from torch import nn

    return nn.ModuleDict({name: layer("torchref", name) for name in LAYERS})


def torch_call(layers, x, kernel):
    return every("torchref", layers, x, kernel)


def jax_layers():
    from flax import linen as nn

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x, kernel, *, train: bool = False):
            layers = {name: layer("jaxnn", name, name=name) for name in LAYERS}
            return every("jaxnn", layers, x, kernel)

    return Layers()


convolution = Twin(
    torch=torch_layers,
    jax=jax_layers,
    torch_call=torch_call,
    inputs={"x": Image(16, 4, 6, 8), "kernel": Array((5, 16))},
)
