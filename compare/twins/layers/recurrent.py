"""Recurrent layers alone: outputs of every step and final states, stacked, both ways, padded."""

from compare import Array, Lengths, Twin

RNN = Twin(
    config={"input_size": 3, "hidden_size": 5, "num_layers": 2, "bidirectional": True},
    inputs={"x": Array((4, 7, 3)), "lengths": Lengths(4, 7)},
)

RNN_relu = Twin(
    of="RNN",
    config={"input_size": 3, "hidden_size": 8, "nonlinearity": "relu"},
    inputs={"x": Array((4, 7, 3))},
    optimizer=("sgd", {"lr": 0.01}),
)

LSTM = Twin(
    config={"input_size": 3, "hidden_size": 5, "num_layers": 2, "bidirectional": True},
    inputs={"x": Array((4, 7, 3)), "lengths": Lengths(4, 7)},
)

GRU = Twin(
    config={"input_size": 3, "hidden_size": 5, "num_layers": 2, "bidirectional": True},
    inputs={"x": Array((4, 7, 3)), "lengths": Lengths(4, 7)},
)
