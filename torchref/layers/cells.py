"""Recurrent cells, one step of a recurrence each: torch.nn's own.

A cell holds, with its G gates stacked in rows,

  weight_ih (G*H, D)  bias_ih (G*H,)   from the input
  weight_hh (G*H, H)  bias_hh (G*H,)   from the state before

Everything starts uniform in +-1/sqrt(H). The call is `cell(x, state)`, with a state of zeros where
none is given; LSTMCell's is (h, c). Flax's cells differ in more than names: one bias in place of
two, the carry as (c, h) and as first argument; jaxnn's are torch's. An unknown nonlinearity raises
RuntimeError in the call. jax: ValueError.
"""

from torch.nn import GRUCell, LSTMCell, RNNCell

__all__ = ["RNNCell", "LSTMCell", "GRUCell"]
