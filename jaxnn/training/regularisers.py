"""Regularisers: what is added to a loss, and the proximal step for the one that has a kink.

Penalties of weights take `params`, any pytree of arrays: each leaf counts, biases and scales of
norms too if they are given. torch: an iterable of tensors, `model.parameters()`. Penalties of a
network's slope take a function, whose parameters they are differentiated through.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

__all__ = [
    "l1_penalty",
    "l2_penalty",
    "elastic_net_penalty",
    "soft_threshold",
    "proximal_step",
    "sparsity_penalty",
    "jacobian_penalty",
    "contractive_penalty",
    "gradient_penalty",
]


def l1_penalty(params: Any, strength: float = 1e-4) -> jax.Array:
    """strength * sum |w|: draws every weight to zero with the same force, however small it is.

    The derivative at 0 is 0. Gradient steps leave small weights trembling around zero;
    `proximal_step` makes them zero.

    Args:
      params: pytree of float arrays of any shapes.
      strength: the factor in front.

    Returns: the penalty, float ().

    Reference:
      Tibshirani, Regression Shrinkage and Selection via the Lasso, 1996
    """
    # |w| = w sign(w), whose derivative at 0 is 0; that of jnp.abs is 1.
    return strength * jnp.stack([(w * jnp.sign(w)).sum() for w in jax.tree.leaves(params)]).sum()


def l2_penalty(params: Any, strength: float = 1e-4) -> jax.Array:
    """strength / 2 * sum w^2: its gradient is strength * w.

    With plain gradient descent this is weight decay: `sgd(weight_decay=strength)` adds the same
    gradient. With Adam it is not decoupled decay (`adamw`), as the gradient is rescaled.

    Args, returns: as `l1_penalty`.
    """
    return strength / 2 * optax.tree.norm(params, squared=True)


def elastic_net_penalty(params: Any, strength: float = 1e-4, l1_ratio: float = 0.5) -> jax.Array:
    """strength * (l1_ratio * sum |w| + (1 - l1_ratio) / 2 * sum w^2).

    Args:
      params, strength: as `l1_penalty`.
      l1_ratio: in [0, 1]; 1 is `l1_penalty`, 0 is `l2_penalty`.

    Raises:
      ValueError: if l1_ratio lies outside [0, 1].

    Reference:
      Zou and Hastie, Regularization and Variable Selection via the Elastic Net, 2005
    """
    if not 0 <= l1_ratio <= 1:
        raise ValueError(f"l1_ratio must lie in [0, 1], and is {l1_ratio}")
    l1, l2 = l1_penalty(params, l1_ratio), l2_penalty(params, 1 - l1_ratio)
    return strength * (l1 + l2)


def soft_threshold(x: jax.Array, lambd: float = 0.5) -> jax.Array:
    """sign(x) * max(|x| - lambd, 0): argmin over z of (z - x)^2 / 2 + lambd |z|.

    torch: its own `softshrink`. The derivative is 0 where |x| <= lambd, otherwise 1.

    Args:
      x: float, any shape.
      lambd: not negative.

    Raises:
      ValueError: if lambd is negative. torch: RuntimeError.
    """
    if lambd < 0:
        raise ValueError(f"lambd must not be negative, and is {lambd}")
    return jnp.where(jnp.abs(x) <= lambd, 0, x - lambd * jnp.sign(x))


def proximal_step(params: Any, grads: Any, lr: float = 1e-3, strength: float = 1e-4) -> Any:
    """One step of proximal gradient descent (ISTA) for loss + strength * sum |w|.

    w <- soft_threshold(w - lr * dloss/dw, lr * strength). The smooth loss moves the weight, the
    kink is solved exactly: weights become zero, and stay.

    Args:
      params: pytree of float arrays. torch: an iterable of tensors.
      grads: gradients of the loss without the penalty, of the same structure.
      lr: learning rate.
      strength: of the L1 penalty.

    Returns: the new parameters, of the same structure. torch: a list.

    Reference:
      Beck and Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm, 2009
    """
    return jax.tree.map(lambda w, g: soft_threshold(w - lr * g, lr * strength), params, grads)


def sparsity_penalty(activations: jax.Array, rho: float = 0.05) -> jax.Array:
    """sum_j KL(rho || rho_j), where unit j is active rho_j = mean_n a_nj of the time.

    KL(rho || r) = rho log(rho / r) + (1 - rho) log((1 - rho) / (1 - r)), 0 at r = rho and infinite
    at r = 0 and r = 1, where a unit is dead or saturated for the whole batch.

    Args:
      activations: a in [0, 1], such as a sigmoid's, float (N, H).
      rho: the wanted mean, in (0, 1).

    Returns: the penalty, float (); NaN where a mean lies outside [0, 1].

    Raises:
      ValueError: if rho lies outside (0, 1).

    Reference:
      Ng, Sparse autoencoder, CS294A lecture notes, 2011
    """
    if not 0 < rho < 1:
        raise ValueError(f"rho must lie in (0, 1), and is {rho}")
    mean = activations.mean(0)
    # Logarithms apart: in log(rho / r) the chain rule would meet 0 * inf at r = 0.
    on = rho * (math.log(rho) - jnp.log(mean))
    off = (1 - rho) * (math.log(1 - rho) - jnp.log(1 - mean))
    return (on + off).sum()


def jacobian_penalty(f: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """mean_n ||df(x_n)/dx_n||_F^2, the squared Frobenius norm of the exact Jacobian.

    Args:
      f: of one example, float (D,) -> (K,); its parameters are what is trained.
      x: float (N, D).

    Reference:
      Rifai et al., Contractive Auto-Encoders, 2011; Hoffman et al., Robust Learning with Jacobian
      Regularization, 2019, https://arxiv.org/abs/1908.02729
    """
    # One backward pass for each of the K outputs: cheaper than jacfwd where K < D
    jacobian = jax.vmap(jax.jacrev(f))(x)  # (N, K, D)
    return jnp.square(jacobian).sum((1, 2)).mean()


def contractive_penalty(h: jax.Array, weight: jax.Array) -> jax.Array:
    """`jacobian_penalty` of one sigmoid layer h = sigmoid(W x + b), in closed form.

    dh_k/dx_d = h_k (1 - h_k) W_kd, so ||dh/dx||_F^2 = sum_k (h_k (1 - h_k))^2 sum_d W_kd^2.

    Args:
      h: outputs of the layer, float (N, K).
      weight: W, float (K, D). A Dense's kernel is its transpose.
    """
    return (jnp.square(h * (1 - h)) @ jnp.square(weight).sum(1)).mean()


def gradient_penalty(
    critic: Callable[[jax.Array], jax.Array], real: jax.Array, fake: jax.Array, alpha: jax.Array
) -> jax.Array:
    """mean_n (||dcritic/dx at x_n||_2 - 1)^2 with x_n = alpha_n real_n + (1 - alpha_n) fake_n.

    It holds the critic's slope at 1 between data and fakes; WGAN-GP's loss has it times 10.

    Args:
      critic: (N, ...) -> (N,) or (N, 1), each score of its own example only: no batch norm.
      real, fake: float (N, ...).
      alpha: float (N,), uniform in [0, 1): drawn by the training loop.

    Returns: the penalty, float (). An example with slope zero gives 1, and no gradient.

    Raises:
      ValueError: if alpha has not one number for each example.

    Reference:
      Gulrajani et al., Improved Training of Wasserstein GANs, 2017,
      https://arxiv.org/abs/1704.00028
    """
    if alpha.shape != real.shape[:1]:
        raise ValueError(f"alpha must have the shape {real.shape[:1]}, not {alpha.shape}")
    alpha = alpha.reshape(-1, *(1,) * (real.ndim - 1))
    between = alpha * real + (1 - alpha) * fake
    # The gradient of the sum holds every example's own gradient.
    slope = jax.grad(lambda x: critic(x).sum())(between).reshape(len(real), -1)
    # sqrt has an infinite derivative at 0. torch: norm's is 0 there.
    squared = jnp.square(slope).sum(1)
    norm = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
    return jnp.square(norm - 1).mean()
