"""Reverse-mode differentiation by hand: a tape, and what an MLP and a small CNN need of it.

An operation computes its result and writes down, for each thing that it read, how a gradient of the
result becomes a gradient of that thing (the product with the transposed Jacobian, which is never
formed). Read backwards, the tape meets a result only after all of its uses, so one pass gives

  dL/da = sum over the uses y of a of (dy/da)^T dL/dy

and costs a small multiple of the forward pass, for any number of parameters. Nothing here asks
torch.autograd; being made of its functions, all of it can be differentiated by autograd once more.

Reference: S. Linnainmaa, BIT 16 (1976); D. Rumelhart, G. Hinton, R. Williams, "Learning
representations by back-propagating errors", Nature 323 (1986).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

__all__ = ["Node", "Tape", "mlp", "cnn"]


@dataclass(eq=False)
class Node:
    """A value on a tape.

    Args:
      value: what was computed.
      pulls: each node that it was computed from, with the function from a gradient of this value
        to one of that node's; nothing for what the tape was given.
    """

    value: torch.Tensor
    pulls: tuple[tuple["Node", Callable[[torch.Tensor], torch.Tensor]], ...] = ()


class Tape:
    """Operations on nodes, in the order in which they were done.

    Example::

      tape = Tape()
      w, x = tape.given(w), tape.given(x)
      loss = tape.cross_entropy(tape.matmul(x, w), labels)
      (slope,) = tape.gradients(loss, [w])

    Images are (N, C, H, W), kernels (O, C, K, K). jax: (N, H, W, C) and (K, K, C, O).
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def given(self, value: torch.Tensor) -> Node:
        """A parameter or an input: a node that nothing stands behind."""
        return self._record(value)

    def gradients(self, result: Node, nodes: Sequence[Node]) -> list[torch.Tensor]:
        """d result / d node, of each node's shape; zeros where the result does not depend on it.

        Raises:
          ValueError: unless the result is a scalar.
        """
        if result.value.numel() != 1:
            raise ValueError(f"result of shape {tuple(result.value.shape)} is no scalar")
        found = {id(result): torch.ones_like(result.value)}
        for node in reversed(self.nodes):
            if id(node) in found:
                for source, pull in node.pulls:
                    part = pull(found[id(node)])
                    found[id(source)] = found[id(source)] + part if id(source) in found else part
        return [found.get(id(node), torch.zeros_like(node.value)) for node in nodes]

    def add(self, a: Node, b: Node) -> Node:
        """a + b with broadcasting: what was repeated forwards is summed backwards."""
        return self._record(
            a.value + b.value,
            (a, lambda g: g.sum_to_size(a.value.shape)),
            (b, lambda g: g.sum_to_size(b.value.shape)),
        )

    def matmul(self, a: Node, b: Node) -> Node:
        """(N, D) @ (D, K): dL/da = g b^T, dL/db = a^T g."""
        return self._record(
            a.value @ b.value, (a, lambda g: g @ b.value.T), (b, lambda g: a.value.T @ g)
        )

    def relu(self, a: Node) -> Node:
        """max(a, 0), with slope 0 at 0."""
        kept = a.value > 0
        return self._record(torch.where(kept, a.value, 0), (a, lambda g: torch.where(kept, g, 0)))

    def reshape(self, a: Node, *shape: int) -> Node:
        """The same values in another shape."""
        return self._record(a.value.reshape(shape), (a, lambda g: g.reshape(a.value.shape)))

    def conv2d(self, a: Node, kernel: Node, padding: int = 0) -> Node:
        """Each patch of a, times the kernel: a matrix product, so its gradients are two more."""
        size, pad = kernel.value.shape[-1], padding
        padded = torch.nn.functional.pad(a.value, (pad, pad, pad, pad))
        patches = _patches(padded, size, 1)

        def of_input(g: torch.Tensor) -> torch.Tensor:
            apart = torch.einsum("nohw,ockl->ncklhw", g, kernel.value)
            whole = _together(apart, padded.shape, 1)
            return whole[:, :, pad : whole.shape[2] - pad, pad : whole.shape[3] - pad]

        return self._record(
            torch.einsum("ncklhw,ockl->nohw", patches, kernel.value),
            (a, of_input),
            (kernel, lambda g: torch.einsum("ncklhw,nohw->ockl", patches, g)),
        )

    def max_pool2d(self, a: Node, size: int) -> Node:
        """The largest of each size x size patch; the first of several gets all of the gradient."""
        patches = _patches(a.value, size, size)
        flat = patches.flatten(2, 3)
        chosen = flat.argmax(dim=2, keepdim=True)

        def pull(g: torch.Tensor) -> torch.Tensor:
            apart = torch.zeros_like(flat).scatter(2, chosen, g.unsqueeze(2))
            return _together(apart.reshape(patches.shape), a.value.shape, size)

        return self._record(flat.gather(2, chosen).squeeze(2), (a, pull))

    def log_softmax(self, a: Node) -> Node:
        """a - log sum exp a over the last axis: dL/da = g - softmax(a) sum g."""
        # exp must not overflow
        shifted = a.value - a.value.amax(dim=-1, keepdim=True).detach()
        y = shifted - shifted.exp().sum(dim=-1, keepdim=True).log()
        return self._record(y, (a, lambda g: g - y.exp() * g.sum(dim=-1, keepdim=True)))

    def cross_entropy(self, logits: Node, labels: torch.Tensor) -> Node:
        """Mean of -log softmax(logits) at the labels: float (N, K), int (N,) -> float ()."""
        log_p = self.log_softmax(logits)
        n, classes = log_p.value.shape
        picked = torch.nn.functional.one_hot(labels, classes).to(log_p.value.dtype) / -n
        return self._record((picked * log_p.value).sum(), (log_p, lambda g: g * picked))

    def _record(self, value: torch.Tensor, *pulls: tuple) -> Node:
        self.nodes.append(Node(value, pulls))
        return self.nodes[-1]


