"""A bidirectional LSTM that labels every step with what lies before it and what lies behind.

Reference: M. Schuster, K. Paliwal, "Bidirectional recurrent neural networks", IEEE Transactions on
Signal Processing 45 (1997); A. Graves, J. Schmidhuber, "Framewise phoneme classification with
bidirectional LSTM", Neural Networks 18 (2005).
"""

import torch
from torch import nn

from torchref.layers.recurrent import LSTM

__all__ = ["BiLSTM"]


class BiLSTM(nn.Module):
    """One output per step: y_t = W [h_t forward; h_t backward] + b.

    Steps beyond a sequence's length are padding: what x holds there changes nothing, and y is 0.

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of either direction's state.
      output_size: K, values per step.
      num_layers: recurrent layers, each reading both directions of the one below.
    """

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int, num_layers: int = 1
    ) -> None:
        super().__init__()
        self.lstm = LSTM(input_size, hidden_size, num_layers=num_layers, bidirectional=True)
        self.fc = nn.Linear(2 * hidden_size, output_size)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """float (N, L, D), and lengths int (N,) in 1..L or None for L -> float (N, L, K)."""
        # torch packs: each time step holds only the sequences that reach it. jax: masks the scan
        output, _ = self.lstm(x, lengths)
        y = self.fc(output)
        if lengths is None:
            return y
        inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        return y.masked_fill(~inside[..., None], 0)
