"""Two variants of the LSTM's gates: peepholes onto the cell state, and an input gate that is tied.

Reference: F. Gers, J. Schmidhuber, "Recurrent nets that time and count", IJCNN 2000; K. Greff et
al., "LSTM: a search space odyssey", IEEE TNNLS 28 (2017), of both.
"""

import torch
from torch import nn

from torchref.layers.peephole import PeepholeLSTM

__all__ = ["peephole_lstm_cell", "coupled_lstm_cell", "PeepholeLSTMNet"]


def peephole_lstm_cell(
    x: torch.Tensor,
    h: torch.Tensor,
    c: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias: torch.Tensor,
    weight_ci: torch.Tensor,
    weight_cf: torch.Tensor,
    weight_co: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of the recurrence, written out: every gate sees the cell state, too.

    Where o is near 0, h says nothing of c; with peepholes the gates know of it all the same, and
    can count steps.

    Args:
      x: input of this step, float (N, D).
      h: state before, the output of the step before, float (N, H).
      c: cell state before, float (N, H).
      weight_ih, weight_hh: float (4H, D) and (4H, H); the rows of i, f, g, o in this order.
      bias: float (4H,).
      weight_ci, weight_cf, weight_co: the peepholes, one weight for each unit, float (H,).

    Returns: the new h and c, float (N, H) each.
    """
    gates = x @ weight_ih.T + h @ weight_hh.T + bias
    i, f, g, o = gates.chunk(4, dim=-1)
    i = torch.sigmoid(i + weight_ci * c)
    f = torch.sigmoid(f + weight_cf * c)
    # c' = f c + i g
    c = f * c + i * torch.tanh(g)
    # the output gate looks at the new cell state
    o = torch.sigmoid(o + weight_co * c)
    # h' = o tanh(c')
    h = o * torch.tanh(c)
    return h, c


def coupled_lstm_cell(
    x: torch.Tensor,
    h: torch.Tensor,
    c: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step with coupled gates, f = 1 - i: as much is stored as is forgotten.

    The cell state is a weighted mean of itself and of the candidate, so that |c| <= 1 if it
    started so; a GRU does the same with its one state.

    Args:
      x: input of this step, float (N, D).
      h: state before, the output of the step before, float (N, H).
      c: cell state before, float (N, H).
      weight_ih, weight_hh: float (3H, D) and (3H, H); the rows of i, g, o in this order.
      bias: float (3H,).

    Returns: the new h and c, float (N, H) each.
    """
    gates = x @ weight_ih.T + h @ weight_hh.T + bias
    i, g, o = gates.chunk(3, dim=-1)
    i = torch.sigmoid(i)
    # c' = (1 - i) c + i g
    c = (1 - i) * c + i * torch.tanh(g)
    # h' = o tanh(c')
    h = torch.sigmoid(o) * torch.tanh(c)
    return h, c


class PeepholeLSTMNet(nn.Module):
    """Reads a sequence with peepholes, then predicts from the final state.

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of the state.
      output_size: K, predicted values.
    """

    def __init__(self, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.lstm = PeepholeLSTM(input_size, hidden_size)
        self.fc = nn.Linear(hidden_size, output_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, L, D) -> float (N, K)."""
        _, (h, _) = self.lstm(x)
        return self.fc(h)
