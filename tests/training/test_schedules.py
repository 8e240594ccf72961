"""Learning-rate schedules of the two trees, step by step in float64."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from compare.share import to_jax, to_numpy
from jaxnn.training import cyclic_schedules as jc
from jaxnn.training import optimizers as jo
from jaxnn.training import plateau as jp
from jaxnn.training import schedules as js
from torchref.training import cyclic_schedules as tc
from torchref.training import plateau as tp
from torchref.training import schedules as ts

STEPS, LR = 300, 0.3
LIMIT = 1e-12  # of the rate it starts from
Case = tuple[Callable[[Any], Any], Callable[[], Any]]


def plain(name: str, *args: Any, **keywords: Any) -> Case:
    """The same arguments on both sides."""
    theirs, ours = (ts, js) if name in ts.__all__ else (tc, jc)
    return (
        lambda optimizer: getattr(theirs, name)(optimizer, *args, **keywords),
        lambda: getattr(ours, name)(LR, *args, **keywords),
    )


def cycle(name: str, *args: Any, **keywords: Any) -> Case:
    """The same where the rates are arguments; torch would turn the momentum, too."""
    return (
        lambda optimizer: getattr(tc, name)(optimizer, *args, cycle_momentum=False, **keywords),
        lambda: getattr(jc, name)(*args, **keywords),
    )


CASES: dict[str, Case] = {
    "lambda": plain("lambda_lr", lambda step: 1 / (1.0 + step)),
    "multiplicative": plain("multiplicative_lr", lambda step: 1 - 1 / (2.0 + step)),
    "step": plain("step_lr", 30, 0.7),
    "multi step": plain("multi_step_lr", [150, 20, 20, 299], gamma=0.3),
    "constant": plain("constant_lr"),
    "constant, long": plain("constant_lr", 0.5, 70),
    "linear": plain("linear_lr"),
    "linear, down": plain("linear_lr", 1.0, 0.1, 80),
    "exponential": plain("exponential_lr", 0.97),
    "polynomial": plain("polynomial_lr"),
    "polynomial, square": plain("polynomial_lr", 170, 2.0),
    "cosine": plain("cosine_annealing_lr", 40),
    "cosine, floor": plain("cosine_annealing_lr", 37, eta_min=0.01),
    "restarts": plain("cosine_annealing_warm_restarts", 7, eta_min=0.01),
    "restarts, longer": plain("cosine_annealing_warm_restarts", 3, 2),
    "restarts, much longer": plain("cosine_annealing_warm_restarts", 5, 3, 0.02),
    "triangles": cycle("cyclic_lr", 0.01, LR, 20),
    "triangles, halved": cycle("cyclic_lr", 0.01, LR, 12, 31, mode="triangular2"),
    "triangles, falling": cycle("cyclic_lr", 0.01, LR, 9, 4, mode="exp_range", gamma=0.99),
    "one cycle": cycle("one_cycle_lr", LR, STEPS),
    "one cycle, linear": cycle("one_cycle_lr", LR, STEPS, anneal_strategy="linear", pct_start=0.1),
    "one cycle, back": cycle(
        "one_cycle_lr", LR, epochs=20, steps_per_epoch=15, three_phase=True, div_factor=10.0
    ),
    "swa": plain("swa_lr", 0.05),
    "swa, linear": plain("swa_lr", 0.5, 60, "linear"),
    "swa, at once": plain("swa_lr", 0.05, 0),
    "sequential": (
        lambda o: ts.sequential_lr(
            o,
            [
                ts.linear_lr(o, 0.1, total_iters=20),
                tc.cosine_annealing_lr(o, 50),
                ts.exponential_lr(o, 0.9),
            ],
            [20, 100],
        ),
        lambda: js.sequential_lr(
            [
                js.linear_lr(LR, 0.1, total_iters=20),
                jc.cosine_annealing_lr(LR, 50),
                js.exponential_lr(LR, 0.9),
            ],
            [20, 100],
        ),
    ),
    "chained": (
        lambda o: ts.chained_scheduler(
            [
                ts.constant_lr(o, 0.1, 20),
                ts.exponential_lr(o, 0.99),
                ts.multi_step_lr(o, [50, 90]),
                ts.polynomial_lr(o, 400),
            ]
        ),
        lambda: js.chained_scheduler(
            [
                js.constant_lr(LR, 0.1, 20),
                js.exponential_lr(1.0, 0.99),
                js.multi_step_lr(1.0, [50, 90]),
                js.polynomial_lr(1.0, 400),
            ]
        ),
    ),
}
# What a porter may take for the same.
FAULTS = {
    "step": lambda: optax.exponential_decay(LR, 30, 0.7),
    "cosine": lambda: optax.cosine_decay_schedule(LR, 40),
    "cosine, floor": lambda: jc.cosine_annealing_lr(LR, 37, eta_min=0.01 * LR),
    "one cycle": lambda: optax.cosine_onecycle_schedule(STEPS, LR),
    "linear": lambda: optax.linear_schedule(0.0, LR, 5),
    "polynomial, square": lambda: js.polynomial_lr(LR, 171, 2.0),
    "multi step": lambda: js.multi_step_lr(LR, [151, 21, 21], gamma=0.3),
}


@pytest.fixture(scope="module")
def by_jax() -> dict[str, np.ndarray]:
    """Case -> the rate of every step, all in one program; counted in int32, as optax does."""
    makes = {case: ours for case, (_, ours) in CASES.items()}
    makes |= {f"fault: {case}": make for case, make in FAULTS.items()}

    def rates(counts):
        return {case: jax.vmap(make())(counts) for case, make in makes.items()}

    with jax.enable_x64(True):
        counts = jnp.arange(STEPS, dtype=jnp.int32)
        found = jax.tree.map(to_numpy, jax.jit(rates)(counts))
    return {case: np.broadcast_to(values, STEPS) for case, values in found.items()}


def by_torch(case: str) -> np.ndarray:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = CASES[case][0](optimizer)
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < STEPS:
            scheduler.step()
    return np.array(rates)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_every_step(case, by_jax):
    theirs, ours = by_torch(case), by_jax[case]
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=LIMIT * LR)
    if case != "swa, at once":
        assert np.ptp(theirs) > 0.01 * LR
    if case in FAULTS:
        assert np.abs(by_jax[f"fault: {case}"] - theirs).max() > 1e-3 * LR


def test_a_count_may_be_a_python_int(by_jax):
    """As `sgd(schedule)` is asked outside of a program."""
    with jax.enable_x64(True):
        for case, (_, ours) in CASES.items():
            np.testing.assert_allclose(ours()(45), by_jax[case][45], atol=LIMIT * LR)


PLATEAUS: dict[str, dict[str, Any]] = {
    "min": {"patience": 3, "factor": 0.7},
    "max": {"mode": "max", "patience": 2, "factor": 0.8, "threshold": 0.1},
    "absolute": {"threshold_mode": "abs", "threshold": 0.05, "patience": 0, "factor": 0.9},
    "max, absolute": {"mode": "max", "threshold_mode": "abs", "threshold": 0.3, "patience": 1},
    "cooldown": {"patience": 2, "cooldown": 5, "factor": 0.9},
    "floor": {"patience": 1, "factor": 0.5, "min_lr": 0.02},
    "small steps": {"patience": 1, "factor": 0.5, "eps": 1e-3},
}


def metrics() -> np.ndarray:
    """Falls, stalls, rises, falls again; with exact ties."""
    rng = np.random.default_rng(0)
    values = np.concatenate([np.linspace(2, 1, 60), np.full(60, 1.0), np.linspace(1, 0.2, 180)])
    values += 0.05 * rng.standard_normal(STEPS)
    values[70:80] = values.min()
    values[290] = np.nan
    return values


def test_reduce_on_plateau():
    """After every evaluation: the rate, the best value and both counters."""

    def run(rule, values):
        def step(state, value):
            state = rule.update(state, metrics=value)
            return state, state

        return jax.lax.scan(step, rule.init(), values)[1]

    with jax.enable_x64(True):
        rules = {case: jp.reduce_lr_on_plateau(LR, **k) for case, k in PLATEAUS.items()}
        rules["fault"] = jp.reduce_lr_on_plateau(LR, patience=2, factor=0.7)
        program = jax.jit(lambda values: {case: run(rule, values) for case, rule in rules.items()})
        found = jax.tree.map(to_numpy, program(to_jax(metrics())))
    for case, keywords in PLATEAUS.items():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
        scheduler = tp.reduce_lr_on_plateau(optimizer, **keywords)
        for step, value in enumerate(metrics()):
            scheduler.step(value)
            ours = {name: values[step] for name, values in found[case]._asdict().items()}
            np.testing.assert_allclose(ours.pop("lr"), optimizer.param_groups[0]["lr"], rtol=1e-13)
            assert ours == {name: getattr(scheduler, name) for name in ours}, (case, step)
        assert optimizer.param_groups[0]["lr"] < 0.5 * LR, case
    assert np.abs(found["fault"].lr - found["min"].lr).max() > 1e-3  # one evaluation early


def test_plateau_inside_an_optimizer():
    """optax asks a stateful schedule once per update, and reads it before."""
    values = itertools.chain([1.0, 0.5], itertools.repeat(0.5))
    make = optax.inject_hyperparams(jo.sgd, static_args=("momentum", "dampening", "weight_decay"))
    rule = make(lr=jp.reduce_lr_on_plateau(LR, patience=1, factor=0.5))
    params = {"w": jnp.ones(2)}
    state, rates = rule.init(params), []
    for value, _ in zip(values, range(6), strict=False):
        updates, state = rule.update(params, state, params, metrics=value)
        rates.append(-float(jax.tree.leaves(updates)[0][0]) / LR)
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: js.step_lr(LR, 0), "step_size"),
        (lambda: js.constant_lr(LR, 1.5), "factor"),
        (lambda: js.linear_lr(LR, 0.0), "start_factor"),
        (lambda: js.chained_scheduler([]), "schedulers"),
        (lambda: jc.cosine_annealing_warm_restarts(LR, 0), "T_0"),
        (lambda: jc.cyclic_lr(0.1, LR, mode="square"), "mode"),
        (lambda: jc.one_cycle_lr(LR), "total_steps"),
        (lambda: jc.one_cycle_lr(LR, 9, pct_start=1.5), "pct_start"),
        (lambda: jc.swa_lr(LR, 0.1, anneal_strategy="square"), "anneal_strategy"),
        (lambda: jp.reduce_lr_on_plateau(LR, factor=1.0), "factor"),
        (lambda: jp.reduce_lr_on_plateau(LR, threshold_mode="both"), "threshold_mode"),
    ],
)
def test_bad_arguments_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()
