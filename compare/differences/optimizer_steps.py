"""Around an optimizer's update: its learning rate, its state, and what gradient it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import gaps
from compare.differences.shared.frameworks import jax, jnp, optax, torch
from compare.differences.shared.updates import (
    ANY,
    STEPS,
    Update,
    by_optax,
    by_torch,
    everywhere,
    gradients,
    others,
    shipped,
    start,
    transformation,
)
from compare.share import to_jax, to_numpy, to_torch


def _renewed() -> tuple[float, float]:
    ours = by_torch("Adam", lr=0.1)
    with jax.enable_x64(True):
        tx, p = optax.adam(0.1), to_jax(start())
        for g in gradients():
            updates, _ = tx.update(to_jax(g), tx.init(p), p)
            p = optax.apply_updates(p, updates)
        return gaps(ours, p, by_optax(lambda: optax.adam(0.1)))


def _renewed_edits(site: Site) -> Iterator[Edit]:
    new, cleared = Update(site), Update(site)
    if new.understood:
        new.state, new.step, cleared.state = {}, 0, {}
        right = "carry the optimizer's state: updates, state = tx.update(grads, state, params)"
        yield Edit(right, "a new optimizer in every step", lambda: to_torch(new()))
        yield Edit(right, "optimizer.state.clear()", lambda: to_torch(cleared()))


renewed = Difference(
    code="OPT-20",
    title="the optimizer's state is made anew in every step",
    torch="the optimizer keeps its state",
    jax="tx.update returns it: tx.init(params) in the step loses it",
    fix_torch="a new optimizer in every step",
    fix_jax="updates, state = tx.update(grads, state, params), the state carried on",
    kinds=ANY,
    measure=_renewed,
    edits=_renewed_edits,
    whats=("update",),
)


def _clip() -> Any:
    """Clipping by the norm as torch has it."""

    def update(g, state, p=None):
        return g * jnp.minimum(0.1 / (jnp.linalg.norm(g) + 1e-6), 1.0), state

    return transformation(update)


clip_norm = Difference(
    code="OPT-21",
    title="clipping by the norm: 1e-6 in the divisor",
    torch="clip_grad_norm_: g max / (norm + 1e-6)",
    jax="optax.clip_by_global_norm: g max / norm",
    fix_torch="g * (max_norm / norm).clamp(max=1)",
    fix_jax="g * jnp.minimum(max_norm / (norm + 1e-6), 1)",
    kinds="",  # the finder hands the optimizer one and the same gradient on both sides
    measure=shipped(
        "SGD",
        {"clip": lambda p: torch.nn.utils.clip_grad_norm_([p], 0.1), "lr": 1.0},
        lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1.0)),
        lambda: optax.chain(_clip(), optax.sgd(1.0)),
    ),
)


def _accumulated(lr: float, naive: dict[str, Any], mended: dict[str, Any]) -> Callable:
    """A measure: one step with the gradients' sum against two accumulators of optax."""

    def theirs(options: dict[str, Any]) -> np.ndarray:
        options = {"use_grad_mean": False, "accumulator_dtype": jnp.float64, **options}
        return by_optax(lambda: optax.MultiSteps(optax.sgd(lr), STEPS, **options))

    return lambda: gaps(
        by_torch("SGD", given=[np.sum(gradients(), 0)], lr=lr), theirs(naive), theirs(mended)
    )


COUNTS = (2, 3, 4, 5, 6, 8, 16, 32)


def _factor_edits(site: Site) -> Iterator[Edit]:
    update = Update(site)
    if update.understood:
        for c in [1 / c for c in COUNTS] + [float(c) for c in COUNTS]:
            yield Edit(
                f"the same gradient: here it is {c:g} times PyTorch's (mean or sum?)",
                f"p.grad.mul_({c:g})",
                lambda c=c: to_torch(update.given(c * update.gradient)),
            )


