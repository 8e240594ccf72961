"""The tape against each framework's own gradients, operation by operation and as two networks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.foundations import tape as theirs
from tests.arrays import assert_same, kernel, last, normal
from torchref.foundations import tape as ours

LABELS = np.array([2, 0, 1, 2])


def weigh(y):
    """A generic number of a result: every element counts differently."""
    weights = normal(99, *y.shape)
    return (y * (to_torch(weights) if isinstance(y, torch.Tensor) else to_jax(weights))).sum()


def weighed(tape, node, like):
    """The same on the tape: a row times a column."""
    size = int(np.prod(node.value.shape))
    weights = like(normal(99, *node.value.shape).reshape(size, 1))
    return tape.matmul(tape.reshape(node, 1, size), tape.given(weights))


def taped(side, operation, arrays, like) -> list[np.ndarray]:
    """Value and gradients by the tape of one side."""
    tape = side.Tape()
    nodes = [tape.given(like(a)) for a in arrays]
    y = operation(tape, *nodes)
    result = y if y.value.ndim == 0 else weighed(tape, y, like)
    return [to_numpy(v) for v in (y.value, *tape.gradients(result, nodes))]


def by_autograd(operation, arrays) -> list[np.ndarray]:
    given = [to_torch(a).requires_grad_() for a in arrays]
    y = operation(*given)
    slopes = torch.autograd.grad(y if y.ndim == 0 else weigh(y), given)
    return [to_numpy(v) for v in (y, *slopes)]


def by_grad(operation, arrays) -> list[np.ndarray]:
    def run(arrays):
        y = operation(*arrays)
        return (y if y.ndim == 0 else weigh(y)), y

    slopes, y = jax.grad(run, has_aux=True)([to_jax(a) for a in arrays])
    return [to_numpy(v) for v in (y, *slopes)]


def jax_conv(x, w, padding=0):
    pads = [(padding, padding)] * 2
    names = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, (1, 1), pads, dimension_numbers=names)


def jax_nll(z):
    return -jax.nn.log_softmax(z)[jnp.arange(4), LABELS].mean()


KINKS = np.array([[-1.0, 0.0, -0.0, 2.0, 0.5]])
# name -> operation on the tape, torch's, JAX's, arrays
OPERATIONS = {
    "matmul": (lambda t, a, b: t.matmul(a, b), torch.matmul, jnp.matmul, [(2, 3), (3, 4)]),
    "add": (lambda t, a, b: t.add(a, b), torch.add, jnp.add, [(2, 3, 4), (3, 1)]),
    "add a scalar": (lambda t, a, b: t.add(a, b), torch.add, jnp.add, [(), (2, 1)]),
    "itself": (
        lambda t, a: t.add(t.relu(a), t.add(a, a)),
        lambda a: F.relu(a) + 2 * a,
        lambda a: jax.nn.relu(a) + 2 * a,
        [(3, 4)],
    ),
    "relu": (lambda t, a: t.relu(a), F.relu, jax.nn.relu, [KINKS]),
    "reshape": (
        lambda t, a: t.reshape(a, 3, -1),
        lambda a: a.reshape(3, -1),
        lambda a: a.reshape(3, -1),
        [(2, 6)],
    ),
    "log_softmax": (
        lambda t, a: t.log_softmax(a),
        lambda a: F.log_softmax(a, -1),
        jax.nn.log_softmax,
        [np.array([[1e4, 0, -1e4], [1, 1, 1], [0.3, -2, 5]])],
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name):
    operation, of_torch, of_jax, shapes = OPERATIONS[name]
    arrays = [s if isinstance(s, np.ndarray) else normal(i, *s) for i, s in enumerate(shapes)]
    wanted = by_autograd(of_torch, arrays)
    assert_same(taped(ours, operation, arrays, to_torch), wanted)
    with jax.enable_x64(True):
        assert_same(by_grad(of_jax, arrays), wanted)
        assert_same(taped(theirs, operation, arrays, to_jax), wanted)


@given(
    size=st.sampled_from([1, 3]),
    padding=st.integers(0, 1),
    channels=st.sampled_from([(1, 2), (2, 1)]),
)
def test_convolution(size, padding, channels):
    x, w = normal(1, 2, channels[0], 4, 5), normal(2, channels[1], channels[0], size, size)

    def operation(tape, x, w):
        return tape.conv2d(x, w, padding)

    wanted = by_autograd(lambda x, w: F.conv2d(x, w, padding=padding), [x, w])
    # What the result is weighed with lies in each side's own order.
    assert_same(taped(ours, operation, [x, w], to_torch), wanted)
    with jax.enable_x64(True):
        arrays = [last(x), kernel(w)]
        found = taped(theirs, operation, arrays, to_jax)
        assert_same([found[0]], [last(wanted[0])])
        assert_same(found, by_grad(lambda x, w: jax_conv(x, w, padding), arrays))


@pytest.mark.parametrize(("side", "size"), [(4, 2), (5, 2), (6, 3)])
def test_pooling(side, size):
    """Ties too: the first of equal values in a window gets the whole gradient, as in torch."""
    x = np.round(normal(1, 2, 3, side, side))

    def operation(tape, x):
        return tape.max_pool2d(x, size)

    wanted = by_autograd(lambda x: F.max_pool2d(x, size), [x])
    assert len(np.unique(x)) < 8
    assert_same(taped(ours, operation, [x], to_torch), wanted)
    with jax.enable_x64(True):
        found = taped(theirs, operation, [last(x)], to_jax)
        assert_same([found[0]], [last(wanted[0])])
        assert_same(found, by_grad(lambda x: nn.max_pool(x, (size, size), (size, size)), [last(x)]))


def cnn(side):
    def run(tape, x, w, weight, bias):
        return tape.cross_entropy(side.cnn(tape, x, w, weight, bias), labels(side))

    return run


def mlp(side):
    def run(tape, x, *arrays):
        layers = list(zip(arrays[::2], arrays[1::2], strict=True))
        return tape.cross_entropy(side.mlp(tape, x, layers), labels(side))

    return run


def labels(side):
    return to_torch(LABELS) if side is ours else to_jax(LABELS)


IMAGES = [normal(1, 4, 2, 6, 6), normal(2, 5, 2, 3, 3), normal(3, 45, 3), normal(4, 3)]
ROWS = [normal(i, *s) for i, s in enumerate([(4, 6), (6, 5), (5,), (5, 5), (5,), (5, 3), (3,)])]


def torch_cnn(x, w, weight, bias):
    x = F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2)
    return F.cross_entropy(x.flatten(1) @ weight + bias, to_torch(LABELS))


def jax_cnn(x, w, weight, bias):
    x = nn.max_pool(nn.relu(jax_conv(x, w, 1)), (2, 2), (2, 2))
    return jax_nll(x.reshape(4, -1) @ weight + bias)


def torch_mlp(x, w1, b1, w2, b2, w3, b3):
    x = F.relu(F.relu(x @ w1 + b1) @ w2 + b2)
    return F.cross_entropy(x @ w3 + b3, to_torch(LABELS))


def jax_mlp(x, w1, b1, w2, b2, w3, b3):
    return jax_nll(nn.relu(nn.relu(x @ w1 + b1) @ w2 + b2) @ w3 + b3)


def test_networks():
    """By the tape in eager mode, by the tape in one compiled program, by each framework."""
    assert_same(taped(ours, cnn(ours), IMAGES, to_torch), by_autograd(torch_cnn, IMAGES))
    assert_same(taped(ours, mlp(ours), ROWS, to_torch), wanted := by_autograd(torch_mlp, ROWS))
    with jax.enable_x64(True):
        images = [last(IMAGES[0]), kernel(IMAGES[1]), *IMAGES[2:]]
        assert_same(taped(theirs, cnn(theirs), images, to_jax), by_grad(jax_cnn, images))
        assert_same(by_grad(jax_mlp, ROWS), wanted)

        @jax.jit
        def program(arrays):
            tape = theirs.Tape()
            nodes = [tape.given(a) for a in arrays]
            loss = mlp(theirs)(tape, *nodes)
            return [loss.value, *tape.gradients(loss, nodes)]

        assert_same([to_numpy(v) for v in program([to_jax(a) for a in ROWS])], wanted)


def test_torch_without_autograd():
    with torch.no_grad():
        found = taped(ours, cnn(ours), IMAGES, to_torch)
    assert_same(found, by_autograd(torch_cnn, IMAGES))


@pytest.mark.parametrize("side", [ours, theirs])
def test_what_the_result_does_not_depend_on(side):
    like = to_torch if side is ours else to_jax
    tape = side.Tape()
    a, b = tape.given(like(np.ones((1, 1)))), tape.given(like(np.ones((2, 3))))
    slopes = tape.gradients(tape.relu(a), [a, b])
    assert_same([to_numpy(s) for s in slopes], [np.ones((1, 1)), np.zeros((2, 3))])
    with pytest.raises(ValueError, match="result"):
        tape.gradients(b, [a])


@pytest.mark.parametrize("side", [ours, theirs])
def test_a_fault_is_found(side):
    """A pull that forgets the transposition, and a use that is not added to the others."""

    class Forgets(side.Tape):
        def matmul(self, a, b):
            return self._record(
                a.value @ b.value, (a, lambda g: g @ b.value), (b, lambda g: a.value.T @ g)
            )

        def add(self, a, b):
            return self._record(a.value + b.value, (a, lambda g: g))

    like, square = (to_torch if side is ours else to_jax), [normal(1, 3, 3), normal(2, 3, 3)]
    tapes = {
        "matmul": lambda t, a, b: weighed(t, Forgets.matmul(t, a, b), like),
        "add": lambda t, a, b: weighed(t, Forgets.add(t, a, b), like),
    }
    right = {"matmul": torch.matmul, "add": torch.add}
    with jax.enable_x64(True):
        for name, operation in tapes.items():
            found = taped(side, lambda t, a, b, f=operation: t.reshape(f(t, a, b)), square, like)
            wanted = by_autograd(lambda a, b, f=right[name]: weigh(f(a, b)), square)
            with pytest.raises(AssertionError):
                assert_same(found, wanted, name)
            good = taped(side, lambda t, a, b, n=name: getattr(t, n)(a, b), square, like)
            assert_same(good[1:], wanted[1:], name)
