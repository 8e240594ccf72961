"""The loss of unaligned labels, on logits; some labels repeat and some sequences are short."""

import importlib
from collections.abc import Callable
from functools import partial

from compare import Array, Lengths, Tokens, Twin


def every(package: str) -> Callable:
    """The loss of one side, of what its log_softmax makes of logits."""
    log_softmax = importlib.import_module(f"{package}.layers.activations").log_softmax
    ctc = importlib.import_module(f"{package}.training.ctc").ctc

    def call(x, labels, lengths):
        steps = lengths * 0 + len(x)
        return ctc(log_softmax(x, -1), labels + 1, steps, lengths)

    return call


ctc = Twin(
    torch=partial(every, "torchref"),
    jax=partial(every, "jaxnn"),
    inputs={"x": Array((9, 5, 4)), "labels": Tokens(5, 4, 3), "lengths": Lengths(5, 4)},
)
