"""Recurrent layers: torch.nn's, batch first, taking lengths in place of packed sequences.

The names of the parameters are torch.nn's own: layer k holds

  weight_ih_l{k} (G*H, F)  bias_ih_l{k} (G*H,)   from the input; F is D, or the layer below's width
  weight_hh_l{k} (G*H, H)  bias_hh_l{k} (G*H,)   from the state before

with the G gates stacked in rows, and the same again with the suffix `_reverse` for the direction
that reads from the end. Everything starts uniform in +-1/sqrt(H).
"""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

__all__ = ["RNN", "LSTM", "GRU"]


class RNN(nn.RNN):
    """Elman's recurrence in every layer: h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Args:
      input_size: D, features of a step.
      hidden_size: H, features of the state.
      num_layers: layers, each reading the outputs of the one below.
      nonlinearity: "tanh" or "relu".
      bias: whether there are bias_ih and bias_hh.
      dropout: rate at which, in training, the inputs of every layer but the first are dropped;
        where lengths are given, a mask is drawn for the valid steps alone.
      bidirectional: a second recurrence per layer from the end; outputs are concatenated.

    Raises:
      ValueError: at another nonlinearity, or a rate outside [0, 1].
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            nonlinearity=nonlinearity,
            bias=bias,
            batch_first=True,
            dropout=dropout,
            bidirectional=bidirectional,
        )

    def forward(
        self,
        x: torch.Tensor,
        lengths: torch.Tensor | None = None,
        state: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs over the sequences.

        Args:
          x: float (N, L, D).
          lengths: int (N,) in 1..L, or None for L. Steps beyond a length are padding: they give
            zeros, leave the state as it is, and the reverse direction starts before them.
          state: what each layer and direction starts from, float (num_layers*S, N, H) with S
            directions, layer by layer; None for zeros.

        Returns: the last layer's outputs, float (N, L, S*H), and the state at each true end,
          float (num_layers*S, N, H).
        Raises: RuntimeError for a length below 1 (jax: not checked), or another state's shape.
        """
        return _run(super().forward, x, lengths, state)


class LSTM(nn.LSTM):
    """Long short-term memory: c' = f c + i g, h' = o tanh(c').

    The gates, rows of W_ih x + b_ih + W_hh h + b_hh, are i, f, g, o: sigmoid but for g, tanh.

    Args: as `RNN`, without a nonlinearity.
      proj_size: P, features of an h that is projected: h' = W_hr (o tanh(c')), with a parameter
        weight_hr_l{k} (P, H) and weight_hh_l{k} (4H, P); 0 for none.

    Raises:
      ValueError: as `RNN`, and unless 0 <= proj_size < hidden_size.

    Reference: of the projection, Sak et al., 2014, https://arxiv.org/abs/1402.1128
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=True,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
        )

    def forward(
        self,
        x: torch.Tensor,
        lengths: torch.Tensor | None = None,
        state: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """As `RNN`, with two states: takes (h, c), returns outputs and (h_n, c_n).

        With a projection h and the outputs have P features in place of H.
        """
        return _run(super().forward, x, lengths, state)


class GRU(nn.GRU):
    """Gated recurrent units: h' = (1 - z) n + z h.

    The gates are r, z, n: r and z sigmoids of W_i x + b_i + W_h h + b_h, and
    n = tanh(W_in x + b_in + r (W_hn h + b_hn)): the reset gate covers b_hn too.

    Args: as `RNN`, without a nonlinearity.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=True,
            dropout=dropout,
            bidirectional=bidirectional,
        )

    def forward(
        self,
        x: torch.Tensor,
        lengths: torch.Tensor | None = None,
        state: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `RNN`: returns outputs and h_n."""
        return _run(super().forward, x, lengths, state)


def _run(forward, x, lengths, state):
    """Calls torch's `forward`; packs where lengths are given, and pads back to all of x's steps."""
    if lengths is None:
        return forward(x, state)
    # Packed, a time step holds only the sequences that reach it. The lengths live on the CPU.
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    output, state = forward(packed, state)
    output, _ = pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
    return output, state
