"""A tagger of speech: one tag for each frame of sound.

Reference: A. Graves, J. Schmidhuber, "Framewise phoneme classification with bidirectional LSTM",
Neural Networks 18 (2005); with a convolution in front, as in D. Amodei et al., "Deep Speech 2",
ICML 2016.
"""

import torch
import torch.nn.functional as F
from torch import nn

from torchref.rnn.bilstm import BiLSTM

__all__ = ["SpeechTagger", "tag_loss"]


class SpeechTagger(nn.Module):
    """A convolution over time, relu, and a bidirectional LSTM with an output per frame.

    Args:
      num_features: M, bands of the filterbank.
      channels: C, features of the convolution.
      hidden_size: H, features of either direction's state.
      num_tags: K.
      kernel_size: frames that the convolution sees; odd.
    """

    def __init__(
        self,
        num_features: int,
        channels: int,
        hidden_size: int,
        num_tags: int,
        kernel_size: int = 5,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(num_features, channels, kernel_size, padding=kernel_size // 2)
        self.bilstm = BiLSTM(channels, hidden_size, num_tags)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits of the tags.

        Args:
          x: log energies of the bands, float (N, L, M).
          lengths: frames of each utterance, int (N,) in 1..L; what x holds beyond changes nothing.

        Returns: float (N, L, K), 0 beyond a length.
        """
        # The convolution looks over the end of a short utterance: it sees zeros there, as at L.
        inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        x = x.masked_fill(~inside[..., None], 0)
        # torch: Conv1d takes (N, M, L). jax: channels last, as the LSTM has them
        h = F.relu(self.conv(x.mT)).mT
        return self.bilstm(h, lengths)


def tag_loss(outputs: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats per frame, its mean over the frames that are no padding.

    Args:
      outputs: logits, float (N, L, K).
      tags: int (N, L) in 0..K-1, or -100 beyond a length.

    Returns: the loss, float ().
    """
    return F.cross_entropy(outputs.flatten(0, 1), tags.flatten(), ignore_index=-100)
