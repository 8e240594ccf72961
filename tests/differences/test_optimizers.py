"""Optimizers: one wrong update, from a state that is not zero, is recognised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

from compare.differences.catalogue import Site
from compare.differences.measuring import normal
from compare.share import to_jax, to_numpy, to_torch
from compare.weights.optim import SCHEDULE, START, slots, write_optax, write_torch
from tests.differences.places import check, confirmed, label


def update(kind: str, options: dict[str, Any], wrong: Callable) -> Site:
    """A site: `wrong` gives an optax transformation, or the parameter from (g, p, state)."""
    start, gradient = to_numpy(normal(4, 3)), to_numpy(normal(4, 3, seed=1))
    parameter = nn.Parameter(to_torch(start))
    optimizer = getattr(torch.optim, kind)([parameter], **options)
    names = [s for s in slots((kind.lower(), options)) if s != "step"]
    state = {s: np.abs(to_numpy(normal(4, 3, seed=2 + i))) for i, s in enumerate(names)}
    if "grad_avg" in state:  # the square of a mean is below the mean of the squares
        state["grad_avg"] = 0.1 * state["grad_avg"]
    if "mu_product" in state:
        state["mu_product"] = np.asarray(0.6, np.float32)
    write_torch(optimizer, {parameter: "w"}, {k: {"w": v} for k, v in state.items()} | {"step": {}})
    if "mu_product" in state:
        optimizer.state[parameter]["mu_product"] = torch.tensor(0.6)
    parameter.grad = to_torch(gradient)
    optimizer.step()
    with jax.enable_x64(True):
        made: Any = wrong(*(to_jax(a) for a in (gradient, start)), state)
        if hasattr(made, "update"):
            tree = {"w": to_jax(start)}
            given = {k: {"w": v} for k, v in state.items()}
            filled = write_optax(
                ("", {}),
                made.init(tree),
                tree,
                given,
                lambda t: {k: to_jax(v) for k, v in t.items()},
            )
            moves, _ = made.update({"w": to_jax(gradient)}, filled, tree)
            made = tree["w"] + moves["w"]
        theirs = to_numpy(made)
    context = {
        "options": options,
        "gradient": gradient,
        "param": start,
        "state": state,
        "step": START,
        "schedule": SCHEDULE,
    }
    return Site(kind, "update", theirs, to_numpy(parameter), name="w", optimizer=context)


LR = {"lr": 0.1}
MOMENTUM = {"lr": 0.1, "momentum": 0.9}


def _adam(g: Any, p: Any, s: dict, t: int = START + 1, first: bool = True, second: bool = True):
    m = 0.9 * s["exp_avg"] + 0.1 * g
    v = 0.999 * s["exp_avg_sq"] + 0.001 * g * g
    m = m / (1 - 0.9**t) if first else m
    v = v / (1 - 0.999**t) if second else v
    return p - 0.1 * m / (jnp.sqrt(v) + 1e-8)


def _amsgrad(g: Any, p: Any, s: dict) -> Any:
    m = 0.9 * s["exp_avg"] + 0.1 * g
    v = (0.999 * s["exp_avg_sq"] + 0.001 * g * g) / (1 - 0.999**4)
    return p - 0.1 * m / (1 - 0.9**4) / (jnp.sqrt(jnp.maximum(s["max_exp_avg_sq"], v)) + 1e-8)


def _adadelta(g: Any, p: Any, s: dict) -> Any:
    v = 0.95 * s["square_avg"] + 0.05 * g * g
    return p - g * jnp.sqrt(s["acc_delta"] + 1e-6) / jnp.sqrt(v + 1e-6)


UPDATES: list[tuple] = [
    ("OPT-01", "Adam", {**LR, "eps": 1e-3}, lambda *_: optax.adam(0.1, eps=0.0, eps_root=1e-3)),
    ("OPT-01", "AdamW", {**LR, "eps": 1e-3}, lambda *_: optax.adamw(0.1, weight_decay=0.01)),
    ("OPT-01", "Adam", {**LR, "eps": 1e-3}, lambda *_: optax.adam(0.1, eps=1e-5)),
    ("OPT-02", "Adam", {**LR, "amsgrad": True}, _amsgrad),
    ("OPT-03", "AdamW", LR, lambda *_: optax.adamw(0.1)),
    ("OPT-03", "SGD", {**MOMENTUM, "weight_decay": 0.1}, lambda *_: optax.sgd(0.1, 0.9)),
    ("OPT-04", "Adam", {**LR, "weight_decay": 0.1}, lambda *_: optax.adamw(0.1, weight_decay=0.1)),
    (
        "OPT-04",
        "AdamW",
        {**LR, "weight_decay": 0.1},
        lambda *_: optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.1)),
    ),
    (
        "OPT-04",
        "AdamW",
        {**LR, "weight_decay": 0.1},
        lambda *_: optax.chain(optax.adam(0.1), optax.add_decayed_weights(-0.1)),
    ),
    (
        "OPT-05",
        "SGD",
        {**MOMENTUM, "weight_decay": 0.1},
        lambda *_: optax.chain(optax.sgd(0.1, 0.9), optax.add_decayed_weights(0.1)),
    ),
    (
        "OPT-05",
        "SGD",
        {**MOMENTUM, "weight_decay": 0.1, "nesterov": True},
        lambda *_: optax.chain(
            optax.trace(0.9, True), optax.add_decayed_weights(0.1), optax.scale(-0.1)
        ),
    ),
    ("OPT-06", "SGD", MOMENTUM, lambda g, p, s: p - (0.9 * s["momentum_buffer"] + 0.1 * g)),
    ("OPT-06", "SGD", MOMENTUM, lambda g, p, s: p - 0.1 * (0.9 * s["momentum_buffer"] + 0.1 * g)),
    (
        "OPT-06",
        "SGD",
        {**MOMENTUM, "dampening": 0.5},
        lambda *_: optax.sgd(0.1, 0.9),
    ),
    (
        "OPT-06",
        "SGD",
        {**MOMENTUM, "nesterov": True},
        lambda *_: optax.chain(optax.scale(0.1), optax.sgd(0.1, 0.9, nesterov=True)),
    ),
    (
        "OPT-06",
        "SGD",
        MOMENTUM,
        lambda *_: optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.1)),
    ),
    ("OPT-07", "SGD", MOMENTUM, lambda *_: optax.sgd(0.1, 0.9, nesterov=True)),
    ("OPT-07", "SGD", {**MOMENTUM, "nesterov": True}, lambda *_: optax.sgd(0.1, 0.9)),
    ("OPT-08", "RMSprop", LR, lambda *_: optax.rmsprop(0.1)),
    ("OPT-08", "RMSprop", LR, lambda *_: optax.rmsprop(0.1, decay=0.99)),
    (
        "OPT-09",
        "RMSprop",
        MOMENTUM,
        lambda *_: optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False, momentum=0.9),
    ),
    (
        "OPT-09",
        "RMSprop",
        {**LR, "centered": True},
        lambda *_: optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False),
    ),
    ("OPT-10", "Adagrad", LR, lambda *_: optax.adagrad(0.1)),
    (
        "OPT-10",
        "Adagrad",
        LR,
        lambda g, p, s: p - 0.1 * g / (jnp.sqrt(s["sum"] + 0.1 + g * g) + 1e-10),
    ),
    ("OPT-11", "Adam", LR, lambda *_: optax.chain(optax.scale_by_adam(), optax.scale(0.1))),
    ("OPT-12", "NAdam", LR, lambda *_: optax.nadam(0.1)),
    ("OPT-13", "RAdam", LR, lambda *_: optax.adam(0.1)),
    ("OPT-15", "Adam", LR, lambda *a: _adam(*a, first=False, second=False)),
    ("OPT-15", "Adam", LR, lambda *a: _adam(*a, first=False)),
    ("OPT-15", "Adam", LR, lambda *a: _adam(*a, second=False)),
    ("OPT-16", "Adam", LR, lambda *a: _adam(*a, t=START)),
    ("OPT-16", "Adam", LR, lambda *a: _adam(*a, t=START + 2)),
    ("OPT-17", "Adam", {**LR, "betas": (0.5, 0.99)}, lambda *_: optax.adam(0.1)),
    ("OPT-17", "AdamW", LR, lambda *_: optax.adamw(0.1, 0.999, 0.9, weight_decay=0.01)),
    ("OPT-18", "Adadelta", {}, _adadelta),
    ("OPT-19", "Adamax", {**LR, "eps": 1e-3}, lambda *_: optax.adamax(0.1, eps=1e-8)),
    ("OPT-20", "Adam", LR, lambda g, p, s: _adam(g, p, dict.fromkeys(s, 0.0), t=1)),
    ("OPT-22", "Adam", LR, lambda g, p, s: _adam(g / 4, p, s)),
    ("OPT-24", "Adam", LR, lambda g, p, s: p + g),
    ("OPT-24", "SGD", MOMENTUM, lambda g, p, s: p * 1.0),
    (
        "OPT-27",
        "SGD",
        MOMENTUM,
        lambda *_: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, 0.9)),
    ),
    (
        "OPT-27",
        "SGD",
        MOMENTUM,
        lambda *_: optax.chain(optax.clip(0.5), optax.sgd(0.1, 0.9)),
    ),
    ("OPT-27", "Adam", LR, lambda g, p, s: _adam(0.3719 * g, p, s)),
    ("OPT-30", "Adam", LR, lambda *_: optax.adam(0.013)),
    (
        "OPT-28",
        "SGD",
        MOMENTUM,
        lambda *_: optax.sgd(0.1 * SCHEDULE[START - 1] / SCHEDULE[START], 0.9),
    ),
    (
        "OPT-28",
        "Adam",
        LR,
        lambda *_: optax.adam(0.1 * SCHEDULE[START + 1] / SCHEDULE[START]),
    ),
]


@pytest.mark.parametrize("row", UPDATES, ids=label)
def test_a_wrong_update_is_recognised(row: tuple):
    code, kind, options, wrong = row
    check(code, update(kind, options, wrong))


@pytest.mark.parametrize("code", ["OPT-27", "OPT-30"])
def test_a_factor_that_is_fitted_holds_for_every_parameter(code: str):
    """A trust ratio gives each parameter its own."""

    def halved(g, p, s):
        return _adam(0.37 * g, p, s) if code == "OPT-27" else p + 0.37 * (_adam(g, p, s) - p)

    site, same = update("Adam", LR, halved), update("Adam", LR, halved)
    other = update("Adam", LR, lambda g, p, s: _adam(g, p, s) if code == "OPT-27" else p + g)
    site.optimizer = {**site.optimizer, "others": lambda: [same]}
    assert confirmed(code, site)
    site.optimizer = {**site.optimizer, "others": lambda: [same, other]}
    assert not confirmed(code, site)


def test_a_rate_of_zero_freezes_no_single_parameter():
    site, other = (update("SGD", MOMENTUM, lambda g, p, s: p * 1.0) for _ in range(2))
    site.optimizer = {**site.optimizer, "others": lambda: [other]}
    assert confirmed("OPT-30", site)
    assert not confirmed("OPT-24", site)


def test_another_rate_is_no_late_schedule_where_there_is_none():
    site = update("Adam", LR, lambda *_: optax.adam(0.1 * SCHEDULE[START + 1] / SCHEDULE[START]))
    site.optimizer = {**site.optimizer, "schedule": ()}
    assert not confirmed("OPT-28", site)
    assert confirmed("OPT-30", site)


def first(kind: str, options: dict[str, Any], wrong: Any) -> Site:
    """A site: the update from each side's own start."""
    site = update(kind, options, wrong)
    start, gradient = site.optimizer["param"], site.optimizer["gradient"]
    parameter = nn.Parameter(to_torch(start))
    parameter.grad = to_torch(gradient)
    getattr(torch.optim, kind)([parameter], **options).step()
    with jax.enable_x64(True):
        transformation = wrong()
        moves, _ = transformation.update(
            to_jax(gradient), transformation.init(to_jax(start)), to_jax(start)
        )
        site.theirs = start + to_numpy(moves)
    site.what, site.ours = "start", to_numpy(parameter)
    site.optimizer = {**site.optimizer, "state": {}, "step": 0}
    return site


def test_a_start_of_the_optimizer_is_recognised():
    """Optax's accumulator starts at 0.1, an average at 0."""
    options = {"lr": 0.1, "eps": 0.0}
    check("OPT-10", first("Adagrad", options, lambda *_: optax.adagrad(0.1, eps=0.0)))
    average = optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.1))
    check("OPT-06", first("SGD", {**MOMENTUM, "dampening": 0.9}, lambda *_: average))


def test_a_state_that_adam_has_not_is_recognised():
    """The largest second moment, which moves no parameter in the first update."""
    site = update("Adam", LR, lambda *_: optax.amsgrad(0.1))
    moment = 0.999 * site.optimizer["state"]["exp_avg_sq"] + 0.001 * site.optimizer["gradient"] ** 2
    site.what, site.ours = "state", np.zeros_like(moment)
    site.theirs = moment / (1 - 0.999 ** (START + 1))
    check("OPT-02", site)


def test_the_schedule_of_the_run_is_seen_in_the_update():
    """A candidate is made with PyTorch's own learning rate, whatever the options say."""
    site = update("Adam", LR, lambda *a: _adam(*a, second=False))
    site.optimizer = {**site.optimizer, "options": {"lr": 0.13}}
    assert confirmed("OPT-15", site)
