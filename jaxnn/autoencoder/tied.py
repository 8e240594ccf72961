"""The autoencoder with tied weights: the decoder's matrices are the encoder's, transposed.

Half of the weights, and in the linear case an optimum that has orthonormal rows.

Reference: P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P. Manzagol, "Stacked denoising
autoencoders", JMLR 11 (2010), section 2.2.
"""

import chex
import flax.linen as nn
import jax

__all__ = ["TiedAutoencoder"]


class TiedAutoencoder(nn.Module):
    """z = W2 s(W1 x + b1) + b2, and back: y = W1' s(W2' z + c2) + c1, with s = sigmoid.

    Each W is one parameter that is used twice: its gradient is the sum of both uses, and the
    variables hold it once. Only the biases of the decoder are its own.

    Args:
      in_features: D, values of an example.
      hidden: H, width of the hidden layer of either half.
      latent: Z, size of a code.
    """

    in_features: int = 784
    hidden: int = 256
    latent: int = 32

    def setup(self) -> None:
        self.fc1 = nn.Dense(self.hidden)
        self.fc2 = nn.Dense(self.latent)
        self.bias2 = self.param("bias2", nn.initializers.zeros, (self.hidden,))
        self.bias1 = self.param("bias1", nn.initializers.zeros, (self.in_features,))

    def encode(self, x: jax.Array) -> jax.Array:
        """float (N, D) -> codes, float (N, Z)."""
        chex.assert_shape(x, (None, self.in_features))
        return self.fc2(nn.sigmoid(self.fc1(x)))

    def decode(self, z: jax.Array) -> jax.Array:
        """Codes, float (N, Z) -> float (N, D): values, or logits of pixels in [0, 1]."""
        chex.assert_shape(z, (None, self.latent))
        # torch: weight (out, in), read off the layer; a kernel (in, out) stands in its variables.
        kernel1, kernel2 = (fc.variables["params"]["kernel"] for fc in (self.fc1, self.fc2))
        h = nn.sigmoid(z @ kernel2.T + self.bias2)
        return h @ kernel1.T + self.bias1

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """float (N, D) -> its reconstruction, float (N, D)."""
        return self.decode(self.encode(x))
