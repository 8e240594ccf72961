"""A language model of characters: an LSTM that predicts the next one.

Reference: I. Sutskever, J. Martens, G. Hinton, "Generating text with recurrent neural networks",
ICML 2011, with an LSTM in place of their network; the tied weights of O. Press, L. Wolf, "Using the
output embedding to improve language models", EACL 2017.
"""

import torch
import torch.nn.functional as F
from torch import nn

from torchref.layers.recurrent import LSTM

__all__ = ["CharLM", "next_character_loss"]


class CharLM(nn.Module):
    """p(next | those before) = softmax(W h_t + b), h_t the LSTM's output at the last of them.

    Args:
      vocab_size: V, characters.
      embedding_size: E, features of a character.
      hidden_size: H, features of the state.
      num_layers: recurrent layers, each reading the outputs of the one below.
      tied: W is the table of embeddings; H is E then.

    Raises:
      ValueError: if tied and H is not E.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        tied: bool = False,
    ) -> None:
        super().__init__()
        if tied and hidden_size != embedding_size:
            raise ValueError(f"tied: hidden_size={hidden_size} must be {embedding_size}")
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.lstm = LSTM(embedding_size, hidden_size, num_layers=num_layers)
        self.fc = nn.Linear(hidden_size, vocab_size)
        if tied:
            self.fc.weight = self.embedding.weight  # one parameter, two names

    def forward(
        self,
        tokens: torch.Tensor,
        state: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Logits of the character behind each one.

        Args:
          tokens: int (N, L) in 0..V-1.
          state: (h, c) to go on from, float (num_layers, N, H) each, or None for zeros.

        Returns: logits, float (N, L, V), and the state behind the last character.
        """
        output, state = self.lstm(self.embedding(tokens), state=state)
        return self.fc(output), state


def next_character_loss(
    outputs: tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]], targets: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy in nats per character: -log p(target), its mean over all positions.

    Args:
      outputs: what the model returns, logits (N, L, V) and a state.
      targets: the characters that followed, int (N, L).

    Returns: the loss, float (). Its exponential is the perplexity; over log 2, bits per character.
    """
    logits, _ = outputs
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
