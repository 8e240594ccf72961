"""Sequence to sequence with attention: at each word the decoder looks where in the source it is.

Reference: D. Bahdanau, K. Cho, Y. Bengio, "Neural machine translation by jointly learning to align
and translate", ICLR 2015; without their maxout layer in front of the logits.
"""

import torch
import torch.nn.functional as F
from torch import nn

from torchref.layers.recurrent import GRU

__all__ = ["AdditiveAttention", "Seq2Seq", "translation_loss"]

Memory = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # annotations, keys, inside


class AdditiveAttention(nn.Module):
    """A weighted mean of annotations: weights softmax_s(e_s), e_s = v . tanh(W q + U a_s).

    Args:
      query_size: Q, features of the query.
      annotation_size: A, features of an annotation.
      hidden_size: K, rows of W and U.
    """

    def __init__(self, query_size: int, annotation_size: int, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, hidden_size, bias=False)
        self.key = nn.Linear(annotation_size, hidden_size, bias=False)
        self.score = nn.Linear(hidden_size, 1, bias=False)

    def keys(self, annotations: torch.Tensor) -> torch.Tensor:
        """U a_s, the same for every query: float (N, S, A) -> (N, S, K)."""
        return self.key(annotations)

    def forward(self, query: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, torch.Tensor]:
        """Attends.

        Args:
          query: float (N, Q).
          memory: annotations, float (N, S, A), their keys, float (N, S, K), and inside, bool
            (N, S), False for a padding, which is not attended to; one at least is True.

        Returns: the mean, float (N, A), and the weights, float (N, S).
        """
        annotations, keys, inside = memory
        scores = self.score(torch.tanh(self.query(query)[:, None] + keys))[..., 0]
        weights = scores.masked_fill(~inside, -torch.inf).softmax(-1)
        return torch.einsum("ns,nsa->na", weights, annotations), weights


class Seq2Seq(nn.Module):
    """A bidirectional GRU reads, a GRU that attends to what was read writes.

    Args:
      source_vocab: V, words of the source.
      target_vocab: W, words of the target.
      embedding_size: E, features of a word.
      hidden_size: H, features of the decoder's state and of either direction of the encoder's.
    """

    def __init__(
        self, source_vocab: int, target_vocab: int, embedding_size: int, hidden_size: int
    ) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(source_vocab, embedding_size)
        self.encoder = GRU(embedding_size, hidden_size, bidirectional=True)
        self.bridge = nn.Linear(hidden_size, hidden_size)
        self.target_embedding = nn.Embedding(target_vocab, embedding_size)
        self.attention = AdditiveAttention(hidden_size, 2 * hidden_size, hidden_size)
        self.decoder = nn.GRUCell(embedding_size + 2 * hidden_size, hidden_size)
        self.fc = nn.Linear(3 * hidden_size + embedding_size, target_vocab)

    def encode(self, source: torch.Tensor, lengths: torch.Tensor) -> tuple[Memory, torch.Tensor]:
        """Words int (N, S), and how many int (N,) -> the memory, and the first state (N, H)."""
        annotations, h_n = self.encoder(self.source_embedding(source), lengths)
        inside = torch.arange(source.shape[1], device=source.device) < lengths[:, None]
        # the backward direction ends at the first word, with which the target is likely to begin
        state = torch.tanh(self.bridge(h_n[1]))
        return (annotations, self.attention.keys(annotations), inside), state

    def step(
        self, token: torch.Tensor, state: torch.Tensor, memory: Memory
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One word: int (N,) and the state before -> logits (N, W), the state, weights (N, S)."""
        context, weights = self.attention(state, memory)
        given = torch.cat([self.target_embedding(token), context], dim=-1)
        state = self.decoder(given, state)
        return self.fc(torch.cat([state, given], dim=-1)), state, weights

    def forward(
        self, source: torch.Tensor, lengths: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Logits of the target, each word before them given (teacher forcing).

        Args:
          source: int (N, S) in 0..V-1.
          lengths: words of each source, int (N,) in 1..S; what stands beyond changes nothing.
          tokens: the start, and the words of the target but the last, int (N, T) in 0..W-1.

        Returns: logits of the words behind each of these, float (N, T, W).
        """
        memory, state = self.encode(source, lengths)
        outputs = []
        for token in tokens.unbind(1):  # jax: one scan, whose body is compiled once
            logits, state, _ = self.step(token, state, memory)
            outputs.append(logits)
        return torch.stack(outputs, dim=1)

    @torch.no_grad()
    def generate(
        self, source: torch.Tensor, lengths: torch.Tensor, start: int, length: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A target, each word the likeliest behind the one before (greedy decoding).

        Args:
          source, lengths: as in a call.
          start: the word to begin with.
          length: T, words to make; what follows an end means nothing.

        Returns: words, int64 (N, T), and where each looked, weights float (N, T, S).
        """
        memory, state = self.encode(source, lengths)
        token = torch.full((len(source),), start, device=source.device)
        tokens, looks = [], []
        for _ in range(length):
            logits, state, weights = self.step(token, state, memory)
            token = logits.argmax(-1)
            tokens.append(token)
            looks.append(weights)
        return torch.stack(tokens, dim=1), torch.stack(looks, dim=1)


def translation_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats per word, its mean over the words that are no padding.

    Args:
      outputs: logits, float (N, T, W).
      targets: int (N, T) in 0..W-1, or -100 behind the end.

    Returns: the loss, float ().
    """
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=-100)
