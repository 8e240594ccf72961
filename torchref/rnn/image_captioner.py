"""Words for an image: a convolutional network looks, an LSTM speaks.

Reference: O. Vinyals et al., "Show and tell: a neural image caption generator", CVPR 2015, who give
the image as the first word; here it makes the LSTM's first state, as in K. Xu et al., "Show, attend
and tell", ICML 2015.
"""

import torch
import torch.nn.functional as F
from torch import nn

from torchref.layers.recurrent import LSTM

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

    def __init__(
        self,
        image_size: tuple[int, int],
        channels: int,
        width: int,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
    ) -> None:
        super().__init__()
        inner = image_size[0] // 4 * (image_size[1] // 4)
        self.conv1 = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.fc_h = nn.Linear(2 * width * inner, hidden_size)
        self.fc_c = nn.Linear(2 * width * inner, hidden_size)
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.lstm = LSTM(embedding_size, hidden_size)
        self.fc = nn.Linear(hidden_size, vocab_size)

    def look(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images, float (N, C, S, T) -> the first (h, c), float (1, N, H) each."""
        x = F.relu(self.conv1(images))
        x = F.relu(self.conv2(x)).flatten(1)
        return torch.tanh(self.fc_h(x))[None], self.fc_c(x)[None]

    def forward(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the words, each word before them given (teacher forcing).

        Args:
          images: float (N, C, S, T).
          tokens: the start, and the words but the last, int (N, L) in 0..V-1.

        Returns: logits of the words behind each of these, float (N, L, V).
        """
        output, _ = self.lstm(self.embedding(tokens), state=self.look(images))
        return self.fc(output)

    @torch.no_grad()
    def generate(self, images: torch.Tensor, start: int, length: int) -> torch.Tensor:
        """A caption, each word the likeliest behind the one before (greedy decoding).

        Args:
          images: float (N, C, S, T).
          start: the word to begin with.
          length: T, words to make.

        Returns: int64 (N, T).
        """
        state, token = self.look(images), torch.full((len(images),), start, device=images.device)
        tokens = []
        for _ in range(length):
            output, state = self.lstm(self.embedding(token[:, None]), state=state)
            token = self.fc(output[:, 0]).argmax(-1)
            tokens.append(token)
        return torch.stack(tokens, dim=1)


def caption_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats per word: logits (N, L, V), words int (N, L) -> float ()."""
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())
