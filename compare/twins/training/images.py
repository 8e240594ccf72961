"""Every loss of the file in one program: masks and images, channels where each side has them."""

from compare import Array, Image
from compare.twins import functions


@functions(
    "training/images",
    x=Image(3, 2, 13, 12),
    y=Image(3, 2, 13, 12),
    logits=Array((5, 4)),
    labels=Array((5, 4)),
)
def images(module, x, y, logits, labels):
    p, t = 1 / (1 + x * x), 1 / (1 + y * y)
    return {
        "focal": module.focal(logits, 1 / (1 + labels * labels)),
        "dice": module.dice(p, t, reduction="none"),
        "ssim": module.ssim(p, t, reduction="none"),
    }
