"""Backpropagation by hand: a forward pass keeps what its backward pass needs, and no more.

For each layer y = f(x, ...) there are two functions. `X_forward(...) -> (y, cache)` computes y;
`X_backward(dy, cache) -> grads` takes dy = dL/dy, the gradient of some scalar loss L, and applies
the chain rule: grads holds dL/da for every argument a of the layer, by its name. A network goes
through its layers forward, keeps the caches, and goes through them again from the last to the
first. torch: what autograd does; a torch.autograd.Function is such a pair. jax: what jax.vjp does.

Reference: D. Rumelhart, G. Hinton, R. Williams, "Learning representations by back-propagating
errors", Nature 323 (1986).
"""

import torch
from torch.nn.functional import one_hot

__all__ = [
    "linear_forward",
    "linear_backward",
    "relu_forward",
    "relu_backward",
    "batch_norm_forward",
    "batch_norm_backward",
    "softmax_cross_entropy_forward",
    "softmax_cross_entropy_backward",
]

Cache = tuple[torch.Tensor, ...]
Grads = dict[str, torch.Tensor]


def linear_forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, Cache]:
    """y = x W^T + b.

    Args:
      x: float (N, D).
      weight: float (K, D), as torch's Linear has it. jax: a Dense's kernel is (D, K).
      bias: float (K,).

    Returns: y, float (N, K), and the cache.
    """
    return x @ weight.T + bias, (x, weight)


def linear_backward(dy: torch.Tensor, cache: Cache) -> Grads:
    """dy, float (N, K) -> "x" (N, D), "weight" (K, D), "bias" (K,)."""
    x, weight = cache
    # y_nk = sum_d x_nd W_kd + b_k, therefore
    # dL/dx_nd = sum_k dy_nk W_kd;  dL/dW_kd = sum_n dy_nk x_nd;  dL/db_k = sum_n dy_nk
    return {"x": dy @ weight, "weight": dy.T @ x, "bias": dy.sum(0)}


def relu_forward(x: torch.Tensor) -> tuple[torch.Tensor, Cache]:
    """y = max(x, 0), of any shape."""
    return torch.where(x > 0, x, 0), (x,)


def relu_backward(dy: torch.Tensor, cache: Cache) -> Grads:
    """dy of x's shape -> "x". The derivative at the kink is 0, as both frameworks have it."""
    (x,) = cache
    # dy/dx = [x > 0]
    return {"x": torch.where(x > 0, dy, 0)}


def batch_norm_forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float = 1e-5
) -> tuple[torch.Tensor, Cache]:
    """y = w x_hat + b with x_hat = (x - mean) / sqrt(var + eps), mean and var of the batch.

    The variance is the biased one, sum (x - mean)^2 / N. Where it is zero x_hat is zero.

    Args:
      x: float (N, D).
      weight, bias: w and b, float (D,).
      eps: added to the variance before the root.

    Returns: y, float (N, D), and the cache.

    Raises:
      ValueError: if x has one example, whose variance is zero.

    Reference:
      Ioffe and Szegedy, Batch Normalization, 2015, https://arxiv.org/abs/1502.03167
    """
    if len(x) == 1:
        raise ValueError(f"x must have more than one example, not the shape {x.shape}")
    centred = x - x.mean(0)
    rate = 1 / torch.sqrt((centred**2).mean(0) + eps)
    x_hat = centred * rate
    return weight * x_hat + bias, (x_hat, rate, weight)


def batch_norm_backward(dy: torch.Tensor, cache: Cache) -> Grads:
    """dy, float (N, D) -> "x" (N, D), "weight" (D,), "bias" (D,).

    Every example moves the mean and the variance that all examples share. With r =
    1 / sqrt(var + eps) and means over the batch, dx_hat_m/dx_n = r ([m = n] - 1/N - x_hat_m x_hat_n
    / N): the first term is the example's own, the second its part in the mean, the third its part
    in the variance (dr/dx_n = -r^3 (x_n - mean) / N = -r^2 x_hat_n / N).
    """
    x_hat, rate, weight = cache
    # dL/dw = sum_n dy x_hat;  dL/db = sum_n dy;  dL/dx_hat = w dy
    grads = {"weight": (dy * x_hat).sum(0), "bias": dy.sum(0)}
    dx_hat = weight * dy
    # dL/dx = r (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat))
    return grads | {
        "x": rate * (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0)),
    }


def softmax_cross_entropy_forward(
    logits: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, Cache]:
    """L = mean_n(-log p_n[labels_n]) with p = softmax(logits) along the classes.

    Args:
      logits: float (N, K).
      labels: integers (N,) in 0..K-1.

    Returns: the loss, float (), and the cache.
    """
    # log p_k = z_k - log sum_j exp z_j; less its maximum, a logit cannot overflow
    shifted = logits - logits.amax(1, keepdim=True)
    log_p = shifted - torch.log(torch.exp(shifted).sum(1, keepdim=True))
    own = log_p.gather(1, labels[:, None])
    return -own.mean(), (log_p, labels)


def softmax_cross_entropy_backward(dy: torch.Tensor, cache: Cache) -> Grads:
    """dy, float () -> "logits" (N, K).

    The softmax alone has dp_j/dz_k = p_j ([j = k] - p_k); with the logarithm in front p_j cancels:
    d(-log p_j)/dz_k = p_k - [j = k], what is predicted less what is so.
    """
    log_p, labels = cache
    # dL/dz_nk = (p_nk - [k = labels_n]) / N
    hits = one_hot(labels, log_p.shape[1])
    return {"logits": dy * (torch.exp(log_p) - hits) / len(log_p)}
