"""The lessons' networks: one on both sides, and a difference is seen."""

import itertools

import numpy as np
import torch

from compare.study.lessons import lesson


def trained(change=lambda nets: None):
    """The losses and the state of two steps of LeNet on both sides."""
    import optax

    from compare.data.digits import digits
    from compare.study.networks import Networks
    from jaxnn.cnn.lenet import LeNet as JaxLeNet
    from jaxnn.training.losses import cross_entropy as jax_cross_entropy
    from torchref.cnn.lenet import LeNet
    from torchref.training.losses import cross_entropy

    with lesson("nets") as same:
        batches = list(itertools.islice(digits(same.rng, batch=4, size=28), 2))
        nets = Networks(JaxLeNet, LeNet, same.rng, batches[0]["x"])
        change(nets)
        steps = nets.train(
            (((each["x"],), (each["labels"],)) for each in batches),
            (jax_cross_entropy, cross_entropy),
            (optax.sgd(0.1), lambda parameters: torch.optim.SGD(parameters, lr=0.1)),
        )
        before = nets.state()
        losses = np.array([*steps])
        same("losses", *losses.T)
        same("state", *nets.state())
        same("outputs", *nets(batches[0]["x"]))
        same.holds("trained", not np.allclose(before[1]["fc3.bias"], nets.state()[1]["fc3.bias"]))
        same("accuracy", *nets.accuracy(batches[0]["x"], batches[0]["labels"]))
    return same


def test_networks_are_one_network_on_both_sides():
    same = trained()
    assert same.failures == []
    assert same.compared > 10


def test_networks_that_differ_are_seen():
    def change(nets):
        with torch.no_grad():
            nets.torch.fc3.bias[0] += 1e-6

    assert any("losses" in text for text in trained(change).failures)
