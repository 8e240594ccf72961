"""The LSTM's variants on windows of sunspots. Adam's eps stands above rounding."""

from functools import partial

from compare import Array, Twin
from compare.data.sunspots import sunspots

peephole_lstm_cell = Twin(
    inputs={
        "x": Array((4, 3)),
        "h": Array((4, 5)),
        "c": Array((4, 5)),
        "weight_ih": Array((20, 3)),
        "weight_hh": Array((20, 5)),
        "bias": Array((20,)),
        "weight_ci": Array((5,)),
        "weight_cf": Array((5,)),
        "weight_co": Array((5,)),
    },
)

coupled_lstm_cell = Twin(
    inputs={
        "x": Array((4, 3)),
        "h": Array((4, 5)),
        "c": Array((4, 5)),
        "weight_ih": Array((15, 3)),
        "weight_hh": Array((15, 5)),
        "bias": Array((15,)),
    },
)

PeepholeLSTMNet = Twin(
    config={"input_size": 1, "hidden_size": 5, "output_size": 1},
    inputs={"x": Array((8, 6, 1))},
    targets={"y": Array((8, 1))},
    loss="mse",
    optimizer=("adam", {"lr": 0.01, "eps": 1e-4}),
    data=partial(sunspots, batch=8, length=6),
    full={
        "config": {"input_size": 1, "hidden_size": 128, "output_size": 1},
        "inputs": {"x": Array((32, 33, 1))},
        "targets": {"y": Array((32, 1))},
        "data": partial(sunspots, batch=32, length=33),
    },
)
