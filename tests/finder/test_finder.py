"""The finder: planted faults, each named by its place."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
import torch
import torch.nn.functional as F

from compare import Array, Twin
from compare.ladder.verdict import SAME
from tests.planted import Norm, Scaled, Untransposed, net
from tests.toys import found, trouble


def norm(**options: Any) -> dict[str, Any]:
    return {"norm": lambda name: Norm(name=name, **options)}


def mean_error(output: Any, y: Any) -> Any:
    return F.mse_loss(output, y)


SQUARED = {
    "targets": {"y": Array((4, 4))},
    "loss": (mean_error, lambda output, y: jnp.sum((output - y) ** 2)),
}
NESTEROV = {
    "optimizer": (
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
        optax.sgd(0.05, 0.9, nesterov=True),
    )
}


def leaky(x):
    """Right forward, a tenth of the gradient lost."""
    return jax.lax.stop_gradient(0.1 * x) + 0.9 * x


@jax.custom_vjp
def twice(x):
    return x


twice.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))

# The fault -> what it is planted with; stage, mode, what is wrong, the place, what it lies between.
FAULTS: dict[str, tuple[dict, tuple]] = {
    "gelu": ({"exact": False}, ("forward", "eval", "output", "gelu", None)),
    "slope": ({"slope": 0.1}, ("forward", "eval", "output", "leaky_relu", None)),
    "layer norm's eps": ({"eps": 1e-6}, ("forward", "eval", "output", "ln", None)),
    "batch norm's eps": (norm(eps=1e-3), ("forward", "eval", "output", "bn", None)),
    "padding": ({"padding": "SAME"}, ("forward", "eval", "output", "conv", None)),
    "a transposed square kernel": (
        {"square": lambda name: Untransposed(name=name)},
        ("forward", "eval", "output", "fc2", None),
    ),
    "flatten order": (
        {"order": (0, 1, 2, 3)},
        ("forward", "eval", "output", "fc1", ("leaky_relu", "fc1")),
    ),
    "a factor between": (
        {"middle": lambda x: 1.01 * x},
        ("forward", "eval", "output", "fc3", ("fc2", "fc3")),
    ),
    "momentum": (norm(momentum=0.9), ("forward", "train", "buffer", "bn.running_mean", None)),
    "biased": (norm(unbiased=False), ("forward", "train", "buffer", "bn.running_var", None)),
    "a sum for a mean": ({"twin": SQUARED}, ("forward", "train", "loss", "the loss", None)),
    "a gradient lost between": (
        {"middle": leaky},
        ("gradients", "train", "gradient", "fc2", ("fc2", "fc3")),
    ),
    "a gradient doubled at the input": (
        {"last": twice},
        ("gradients", "train", "gradient", "fc3", ("fc3", "ln")),
    ),
    "nesterov": ({"twin": NESTEROV}, ("step", "train", "update", "param/conv.weight", None)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_origin_is_named(name: str):
    fault, wanted = FAULTS[name]
    result = found(net(**fault))
    origin = result.origin
    assert origin is not None, trouble(result.result)
    place = (origin.stage, origin.mode, origin.what, origin.torch, origin.between)
    assert place == wanted


def test_a_clean_pair_has_no_origin():
    result = found(net())
    assert result.result.verdict == SAME, trouble(result.result)
    assert (result.origin, result.cause, result.rows) == (None, None, [])


def test_what_was_inherited_is_innocent():
    rows = {row.torch: row for row in found(net(slope=0.1)).rows}
    assert [name for name, row in rows.items() if row.verdict == "ORIGIN"] == ["leaky_relu"]
    after = [rows[name] for name in ("fc1", "gelu", "fc2", "fc3", "ln")]
    assert all(row.verdict == "inherited" for row in after)
    assert all((row.difference or 0) > 1e-3 > 1e-12 > row.replayed for row in after)
    assert rows["conv"].verdict == rows["bn"].verdict == "same"


def test_of_two_faults_the_first_is_the_origin_and_the_second_is_seen():
    rows = {row.torch: row.verdict for row in found(net(slope=0.1, eps=1e-6)).rows}
    assert (rows["leaky_relu"], rows["fc3"], rows["ln"]) == ("ORIGIN", "inherited", "ORIGIN")


@pytest.mark.parametrize("power", [-20, -7, 7, 20])
@pytest.mark.parametrize(
    "fault", [{}, {"exact": False}, {"middle": leaky}], ids=["clean", "gelu", "gradient"]
)
def test_the_size_of_the_loss_is_no_matter(power: int, fault: dict):
    def scaled(factor: float) -> Twin:
        losses = (
            lambda output, y: factor * mean_error(output, y),
            lambda output, y: factor * jnp.mean((output - y) ** 2),
        )
        return net(**fault, twin={"targets": {"y": Array((4, 4))}, "loss": losses})

    def verdicts(twin: Twin) -> list[str]:
        stages = found(twin).result.stages
        return [stages[name].verdict for name in ("weights", "forward", "gradients")]

    assert verdicts(scaled(2.0**power)) == verdicts(scaled(1.0))


def test_an_extra_leaf_is_named():
    result = found(net(last=lambda x: Scaled(name="extra")(x)))
    assert result.origin is not None
    assert result.origin.stage == "weights"
    assert "extra" in result.origin.jax
