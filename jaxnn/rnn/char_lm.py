"""A language model of characters: an LSTM that predicts the next one.

Reference: I. Sutskever, J. Martens, G. Hinton, "Generating text with recurrent neural networks",
ICML 2011, with an LSTM in place of their network; the tied weights of O. Press, L. Wolf, "Using the
output embedding to improve language models", EACL 2017.
"""

import flax.linen as nn
import jax

from jaxnn.layers.embedding import Embedding
from jaxnn.layers.recurrent import LSTM
from jaxnn.training.losses import cross_entropy

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
      ValueError: in the call, if tied and H is not E.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int = 1
    tied: bool = False

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        state: tuple[jax.Array, jax.Array] | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Logits of the character behind each one.

        Args:
          tokens: int (N, L) in 0..V-1.
          state: (h, c) to go on from, float (num_layers, N, H) each, or None for zeros.

        Returns: logits, float (N, L, V), and the state behind the last character.
        """
        if self.tied and self.hidden_size != self.embedding_size:
            raise ValueError(f"tied: hidden_size={self.hidden_size} must be {self.embedding_size}")
        embedding = Embedding(self.vocab_size, self.embedding_size, name="embedding")
        lstm = LSTM(self.embedding_size, self.hidden_size, num_layers=self.num_layers, name="lstm")
        output, state = lstm(embedding(tokens), state=state, train=train)
        if not self.tied:
            return nn.Dense(self.vocab_size, name="fc")(output), state
        # torch: the linear layer is given the table as its weight. Here a table is read, and the
        # linear layer keeps its bias alone.
        table = embedding.variables["params"]["embedding"]
        return _Tied(self.vocab_size, name="fc")(output, table), state


def next_character_loss(
    outputs: tuple[jax.Array, tuple[jax.Array, jax.Array]], targets: jax.Array
) -> jax.Array:
    """Cross-entropy in nats per character: -log p(target), its mean over all positions.

    Args:
      outputs: what the model returns, logits (N, L, V) and a state.
      targets: the characters that followed, int (N, L).

    Returns: the loss, float (). Its exponential is the perplexity; over log 2, bits per character.
    """
    logits, _ = outputs
    return cross_entropy(logits, targets)


class _Tied(nn.Module):
    """A linear layer whose kernel is another layer's table (V, E)."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, table: jax.Array) -> jax.Array:
        return x @ table.T + self.param("bias", nn.initializers.zeros, (self.features,))
