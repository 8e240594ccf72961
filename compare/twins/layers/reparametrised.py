"""A linear layer with weight norm and a convolution with spectral norm, in one program."""

from compare import Array, Image, Twin


def torch_layers():
    from torch import nn

    from torchref.layers.reparametrised import SpectralNorm, WeightNorm

    spectral = SpectralNorm(nn.Conv2d(3, 4, 2), n_power_iterations=2)
    return nn.ModuleDict({"weight": WeightNorm(nn.Linear(3, 4)), "spectral": spectral})


def torch_call(layers, x, images):
    return {"weight": layers["weight"](x), "spectral": layers["spectral"](images)}


def jax_layers():
    from flax import linen as nn

    from jaxnn.layers.reparametrised import SpectralNorm, WeightNorm

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x, images, *, train: bool = False):
            conv = nn.Conv(4, (2, 2), padding="VALID")
            spectral = SpectralNorm(conv, n_power_iterations=2, name="spectral")
            weight = WeightNorm(nn.Dense(4), name="weight")
            return {"weight": weight(x), "spectral": spectral(images, train=train)}

    return Layers()


reparametrised = Twin(
    torch=torch_layers,
    jax=jax_layers,
    torch_call=torch_call,
    inputs={"x": Array((5, 3)), "images": Image(2, 3, 3, 4)},
)
