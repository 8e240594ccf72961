"""Every loss of the file in one program, each on its own rows of x, y and z."""

from compare import Array, Labels
from compare.twins import functions


@functions(
    "training/ranking",
    x=Array((6, 7, 4)),
    y=Array((6, 7, 4)),
    z=Array((7, 4)),
    labels=Labels(7, 4),
    similar=Labels(7, 2),
)
def ranking(module, x, y, z, labels, similar):
    sign = 2 * similar - 1  # -1 or 1
    return {
        "hinge": module.hinge(x[0, :, 0], sign),
        "hinge_embedding": module.hinge_embedding(x[1, :, 0], sign),
        "multi_margin": module.multi_margin(x[2], labels),
        "margin_ranking": module.margin_ranking(x[3, :, 0], y[3, :, 0], sign, margin=0.5),
        "triplet_margin": module.triplet_margin(x[4], y[4], z),
        "cosine_embedding": module.cosine_embedding(x[5], y[5], sign, margin=0.1),
    }
