"""Sequence to sequence with attention: at each word the decoder looks where in the source it is.

Reference: D. Bahdanau, K. Cho, Y. Bengio, "Neural machine translation by jointly learning to align
and translate", ICLR 2015; without their maxout layer in front of the logits.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.cells import GRUCell
from jaxnn.layers.embedding import Embedding
from jaxnn.layers.recurrent import GRU
from jaxnn.training.losses import cross_entropy

__all__ = ["AdditiveAttention", "Seq2Seq", "translation_loss"]

Memory = tuple[jax.Array, jax.Array, jax.Array]  # annotations, keys, inside


class AdditiveAttention(nn.Module):
    """A weighted mean of annotations: weights softmax_s(e_s), e_s = v . tanh(W q + U a_s).

    Args:
      query_size: Q, features of the query.
      annotation_size: A, features of an annotation.
      hidden_size: K, rows of W and U.
    """

    query_size: int
    annotation_size: int
    hidden_size: int

    def setup(self) -> None:
        self.query = nn.Dense(self.hidden_size, use_bias=False)
        self.key = nn.Dense(self.hidden_size, use_bias=False)
        self.score = nn.Dense(1, use_bias=False)

    def keys(self, annotations: jax.Array) -> jax.Array:
        """U a_s, the same for every query: float (N, S, A) -> (N, S, K)."""
        return self.key(annotations)

    def __call__(
        self, query: jax.Array, memory: Memory, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Attends.

        Args:
          query: float (N, Q).
          memory: annotations, float (N, S, A), their keys, float (N, S, K), and inside, bool
            (N, S), False for a padding, which is not attended to; one at least is True.

        Returns: the mean, float (N, A), and the weights, float (N, S).
        """
        annotations, keys, inside = memory
        scores = self.score(jnp.tanh(self.query(query)[:, None] + keys))[..., 0]
        weights = nn.softmax(jnp.where(inside, scores, -jnp.inf))
        return jnp.einsum("ns,nsa->na", weights, annotations), weights


class Seq2Seq(nn.Module):
    """A bidirectional GRU reads, a GRU that attends to what was read writes.

    Args:
      source_vocab: V, words of the source.
      target_vocab: W, words of the target.
      embedding_size: E, features of a word.
      hidden_size: H, features of the decoder's state and of either direction of the encoder's.
    """

    source_vocab: int
    target_vocab: int
    embedding_size: int
    hidden_size: int

    def setup(self) -> None:
        embedding, hidden = self.embedding_size, self.hidden_size
        self.source_embedding = Embedding(self.source_vocab, embedding)
        self.encoder = GRU(embedding, hidden, bidirectional=True)
        self.bridge = nn.Dense(hidden)
        self.target_embedding = Embedding(self.target_vocab, embedding)
        self.attention = AdditiveAttention(hidden, 2 * hidden, hidden)
        self.decoder = GRUCell(embedding + 2 * hidden, hidden)
        self.fc = nn.Dense(self.target_vocab)

    def encode(self, source: jax.Array, lengths: jax.Array) -> tuple[Memory, jax.Array]:
        """Words int (N, S), and how many int (N,) -> the memory, and the first state (N, H)."""
        annotations, h_n = self.encoder(self.source_embedding(source), lengths)
        inside = jnp.arange(source.shape[1]) < lengths[:, None]
        # the backward direction ends at the first word, with which the target is likely to begin
        state = jnp.tanh(self.bridge(h_n[1]))
        return (annotations, self.attention.keys(annotations), inside), state

    def step(
        self, token: jax.Array, state: jax.Array, memory: Memory
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """One word: int (N,) and the state before -> logits (N, W), the state, weights (N, S)."""
        context, weights = self.attention(state, memory)
        given = jnp.concatenate([self.target_embedding(token), context], axis=-1)
        state = self.decoder(given, state)
        return self.fc(jnp.concatenate([state, given], axis=-1)), state, weights

    def __call__(
        self, source: jax.Array, lengths: jax.Array, tokens: jax.Array, *, train: bool = False
    ) -> jax.Array:
        """Logits of the target, each word before them given (teacher forcing).

        Args:
          source: int (N, S) in 0..V-1.
          lengths: words of each source, int (N,) in 1..S; what stands beyond changes nothing.
          tokens: the start, and the words of the target but the last, int (N, T) in 0..W-1.

        Returns: logits of the words behind each of these, float (N, T, W).
        """
        memory, state = self.encode(source, lengths)

        def step(self, state, token):
            logits, state, _ = self.step(token, state, memory)
            return state, logits

        _, outputs = _scan(step, in_axes=1)(self, state, tokens)
        return outputs

    def generate(
        self, source: jax.Array, lengths: jax.Array, start: int, length: int
    ) -> tuple[jax.Array, jax.Array]:
        """A target, each word the likeliest behind the one before (greedy decoding).

        Args:
          source, lengths: as in a call.
          start: the word to begin with.
          length: T, words to make; what follows an end means nothing.

        Returns: words, int32 (N, T), and where each looked, weights float (N, T, S). torch: int64.
        """
        memory, state = self.encode(source, lengths)

        def step(self, carry, _):
            logits, state, weights = self.step(*carry, memory)
            token = logits.argmax(-1).astype(jnp.int32)
            return (token, state), (token, weights)

        token = jnp.full(len(source), start, jnp.int32)
        _, found = _scan(step, length=length)(self, (token, state), None)
        return found


def translation_loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy in nats per word, its mean over the words that are no padding.

    Args:
      outputs: logits, float (N, T, W).
      targets: int (N, T) in 0..W-1, or -100 behind the end.

    Returns: the loss, float ().
    """
    return cross_entropy(outputs, targets, ignore_index=-100)


def _scan(step, **options):
    """A scan over time, axis 1, whose steps share the module's parameters. torch: a loop."""
    return nn.scan(
        step, variable_broadcast="params", split_rngs={"params": False}, out_axes=1, **options
    )