accumulation = Difference(
    code="OPT-22",
    title="gradient accumulation: mean or sum",
    torch="backward() twice: the gradients' sum",
    jax="optax.MultiSteps: their mean",
    fix_torch="(loss / k).backward()",
    fix_jax="optax.MultiSteps(tx, k, use_grad_mean=False)",
    kinds=ANY,
    measure=_accumulated(0.1, {"use_grad_mean": True}, {}),
    edits=_factor_edits,
    whats=("update",),
)
accumulator = Difference(
    code="OPT-23",
    title="gradient accumulation: the accumulator's type",
    torch="p.grad has the parameter's type",
    jax="optax.MultiSteps accumulates in float32",
    fix_torch="accumulate p.grad.float()",
    fix_jax="optax.MultiSteps(tx, k, accumulator_dtype=jnp.float64)",
    kinds="",  # it takes several steps
    measure=_accumulated(1.0, {"accumulator_dtype": np.float32}, {}),
)


def _masked() -> tuple[float, float]:
    g, begin = gradients()[0], start()
    frozen = torch.nn.Parameter(to_torch(begin), requires_grad=False)
    mask = {"moved": True, "frozen": False}

    def run(tx):
        tree = {"moved": to_jax(begin), "frozen": to_jax(begin)}
        updates, _ = tx.update(jax.tree.map(lambda _: to_jax(g), tree), tx.init(tree), tree)
        moved: Any = optax.apply_updates(tree, updates)
        return to_numpy(moved["frozen"])

    labels = {"moved": "move", "frozen": "freeze"}
    parts: Any = {"move": optax.sgd(0.1), "freeze": optax.set_to_zero()}
    with jax.enable_x64(True):
        naive = run(optax.masked(optax.sgd(0.1), mask))
        return gaps(frozen, naive, run(optax.partition(parts, labels)))


def _raw_edits(site: Site) -> Iterator[Edit]:
    update = Update(site)
    yield Edit(
        "optax.partition({'move': tx, 'freeze': optax.set_to_zero()}, labels)",
        "p.add_(p.grad)",
        lambda: to_torch(update.param + update.gradient),
    )
    moving = [(other.theirs != other.optimizer["param"]).any() for other in others(site)]
    if any(moving) or not moving:  # else nothing moves: a learning rate of 0
        yield Edit(
            "this parameter is frozen here: let the optimizer update it",
            "p.requires_grad_(False)",
            lambda: to_torch(update.param),
        )


masked = Difference(
    code="OPT-24",
    title="frozen parameters: on one side alone, or optax.masked hands the gradient through",
    torch="requires_grad=False: the parameter stays",
    jax="optax.masked(tx, mask): leaves outside the mask get their raw gradient added",
    fix_torch="p.add_(p.grad)",
    fix_jax="optax.partition({'move': tx, 'freeze': optax.set_to_zero()}, labels)",
    kinds=ANY,
    measure=_masked,
    edits=_raw_edits,
    whats=("update",),
)


def _unused() -> tuple[float, float]:
    ours = by_torch("SGD", given=[None], lr=0.1, weight_decay=0.1)

    def theirs(mask: bool) -> np.ndarray:
        decay = optax.add_decayed_weights(0.1, mask)
        return by_optax(lambda: optax.chain(decay, optax.sgd(0.1)), [np.zeros_like(start())])

    return gaps(ours, theirs(True), theirs(False))


unused = Difference(
    code="OPT-25",
    title="parameters that the loss does not use",
    torch="p.grad is None: skipped, neither decay nor momentum",
    jax="jax.grad gives zeros: decay and momentum go on",
    fix_torch="p.grad = torch.zeros_like(p)",
    fix_jax="optax.add_decayed_weights(wd, mask) without the unused leaves",
    kinds="",  # such a parameter has no gradient to hand over
    measure=_unused,
)


def _average() -> tuple[float, float]:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model = torch.nn.Linear(3, 4, bias=False).double()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    weights = gradients()
    for w in weights:
        with torch.no_grad():
            model.weight.copy_(to_torch(w))
        average.update_parameters(model)
    with jax.enable_x64(True):
        ema = optax.ema(0.9)
        state, kept = ema.init(to_jax(weights[0])), to_jax(weights[0])
        naive = kept
        for w in weights:
            naive, state = ema.update(to_jax(w), state)
            kept = optax.incremental_update(to_jax(w), kept, 0.1)
        return gaps(average.module.weight, naive, kept)


average = Difference(
    code="OPT-26",
    title="an average of the weights: how it starts",
    torch="swa_utils.AveragedModel: the first update copies the weights",
    jax="optax.ema: starts from 0 and is corrected for it",
    fix_torch="divide by 1 - decay^t an average that started from 0",
    fix_jax="optax.incremental_update(new, average, 1 - decay), from the first weights",
    kinds="",  # no optimizer's update
    measure=_average,
)
NORMS = (0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 40.0)


