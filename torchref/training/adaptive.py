"""A rate of its own for every weight, from the size or the sign of its gradients: torch's own.

All but `rprop` add weight decay to the gradient. optax's aliases of the same names differ in
defaults and in where eps and the learning rate stand; its `rprop` is one step late.
"""

from torch.optim import Adadelta as adadelta
from torch.optim import Adagrad as adagrad
from torch.optim import RMSprop as rmsprop
from torch.optim import Rprop as rprop

__all__ = ["adagrad", "adadelta", "rmsprop", "rprop"]
