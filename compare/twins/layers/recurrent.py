"""Recurrent layers alone: outputs of every step and final states.

Stacked, both ways and padded; from a state that is given, with projections, dropped in between.
"""

from compare import Array, Lengths, Twin

RNN = Twin(
    config={"input_size": 3, "hidden_size": 5, "num_layers": 2, "bidirectional": True},
    inputs={"x": Array((4, 7, 3)), "lengths": Lengths(4, 7)},
)

RNN_relu = Twin(
    of="RNN",
    config={"input_size": 3, "hidden_size": 8, "nonlinearity": "relu", "bias": False},
    inputs={"x": Array((4, 7, 3))},
    optimizer=("sgd", {"lr": 0.01}),
)

LSTM = Twin(
    config={"input_size": 3, "hidden_size": 5, "bidirectional": True, "proj_size": 2},
    inputs={
        "x": Array((4, 7, 3)),
        "lengths": Lengths(4, 7),
        "h": Array((2, 4, 2)),
        "c": Array((2, 4, 5)),
    },
    torch_call=lambda lstm, x, lengths, h, c: lstm(x, lengths, (h, c)),
    jax_call=lambda lstm, x, lengths, h, c, train: lstm(x, lengths, (h, c), train=train),
)

GRU = Twin(
    config={"input_size": 3, "hidden_size": 5, "num_layers": 2, "dropout": 0.25},
    inputs={"x": Array((4, 7, 3)), "h": Array((2, 4, 5))},
    torch_call=lambda gru, x, h: gru(x, state=h),
    jax_call=lambda gru, x, h, train: gru(x, state=h, train=train),
)
