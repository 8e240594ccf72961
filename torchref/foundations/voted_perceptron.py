"""What to keep of a perceptron that never settles: all of its weights, their mean, or the best.

Reference: Y. Freund, R. Schapire, "Large margin classification using the perceptron algorithm",
Machine Learning 37 (1999), for the vote and the mean; S. Gallant, "Perceptron-based learning
algorithms", IEEE Transactions on Neural Networks 1 (1990), for the pocket.
"""

import torch

__all__ = [
    "voted_perceptron",
    "voted_predict",
    "averaged_perceptron",
    "averaged_predict",
    "pocket_perceptron",
]


def voted_perceptron(
    weight: torch.Tensor,
    bias: torch.Tensor,
    x: torch.Tensor,
    labels: torch.Tensor,
    order: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rosenblatt's rule, which keeps every weight vector and how many visits it survived.

    Args:
      weight, bias: where it starts, float (D,) and (); Freund and Schapire's zeros.
      x: float (N, D).
      labels: (N,), -1 or +1.
      order: the examples in the order of their visit, integers (T,) in 0..N-1.

    Returns:
      The weights (T+1, D), the biases (T+1,) and the counts, integers (T+1,), which sum to T: the
      start, then one for each mistake, whose count begins with the visit that made it. What no
      mistake made is zero.
    """
    labels = labels.to(x.dtype)
    weights, biases, counts = [weight], [bias], [0]
    for n in order:
        if labels[n] * (x[n] @ weights[-1] + biases[-1]) <= 0:
            # w_(k+1) = w_k + label x,  b_(k+1) = b_k + label
            weights.append(weights[-1] + labels[n] * x[n])
            biases.append(biases[-1] + labels[n])
            counts.append(0)
        counts[-1] += 1
    # jax: what scan carries has its size before it begins, so the lists are filled up to it.
    rest = len(order) + 1 - len(counts)
    weights += [torch.zeros_like(weight)] * rest
    biases += [torch.zeros_like(bias)] * rest
    counts = torch.tensor(counts + [0] * rest, device=x.device)
    return torch.stack(weights), torch.stack(biases), counts


def voted_predict(
    weights: torch.Tensor, biases: torch.Tensor, counts: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    """Every perceptron votes with its class, as often as it survived: float (N, D) -> int (N,).

    +1 where sum_k counts_k sign(w_k.x + b_k) > 0, otherwise -1.

    Args:
      weights, biases, counts: of `voted_perceptron`.
      x: float (N, D).
    """
    votes = torch.sign(x @ weights.T + biases)  # (N, T+1)
    return torch.where(votes @ counts.to(x.dtype) > 0, 1, -1)


def averaged_perceptron(
    weight: torch.Tensor,
    bias: torch.Tensor,
    x: torch.Tensor,
    labels: torch.Tensor,
    order: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rosenblatt's rule, and the mean of the weights after every visit: nothing else is kept.

    It is the mean of `voted_perceptron`'s weights by their counts, one linear unit in place of
    many: their scores are averaged where the vote counts their signs.

    Args:
      weight, bias, x, labels, order: as of `voted_perceptron`.

    Returns: the mean weight (D,) and the mean bias ().
    """
    labels = labels.to(x.dtype)
    weight_sum, bias_sum = torch.zeros_like(weight), torch.zeros_like(bias)
    for n in order:
        if labels[n] * (x[n] @ weight + bias) <= 0:
            weight, bias = weight + labels[n] * x[n], bias + labels[n]
        weight_sum, bias_sum = weight_sum + weight, bias_sum + bias
    return weight_sum / len(order), bias_sum / len(order)


def averaged_predict(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """+1 where w.x + b > 0, otherwise -1: float (N, D) -> int (N,).

    Args:
      weight, bias: of `averaged_perceptron`, or of the pocket.
      x: float (N, D).
    """
    return torch.where(x @ weight + bias > 0, 1, -1)


def pocket_perceptron(
    weight: torch.Tensor,
    bias: torch.Tensor,
    x: torch.Tensor,
    labels: torch.Tensor,
    order: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rosenblatt's rule, with the weights in the pocket that are right on the most examples.

    Gallant's ratchet: after every visit all examples are counted, and the pocket changes only for
    the better. (Without it, the longest run of right visits decides.)

    Args:
      weight, bias, x, labels: as of `voted_perceptron`.
      order: as there; Gallant's is random.

    Returns: the weight (D,) and the bias () in the pocket.
    """
    labels = labels.to(x.dtype)

    def right(weight, bias):
        return (labels * (x @ weight + bias) > 0).sum()

    pocket, most = (weight, bias), right(weight, bias)
    for n in order:
        if labels[n] * (x[n] @ weight + bias) <= 0:
            weight, bias = weight + labels[n] * x[n], bias + labels[n]
            # jax: a scan counts on every visit, as it cannot leave out what is traced.
            if (found := right(weight, bias)) > most:
                pocket, most = (weight, bias), found
    return pocket
