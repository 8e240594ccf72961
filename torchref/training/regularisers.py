"""Regularisers: what is added to a loss, and the proximal step for the one that has a kink.

Penalties of weights take `params`, an iterable of tensors such as `model.parameters()`: each
counts, biases and scales of norms too if they are given. jax: any pytree of arrays. Penalties of a
network's slope take a function, whose parameters they are differentiated through.

`soft_threshold` is torch's `softshrink`, sign(x) * max(|x| - lambd, 0) with lambd 0.5; its
derivative is 0 where |x| <= lambd, otherwise 1, as in jax. A negative lambd is a RuntimeError here
and a ValueError in jax.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch.nn.functional import softshrink as soft_threshold

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


def l1_penalty(params: Iterable[torch.Tensor], strength: float = 1e-4) -> torch.Tensor:
    """strength * sum |w|: draws every weight to zero with the same force, however small it is.

    The derivative at 0 is 0. Gradient steps leave small weights trembling around zero;
    `proximal_step` makes them zero.

    Args:
      params: float tensors of any shapes.
      strength: the factor in front.

    Returns: the penalty, float ().

    Reference:
      Tibshirani, Regression Shrinkage and Selection via the Lasso, 1996
    """
    return strength * torch.stack([w.abs().sum() for w in params]).sum()


def l2_penalty(params: Iterable[torch.Tensor], strength: float = 1e-4) -> torch.Tensor:
    """strength / 2 * sum w^2: its gradient is strength * w.

    With plain gradient descent this is weight decay: `sgd(weight_decay=strength)` adds the same
    gradient. With Adam it is not decoupled decay (`adamw`), as the gradient is rescaled.

    Args, returns: as `l1_penalty`.
    """
    return strength / 2 * torch.stack([w.square().sum() for w in params]).sum()


def elastic_net_penalty(
    params: Iterable[torch.Tensor], strength: float = 1e-4, l1_ratio: float = 0.5
) -> torch.Tensor:
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
    params = list(params)  # model.parameters() is used up by the first
    l1, l2 = l1_penalty(params, l1_ratio), l2_penalty(params, 1 - l1_ratio)
    return strength * (l1 + l2)


def proximal_step(
    params: Iterable[torch.Tensor],
    grads: Iterable[torch.Tensor],
    lr: float = 1e-3,
    strength: float = 1e-4,
) -> list[torch.Tensor]:
    """One step of proximal gradient descent (ISTA) for loss + strength * sum |w|.

    w <- soft_threshold(w - lr * dloss/dw, lr * strength). The smooth loss moves the weight, the
    kink is solved exactly: weights become zero, and stay.

    Args:
      params: float tensors. jax: a pytree.
      grads: gradients of the loss without the penalty, in the same order.
      lr: learning rate.
      strength: of the L1 penalty.

    Returns: the new parameters; `p.copy_(new)` without gradient puts them in place.

    Reference:
      Beck and Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm, 2009
    """
    return [soft_threshold(w - lr * g, lr * strength) for w, g in zip(params, grads, strict=True)]


def sparsity_penalty(activations: torch.Tensor, rho: float = 0.05) -> torch.Tensor:
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
    on = rho * (math.log(rho) - torch.log(mean))
    off = (1 - rho) * (math.log(1 - rho) - torch.log(1 - mean))
    return (on + off).sum()


def jacobian_penalty(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """mean_n ||df(x_n)/dx_n||_F^2, the squared Frobenius norm of the exact Jacobian.

    Args:
      f: of one example, float (D,) -> (K,); its parameters are what is trained.
      x: float (N, D).

    Reference:
      Rifai et al., Contractive Auto-Encoders, 2011; Hoffman et al., Robust Learning with Jacobian
      Regularization, 2019, https://arxiv.org/abs/1908.02729
    """
    # One backward pass for each of the K outputs: cheaper than jacfwd where K < D
    jacobian = torch.func.vmap(torch.func.jacrev(f))(x)  # (N, K, D)
    return jacobian.square().sum((1, 2)).mean()


def contractive_penalty(h: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`jacobian_penalty` of one sigmoid layer h = sigmoid(W x + b), in closed form.

    dh_k/dx_d = h_k (1 - h_k) W_kd, so ||dh/dx||_F^2 = sum_k (h_k (1 - h_k))^2 sum_d W_kd^2.

    Args:
      h: outputs of the layer, float (N, K).
      weight: W, float (K, D). jax: a Dense's kernel is its transpose.
    """
    return ((h * (1 - h)).square() @ weight.square().sum(1)).mean()


def gradient_penalty(
    critic: Callable[[torch.Tensor], torch.Tensor],
    real: torch.Tensor,
    fake: torch.Tensor,
    alpha: torch.Tensor,
) -> torch.Tensor:
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
        raise ValueError(f"alpha must have the shape {(len(real),)}, not {(*alpha.shape,)}")
    alpha = alpha.view(-1, *(1,) * (real.ndim - 1))
    with torch.enable_grad():  # the penalty needs it, where its own gradient is not wanted, too
        between = (alpha * real + (1 - alpha) * fake).requires_grad_()
        # The gradient of the sum holds every example's own; create_graph: for the critic's step.
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    # jax: the norm needs a guard, as sqrt has an infinite derivative at 0; here it is 0.
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()
