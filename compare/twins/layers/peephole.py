"""The LSTM with peepholes along sequences, from a state that is given; the cell is inside."""

from compare import Array, Twin

PeepholeLSTM = Twin(
    config={"input_size": 3, "hidden_size": 5},
    inputs={"x": Array((4, 6, 3)), "h": Array((4, 5)), "c": Array((4, 5))},
    torch_call=lambda lstm, x, h, c: lstm(x, (h, c)),
    jax_call=lambda lstm, x, h, c, train: lstm(x, (h, c), train=train),
)
