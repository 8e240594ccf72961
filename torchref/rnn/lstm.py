"""Long short-term memory: gates decide what a cell state forgets, stores and shows.

Reference: S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997),
with the forget gate of F. Gers, J. Schmidhuber, F. Cummins,
"Learning to forget", ibid. 12 (2000).
"""

import torch
from torch import nn

from torchref.layers.recurrent import LSTM

__all__ = ["lstm_cell", "LSTMNet"]


def lstm_cell(
    x: torch.Tensor,
    h: torch.Tensor,
    c: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias_ih: torch.Tensor,
    bias_hh: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of the recurrence, written out.

    Where f is near 1 and i near 0 the cell state passes unchanged, and so does its gradient:
    dc'/dc = f along the direct path, without the repeated W_hh of an Elman network.

    Args:
      x: input of this step, float (N, D).
      h: state before, the output of the step before, float (N, H).
      c: cell state before, float (N, H).
      weight_ih, weight_hh: float (4H, D) and (4H, H); the rows of i, f, g, o in this order.
      bias_ih, bias_hh: float (4H,).

    Returns: the new h and c, float (N, H) each.
    """
    gates = x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh
    i, f, g, o = gates.chunk(4, dim=-1)
    i = torch.sigmoid(i)  # input gate: how much of the candidate is stored
    f = torch.sigmoid(f)  # forget gate: how much of the cell state remains
    g = torch.tanh(g)  # candidate
    o = torch.sigmoid(o)  # output gate: how much of the cell state is shown
    # c' = f c + i g
    c = f * c + i * g
    # h' = o tanh(c')
    h = o * torch.tanh(c)
    return h, c


class LSTMNet(nn.Module):
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
        self.lstm = LSTM(
            input_size,
            hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
        )
        self.fc = nn.Linear(self.directions * hidden_size, output_size)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """float (N, L, D), and lengths int (N,) in 1..L or None for L -> float (N, K)."""
        _, (h_n, _) = self.lstm(x, lengths)
        last = torch.cat([*h_n[-self.directions :]], dim=-1)
        return self.fc(last)
