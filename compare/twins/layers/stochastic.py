"""Both functions on given masks and both modules on masks that they draw, in one program."""

from compare import Array, Image, Labels, Tokens, Twin


def torch_layers():
    from torch import nn

    from torchref.layers.stochastic import DropConnect, DropPath

    return nn.ModuleDict({"connect": DropConnect(4, 3, 0.3), "path": DropPath(0.2)})


def torch_call(layers, x, images, weight, bias, mask, rows):
    from torchref.layers.stochastic import drop_connect, drop_path

    return {
        "drop_connect": drop_connect(x[0], weight, bias, mask, 0.3),
        "drop_path": drop_path(images[:5], rows, 0.2),
        "connect": layers["connect"](x[1]),
        "path": layers["path"](images[5:]),
    }


def jax_layers():
    from flax import linen as nn

    from jaxnn.layers.stochastic import DropConnect, DropPath, drop_connect, drop_path

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x, images, weight, bias, mask, rows, *, train: bool = False):
            return {
                "drop_connect": drop_connect(x[0], weight, bias, mask, 0.3),
                "drop_path": drop_path(images[:5], rows, 0.2),
                "connect": DropConnect(4, 3, 0.3, name="connect")(x[1], train=train),
                "path": DropPath(0.2, name="path")(images[5:], train=train),
            }

    return Layers()


stochastic = Twin(
    torch=torch_layers,
    jax=jax_layers,
    torch_call=torch_call,
    inputs={
        "x": Array((2, 5, 4)),
        "images": Image(10, 3, 2, 2),
        "weight": Array((3, 4)),
        "bias": Array((3,)),
        "mask": Tokens(3, 4, 2),
        "rows": Labels(5, 2),
    },
)
