"""Elman's network: a hidden layer that reads, beside its input, its own state of one step before.

Reference: J. Elman, "Finding structure in time", Cognitive Science 14 (1990); with tanh in place of
his logistic units.
"""

import torch
from torch import nn

from torchref.layers.recurrent import RNN

__all__ = ["elman_cell", "ElmanNet"]


def elman_cell(
    x: torch.Tensor,
    h: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias_ih: torch.Tensor,
    bias_hh: torch.Tensor,
) -> torch.Tensor:
    """One step of the recurrence, written out.

    The gradient through T steps holds the product of T Jacobians diag(1 - h^2) W_hh: it vanishes or
    explodes with T, which is what the gates of an LSTM and a GRU are for.

    Args:
      x: input of this step, float (N, D).
      h: state before, float (N, H).
      weight_ih, weight_hh: float (H, D) and (H, H).
      bias_ih, bias_hh: float (H,).

    Returns: the new state, float (N, H).
    """
    # h' = tanh(W_ih x + b_ih + W_hh h + b_hh)
    return torch.tanh(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh)


class ElmanNet(nn.Module):
    """Reads a sequence, then predicts from the last layer's final state.

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of the state.
      output_size: K, predicted values.
      num_layers: recurrent layers, each reading the outputs of the one below.
      bidirectional: read from both ends; the prediction sees both final states.
      nonlinearity: "tanh" or "relu".
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        nonlinearity: str = "tanh",
    ) -> None:
        super().__init__()
        self.directions = 2 if bidirectional else 1
        self.rnn = RNN(
            input_size,
            hidden_size,
            num_layers=num_layers,
            nonlinearity=nonlinearity,
            bidirectional=bidirectional,
        )
        self.fc = nn.Linear(self.directions * hidden_size, output_size)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """float (N, L, D), and lengths int (N,) in 1..L or None for L -> float (N, K)."""
        _, h_n = self.rnn(x, lengths)
        last = torch.cat([*h_n[-self.directions :]], dim=-1)
        return self.fc(last)
