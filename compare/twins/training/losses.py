"""Every loss of the file in one program, each on its own rows of x and y."""

from compare import Array, Labels
from compare.twins import functions


@functions("training/losses", x=Array((6, 5, 4)), y=Array((3, 5, 4)), labels=Labels(5, 4))
def losses(module, x, y, labels):
    x, p = {n: x[i] for i, n in enumerate(module.__all__)}, 1 / (1 + y * y)
    logits, soft, bits = x["cross_entropy"], p[1] / p[1].sum(-1)[:, None], p[2]
    probabilities = 1 / (1 + x["binary_cross_entropy"] ** 2)
    smooth = {"label_smoothing": 0.1, "reduction": "none"}
    return {
        "reduce": module.reduce(x["reduce"]),
        "mse": module.mse(x["mse"], y[0], reduction="sum"),
        "nll": module.nll(x["nll"], labels, ignore_index=1),
        "cross_entropy": module.cross_entropy(logits, labels, **smooth),
        "soft": module.cross_entropy(logits * 2, soft, label_smoothing=0.2),
        "binary_cross_entropy": module.binary_cross_entropy(probabilities, bits),
        "binary_cross_entropy_with_logits": module.binary_cross_entropy_with_logits(
            x["binary_cross_entropy_with_logits"], bits
        ),
    }
