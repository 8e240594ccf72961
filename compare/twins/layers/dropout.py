"""Every dropout in one program: the functions on given masks, the modules on masks that they draw.

The numbers that the modules compare with their probabilities are the same on both sides.
"""

import importlib

from compare import Array, Image, Tokens, Twin

P = 0.3
ROWS = ("dropout", "alpha_dropout", "Dropout", "AlphaDropout")
IMAGES = ("feature_dropout", "feature_alpha_dropout", "Dropout2d", "FeatureAlphaDropout")
MODULES = (*ROWS[2:], *IMAGES[2:])


def every(package, modules, rows, images, mask):
    """What each makes of its own part: a function of the mask, a module of one that it draws."""
    library = importlib.import_module(f"{package}.layers.dropout")
    size, found = mask.shape[0], {}
    for names, x in ((ROWS, rows), (IMAGES, images)):
        for i, name in enumerate(names):
            part = x[size * i : size * (i + 1)]
            drawn = name in MODULES
            found[name] = modules[name](part) if drawn else getattr(library, name)(part, mask, P)
    return found


def torch_layers():
    from torch import nn

    from torchref.layers import dropout

    return nn.ModuleDict({name: getattr(dropout, name)(P) for name in MODULES})


def torch_call(modules, rows, images, mask):
    return every("torchref", modules, rows, images, mask)


def jax_layers():
    from functools import partial

    from flax import linen as nn

    from jaxnn.layers import dropout

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, rows, images, mask, *, train: bool = False):
            modules = {
                name: partial(getattr(dropout, name)(P, name=name), train=train) for name in MODULES
            }
            return every("jaxnn", modules, rows, images, mask)

    return Layers()


dropout = Twin(
    torch=torch_layers,
    jax=jax_layers,
    torch_call=torch_call,
    inputs={"rows": Array((16, 6)), "images": Image(16, 6, 2, 3), "mask": Tokens(4, 6, 2)},
)
