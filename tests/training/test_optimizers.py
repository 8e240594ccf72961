"""Optimizers of the two trees, 200 steps in float64: parameters and state at every step."""

import math
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax.training.train_state import TrainState

from compare.share import to_jax, to_numpy, to_torch
from compare.weights import optim
from jaxnn.training import adaptive as jax_adaptive
from jaxnn.training import averaging as jax_averaging
from jaxnn.training import gradients as jax_gradients
from jaxnn.training import moments as jax_moments
from jaxnn.training import optimizers as jax_optimizers
from jaxnn.training import second_order as jax_second
from tests.arrays import apart
from torchref.training import adaptive, averaging, gradients, moments, optimizers

STEPS = 200
LIMIT = 1e-11  # of the largest element; honest noise of 200 steps is 1e-16 to 1e-14
SIDES = [
    (optimizers, jax_optimizers),
    (adaptive, jax_adaptive),
    (moments, jax_moments),
    (averaging, jax_averaging),
]
# Name and keywords of both sides. A learning rate under "rate" follows a schedule.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {"lr": 0.1}),
    "momentum": ("sgd", {"rate": 0.1, "momentum": 0.9}),
    "nesterov": ("sgd", {"rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "dampening": ("sgd", {"rate": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    "adagrad": ("adagrad", {"lr": 0.1}),
    "adagrad, decayed": (
        "adagrad",
        {
            "rate": 0.1,
            "lr_decay": 0.01,
            "weight_decay": 0.1,
            "initial_accumulator_value": 0.2,
            "eps": 1e-3,
        },
    ),
    "adadelta": ("adadelta", {"rate": 1.0, "weight_decay": 0.1}),
    "rmsprop": ("rmsprop", {"lr": 0.01, "eps": 1e-3}),
    "rmsprop, momentum": ("rmsprop", {"rate": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
    "rmsprop, centered": ("rmsprop", {"rate": 0.01, "momentum": 0.5, "centered": True}),
    "rprop": ("rprop", {"rate": 0.01, "step_sizes": (1e-4, 0.05)}),
    "adam": ("adam", {"rate": 0.01, "weight_decay": 0.1}),
    "amsgrad": ("adam", {"rate": 0.01, "amsgrad": True, "betas": (0.9, 0.9)}),
    "adamw": ("adamw", {"rate": 0.01, "weight_decay": 0.1}),
    "amsgrad, decoupled": ("adamw", {"lr": 0.01, "amsgrad": True, "betas": (0.0, 0.9)}),
    "adamax": ("adamax", {"rate": 0.01, "weight_decay": 0.1, "eps": 1e-3}),
    "nadam": ("nadam", {"rate": 0.01, "weight_decay": 0.1}),
    "nadam, decoupled": (
        "nadam",
        {"rate": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.1},
    ),
    "radam": ("radam", {"rate": 0.01, "weight_decay": 0.1, "eps": 1e-3}),
    "radam, decoupled": (
        "radam",
        {"rate": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "betas": (0.8, 0.99)},
    ),
    "radam, never rectified": ("radam", {"rate": 0.01, "betas": (0.9, 0.6)}),
    "asgd": ("asgd", {"rate": 0.1, "weight_decay": 0.1}),
    "asgd, averaged": ("asgd", {"lr": 0.1, "t0": 50, "lambd": 0.01, "alpha": 0.6}),
}
# What a porter may take for the same: optax's own.
FAULTS = {
    "dampening": lambda: optax.chain(
        optax.add_decayed_weights(0.1), optax.scale(0.7), optax.sgd(schedule(0.1), 0.9)
    ),
    "adagrad": lambda: optax.adagrad(0.1),
    "rmsprop, momentum": lambda: optax.chain(
        optax.add_decayed_weights(0.1), optax.rmsprop(schedule(0.01), 0.99, momentum=0.9)
    ),
    "rprop": lambda: optax.rprop(0.01, min_step_size=1e-4, max_step_size=0.05),
    "amsgrad": lambda: optax.amsgrad(schedule(0.01), 0.9, 0.9),
    "nadam": lambda: optax.chain(optax.add_decayed_weights(0.1), optax.nadam(schedule(0.01))),
    "radam": lambda: optax.chain(
        optax.add_decayed_weights(0.1), optax.radam(schedule(0.01), eps=1e-3)
    ),
}


def schedule(rate: float) -> Any:
    return lambda count: rate / (1 + 0.1 * count)


def side(name: str) -> tuple[Any, Any]:
    return next((getattr(t, name), getattr(j, name)) for t, j in SIDES if name in t.__all__)


def given() -> tuple[dict, dict]:
    """Parameters, and gradients of every step: some steps and some elements exactly zero."""
    rng = np.random.default_rng(0)
    params = {"w": rng.standard_normal((3, 4)), "b": rng.standard_normal(4)}
    grads = {name: rng.standard_normal((STEPS, *p.shape)) for name, p in params.items()}
    for gradient in grads.values():
        gradient[50:100] *= 10
        gradient[20:25] = 0
        gradient[..., -1] = 0
        gradient[:30, ..., 0] = 0
    return params, grads


@pytest.fixture(scope="module")
def by_torch() -> dict[str, dict[str, np.ndarray]]:
    """Case -> quantity -> its value after every step."""
    params, grads = given()
    torch.set_default_dtype(torch.float64)  # NAdam's product of momenta is of the default type
    runs = {}
    for case, (name, keywords) in CASES.items():
        leaves = {k: torch.nn.Parameter(to_torch(p)) for k, p in params.items()}
        keywords = dict(keywords)
        rate = keywords.pop("rate", None)
        if rate:
            keywords["lr"] = rate
        optimizer = side(name)[0](leaves.values(), **keywords)
        steps = []
        for step in range(STEPS):
            for k, leaf in leaves.items():
                leaf.grad = to_torch(grads[k][step])
            if rate:
                optimizer.param_groups[0]["lr"] = schedule(rate)(step)
            optimizer.step()
            state = optim.read_torch(optimizer, {leaf: k for k, leaf in leaves.items()})
            state["param"] = {k: to_numpy(leaf) for k, leaf in leaves.items()}
            steps.append(
                {f"{s}/{k}": np.array(v) for s, of in state.items() for k, v in of.items()}
            )
        runs[case] = {key: np.stack([step[key] for step in steps]) for key in steps[0]}
    torch.set_default_dtype(torch.float32)
    return runs


@pytest.fixture(scope="module")
def by_jax() -> dict[str, tuple[Any, Any]]:
    """Case -> parameters and optax state after every step; all cases are one program."""
    made = {}
    for case, (name, keywords) in CASES.items():
        keywords = dict(keywords)
        if "rate" in keywords:
            keywords["lr"] = schedule(keywords.pop("rate"))
        made[case] = side(name)[1](**keywords)
    made |= {f"fault: {case}": make() for case, make in FAULTS.items()}

    def step(carry, grads):
        after = {}
        for case, (params, state) in carry.items():
            updates, state = made[case].update(grads, state, params)
            after[case] = optax.apply_updates(params, updates), state
        return after, after

    with jax.enable_x64(True):
        params, grads = jax.tree.map(to_jax, given())
        start = {case: (params, rule.init(params)) for case, rule in made.items()}
        return jax.tree.map(to_numpy, jax.jit(partial(jax.lax.scan, step))(start, grads)[1])


def named(run: tuple[Any, Any], slots: set[str]) -> dict[str, np.ndarray]:
    params, state = run
    found = {**optim.read_optax(state, params, slots, dict), "param": params}
    return {f"{slot}/{k}": np.asarray(v) for slot, of in found.items() for k, v in of.items()}


@pytest.mark.parametrize("case", CASES)
def test_every_step_and_its_state(case, by_torch, by_jax):
    theirs = by_torch[case]
    ours = named(by_jax[case], {key.partition("/")[0] for key in theirs})
    uncounted = {key for key in theirs if key.startswith("step/")}
    assert set(theirs) - uncounted <= set(ours) <= set(theirs)
    for key in ours:
        assert apart(theirs[key], ours[key]) < LIMIT, key
    assert np.abs(np.ptp(theirs["param/w"], axis=0)).max() > 1e-2  # it moved


@pytest.mark.parametrize("case", FAULTS)
def test_a_rule_that_is_not_torchs_is_seen(case, by_torch, by_jax):
    assert apart(by_torch[case]["param/w"], by_jax[f"fault: {case}"][0]["w"]) > 1e-6


# Clipping and averages have no state worth a table: a few calls, in one program.
CLIPS = {
    "value": ("clip_grad_value", {"by": 0.5}),
    "norm": ("clip_grad_norm", {"by": 0.5}),
    "norm, below": ("clip_grad_norm", {"by": 100.0}),
    "norm 1": ("clip_grad_norm", {"by": 0.5, "norm_type": 1.0}),
    "norm 3": ("clip_grad_norm", {"by": 1e-3, "norm_type": 3.0}),
    "largest": ("clip_grad_norm", {"by": 0.5, "norm_type": math.inf}),
}
AVERAGES = {"ema": ("get_ema_avg_fn", {"decay": 0.9}), "swa": ("get_swa_avg_fn", {})}


def test_clipping():
    params, grads = given()
    first = {name: g[0] for name, g in grads.items()}

    def ours(grads):
        makes = {
            case: getattr(jax_gradients, name)(keywords["by"], *list(keywords.values())[1:])
            for case, (name, keywords) in CLIPS.items()
        }
        makes["fault"] = optax.clip_by_global_norm(0.5)
        return {case: rule.update(grads, rule.init(grads))[0] for case, rule in makes.items()}

    with jax.enable_x64(True):
        clipped = jax.tree.map(to_numpy, jax.jit(ours)(jax.tree.map(to_jax, first)))
    gaps = {}
    for case, (name, keywords) in CLIPS.items():
        leaves = {k: torch.nn.Parameter(to_torch(p)) for k, p in params.items()}
        for k, leaf in leaves.items():
            leaf.grad = to_torch(first[k])
        getattr(gradients, name)(leaves.values(), *keywords.values())
        for run in (case, "fault") if case == "norm" else (case,):
            gaps[run] = max(apart(to_numpy(p.grad), clipped[run][k]) for k, p in leaves.items())
    assert gaps.pop("fault") > 1e-8
    assert max(gaps.values()) < LIMIT, gaps


def test_averages_of_the_weights(by_torch):
    """Of Adam's 200 parameters, the first copied."""
    path = {name: by_torch["adam"][f"param/{name}"] for name in ("w", "b")}

    def ours(path):
        fns = {case: getattr(jax_averaging, name)(**k) for case, (name, k) in AVERAGES.items()}

        def step(carry, params):
            after = {
                case: model.update_parameters(params, fns[case] if case == "ema" else None)
                for case, model in carry.items()
            }
            return after, {case: model.module for case, model in after.items()}

        zeros = jax.tree.map(lambda p: jnp.zeros_like(p[0]), path)
        return jax.lax.scan(step, dict.fromkeys(AVERAGES, jax_averaging.AveragedModel(zeros)), path)

    with jax.enable_x64(True):
        last, averages = jax.tree.map(to_numpy, jax.jit(ours)(jax.tree.map(to_jax, path)))
    for case, (name, keywords) in AVERAGES.items():
        model = torch.nn.ParameterDict(
            {k: torch.zeros(v.shape[1:], dtype=torch.float64) for k, v in path.items()}
        )
        averaged = averaging.AveragedModel(model, avg_fn=getattr(averaging, name)(**keywords))
        steps = []
        for step in range(STEPS):
            for k, leaf in model.items():
                leaf.data.copy_(to_torch(path[k][step]))
            averaged.update_parameters(model)
            steps.append(to_numpy(averaged.module.get_parameter("w")))
        assert apart(np.stack(steps), averages[case]["w"]) < LIMIT, case
        assert int(last[case].n_averaged) == int(averaged.n_averaged) == STEPS
        assert apart(np.stack(steps)[1:], averages[case]["w"][:-1]) > 1e-6  # one step late


class JaxNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(5, name="0", param_dtype=x.dtype)(x))
        return nn.Dense(2, name="2", param_dtype=x.dtype)(x)


def test_groups_and_accumulation():
    """Three AdamW steps from batches in three parts, with no decay of the biases."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((3, 12, 4)), rng.standard_normal((3, 12, 2))
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    model = model.double()
    params = {
        i: {"kernel": to_numpy(model[int(i)].weight).T, "bias": to_numpy(model[int(i)].bias)}
        for i in ("0", "2")
    }
    groups = {"bias$": {"weight_decay": 0.0}, "^2": {"lr": 0.003}}
    keywords = {"lr": 0.01, "weight_decay": 0.5}

    def mse(outputs, targets):
        return ((outputs - targets) ** 2).mean()

    def ours(params, x, y):
        def run(groups, parts):
            tx = jax_gradients.grouped(jax_optimizers.adamw, groups, **keywords)
            state = TrainState.create(apply_fn=JaxNet().apply, params=params, tx=tx)
            losses = []
            for x_t, y_t in zip(x, y, strict=True):
                state, loss = jax_gradients.accumulated_step(state, (x_t,), (y_t,), mse, parts)
                losses.append(loss)
            return state.params, jnp.stack(losses)

        return run(groups, 3), run({}, 1)

    with jax.enable_x64(True):
        arrays = jax.tree.map(to_jax, (params, x, y))
        (after, losses), (plain, _) = jax.tree.map(to_numpy, jax.jit(ours)(*arrays))
    optimizer = gradients.grouped(model, optimizers.adamw, groups, **keywords)
    for step in range(3):
        batch = (to_torch(x[step]),), (to_torch(y[step]),)
        loss = gradients.accumulated_step(model, optimizer, *batch, mse, 3)
        assert apart(to_numpy(loss), losses[step]) < LIMIT
    for i in ("0", "2"):
        weight, bias = to_numpy(model[int(i)].weight).T, to_numpy(model[int(i)].bias)
        assert apart(weight, after[i]["kernel"]) < LIMIT
        assert apart(bias, after[i]["bias"]) < LIMIT
        assert apart(bias, plain[i]["bias"]) > 1e-6  # decayed after all
    with pytest.raises(ValueError, match="parts is 5"):
        gradients.accumulated_step(model, optimizer, *batch, mse, 5)
    with pytest.raises(ValueError, match="parts is 5"):
        jax_gradients.accumulated_step(cast("Any", None), *batch, mse, 5)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("sgd", {"nesterov": True}),
        ("sgd", {"lr": -0.1}),
        ("adam", {"b1": (1.0, 0.9)}),
        ("adadelta", {"rho": 1.5}),
        ("rprop", {"etas": (0.5, 0.9)}),
        ("asgd", {"weight_decay": -1.0}),
    ],
)
def test_bad_arguments_are_named(name, wrong):
    (named,) = wrong
    keywords = {"betas": wrong["b1"]} if "b1" in wrong else wrong
    with pytest.raises(ValueError, match=named):
        side(name)[1](**keywords)


@pytest.mark.parametrize("make", [*CASES, "lbfgs"])
def test_a_state_may_be_donated(make):
    """A step that is given its state's memory fails where two parts of it are one array."""
    if make == "lbfgs":
        transformation = jax_second.lbfgs()
    else:
        name, keywords = CASES[make]
        keywords = {"lr" if k == "rate" else k: v for k, v in keywords.items()}
        side = next(ours for _, ours in SIDES if name in ours.__all__)
        transformation = getattr(side, name)(**keywords)
    state = transformation.init({"weight": jnp.ones((2, 3)), "bias": jnp.ones(3)})
    arrays = jax.tree.leaves(state)
    assert len({array.unsafe_buffer_pointer() for array in arrays}) == len(arrays)


# The formulas of papers, from the gradient g, what is kept in s, the step t and the weight p; each
# gives the step to be multiplied by -lr.
def average(s, name, value, decay):
    s[name] = decay * s.get(name, 0) + (1 - decay) * value
    return s[name]


def adagrad(g, s, t, p):
    s["v"] = s.get("v", 0) + g**2
    return g / (np.sqrt(s["v"]) + 1e-10)


def adadelta(g, s, t, p):
    step = np.sqrt((s.get("u", 0) + 1e-6) / (average(s, "v", g**2, 0.9) + 1e-6)) * g
    average(s, "u", step**2, 0.9)
    return step


def rmsprop(g, s, t, p):
    return g / (np.sqrt(average(s, "v", g**2, 0.99)) + 1e-8)


def adam(g, s, t, p):
    m, v = average(s, "m", g, 0.9), average(s, "v", g**2, 0.999)
    return m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def adamw(g, s, t, p):
    return adam(g, s, t, p) + 0.01 * p


def nadam(g, s, t, p):
    mu, later = (0.9 * (1 - 0.5 * 0.96 ** (i * 0.004)) for i in (t, t + 1))
    s["mu"] = s.get("mu", 1) * mu
    m, v = average(s, "m", g, 0.9), average(s, "v", g**2, 0.999)
    ahead = (1 - mu) * g / (1 - s["mu"]) + later * m / (1 - s["mu"] * later)
    return ahead / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def radam(g, s, t, p):
    m, v = average(s, "m", g, 0.9) / (1 - 0.9**t), average(s, "v", g**2, 0.999)
    end = 2 / (1 - 0.999) - 1
    r = end - 2 * t * 0.999**t / (1 - 0.999**t)
    if r <= 5:
        return m
    rectified = ((r - 4) * (r - 2) * end / ((end - 4) * (end - 2) * r)) ** 0.5
    return m * rectified * (1 - 0.999**t) ** 0.5 / (np.sqrt(v) + 1e-8)


def heavy_ball(g, s, t, p):
    s["b"] = 0.9 * s.get("b", 0) + g
    return s["b"]


def nesterov(g, s, t, p):
    return g + 0.9 * heavy_ball(g, s, t, p)


def dampened(g, s, t, p):
    s["b"] = 0.9 * s["b"] + 0.5 * g if "b" in s else g  # the first is not dampened
    return s["b"]


FORMULAS = {
    "adagrad": (adagrad, {}),
    "adadelta": (adadelta, {}),
    "rmsprop": (rmsprop, {}),
    "adam": (adam, {}),
    "adamw": (adamw, {}),
    "nadam": (nadam, {}),
    "radam": (radam, {}),
    "heavy ball": (heavy_ball, {"momentum": 0.9}),
    "nesterov": (nesterov, {"momentum": 0.9, "nesterov": True}),
    "dampened": (dampened, {"momentum": 0.9, "dampening": 0.5}),
}


def test_each_rule_is_its_formula_and_no_other():
    params, grads = given()
    start, gradients = params["w"], grads["w"][:40, ...] + 0.1  # nowhere zero
    by_formula, by_rule = {}, {}
    for case, (formula, keywords) in FORMULAS.items():
        p, kept = start.copy(), {}
        for t, g in enumerate(gradients, start=1):
            p = p - 0.01 * formula(g, kept, t, p)
        by_formula[case] = p
        leaf = torch.nn.Parameter(to_torch(start))
        name = "sgd" if keywords else case
        torch.set_default_dtype(torch.float64)  # of NAdam's product of momenta
        optimizer = side(name)[0]([leaf], lr=0.01, **keywords)
        for g in gradients:
            leaf.grad = to_torch(g)
            optimizer.step()
        torch.set_default_dtype(torch.float32)
        by_rule[case] = to_numpy(leaf)
    for case, found in by_rule.items():
        same = {other for other, p in by_formula.items() if apart(found, p) < LIMIT}
        assert same == {case}


def test_the_first_step_of_an_average_is_damped_in_optax_alone():
    g = jnp.ones(3)
    with jax.enable_x64(True):
        rule = optax.ema(0.9, debias=False)
        damped, _ = rule.update(g, rule.init(g))
    leaf = torch.nn.Parameter(torch.zeros(3))
    leaf.grad = torch.ones(3)
    optimizers.sgd([leaf], lr=1.0, momentum=0.9, dampening=0.9).step()
    assert np.allclose(np.asarray(damped), 0.1)
    assert np.allclose(to_numpy(leaf), -1)
