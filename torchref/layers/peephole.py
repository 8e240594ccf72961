"""The LSTM with peepholes: its gates see the cell state, which an output gate near 0 hides from h.

Neither torch.nn nor Flax has it. Reference: F. Gers, J. Schmidhuber, "Recurrent nets that time and
count", IJCNN 2000; F. Gers, N. Schraudolph, J. Schmidhuber, "Learning precise timing with LSTM
recurrent networks", JMLR 3 (2002).
"""

import torch
from torch import nn

__all__ = ["PeepholeLSTMCell", "PeepholeLSTM"]


class PeepholeLSTMCell(nn.Module):
    """One step of a long short-term memory with peepholes.

    With W, U and b the rows of weight_ih, weight_hh and bias of each gate, and p a vector:

      i  = sigmoid(W_i x + U_i h + p_i c + b_i)
      f  = sigmoid(W_f x + U_f h + p_f c + b_f)
      c' = f c + i tanh(W_g x + U_g h + b_g)
      o  = sigmoid(W_o x + U_o h + p_o c' + b_o)      of the new cell state
      h' = o tanh(c')

    Parameters: `weight_ih` (4H, D), `weight_hh` (4H, H) and `bias` (4H,) with the rows of i, f, g,
    o in this order, and the peepholes `weight_ci`, `weight_cf`, `weight_co` (H,); everything starts
    uniform in +-1/sqrt(H). One bias, as in the papers. torch.nn.LSTM: two.

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of both states.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        self.weight_ci = nn.Parameter(torch.empty(hidden_size))
        self.weight_cf = nn.Parameter(torch.empty(hidden_size))
        self.weight_co = nn.Parameter(torch.empty(hidden_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    def forward(
        self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """float (N, D) and (h, c), (N, H) each, or None for zeros -> the new (h, c)."""
        zeros = x.new_zeros(len(x), self.hidden_size)
        h, c = (zeros, zeros) if state is None else state

        gates = x @ self.weight_ih.T + h @ self.weight_hh.T + self.bias
        i, f, g, o = gates.chunk(4, dim=-1)
        i = torch.sigmoid(i + self.weight_ci * c)
        f = torch.sigmoid(f + self.weight_cf * c)
        c = f * c + i * torch.tanh(g)
        o = torch.sigmoid(o + self.weight_co * c)
        return o * torch.tanh(c), c


class PeepholeLSTM(nn.Module):
    """The cell along sequences.

    Args: as `PeepholeLSTMCell`.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = PeepholeLSTMCell(input_size, hidden_size)

    def forward(
        self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Runs over the sequences.

        Args:
          x: float (N, L, D).
          state: the first (h, c), (N, H) each, or None for zeros.

        Returns: the outputs h of every step, float (N, L, H), and the last (h, c).
        """
        zeros = x.new_zeros(len(x), self.cell.hidden_size)
        h, c = (zeros, zeros) if state is None else state
        output = []
        for x_t in x.unbind(1):  # jax: nn.scan compiles the body of the loop once
            h, c = self.cell(x_t, (h, c))
            output.append(h)
        return torch.stack(output, dim=1), (h, c)