def mlp(tape: Tape, x: Node, layers: Sequence[tuple[Node, Node]]) -> Node:
    """h = relu(h W + b) layer by layer, without the relu behind the last.

    Args:
      x: (N, D).
      layers: weight (D, K) and bias (K,) of each.

    Returns: the last layer's values, (N, K).
    """
    for index, (weight, bias) in enumerate(layers):
        x = tape.relu(x) if index else x
        x = tape.add(tape.matmul(x, weight), bias)
    return x


def cnn(tape: Tape, x: Node, kernel: Node, weight: Node, bias: Node) -> Node:
    """A convolution that keeps the size, relu, the largest of 2 x 2, and a linear layer.

    Args:
      x: (N, C, H, W). jax: (N, H, W, C).
      kernel: (O, C, K, K) with K odd. jax: (K, K, C, O).
      weight, bias: (O*H/2*W/2, classes) and (classes,). jax: (H/2*W/2*O, classes).

    Returns: (N, classes).
    """
    x = tape.relu(tape.conv2d(x, kernel, padding=kernel.value.shape[-1] // 2))
    x = tape.max_pool2d(x, 2)
    x = tape.reshape(x, len(x.value), -1)
    return tape.add(tape.matmul(x, weight), bias)


def _patches(x: torch.Tensor, size: int, stride: int) -> torch.Tensor:
    """(N, C, H, W) -> (N, C, size, size, H', W')."""
    return x.unfold(2, size, stride).unfold(3, size, stride).permute(0, 1, 4, 5, 2, 3)


def _together(patches: torch.Tensor, shape: Sequence[int], stride: int) -> torch.Tensor:
    """The transpose of `_patches`: each patch is added where it was taken."""
    x, (size, _, rows, columns) = patches.new_zeros(*shape), patches.shape[2:]
    for i in range(size):
        for j in range(size):
            below, right = i + stride * rows, j + stride * columns
            # jax: x.at[...].add
            x[:, :, i:below:stride, j:right:stride] += patches[:, :, i, j]
    return x
