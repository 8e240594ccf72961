"""Shuffled and interpolated images, in every mode, in one program, each on its own image of x."""

from compare import Image
from compare.twins import functions, in_torch

CASES = (
    ("nearest", {"size": (5, 9)}),
    ("nearest-exact", {"scale_factor": 1.6}),
    ("area", {"size": (5, 4)}),
    ("bilinear", {"scale_factor": (1.6, 0.7)}),
    ("bilinear", {"size": (5, 9), "align_corners": True}),
    ("bilinear", {"size": (3, 9), "antialias": True}),
    ("bicubic", {"scale_factor": (1.6, 0.7), "recompute_scale_factor": True}),
    ("bicubic", {"size": (5, 9), "antialias": True}),
    ("linear", {"scale_factor": 0.4}),
    ("trilinear", {"size": (3, 5, 4), "align_corners": True}),
)
SIZES = {"linear": (48,), "trilinear": (2, 4, 6)}


@functions("layers/resampling", x=Image(12, 4, 8, 6))
def resampling(module, x):
    """Sequences and volumes are images of another shape."""
    first = in_torch(module)  # the channels
    values = {
        "pixel_shuffle": module.pixel_shuffle(x[:1], 2),
        "pixel_unshuffle": module.pixel_unshuffle(x[1:2], 2),
    }
    for i, (mode, more) in enumerate(CASES, 2):
        sizes = SIZES.get(mode, (8, 6))
        image = x[i].reshape(1, *((4, *sizes) if first else (*sizes, 4)))
        y = module.interpolate(image, mode=mode, **more)
        y = y if len(sizes) > 1 else y[..., None] if first else y[:, :, None]
        values[f"{mode} {i}"] = y
    return values
