"""Every activation of the file in one program, each on its own rows of x."""

from compare import Array
from compare.twins import functions

# What a function takes after x.
ALONG = {"softmax": (-1,), "log_softmax": (-1,), "logsumexp": (-1,)}


@functions("layers/activations", x=Array((22, 4, 6)), weight=Array((6,)), beta=Array((1,)))
def activations(module, x, weight, beta):
    more = {**ALONG, "prelu": (weight,), "swish": (beta,)}
    values = {
        name: getattr(module, name)(3 * x[i], *more.get(name, ()))
        for i, name in enumerate(module.__all__)
    }
    return {**values, "gelu_tanh": module.gelu(3 * x[-1], approximate="tanh")}
