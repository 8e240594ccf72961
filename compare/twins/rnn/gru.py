"""The GRU on windows of sunspots. Adam's eps stands above rounding: gradients are small."""

from functools import partial

from compare import Array, Lengths, Twin
from compare.data.sunspots import sunspots

gru_cell = Twin(
    inputs={
        "x": Array((4, 3)),
        "h": Array((4, 5)),
        "weight_ih": Array((15, 3)),
        "weight_hh": Array((15, 5)),
        "bias_ih": Array((15,)),
        "bias_hh": Array((15,)),
    },
)

GRUNet = Twin(
    config={"input_size": 1, "hidden_size": 8, "output_size": 1},
    inputs={"x": Array((8, 9, 1))},
    targets={"y": Array((8, 1))},
    loss="mse",
    optimizer=("adamw", {"lr": 0.01, "eps": 1e-4}),
    data=partial(sunspots, batch=8, length=9),
    full={
        "config": {"input_size": 1, "hidden_size": 128, "output_size": 1},
        "inputs": {"x": Array((32, 33, 1))},
        "targets": {"y": Array((32, 1))},
        "data": partial(sunspots, batch=32, length=33),
    },
)

GRUNet_bidirectional = Twin(
    of="GRUNet",
    config={
        "input_size": 1,
        "hidden_size": 6,
        "output_size": 2,
        "num_layers": 2,
        "bidirectional": True,
    },
    inputs={"x": Array((6, 7, 1)), "lengths": Lengths(6, 7)},
    targets={"y": Array((6, 2))},
    loss="mse",
    optimizer=("sgd", {"lr": 0.1}),
    data=partial(sunspots, batch=6, length=7, horizon=2, ragged=True),
)
