"""Mixed precision: products in 16 bits, whatever is delicate in float32, and the loss scaled.

Every layer names its `dtype`, the type that it casts its input and its parameters to; `param_dtype`
stays float32, and so do the gradients. A layer without `dtype` promotes: one float32 bias makes a
bfloat16 product float32 again. torch: `torch.autocast` casts around the model, by lists of
operations.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.training.dynamic_scale import DynamicScale

from jaxnn.layers.layer_norm import LayerNorm
from jaxnn.layers.norm import BatchNorm

__all__ = ["ConvNet", "Block", "scaled_training"]

HALF = jnp.bfloat16


class ConvNet(nn.Module):
    """Two convolutions in 16 bits; batch norms, the mean over positions and the head in float32.

    A batch norm that summed its statistics in bfloat16 would keep running averages of three digits.

    Args:
      in_channels: of the images.
      channels: of the first convolution; the second has twice as many.
      num_classes: of the logits.

    Reference:
      Micikevicius et al., Mixed Precision Training, 2018, https://arxiv.org/abs/1710.03740
    """

    in_channels: int = 3
    channels: int = 8
    num_classes: int = 10

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps images (N, H, W, in_channels), float32, to logits (N, num_classes), float32."""
        options = {"padding": 1, "use_bias": False, "dtype": HALF}
        x = nn.Conv(self.channels, (3, 3), name="conv1", **options)(x)
        x = BatchNorm(self.channels, name="bn1")(x.astype(jnp.float32), train=train)
        x = nn.relu(x)
        x = nn.Conv(2 * self.channels, (3, 3), strides=2, name="conv2", **options)(x)
        x = BatchNorm(2 * self.channels, name="bn2")(x.astype(jnp.float32), train=train)
        x = nn.relu(x).mean((1, 2))
        return nn.Dense(self.num_classes, dtype=jnp.float32, name="fc")(x)


class Block(nn.Module):
    """A pre-norm transformer block; its norms, softmax and residual stream are float32.

    x <- x + proj(softmax(q k^T / sqrt(d)) v), x <- x + fc2(gelu(fc1(norm2(x)))), where q, k, v are
    the thirds of qkv(norm1(x)), of `heads` heads each.

    Args:
      dim: E, features.
      heads: a divisor of dim.

    Reference:
      Xiong et al., On Layer Normalization in the Transformer Architecture, 2020,
      https://arxiv.org/abs/2002.04745
    """

    dim: int = 32
    heads: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps (N, L, E), float32, to the same."""
        y = nn.Dense(3 * self.dim, dtype=HALF, name="qkv")(LayerNorm(self.dim, name="norm1")(x))
        q, k, v = jnp.moveaxis(y.reshape(*x.shape[:2], 3, self.heads, -1), (2, 3), (0, 2))
        scores = q @ k.mT * q.shape[-1] ** -0.5
        weights = nn.softmax(scores.astype(jnp.float32))
        y = (weights.astype(HALF) @ v).swapaxes(1, 2).reshape(x.shape)
        x = x + nn.Dense(self.dim, dtype=HALF, name="proj")(y)
        y = nn.Dense(4 * self.dim, dtype=HALF, name="fc1")(LayerNorm(self.dim, name="norm2")(x))
        return x + nn.Dense(self.dim, dtype=HALF, name="fc2")(nn.gelu(y, approximate=False))


def scaled_training(
    weight: jax.Array,
    inputs: jax.Array,
    targets: jax.Array,
    learning_rate: float = 0.1,
    init_scale: float = 2.0**16,
    growth_interval: int = 2,
) -> tuple[jax.Array, jax.Array]:
    """SGD on a linear model's squared error, with the loss scaled so that gradients fit 16 bits.

    The loss is multiplied by the scale and the gradient divided by it. A gradient that is not
    finite makes the step be left out and the scale be halved; `growth_interval` steps in a row that
    were taken double it. float16 needs this, bfloat16 has the range of float32 and does not.

    Args:
      weight: (D,), float32, where it starts; is not changed.
      inputs: (S, N, D), float32, a batch for each of S steps.
      targets: (S, N), float32.
      learning_rate: of SGD.
      init_scale: a power of two, so that scaling is exact.
      growth_interval: steps.

    Returns: the weight after each step, (S, D), and the scale after each step, (S,).

    Reference:
      Micikevicius et al., Mixed Precision Training, 2018, https://arxiv.org/abs/1710.03740;
      `flax.training.dynamic_scale.DynamicScale`. torch: `torch.amp.GradScaler`.
    """

    def step(carry, batch):
        weight, scaler = carry
        x, y = batch

        def loss(weight):
            product = x.astype(HALF) @ weight.astype(HALF)
            return jnp.mean((product.astype(jnp.float32) - y) ** 2)

        scaler, finite, _, gradient = scaler.value_and_grad(loss)(weight)  # already divided
        weight = jnp.where(finite, weight - learning_rate * gradient, weight)
        return (weight, scaler), (weight, scaler.scale)

    # Flax counts the steps before the present one, torch this one, too.
    scaler = DynamicScale(growth_interval=growth_interval - 1, scale=jnp.float32(init_scale))
    _, (weights, scales) = jax.lax.scan(step, (weight, scaler), (inputs, targets))
    return weights, scales
