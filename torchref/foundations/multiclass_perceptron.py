"""The perceptron of several classes: a weight vector for each, and the largest score decides.

Reference: R. Duda, P. Hart, "Pattern classification and scene analysis" (1973), after C. Kesler;
K. Crammer, Y. Singer, "Ultraconservative online algorithms for multiclass problems", Journal of
Machine Learning Research 3 (2003).
"""

import torch
from torch import nn

__all__ = ["multiclass_rosenblatt", "MultiClassPerceptron", "multiclass_perceptron_loss"]


def multiclass_rosenblatt(
    weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, labels: torch.Tensor, lr: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """One pass of the rule: a mistake moves the right class towards x, and its rival away from it.

    The rival is the best of the other classes, the first of several; an example whose own score is
    not above the rival's is a mistake. Of two classes, the difference of the two weight vectors
    moves as in Rosenblatt's rule, at twice the rate.

    Args:
      weight: float (K, D), a row for each class.
      bias: float (K,).
      x: float (N, D), the examples in the order of their visit.
      labels: integers (N,) in 0..K-1.
      lr: learning rate.

    Returns: the weight (K, D) and the bias (K,) after the pass.
    """
    rows = torch.eye(len(bias), dtype=x.dtype, device=x.device)
    # jax: lax.scan compiles the body of the loop once.
    for x_n, label in zip(x, labels, strict=True):
        scores = weight @ x_n + bias
        rival = scores.masked_fill(rows[label] > 0, -torch.inf).argmax()
        # own <= rival:  w_own <- w_own + lr x,  w_rival <- w_rival - lr x
        # jax: a traced condition cannot steer Python; jnp.where selects instead.
        if scores[label] <= scores[rival]:
            step = lr * (rows[label] - rows[rival])
            weight = weight + torch.outer(step, x_n)
            bias = bias + step
    return weight, bias


class MultiClassPerceptron(nn.Module):
    """One linear unit for each class; the class is that of the largest score.

    Args:
      in_features: D, inputs.
      num_classes: K.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The scores w_k.x + b_k: float (N, D) -> float (N, K)."""
        return self.linear(x)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """The class, the first of several: float (N, D) -> int (N,) in 0..K-1."""
        return self(x).argmax(1)


def multiclass_perceptron_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of max_k score_k - score_label, the criterion whose gradient step is the rule above.

    It is 0 where the label's score is the largest; elsewhere d/dw_label = -x and d/dw_k = x for the
    largest. Where several are the largest, each has an equal share of the gradient.

    Args:
      scores: float (N, K).
      labels: integers (N,) in 0..K-1.

    Returns: the loss, float ().
    """
    own = scores.gather(1, labels[:, None])[:, 0]
    return (scores.amax(1) - own).mean()  # amax, as max(1) gives all of the gradient to one
