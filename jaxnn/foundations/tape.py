"""Reverse-mode differentiation by hand: a tape, and what an MLP and a small CNN need of it.

An operation computes its result and writes down, for each thing that it read, how a gradient of the
result becomes a gradient of that thing (the product with the transposed Jacobian, which is never
formed). Read backwards, the tape meets a result only after all of its uses, so one pass gives

  dL/da = sum over the uses y of a of (dy/da)^T dL/dy

and costs a small multiple of the forward pass, for any number of parameters. Nothing here asks
jax.grad; being made of jnp's functions, all of it can be compiled, and differentiated once more.

Reference: S. Linnainmaa, BIT 16 (1976); D. Rumelhart, G. Hinton, R. Williams, "Learning
representations by back-propagating errors", Nature 323 (1986).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

__all__ = ["Node", "Tape", "mlp", "cnn"]


@dataclass(eq=False)
class Node:
    """A value on a tape.

    Args:
      value: what was computed.
      pulls: each node that it was computed from, with the function from a gradient of this value
        to one of that node's; nothing for what the tape was given.
    """

    value: jax.Array
    pulls: tuple[tuple["Node", Callable[[jax.Array], jax.Array]], ...] = ()


class Tape:
    """Operations on nodes, in the order in which they were done.

    Example::

      tape = Tape()
      w, x = tape.given(w), tape.given(x)
      loss = tape.cross_entropy(tape.matmul(x, w), labels)
      (slope,) = tape.gradients(loss, [w])

    Images are (N, H, W, C), kernels (K, K, C, O). torch: (N, C, H, W) and (O, C, K, K).
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def given(self, value: jax.Array) -> Node:
        """A parameter or an input: a node that nothing stands behind."""
        return self._record(value)

    def gradients(self, result: Node, nodes: Sequence[Node]) -> list[jax.Array]:
        """d result / d node, of each node's shape; zeros where the result does not depend on it.

        Raises:
          ValueError: unless the result is a scalar.
        """
        if result.value.size != 1:
            raise ValueError(f"result of shape {result.value.shape} is no scalar")
        found = {id(result): jnp.ones_like(result.value)}
        for node in reversed(self.nodes):
            if id(node) in found:
                for source, pull in node.pulls:
                    part = pull(found[id(node)])
                    found[id(source)] = found[id(source)] + part if id(source) in found else part
        return [found.get(id(node), jnp.zeros_like(node.value)) for node in nodes]

    def add(self, a: Node, b: Node) -> Node:
        """a + b with broadcasting: what was repeated forwards is summed backwards."""
        return self._record(
            a.value + b.value,
            (a, lambda g: _summed(g, a.value.shape)),
            (b, lambda g: _summed(g, b.value.shape)),
        )

    def matmul(self, a: Node, b: Node) -> Node:
        """(N, D) @ (D, K): dL/da = g b^T, dL/db = a^T g."""
        return self._record(
            a.value @ b.value, (a, lambda g: g @ b.value.T), (b, lambda g: a.value.T @ g)
        )

    def relu(self, a: Node) -> Node:
        """max(a, 0), with slope 0 at 0."""
        kept = a.value > 0
        return self._record(jnp.where(kept, a.value, 0), (a, lambda g: jnp.where(kept, g, 0)))

    def reshape(self, a: Node, *shape: int) -> Node:
        """The same values in another shape."""
        return self._record(a.value.reshape(shape), (a, lambda g: g.reshape(a.value.shape)))

    def conv2d(self, a: Node, kernel: Node, padding: int = 0) -> Node:
        """Each patch of a, times the kernel: a matrix product, so its gradients are two more."""
        size, pad = kernel.value.shape[0], padding
        padded = jnp.pad(a.value, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
        patches = _patches(padded, size, 1)

        def of_input(g: jax.Array) -> jax.Array:
            apart = jnp.einsum("nhwo,klco->nhwklc", g, kernel.value)
            whole = _together(apart, padded.shape, 1)
            return whole[:, pad : whole.shape[1] - pad, pad : whole.shape[2] - pad]

        return self._record(
            jnp.einsum("nhwklc,klco->nhwo", patches, kernel.value),
            (a, of_input),
            (kernel, lambda g: jnp.einsum("nhwklc,nhwo->klco", patches, g)),
        )

    def max_pool2d(self, a: Node, size: int) -> Node:
        """The largest of each size x size patch; the first of several gets all of the gradient."""
        patches = _patches(a.value, size, size)
        flat = patches.reshape(*patches.shape[:3], size * size, -1)
        chosen = flat.argmax(axis=3, keepdims=True)

        def pull(g: jax.Array) -> jax.Array:
            apart = jnp.where(jnp.arange(size * size)[:, None] == chosen, g[:, :, :, None], 0)
            return _together(apart.reshape(patches.shape), a.value.shape, size)

        return self._record(jnp.take_along_axis(flat, chosen, axis=3).squeeze(3), (a, pull))

    def log_softmax(self, a: Node) -> Node:
        """a - log sum exp a over the last axis: dL/da = g - softmax(a) sum g."""
        # exp must not overflow
        shifted = a.value - jax.lax.stop_gradient(a.value.max(axis=-1, keepdims=True))
        y = shifted - jnp.log(jnp.exp(shifted).sum(axis=-1, keepdims=True))
        return self._record(y, (a, lambda g: g - jnp.exp(y) * g.sum(axis=-1, keepdims=True)))

    def cross_entropy(self, logits: Node, labels: jax.Array) -> Node:
        """Mean of -log softmax(logits) at the labels: float (N, K), int (N,) -> float ()."""
        log_p = self.log_softmax(logits)
        n, classes = log_p.value.shape
        picked = jax.nn.one_hot(labels, classes, dtype=log_p.value.dtype) / -n
        return self._record((picked * log_p.value).sum(), (log_p, lambda g: g * picked))

    def _record(self, value: jax.Array, *pulls: tuple) -> Node:
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
      x: (N, H, W, C). torch: (N, C, H, W).
      kernel: (K, K, C, O) with K odd. torch: (O, C, K, K).
      weight, bias: (H/2*W/2*O, classes) and (classes,). torch: (O*H/2*W/2, classes).

    Returns: (N, classes).
    """
    x = tape.relu(tape.conv2d(x, kernel, padding=kernel.value.shape[0] // 2))
    x = tape.max_pool2d(x, 2)
    x = tape.reshape(x, len(x.value), -1)
    return tape.add(tape.matmul(x, weight), bias)


def _summed(g: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """g summed to a shape that broadcasts to its own. torch: g.sum_to_size."""
    added = g.ndim - len(shape)
    kept = [added + axis for axis, size in enumerate(shape) if size == 1]
    return g.sum(axis=(*range(added), *kept), keepdims=True).reshape(shape)


def _places(shape: tuple[int, ...], size: int, stride: int) -> tuple[jax.Array, jax.Array]:
    """The row, (H', 1, size, 1), and column, (1, W', 1, size), of what each patch holds."""
    starts = [stride * jnp.arange((length - size) // stride + 1) for length in shape[1:3]]
    down, right = (start[:, None] + jnp.arange(size) for start in starts)
    return down[:, None, :, None], right[None, :, None, :]


def _patches(x: jax.Array, size: int, stride: int) -> jax.Array:
    """(N, H, W, C) -> (N, H', W', size, size, C). torch: a view, x.unfold."""
    down, right = _places(x.shape, size, stride)
    return x[:, down, right]


def _together(patches: jax.Array, shape: tuple[int, ...], stride: int) -> jax.Array:
    """The transpose of `_patches`: each patch is added where it was taken. torch: += in place."""
    down, right = _places(shape, patches.shape[3], stride)
    return jnp.zeros(shape, patches.dtype).at[:, down, right].add(patches)
