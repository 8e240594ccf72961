"""A tagger of speech: one tag for each frame of sound.

Reference: A. Graves, J. Schmidhuber, "Framewise phoneme classification with bidirectional LSTM",
Neural Networks 18 (2005); with a convolution in front, as in D. Amodei et al., "Deep Speech 2",
ICML 2016.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.convolution import Conv1d
from jaxnn.rnn.bilstm import BiLSTM
from jaxnn.training.losses import cross_entropy

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

    num_features: int
    channels: int
    hidden_size: int
    num_tags: int
    kernel_size: int = 5

    @nn.compact
    def __call__(self, x: jax.Array, lengths: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits of the tags.

        Args:
          x: log energies of the bands, float (N, L, M).
          lengths: frames of each utterance, int (N,) in 1..L; what x holds beyond changes nothing.

        Returns: float (N, L, K), 0 beyond a length.
        """
        # The convolution looks over the end of a short utterance: it sees zeros there, as at L.
        inside = jnp.arange(x.shape[1]) < lengths[:, None]
        x = jnp.where(inside[..., None], x, 0)
        conv = Conv1d(
            self.num_features,
            self.channels,
            self.kernel_size,
            padding=self.kernel_size // 2,
            name="conv",
        )
        h = nn.relu(conv(x))
        bilstm = BiLSTM(self.channels, self.hidden_size, self.num_tags, name="bilstm")
        return bilstm(h, lengths, train=train)


def tag_loss(outputs: jax.Array, tags: jax.Array) -> jax.Array:
    """Cross-entropy in nats per frame, its mean over the frames that are no padding.

    Args:
      outputs: logits, float (N, L, K).
      tags: int (N, L) in 0..K-1, or -100 beyond a length.

    Returns: the loss, float ().
    """
    return cross_entropy(outputs, tags, ignore_index=-100)