def _clip_edits(site: Site) -> Iterator[Edit]:
    update = Update(site)
    if not update.understood:
        return
    g, norm = update.gradient, float(np.linalg.norm(update.gradient))
    for bound in NORMS:
        yield Edit(
            f"leave optax.clip({bound:g}) out, or clip on both sides",
            f"torch.nn.utils.clip_grad_value_(parameters, {bound:g})",
            lambda b=bound: to_torch(update.given(np.clip(g, -b, b))),
        )
        for eps in (0.0, 1e-6):
            yield Edit(
                f"leave the clipping by the norm of each parameter ({bound:g}) out",
                f"p.grad.mul_({bound:g} / p.grad.norm())",
                lambda b=bound, e=eps: to_torch(update.given(g * min(1.0, b / (norm + e)))),
            )
    for factor in _gradient_factors(update):
        if not everywhere(site, lambda other, c=factor: other.given(c * other.gradient)):
            continue
        yield Edit(
            f"the gradient is {factor:.6g} times PyTorch's: optax.clip_by_global_norm, loss scale",
            f"p.grad.mul_({factor!r})",
            lambda c=factor: to_torch(update.given(c * g)),
        )


def _gradient_factors(update: Update) -> Iterator[float]:
    """The factors of the gradient that would explain the element that differs most.

    The other elements are the proof: with fewer than three of them there is none.
    """
    if update.param.size < 4 or not np.isfinite(update.theirs).all():
        return
    worst = int(np.argmax(np.abs(update.theirs - update.ours)))
    g, wanted = update.gradient.flat[worst], update.theirs.flat[worst]

    def miss(factor):
        return update.element(np.asarray(factor) * g, worst) - wanted

    grid = np.geomspace(1e-4, 1e4, 321)
    for factors in (grid, -grid):
        misses = miss(factors)
        for i in np.flatnonzero(np.sign(misses[1:]) != np.sign(misses[:-1])):
            low, high = float(factors[i]), float(factors[i + 1])
            for _ in range(100):
                middle = (low + high) / 2
                below = np.sign(miss(middle)) == np.sign(misses[i])
                low, high = (middle, high) if below else (low, middle)
            yield (low + high) / 2


clipped = Difference(
    code="OPT-27",
    title="gradients that one side clips or scales",
    torch="torch.nn.utils.clip_grad_norm_ is a call of its own, before optimizer.step()",
    jax="optax.clip_by_global_norm and optax.clip are parts of the optimizer",
    fix_torch="torch.nn.utils.clip_grad_norm_(parameters, 1.0)",
    fix_jax="leave the clipping out, or clip on both sides",
    kinds=ANY,
    measure=shipped(
        "SGD",
        {"lr": 0.1},
        lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
        lambda: optax.sgd(0.1),
    ),
    edits=_clip_edits,
    whats=("update",),
)


def _rate_edits(site: Site) -> Iterator[Edit]:
    update = Update(site)
    ours, theirs = update.ours - update.param, update.theirs - update.param
    if ours.size < 2 or not np.abs(ours).max():
        return
    worst = np.argmax(np.abs(ours))
    factor = float(theirs.flat[worst] / ours.flat[worst])
    if not everywhere(site, lambda u: u.param + factor * (u.ours - u.param)):
        return
    yield Edit(
        f"a learning rate of {1 / factor:.6g} times this one" if factor else "a learning rate",
        f"lr times {factor:.6g}",
        lambda: to_torch(update.param + factor * ours),
    )


rate = Difference(
    code="OPT-30",
    title="the learning rate",
    torch="Adam(lr=1e-3), SGD(lr=1e-3), RMSprop(lr=1e-2), …: each has a default",
    jax="optax's optimizers have none; the port has to name it",
    fix_torch="JAX's learning rate",
    fix_jax="optax.adam(1e-3), PyTorch's learning rate",
    kinds=ANY,
    measure=shipped("Adam", {}, lambda: optax.adam(0.01), lambda: optax.adam(1e-3)),
    edits=_rate_edits,
    whats=("update",),
)
