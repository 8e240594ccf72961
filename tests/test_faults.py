"""Planted faults: each must be DIVERGED on its rung, and the pair without it the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Twin
from compare.ladder.result import Result
from compare.ladder.verdict import DIVERGED, SAME
from compare.report.entries import twin_dict
from tests.planted import Norm, Scaled, Untransposed, net, same
from tests.toys import climb, trouble


def caught(result: Result, rung: str, before: str = "") -> None:
    """The rung diverges; those named before it do not."""
    assert result.stages[rung].verdict == DIVERGED, trouble(result) or "nothing was found"
    assert result.verdict == DIVERGED
    for name in before.split():
        assert result.stages[name].verdict == SAME, trouble(result)


def test_without_a_fault():
    result = climb(net(), numerics=True)
    assert result.verdict == SAME, trouble(result)
    assert result.moved == result.leaves == 12
    assert result.buffers == 2


# Weights.

WEIGHTS = {
    "a missing bias": {"bias": False},
    "an extra leaf": {"last": lambda x: Scaled(name="extra")(x)},
    "another width": {"width": 5},
    "two layers in one": {"rename": {"fc3": "fc2"}},
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name: str):
    caught(climb(net(**WEIGHTS[name])), "weights")


# Forward.


FORWARD = {
    "epsilon of the layer norm": {"eps": 1e-6},
    "epsilon of the batch norm": {"norm": lambda name: Norm(eps=1e-3, name=name)},
    "the tanh form of gelu": {"exact": False},
    "SAME padding at stride 2": {"padding": "SAME"},
    "flattened in another order": {"order": (0, 1, 2, 3)},
    "slope": {"slope": 0.01},
    "a square kernel that is not transposed": {"square": lambda name: Untransposed(name=name)},
    "square layers that change places": {"rename": {"fc2": "fc_", "fc3": "fc2", "fc_": "fc3"}},
    "one part in ten million": {"middle": lambda x: x * (1 + 1e-7)},
    "one element": {"middle": lambda x: x.at[0, 0].add(1e-6)},
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward(name: str):
    caught(climb(net(**FORWARD[name])), "forward", "weights")


# Gradients.


def graded(backward: Callable) -> Callable:
    """The identity with a backward rule of its own."""
    rule = jax.custom_vjp(same)
    rule.defvjp(lambda x: (x, None), lambda _, g: (backward(g),))
    return rule


class Biased(fnn.Module):
    """A norm behind whose back the bias of the layer before gets a gradient."""

    @fnn.compact
    def __call__(self, x, *, train: bool = False):
        pushed = jax.custom_vjp(same)
        pushed.defvjp(lambda x: (x, None), lambda _, g: (g + 0.01,))
        return Norm(name="inner")(pushed(x), train=train)


GRADIENTS = {
    "a custom rule": {"middle": graded(lambda g: 2 * g)},
    "a custom rule, by a little": {"middle": graded(lambda g: (1 + 1e-7) * g)},
    "a sign": {"last": graded(jnp.negative)},
    "stop_gradient": {"middle": lambda x: 0.5 * x + 0.5 * jax.lax.stop_gradient(x)},
    "stop_gradient at the input": {"first": jax.lax.stop_gradient},
    "a gradient where there is none": {
        "norm": lambda name: Biased(name=name),
        "rename": {"^bn$": "bn.inner"},
    },
    "clipped": {"middle": graded(lambda g: jnp.clip(g, -0.01, 0.01))},
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str):
    caught(climb(net(**GRADIENTS[name])), "gradients", "weights forward")


def test_a_gradient_where_there_is_none_alone():
    """The bias before a batch norm: zero by analysis in torch, and only it is wrong in JAX."""

    @jax.custom_vjp
    def add(x, bias):
        return x + bias

    add.defvjp(lambda x, b: (x + b, None), lambda _, g: (g, g.sum(0) + 0.01))

    class Dense(fnn.Module):
        faulty: bool

        @fnn.compact
        def __call__(self, x):
            x = x @ self.param("kernel", fnn.initializers.lecun_normal(), (3, 4))
            bias = self.param("bias", fnn.initializers.zeros, (4,))
            return add(x, bias) if self.faulty else x + bias

    class Jax(fnn.Module):
        faulty: bool

        @fnn.compact
        def __call__(self, x):
            x = Dense(self.faulty, name="fc")(x)
            return (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)

    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x):
            x = self.fc(x)
            return (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 1e-5)

    for faulty in (False, True):
        twin = Twin(torch=Torch, jax=Jax(faulty), inputs={"x": Array((5, 3))}, name="bias")
        result = climb(twin)
        if faulty:
            caught(result, "gradients", "weights forward")
        else:
            assert DIVERGED not in {s.verdict for s in result.stages.values()}, trouble(result)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_bias_before_batch_norm_is_no_chaos(optimizer: str):
    """Its gradient is rounding, which Adam turns into steps; nothing else may suffer from them."""
    result = climb(net(twin={"optimizer": (optimizer, {"lr": 0.01})}), steps=10)
    assert result.stages["trajectory"].verdict == SAME, trouble(result)


# Step.


class TorchLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        return torch.tanh(self.fc(x))


class JaxLinear(fnn.Module):
    round_to: Any = None

    @fnn.compact
    def __call__(self, x):
        x = fnn.Dense(4, name="fc")(x)
        return jnp.tanh(rounded(self.round_to)(x) if self.round_to else x)


def linear(optimizer: Any, **options: Any) -> Twin:
    inputs = {"x": Array((5, 3))}
    model = JaxLinear(**options)
    return Twin(torch=TorchLinear, jax=model, inputs=inputs, optimizer=optimizer, name="linear")


def adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-4, root: float = 0.0) -> Any:
    return optax.adam(0.01, b1, b2, eps, eps_root=root)


def torch_adam(cls: type = torch.optim.Adam, **options: Any) -> Callable:
    return lambda parameters: cls(parameters, lr=0.01, eps=1e-4, **options)


def torch_sgd(**options: Any) -> Callable:
    return lambda parameters: torch.optim.SGD(parameters, lr=0.1, **options)


def uncorrected() -> Any:
    """Adam without its bias correction."""
    moments = optax.scale_by_adam(eps=1e-4)

    def update(updates, state, params=None):
        state: Any = moments.update(updates, state, params)[1]
        steps = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + 1e-4), state.mu, state.nu)
        return steps, state

    return optax.chain(optax.GradientTransformation(moments.init, update), optax.scale(-0.01))


def dampened(rate: float = 0.9) -> Any:
    """Momentum that takes only a tenth of the new gradient in."""
    trace = optax.chain(optax.scale(1 - rate), optax.trace(rate))
    return optax.chain(trace, optax.scale(-0.1))


def decayed(late: int = 0) -> Any:
    """Coupled weight decay, from a step on."""

    def rate(count: Any) -> Any:
        return jnp.where(count < late, 0.0, 0.1)

    decay = optax.add_decayed_weights(rate)
    return optax.chain(decay, optax.trace(0.9), optax.scale(-0.1))


MOMENTUM = torch_sgd(momentum=0.9)
CLEAN_STEPS = {
    "adam": (torch_adam(), adam()),
    "adam with L2": (
        torch_adam(weight_decay=0.1),
        optax.chain(optax.add_decayed_weights(0.1), adam()),
    ),
    "adamw": (
        torch_adam(torch.optim.AdamW, weight_decay=0.1),
        optax.adamw(0.01, eps=1e-4, weight_decay=0.1),
    ),
    "momentum": (MOMENTUM, optax.sgd(0.1, 0.9)),
    "nesterov": (torch_sgd(momentum=0.9, nesterov=True), optax.sgd(0.1, 0.9, nesterov=True)),
    "weight decay": (torch_sgd(momentum=0.9, weight_decay=0.1), decayed()),
    "rmsprop": (
        lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=1e-4),
        optax.rmsprop(0.01, 0.9, 1e-4, eps_in_sqrt=False),
    ),
}
STEPS = {
    "Adam's b1": (torch_adam(), adam(b1=0.91)),
    "Adam's b2": (torch_adam(), adam(b2=0.99)),
    "Adam's epsilon inside the root": (torch_adam(), adam(eps=0.0, root=1e-8)),
    "Adam's epsilon": (torch_adam(), adam(eps=1e-8)),
    "no bias correction": (torch_adam(), uncorrected()),
    "no weight decay": (torch_sgd(momentum=0.9, weight_decay=0.1), optax.sgd(0.1, 0.9)),
    "decay that is decoupled": (
        torch_adam(weight_decay=0.1),
        optax.adamw(0.01, eps=1e-4, weight_decay=0.1),
    ),
    "decay that skips the bias": (
        torch_sgd(weight_decay=0.1),
        optax.chain(
            optax.add_decayed_weights(0.1, lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
            optax.scale(-0.1),
        ),
    ),
    "dampening": (MOMENTUM, dampened()),
    "no nesterov": (torch_sgd(momentum=0.9, nesterov=True), optax.sgd(0.1, 0.9)),
    "no momentum": (MOMENTUM, optax.sgd(0.1)),
    "momentum that starts late": (
        torch_sgd(momentum=0.9),
        optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.1)),
    ),
    "rate": (MOMENTUM, optax.sgd(0.1 * (1 + 1e-7), 0.9)),
    "epsilon inside rmsprop's root": (
        lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=1e-4),
        optax.rmsprop(0.01, 0.9, 1e-8, eps_in_sqrt=True),
    ),
}


@pytest.mark.parametrize("name", CLEAN_STEPS)
def test_without_a_fault_of_the_step(name: str):
    result = climb(linear(CLEAN_STEPS[name]))
    assert result.verdict == SAME, trouble(result)


@pytest.mark.parametrize("name", STEPS)
def test_step(name: str):
    caught(climb(linear(STEPS[name])), "step", "weights forward gradients")


def shifted(rate: Callable, by: int) -> Callable:
    return lambda count: rate(count + by)


def broken(rate: Callable, at: int) -> Callable:
    return lambda count: jnp.where(count < at, rate(count), 1.01 * rate(count))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("fault", "rung", "before"),
    [
        (None, "", ""),
        (lambda rate: shifted(rate, 1), "step", "weights forward gradients"),
        (lambda rate: shifted(rate, -1), "step", "weights forward gradients"),
        (lambda rate: lambda count: rate(0 * count), "step", "weights forward gradients"),
        (lambda rate: broken(rate, 6), "trajectory", "weights forward gradients step"),
    ],
    ids=["none", "one early", "one late", "constant", "wrong from the seventh step on"],
)
def test_schedule(optimizer: str, fault: Any, rung: str, before: str, monkeypatch):
    from jaxnn.training import optimizers

    right = getattr(optimizers, optimizer)
    if fault is not None:
        faulty = lambda lr, **options: right(lr=fault(lr), **options)  # noqa: E731
        monkeypatch.setattr(optimizers, optimizer, faulty)
    result = climb(linear((optimizer, {"lr": 0.05})), steps=8)
    if fault is None:
        assert result.verdict == SAME, trouble(result)
    else:
        caught(result, rung, before)


# Trajectory.


def late(transformation: Any, other: Any, at: int) -> Any:
    """One transformation, then another."""

    def init(params):
        return jnp.zeros((), jnp.int32), transformation.init(params)

    def update(updates, state, params=None):
        count, inner = state
        first, one = transformation.update(updates, inner, params)
        second, two = other.update(updates, inner, params)
        choose = lambda a, b: jax.tree.map(lambda x, y: jnp.where(count < at, x, y), a, b)  # noqa: E731
        return choose(first, second), (count + 1, choose(one, two))

    return optax.GradientTransformation(init, update)


TRAJECTORIES = {
    "momentum of the batch norm": {"norm": lambda name: Norm(momentum=0.01, name=name)},
    "momentum of the other value": {"norm": lambda name: Norm(momentum=0.9, name=name)},
    "biased running variance": {"norm": lambda name: Norm(unbiased=False, name=name)},
}


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_trajectory(name: str):
    result = climb(net(**TRAJECTORIES[name]))
    caught(result, "trajectory", "weights gradients step")
    final = [j for j in result.stages["trajectory"].judged if j.verdict == DIVERGED]
    assert any(j.name.startswith("eval/out") for j in final)
    assert any("buffer/" in j.name for j in final)
    assert not any("param/" in j.name for j in final)


LATE = {
    "decay that comes later": (MOMENTUM, decayed(late=5)),
    "a change of optimizer": (MOMENTUM, late(optax.sgd(0.1, 0.9), optax.sgd(0.11, 0.9), 5)),
    "momentum that is reset": (
        MOMENTUM,
        late(optax.sgd(0.1, 0.9), optax.sgd(0.1, 0.8), 5),
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_late_faults(name: str):
    """Right for the first steps, from any state: only a trajectory shows them."""
    result = climb(linear(LATE[name]), steps=8)
    caught(result, "trajectory", "weights forward gradients step")


# Numerics: the same mathematics, and yet a difference in float32.


def rounded(dtype: Any) -> Callable:
    """Through a smaller dtype, in float32 alone."""
    return lambda x: x.astype(dtype).astype(x.dtype) if x.dtype == jnp.float32 else x


def one_pass(x):
    """x - mean over root of E[x^2] - E[x]^2."""
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt((x * x).mean(-1, keepdims=True) - mean**2 + 1e-5)


def two_pass(x):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)


NUMERICS = {
    "bfloat16 between layers": rounded(jnp.bfloat16),
    "float16 between layers": rounded(jnp.float16),
    "gradients in bfloat16": graded(rounded(jnp.bfloat16)),
}


@pytest.mark.parametrize("name", NUMERICS)
def test_numerics(name: str):
    result = climb(net(middle=NUMERICS[name]), numerics=True)
    rung = "gradients" if name.startswith("gradients") else "forward"
    caught(result, rung, "weights")
    assert all(j.verdict == SAME for s in result.stages.values() for j in s.judged), trouble(result)


def test_a_fault_of_numerics_alone_is_called_so():
    result = climb(linear(("sgd", {"lr": 0.1}), round_to=jnp.bfloat16), numerics=True)
    assert twin_dict(result).get("class") == "numerics"
    faulty = climb(linear((torch_adam(), adam(b1=0.91))), numerics=True)
    assert twin_dict(faulty).get("class") != "numerics"


@pytest.mark.parametrize(("norm", "verdict"), [(two_pass, SAME), (one_pass, DIVERGED)])
def test_cancellation(norm: Callable, verdict: str):
    """A variance in one pass, far from the origin."""

    def reference(x):
        x = x + 30.0
        x = x - x.mean(-1, keepdim=True)
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)

    twin = Twin(torch=reference, jax=lambda x: norm(x + 30.0), inputs={"x": Array((4, 64))})
    result = climb(twin, numerics=True)
    assert result.verdict == verdict, trouble(result)
    assert all(j.verdict == SAME for s in result.stages.values() for j in s.judged), trouble(result)


def test_a_matrix_product_in_bfloat16():
    """What a GPU's or TPU's default precision does, in float32 alone."""

    class Rounded(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            down = rounded(jnp.bfloat16)
            kernel = self.param("kernel", fnn.initializers.lecun_normal(), (4, 4))
            bias = self.param("bias", fnn.initializers.zeros, (4,))
            return down(x) @ down(kernel) + bias

    result = climb(net(square=lambda name: Rounded(name=name)), numerics=True)
    caught(result, "forward", "weights")
    assert all(j.verdict == SAME for s in result.stages.values() for j in s.judged), trouble(result)


def test_a_branch_that_nobody_else_takes():
    """A kink that lies elsewhere, in float32 alone: farther than rounding reaches."""

    def shifted_relu(x):
        at = 1e-3 if x.dtype == jnp.float32 else 0.0
        return jnp.where(x > at, x, 0.0)

    shifted_relu.__name__ = "relu"
    twin = Twin(
        torch=F.relu, jax=jax.jit(shifted_relu), inputs={"x": Array((40, 40))}, name="branch"
    )
    assert climb(twin, numerics=True).verdict == DIVERGED
