"""The loss of unaligned labels, on logits; some labels repeat and some sequences are short."""

from importlib import import_module

from compare import Array, Lengths, Tokens
from compare.twins import functions


@functions("training/ctc", x=Array((9, 5, 4)), labels=Tokens(5, 4, 3), lengths=Lengths(5, 4))
def ctc(module, x, labels, lengths):
    package, *_ = module.__name__.split(".")
    log_p = import_module(f"{package}.layers.activations").log_softmax(x, -1)
    return module.ctc(log_p, labels + 1, lengths * 0 + len(x), lengths)
