"""Adam and its kin: eps, betas, bias corrections and the forms of their moments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import gaps
from compare.differences.shared.calls import without
from compare.differences.shared.frameworks import jnp, optax
from compare.differences.shared.updates import (
    EPSILONS,
    MOMENTS,
    Options,
    Rows,
    Update,
    by_optax,
    by_rule,
    by_torch,
    candidates,
    combined,
    scaled,
    shipped,
    transformation,
    written,
)
from compare.share import to_torch

PLACES = {
    "outside": "sqrt(v / c) + eps",
    "inside": "sqrt(v / c + eps)",
    "squared inside": "sqrt(v / c + eps**2)",
    "before correction": "(sqrt(v) + eps) / sqrt(c)",
    "inside before correction": "sqrt((v + eps) / c)",
    "largest": "max(sqrt(v / c), eps)",
}


def _eps_rows(o: Options) -> Rows:
    right = f"{PLACES[o['eps_at']]} with eps={o['eps']:g}"
    return combined(o, right, "eps={eps:g}", eps_at=PLACES, eps=EPSILONS)


eps_place = Difference(
    code="OPT-01",
    title="Adam's eps: its value, outside or inside the root, before or after the correction",
    torch="Adam: sqrt(v / (1 - b2^t)) + eps",
    jax="optax.adam: eps likewise; eps_root is inside the root",
    fix_torch="write the update out; torch has eps outside only",
    fix_jax="optax.adam(lr, eps=1e-8, eps_root=0.0)",
    kinds="Adam|AdamW|NAdam",
    measure=shipped(
        "Adam",
        {"lr": 0.1, "eps": 1e-3},
        lambda: optax.adam(0.1, eps=0.0, eps_root=1e-3),
        lambda: optax.adam(0.1, eps=1e-3),
    ),
    edits=candidates(_eps_rows),
    whats=("update",),
)


def _amsgrad() -> Any:
    """AMSGrad as torch has it: the maximum of the raw moments, corrected afterwards."""

    def init(p):
        zero = jnp.zeros_like(p)
        return optax.ScaleByAmsgradState(jnp.zeros((), int), zero, zero, zero)

    def update(g, state, p=None):
        t = state.count + 1
        m, v = 0.9 * state.mu + 0.1 * g, 0.999 * state.nu + 0.001 * g * g
        largest = jnp.maximum(state.nu_max, v)
        step = m / (1 - 0.9**t) / (jnp.sqrt(largest / (1 - 0.999**t)) + 1e-8)
        return step, optax.ScaleByAmsgradState(t, m, v, largest)

    return scaled(transformation(update, init))


def _amsgrad_rows(o: Options) -> Rows:
    if o["amsgrad"]:
        right = "v_max = max(v_max, v), corrected afterwards: v_max / (1 - b2^t)"
        yield right, "", {"amsgrad": "corrected"}
        yield right, "", {"correct": (True, False)}
        yield right, "amsgrad=False", {"amsgrad": False}
    else:
        yield "optax.adam, not optax.amsgrad", "amsgrad=True", {"amsgrad": True}
        yield "optax.adam, not optax.amsgrad", "", {"amsgrad": "corrected"}


def _amsgrad_edits(site: Site) -> Iterator[Edit]:
    if site.what == "update":
        yield from candidates(_amsgrad_rows)(site)
        return
    update = Update(site)
    for right, line, changes in _amsgrad_rows(update.options):
        yield Edit(right, line, lambda c=changes: to_torch(update.after(**c)[1]["max_exp_avg_sq"]))


amsgrad = Difference(
    code="OPT-02",
    title="AMSGrad: on one side alone, or its maximum before or after the bias correction",
    torch="Adam(amsgrad=True): the maximum of v, then divided by 1 - b2^t",
    jax="optax.amsgrad: the maximum of v / (1 - b2^t)",
    fix_torch="write the update out",
    fix_jax="nu_max = jnp.maximum(nu_max, nu), corrected afterwards",
    kinds="Adam|AdamW",
    measure=shipped("Adam", {"lr": 0.1, "amsgrad": True}, lambda: optax.amsgrad(0.1), _amsgrad),
    edits=_amsgrad_edits,
    whats=("update", "state"),
)


def _nadam_rows(o: Options) -> Rows:
    right = "torch's rule: momentum b1 (1 - 0.96^(t momentum_decay) / 2)"
    yield right, "", {"constant": True}
    yield right, "momentum_decay=0", {"momentum_decay": 0.0}


nadam = Difference(
    code="OPT-12",
    title="NAdam: momentum that grows, or a constant",
    torch="NAdam(momentum_decay=4e-3): the first beta follows a schedule",
    jax="optax.nadam: the first beta is a constant",
    fix_torch="write the update out",
    fix_jax="write torch's schedule of the momentum out",
    kinds="NAdam",
    measure=written("NAdam", {"lr": 0.1}, constant=True),
    edits=candidates(_nadam_rows),
    whats=("update",),
)


def _radam_rows(o: Options) -> Rows:
    right = "rectified, with (sqrt(v) + eps) / sqrt(1 - b2^t)"
    return combined(o, right, "", rectify=(False,), eps_at=("outside",))


def _radam() -> tuple[float, float]:
    # a short memory: the rectified form begins within the updates
    given = {"lr": 0.1, "eps": 1e-3, "betas": (0.5, 0.9)}
    naive = by_optax(lambda: optax.radam(0.1, b1=0.5, b2=0.9, eps=1e-3))
    return gaps(by_torch("RAdam", **given), naive, by_rule("RAdam", given))


radam = Difference(
    code="OPT-13",
    title="RAdam: eps before the correction, and when the rectified form begins",
    torch="RAdam: (sqrt(v) + eps) / sqrt(1 - b2^t), where the length is above 5",
    jax="optax.radam: sqrt(v / (1 - b2^t)) + eps, from threshold=5.0 on",
    fix_torch="write the update out",
    fix_jax="write torch's rule out: eps beside sqrt(v), before the correction",
    kinds="RAdam",
    measure=_radam,
    edits=candidates(_radam_rows),
    whats=("update",),
)


def _correction_rows(o: Options) -> Rows:
    for correct in ((False, False), (True, False), (False, True)):
        yield "m / (1 - b1^t) and v / (1 - b2^t)", "", {"correct": correct}


correction = Difference(
    code="OPT-15",
    title="Adam's bias correction: missing, of one moment or of both",
    torch="Adam: m / (1 - b1^t) and v / (1 - b2^t)",
    jax="optax.adam likewise; hand-written ports leave one out",
    fix_torch="write the update out, without the correction",
    fix_jax="optax.adam(lr)",
    kinds=MOMENTS + "|Adamax",
    measure=written("Adam", {"lr": 0.1}, correct=(True, False)),
    edits=candidates(_correction_rows),
    whats=("update",),
)


def _shift_rows(o: Options) -> Rows:
    return combined(o, "count the updates from 1", "t = t {shift:+d}", shift=(-1, 1, -2, 2))


shift = Difference(
    code="OPT-16",
    title="Adam's step count: off by one",
    torch="Adam: t is 1 in the first update",
    jax="optax.adam likewise; a count that is raised twice, or too late, is off by one",
    fix_torch="raise state['step'] by one",
    fix_jax="count = count + 1 before the correction, from 0",
    kinds=MOMENTS + "|Adamax",
    measure=written("Adam", {"lr": 0.1}, shift=1),
    edits=candidates(_shift_rows),
    whats=("update",),
)


def _beta_rows(o: Options) -> Rows:
    own, right = tuple(o["betas"]), "b1={:g}, b2={:g}".format(*o["betas"])
    firsts = (own[0], 0.9, 0.5, 0.0, 0.95, 0.99, own[1])
    seconds = (own[1], 0.999, 0.99, 0.95, 0.98, 0.9, 0.9999, own[0])
    values = itertools.product(firsts, seconds)
    return combined({**o, "betas": own}, right, "betas={betas}", betas=values)


betas = Difference(
    code="OPT-17",
    title="Adam's betas: swapped, or the defaults",
    torch="Adam(betas=(b1, b2))",
    jax="optax.adam(b1=0.9, b2=0.999): what is not handed over has these values",
    fix_torch="Adam(betas=(0.9, 0.999))",
    fix_jax="optax.adam(lr, b1=0.5, b2=0.99), PyTorch's values",
    kinds=MOMENTS + "|Adamax",
    measure=shipped(
        "Adam",
        {"lr": 0.1, "betas": (0.5, 0.99)},
        lambda: optax.adam(0.1),
        lambda: optax.adam(0.1, b1=0.5, b2=0.99),
    ),
    edits=candidates(_beta_rows),
    whats=("update",),
)


def _adamax_rows(o: Options) -> Rows:
    right = "u = max(b2 u, |g| + eps); m / (1 - b1^t) / u"
    yield right, "", {"eps_at": "outside"}
    for eps in without(EPSILONS, o["eps"]):
        yield right, f"eps={eps:g}", {"eps": eps}
        yield right, "", {"eps_at": "outside", "eps": eps}


adamax = Difference(
    code="OPT-19",
    title="Adamax: eps within the maximum or beside it",
    torch="Adamax: max(b2 u, |g| + eps)",
    jax="optax.adamax likewise; the paper divides by max(b2 u, |g|), others add eps to it",
    fix_torch="write the update out",
    fix_jax="optax.adamax(lr)",
    kinds="Adamax",
    measure=shipped(
        "Adamax",
        {"lr": 0.1, "eps": 1e-3},
        lambda: optax.adamax(0.1, eps=1e-8),
        lambda: optax.adamax(0.1, eps=1e-3),
    ),
    edits=candidates(_adamax_rows),
    whats=("update",),
)
