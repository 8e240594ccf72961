"""Perceptrons: what their rules find, and which rule is which other one's special case."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import torch

from compare.data.digits import split_digits
from compare.share import to_jax, to_numpy, to_torch
from jaxnn.foundations import adaline, multiclass_perceptron, perceptron, voted_perceptron
from torchref.foundations import adaline as torch_adaline
from torchref.foundations import multiclass_perceptron as torch_multiclass
from torchref.foundations import perceptron as torch_perceptron
from torchref.foundations import voted_perceptron as torch_voted

CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
TORCH = {
    perceptron: torch_perceptron,
    adaline: torch_adaline,
    multiclass_perceptron: torch_multiclass,
    voted_perceptron: torch_voted,
}


@pytest.fixture(params=["jax", "torch"], autouse=True)
def side(request):
    """Functions of a module on one side, and slopes, NumPy's arrays in and out, in float64."""
    across = to_jax if request.param == "jax" else to_torch

    def call(module, name, *given, **options):
        function = getattr(module if request.param == "jax" else TORCH[module], name)
        if request.param == "jax":
            function = jax.jit(function)
        found = function(*(across(np.asarray(each)) for each in given), **options)
        return [to_numpy(each) for each in found] if isinstance(found, tuple) else to_numpy(found)

    def slope(module, name, scores, labels):
        if request.param == "jax":
            return to_numpy(jax.grad(getattr(module, name))(to_jax(scores), to_jax(labels)))
        gradient = torch.func.grad(getattr(TORCH[module], name))
        return to_numpy(gradient(to_torch(scores), to_torch(labels)))

    with jax.enable_x64(True):
        yield SimpleNamespace(call=call, slope=slope)


def test_of_sixteen_functions_of_two_bits_the_rule_finds_all_but_xor_and_its_opposite(side):
    tables = 2.0 * (np.arange(16)[:, None] >> np.arange(4) & 1) - 1
    never = []
    for number, labels in enumerate(tables):
        weight, bias = np.zeros(2), np.zeros(())
        for _ in range(12):
            weight, bias = side.call(perceptron, "rosenblatt", weight, bias, CORNERS, labels)
        if (labels * (CORNERS @ weight + bias) <= 0).any():
            never.append(number)
    assert never == [6, 9]


def test_one_visit_of_the_rule_is_a_gradient_step_on_the_perceptron_loss(side):
    rng = np.random.default_rng(0)
    for label in (1.0, -1.0):
        x, weight, bias = rng.standard_normal((1, 5)), rng.standard_normal(5), rng.standard_normal()
        slope = side.slope(perceptron, "perceptron_loss", x @ weight + bias, np.array([label]))
        found = side.call(perceptron, "rosenblatt", weight, bias, x, np.array([label]), lr=0.3)
        np.testing.assert_allclose(found[0], weight - 0.3 * slope @ x, rtol=1e-12)
        np.testing.assert_allclose(found[1], bias - 0.3 * slope.sum(), rtol=1e-12)


def test_a_pass_of_the_delta_rule_is_stochastic_descent_on_adalines_loss(side):
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((30, 5)), rng.choice([-1.0, 1.0], 30)
    weight, bias = np.zeros(5), 0.0
    found = side.call(adaline, "delta_rule", weight, np.zeros(()), x, labels, lr=0.05)
    for x_n, label in zip(x, labels, strict=True):
        score = np.array([x_n @ weight + bias])
        slope = side.slope(adaline, "adaline_loss", score, np.array([label]))[0]
        weight, bias = weight - 0.05 * slope * x_n, bias - 0.05 * slope
    np.testing.assert_allclose(found[0], weight, rtol=1e-12)
    np.testing.assert_allclose(found[1], bias, rtol=1e-12)


def test_of_two_classes_the_multiclass_rule_is_rosenblatts_at_twice_the_rate(side):
    x, labels, *_ = split_digits(np.random.default_rng(2), flat=True, classes=(3, 8))
    weight, bias = side.call(
        multiclass_perceptron, "multiclass_rosenblatt", np.zeros((2, 64)), np.zeros(2), x, labels
    )
    one = side.call(perceptron, "rosenblatt", np.zeros(64), np.zeros(()), x, 2 * labels - 1, lr=2.0)
    np.testing.assert_allclose(weight[1] - weight[0], one[0], rtol=1e-12)
    np.testing.assert_allclose(bias[1] - bias[0], one[1], rtol=1e-12)


def test_vote_average_and_pocket_beat_the_last_weights_where_no_line_separates(side):
    rng = np.random.default_rng(3)
    x, digits, unseen, held = split_digits(rng, flat=True)
    labels, wanted = 1 - 2 * (digits % 2), 1 - 2 * (held % 2)
    given = np.zeros(64), np.zeros(()), x, labels, rng.permutation(len(x))
    weights, biases, counts = side.call(voted_perceptron, "voted_perceptron", *given)
    average = side.call(voted_perceptron, "averaged_perceptron", *given)
    share = counts / counts.sum()
    np.testing.assert_allclose(average[0], share @ weights, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(average[1], share @ biases, rtol=1e-9)
    right = (labels[:, None] * (x @ weights.T + biases) > 0).sum(0)
    pocket = side.call(voted_perceptron, "pocket_perceptron", *given)
    np.testing.assert_array_equal(pocket[0], weights[right.argmax()])

    held_by = np.repeat(np.arange(len(counts)), counts)[-500:]
    late = (np.sign(unseen @ weights[held_by].T + biases[held_by]) == wanted[:, None]).mean()
    voted = side.call(voted_perceptron, "voted_predict", weights, biases, counts, unseen)
    assert (voted == wanted).mean() > late
    for kept in (average, pocket):
        assert (
            side.call(voted_perceptron, "averaged_predict", *kept, unseen) == wanted
        ).mean() > late
