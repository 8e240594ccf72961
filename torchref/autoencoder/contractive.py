"""The contractive autoencoder: a code that hardly moves as the example does.

The reconstruction holds the code to the directions in which the data vary; the penalty flattens all
others.

Reference: S. Rifai, P. Vincent, X. Muller, X. Glorot, Y. Bengio, "Contractive auto-encoders:
explicit invariance during feature extraction", ICML 2011.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import jacfwd, vmap

from torchref.training.regularisers import contractive_penalty

__all__ = ["ContractiveAutoencoder", "encoder_jacobian", "contractive_loss"]


class ContractiveAutoencoder(nn.Module):
    """h = sigmoid(W x + b), and logits W' h + c of the pixels: one matrix, used twice.

    The tied weights are a part of it: the decoder could otherwise grow as the encoder shrinks.

    Args:
      in_features: D, pixels.
      hidden: H, size of a code.
    """

    def __init__(self, in_features: int = 784, hidden: int = 1000) -> None:
        super().__init__()
        self.encoder = nn.Linear(in_features, hidden)
        self.bias = nn.Parameter(torch.zeros(in_features))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, D) -> codes, float (N, H)."""
        return torch.sigmoid(self.encoder(x))

    def decode(self, h: torch.Tensor) -> torch.Tensor:
        """Codes, float (N, H) -> logits of the pixels, float (N, D)."""
        return F.linear(h, self.encoder.weight.t(), self.bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels in [0, 1], float (N, D) -> logits (N, D), and mean ||dh/dx||_F^2, float ()."""
        h = self.encode(x)
        return self.decode(h), contractive_penalty(h, self.encoder.weight)


def encoder_jacobian(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """dh/dx of h = sigmoid(W x + b) at every example, by forward-mode differentiation.

    For any encoder; this one's has a closed form, dh_k/dx_d = h_k (1 - h_k) W_kd, of whose squared
    norm `contractive_penalty` is the mean: no Jacobian needs to be formed.

    Args:
      x: float (N, D).
      weight: float (H, D).
      bias: float (H,).

    Returns: float (N, H, D).
    """
    return vmap(jacfwd(lambda x: torch.sigmoid(F.linear(x, weight, bias))))(x)


def contractive_loss(
    outputs: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor, strength: float = 0.1
) -> torch.Tensor:
    """Cross-entropy summed over pixels, mean over examples, + strength mean ||dh/dx||_F^2.

    Args:
      outputs: logits and penalty, what the model returns.
      x: the pixels that it encoded, float (N, D), in [0, 1].
      strength: of the penalty.

    Returns: the loss, float ().
    """
    logits, penalty = outputs
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    return bce / x.shape[0] + strength * penalty
