"""Gated recurrent units: two gates, and no cell state apart from the state itself.

Reference: K. Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014;
as in the paper z weighs the old state; the reset gate is applied after the product with W_hn, as in
cuDNN (in the paper: before).
"""

import torch
from torch import nn

from torchref.layers.recurrent import GRU

__all__ = ["gru_cell", "GRUNet"]


def gru_cell(
    x: torch.Tensor,
    h: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias_ih: torch.Tensor,
    bias_hh: torch.Tensor,
) -> torch.Tensor:
    """One step of the recurrence, written out.

    Where z is near 1 the state passes unchanged, and so does its gradient.

    Args:
      x: input of this step, float (N, D).
      h: state before, float (N, H).
      weight_ih, weight_hh: float (3H, D) and (3H, H); the rows of r, z, n in this order.
      bias_ih, bias_hh: float (3H,). Only the sum of the two matters for r and z; not for n.

    Returns: the new state, float (N, H).
    """
    r_x, z_x, n_x = (x @ weight_ih.T + bias_ih).chunk(3, dim=-1)
    r_h, z_h, n_h = (h @ weight_hh.T + bias_hh).chunk(3, dim=-1)
    r = torch.sigmoid(r_x + r_h)  # reset gate: how much of the state the candidate sees
    z = torch.sigmoid(z_x + z_h)  # update gate: how much of the state remains
    # n = tanh(W_in x + b_in + r (W_hn h + b_hn))
    n = torch.tanh(n_x + r * n_h)
    # h' = (1 - z) n + z h
    return (1 - z) * n + z * h


class GRUNet(nn.Module):
    """Reads a sequence, then predicts from the last layer's final state.

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of the state.
      output_size: K, predicted values.
      num_layers: recurrent layers, each reading the outputs of the one below.
      bidirectional: read from both ends; the prediction sees both final states.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.directions = 2 if bidirectional else 1
        self.gru = GRU(
            input_size,
            hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
        )
        self.fc = nn.Linear(self.directions * hidden_size, output_size)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """float (N, L, D), and lengths int (N,) in 1..L or None for L -> float (N, K)."""
        _, h_n = self.gru(x, lengths)
        last = torch.cat([*h_n[-self.directions :]], dim=-1)
        return self.fc(last)
