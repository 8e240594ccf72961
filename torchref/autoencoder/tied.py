"""The autoencoder with tied weights: the decoder's matrices are the encoder's, transposed.

Half of the weights, and in the linear case an optimum that has orthonormal rows.

Reference: P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P. Manzagol, "Stacked denoising
autoencoders", JMLR 11 (2010), section 2.2.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["TiedAutoencoder"]


class TiedAutoencoder(nn.Module):
    """z = W2 s(W1 x + b1) + b2, and back: y = W1' s(W2' z + c2) + c1, with s = sigmoid.

    Each W is one parameter that is used twice: its gradient is the sum of both uses, and a state
    dict holds it once. Only the biases of the decoder are its own.

    Args:
      in_features: D, values of an example.
      hidden: H, width of the hidden layer of either half.
      latent: Z, size of a code.
    """

    def __init__(self, in_features: int = 784, hidden: int = 256, latent: int = 32) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden)
        self.fc2 = nn.Linear(hidden, latent)
        self.bias2 = nn.Parameter(torch.zeros(hidden))
        self.bias1 = nn.Parameter(torch.zeros(in_features))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, D) -> codes, float (N, Z)."""
        return self.fc2(torch.sigmoid(self.fc1(x)))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Codes, float (N, Z) -> float (N, D): values, or logits of pixels in [0, 1]."""
        # Not `nn.Parameter(self.fc1.weight.t())`: that would be a parameter of its own, which
        # shares memory with fc1's but neither its gradient nor its optimizer state.
        h = torch.sigmoid(F.linear(z, self.fc2.weight.t(), self.bias2))
        return F.linear(h, self.fc1.weight.t(), self.bias1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, D) -> its reconstruction, float (N, D)."""
        return self.decode(self.encode(x))
