"""Losses of both networks on the tape, and all gradients that it gives, in one program.

What is compared as gradients is one more derivative: each framework's own, of the tape's.
"""

from importlib import import_module

from compare import Array, Image, Labels, Twin

C, O, K, SIDE, CLASSES = 2, 3, 3, 6, 4  # channels in and out, kernel, image, classes
HALF = SIDE // 2


def networks(package, images, kernel, weight, bias, features, w1, b1, w2, b2, labels) -> dict:
    """Name -> a value of one side."""
    module = import_module(f"{package}.foundations.tape")

    def run(network, *arrays):
        tape = module.Tape()
        nodes = [tape.given(array) for array in arrays]
        loss = tape.cross_entropy(network(tape, *nodes), labels)
        return (loss.value, *tape.gradients(loss, nodes))

    def mlp(tape, x, w1, b1, w2, b2):
        return module.mlp(tape, x, [(w1, b1), (w2, b2)])

    names = ("loss", "images", "kernel", "weight", "bias")
    found = dict(zip(names, run(module.cnn, images, kernel, weight, bias), strict=True))
    return {**found, "mlp": run(mlp, features, w1, b1, w2, b2)}


def of_jax(images, kernel, weight, *others) -> dict:
    """The same, of torch's kernel (O, C, K, K) and of rows in the order (O, H, W)."""
    rows = weight.reshape(O, HALF, HALF, CLASSES).transpose(1, 2, 0, 3).reshape(weight.shape)
    found = networks("jaxnn", images, kernel.transpose(2, 3, 1, 0), rows, *others)
    back = found["weight"].reshape(HALF, HALF, O, CLASSES).transpose(2, 0, 1, 3)
    return {
        **found,
        "kernel": found["kernel"].reshape(K * K, C, O),
        "weight": back.reshape(weight.shape),
    }


def of_torch(*inputs) -> dict:
    found = networks("torchref", *inputs)
    return {**found, "kernel": found["kernel"].permute(2, 3, 1, 0).reshape(K * K, C, O)}


tape = Twin(
    torch=lambda: of_torch,
    jax=lambda: of_jax,
    inputs={
        "images": Image(5, C, SIDE, SIDE),
        "kernel": Array((O, C, K, K)),
        "weight": Array((O * HALF * HALF, CLASSES)),
        "bias": Array((CLASSES,)),
        "features": Array((5, 6)),
        "w1": Array((6, 8)),
        "b1": Array((8,)),
        "w2": Array((8, CLASSES)),
        "b2": Array((CLASSES,)),
        "labels": Labels(5, CLASSES),
    },
)
