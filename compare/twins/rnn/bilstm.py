"""The bidirectional LSTM fills gaps in the sunspots: a value is told by both its sides."""

from functools import partial

from compare import Array, Lengths, Twin
from compare.data.series import gaps

BiLSTM = Twin(
    config={"input_size": 2, "hidden_size": 5, "output_size": 1},
    inputs={"x": Array((6, 8, 2)), "lengths": Lengths(6, 8)},
    targets={"y": Array((6, 8, 1))},
    loss="mse",
    optimizer=("sgd", {"lr": 0.2, "momentum": 0.9}),
    data=partial(gaps, batch=6, length=8),
    full={
        "config": {"input_size": 2, "hidden_size": 93, "output_size": 1},
        "inputs": {"x": Array((16, 32, 2)), "lengths": Lengths(16, 32)},
        "targets": {"y": Array((16, 32, 1))},
        "data": partial(gaps, batch=16, length=32),
    },
)
