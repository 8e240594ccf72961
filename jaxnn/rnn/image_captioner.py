"""Words for an image: a convolutional network looks, an LSTM speaks.

Reference: O. Vinyals et al., "Show and tell: a neural image caption generator", CVPR 2015, who give
the image as the first word; here it makes the LSTM's first state, as in K. Xu et al., "Show, attend
and tell", ICML 2015.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.embedding import Embedding
from jaxnn.layers.recurrent import LSTM
from jaxnn.training.losses import cross_entropy

__all__ = ["ImageCaptioner", "caption_loss"]


class ImageCaptioner(nn.Module):
    """p(word | image, words before): two convolutions of stride 2, then a recurrence over words.

    Args:
      image_size: S and T, height and width of the images, multiples of 4.
      channels: C.
      width: features of the first convolution; the second has twice as many.
      vocab_size: V, words.
      embedding_size: E, features of a word.
      hidden_size: H, features of the state.
    """

    image_size: tuple[int, int]
    channels: int
    width: int
    vocab_size: int
    embedding_size: int
    hidden_size: int

    def setup(self) -> None:
        self.conv1 = nn.Conv(self.width, (3, 3), strides=(2, 2), padding=1)
        self.conv2 = nn.Conv(2 * self.width, (3, 3), strides=(2, 2), padding=1)
        self.fc_h = nn.Dense(self.hidden_size)
        self.fc_c = nn.Dense(self.hidden_size)
        self.embedding = Embedding(self.vocab_size, self.embedding_size)
        self.lstm = LSTM(self.embedding_size, self.hidden_size)
        self.fc = nn.Dense(self.vocab_size)

    def look(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images, float (N, S, T, C) -> the first (h, c), float (1, N, H) each."""
        chex.assert_shape(images, (None, *self.image_size, self.channels))
        x = nn.relu(self.conv1(images))
        x = nn.relu(self.conv2(x))
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # torch flattens (C, H, W)
        return jnp.tanh(self.fc_h(x))[None], self.fc_c(x)[None]

    def __call__(self, images: jax.Array, tokens: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits of the words, each word before them given (teacher forcing).

        Args:
          images: float (N, S, T, C).
          tokens: the start, and the words but the last, int (N, L) in 0..V-1.

        Returns: logits of the words behind each of these, float (N, L, V).
        """
        output, _ = self.lstm(self.embedding(tokens), state=self.look(images), train=train)
        return self.fc(output)

    def generate(self, images: jax.Array, start: int, length: int) -> jax.Array:
        """A caption, each word the likeliest behind the one before (greedy decoding).

        Args:
          images: float (N, S, T, C).
          start: the word to begin with.
          length: T, words to make.

        Returns: int32 (N, T). torch: int64.
        """

        def step(self, carry, _):
            token, state = carry
            output, state = self.lstm(self.embedding(token[:, None]), state=state)
            token = self.fc(output[:, 0]).argmax(-1).astype(token.dtype)
            return (token, state), token

        scan = nn.scan(
            step,
            variable_broadcast="params",
            split_rngs={"params": False},
            length=length,
            out_axes=1,
        )
        token = jnp.full(len(images), start, jnp.int32)
        _, tokens = scan(self, (token, self.look(images)), None)
        return tokens


def caption_loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy in nats per word: logits (N, L, V), words int (N, L) -> float ()."""
    return cross_entropy(outputs, targets)
