"""Every cell of the file in one program, each on its own rows; and without biases, from zeros."""

from importlib import import_module

from compare import Array, Twin


def steps(cells, x, h, c) -> dict:
    """One step of each cell; the outputs are tensors of their own."""
    rnn, relu = cells["RNNCell"](x[0], h[0]), cells["relu"](x[1], h[3])
    h_n, c_n = cells["LSTMCell"](x[2], (h[1], c))
    return {"rnn": rnn, "relu": relu, "h": h_n, "c": c_n, "gru": cells["GRUCell"](x[3], h[2])}


def make(package: str) -> dict:
    """Name -> a function of more keywords that builds the cell."""
    cells = import_module(f"{package}.layers.cells")
    made = {n: lambda n=n, **more: getattr(cells, n)(3, 5, **more) for n in cells.__all__}
    relu = {"bias": False, "nonlinearity": "relu"}
    return {**made, "relu": lambda **more: cells.RNNCell(3, 5, **relu, **more)}


def torch_cells():
    from torch import nn

    class Cells(nn.ModuleDict):
        forward = steps

    return Cells({name: cell() for name, cell in make("torchref").items()})


def jax_cells():
    import flax.linen as nn

    class Cells(nn.Module):
        @nn.compact
        def __call__(self, x, h, c, *, train=False):
            cells = {name: cell(name=name) for name, cell in make("jaxnn").items()}
            return steps(cells, x, h, c)

    return Cells()


cells = Twin(
    torch=torch_cells,
    jax=jax_cells,
    inputs={"x": Array((4, 6, 3)), "h": Array((4, 6, 5)), "c": Array((6, 5))},
)
