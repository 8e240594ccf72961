"""Learning-rate schedules: what a scheduler gives over the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import gap, gaps
from compare.differences.shared.frameworks import jax, jnp, lr_scheduler, optax, torch
from compare.differences.shared.updates import ANY, Update, by_optax, by_torch, shipped
from compare.share import to_numpy, to_torch


def _rates(schedule: Callable[[Any], Any], steps: int) -> np.ndarray:
    """The learning rates that a torch scheduler gives its optimizer."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler, rates = schedule(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.asarray(rates)


def _schedule(make: Callable[[], Callable], steps: int) -> np.ndarray:
    """The learning rates of an optax schedule."""
    with jax.enable_x64(True):
        schedule = make()
        return np.asarray([to_numpy(jnp.asarray(schedule(i))) for i in range(steps)], np.float64)


def _against(
    ours: Callable[[Any], Any], naive: Callable, mended: Callable, steps: int
) -> Callable[[], tuple[float, float]]:
    """A measure: a torch scheduler against two optax schedules."""
    return lambda: gaps(_rates(ours, steps), _schedule(naive, steps), _schedule(mended, steps))


step_lr = Difference(
    code="SCH-01",
    title="decay by steps or smoothly",
    torch="StepLR: constant between the steps",
    jax="optax.exponential_decay: smooth (staircase=False)",
    fix_torch="ExponentialLR(optimizer, gamma ** (1 / step_size))",
    fix_jax="optax.exponential_decay(lr, 5, 0.5, staircase=True)",
    kinds="",
    measure=_against(
        lambda o: lr_scheduler.StepLR(o, 5, 0.5),
        lambda: optax.exponential_decay(0.1, 5, 0.5),
        lambda: optax.exponential_decay(0.1, 5, 0.5, staircase=True),
        12,
    ),
)
cosine_floor = Difference(
    code="SCH-02",
    title="cosine decay: the floor",
    torch="CosineAnnealingLR(eta_min): a learning rate",
    jax="optax.cosine_decay_schedule(alpha): a fraction of the first learning rate",
    fix_torch="CosineAnnealingLR(optimizer, T_max, eta_min=alpha * lr)",
    fix_jax="optax.cosine_decay_schedule(lr, steps, alpha=eta_min / lr)",
    kinds="",
    measure=_against(
        lambda o: lr_scheduler.CosineAnnealingLR(o, 10, eta_min=0.01),
        lambda: optax.cosine_decay_schedule(0.1, 10, alpha=0.01),
        lambda: optax.cosine_decay_schedule(0.1, 10, alpha=0.1),
        11,
    ),
)


cosine_end = Difference(
    code="SCH-03",
    title="cosine decay: after its end",
    torch="CosineAnnealingLR: rises again after T_max",
    jax="optax.cosine_decay_schedule: stays",
    fix_torch="stop calling scheduler.step() after T_max",
    fix_jax="lambda count: lr / 2 * (1 + jnp.cos(jnp.pi * count / steps))",
    kinds="",
    measure=_against(
        lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
        lambda: optax.cosine_decay_schedule(0.1, 10),
        lambda: lambda count: 0.05 * (1 + jnp.cos(jnp.pi * count / 10)),
        18,
    ),
)


def _one_cycle(count: Any) -> Any:
    def between(start, end, part):
        return end + (start - end) / 2 * (1 + jnp.cos(jnp.pi * part))

    top, end, first, last = 0.3 * 20 - 1, 20 - 1, 1 / 25, 1 / 25 / 1e4
    up = between(first, 1.0, count / top)
    return jnp.where(count <= top, up, between(1.0, last, (count - top) / (end - top)))


one_cycle = Difference(
    code="SCH-04",
    title="one-cycle schedule: where its phases end",
    torch="OneCycleLR: at pct n - 1 and n - 1",
    jax="optax.cosine_onecycle_schedule: at pct n and n",
    fix_torch="write the schedule out with LambdaLR",
    fix_jax="write the schedule out with the ends at pct n - 1 and n - 1",
    kinds="",
    measure=_against(
        lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=20),
        lambda: optax.cosine_onecycle_schedule(20, 1.0),
        lambda: _one_cycle,
        20,
    ),
)
warm_start = Difference(
    code="SCH-05",
    title="linear warm-up: where it starts",
    torch="LinearLR(start_factor=1/3)",
    jax="optax.linear_schedule(0, lr, steps): the first update has a learning rate of 0",
    fix_torch="LinearLR(optimizer, start_factor=1e-8)",
    fix_jax="optax.linear_schedule(lr / 3, lr, steps)",
    kinds="",
    measure=_against(
        lambda o: lr_scheduler.LinearLR(o),
        lambda: optax.linear_schedule(0.0, 0.1, 5),
        lambda: optax.linear_schedule(0.1 / 3, 0.1, 5),
        8,
    ),
)
warm_cosine = Difference(
    code="SCH-06",
    title="warm-up and cosine: what decay_steps counts",
    torch="SequentialLR([LinearLR, CosineAnnealingLR]): T_max counts the cosine alone",
    jax="optax.warmup_cosine_decay_schedule: decay_steps includes the warm-up",
    fix_torch="CosineAnnealingLR(optimizer, decay_steps - warmup_steps)",
    fix_jax="decay_steps = warmup_steps + T_max",
    kinds="",
    measure=_against(
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 5), lr_scheduler.CosineAnnealingLR(o, 10)], [5]
        ),
        lambda: optax.warmup_cosine_decay_schedule(0.01, 0.1, 5, 10),
        lambda: optax.warmup_cosine_decay_schedule(0.01, 0.1, 5, 15),
        15,
    ),
)


def _plateau() -> tuple[float, float]:
    import optax.contrib

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3)
    ours = []
    for _ in range(9):
        scheduler.step(1.0)
        ours.append(optimizer.param_groups[0]["lr"])

    def run(patience):
        with jax.enable_x64(True):
            tx: Any = optax.contrib.reduce_on_plateau(factor=0.5, patience=patience)
            state, scales = tx.init(jnp.zeros(1)), []
            for _ in range(9):
                _, state = tx.update(jnp.ones(1), state, value=1.0)
                scales.append(float(state.scale))
            return np.asarray(scales)

    return gaps(np.asarray(ours), run(3), run(4))


plateau = Difference(
    code="SCH-07",
    title="reducing on a plateau: patience",
    torch="ReduceLROnPlateau(patience=n): after n + 1 bad values",
    jax="optax.contrib.reduce_on_plateau(patience=n): after n",
    fix_torch="ReduceLROnPlateau(patience=n - 1)",
    fix_jax="optax.contrib.reduce_on_plateau(patience=n + 1)",
    kinds="",
    measure=_plateau,
)


hand_cosine = Difference(
    code="SCH-08",
    title="hand-written cosine: steps or steps - 1",
    torch="recipes: progress = step / (steps - 1), so the last step is at the floor",
    jax="optax.cosine_decay_schedule(lr, steps): progress = count / steps",
    fix_torch="progress = step / steps",
    fix_jax="optax.cosine_decay_schedule(lr, steps - 1)",
    kinds="",
    measure=_against(
        lambda o: lr_scheduler.LambdaLR(o, lambda step: (1 + np.cos(np.pi * step / 9)) / 2),
        lambda: optax.cosine_decay_schedule(0.1, 10),
        lambda: optax.cosine_decay_schedule(0.1, 9),
        10,
    ),
)


def _cycled() -> tuple[float, float]:
    def ours(**options):
        def schedule(optimizer):
            return lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=40, **options)

        return by_torch("SGD", schedule, lr=0.1, momentum=0.9)

    def rate(count):
        return 0.5 + (0.02 - 0.5) / 2 * (1 + jnp.cos(jnp.pi * count / 11))

    theirs = by_optax(lambda: optax.sgd(rate, 0.9))
    return gap(ours(), theirs), gap(ours(cycle_momentum=False), theirs)


cycled = Difference(
    code="SCH-09",
    title="one-cycle schedule: it cycles the momentum too",
    torch="OneCycleLR: momentum from 0.95 down to 0.85 and back (cycle_momentum=True)",
    jax="optax.cosine_onecycle_schedule: the learning rate alone",
    fix_torch="OneCycleLR(cycle_momentum=False)",
    fix_jax="a schedule for the momentum, with optax.inject_hyperparams",
    kinds="",
    measure=_cycled,
)


def _late_edits(site: Site) -> Iterator[Edit]:
    update = Update(site)
    step, moved = update.step, update.ours - update.param
    schedule = site.optimizer.get("schedule", ())
    for other in (step - 1, step + 1, 0):
        if 0 <= other < len(schedule) and other != step:
            factor = schedule[other] / schedule[step]
            yield Edit(
                f"the schedule's value of update {step}: JAX's side takes that of {other}",
                "scheduler.step() " + ("after" if other < step else "before") + " optimizer.step()",
                lambda f=factor: to_torch(update.param + f * moved),
            )


late = Difference(
    code="OPT-28",
    title="a schedule that is one step ahead or late",
    torch="scheduler.step() after optimizer.step(): the first update has schedule(0)",
    jax="optax: schedule(0) in the first update; a count raised before it is one ahead",
    fix_torch="scheduler.step() before optimizer.step()",
    fix_jax="schedule(count) with the count before it is raised",
    kinds=ANY,
    measure=shipped(
        "SGD",
        {"schedule": lambda o: lr_scheduler.ExponentialLR(o, 0.5), "lr": 0.1},
        lambda: optax.sgd(lambda count: 0.1 * 0.5 ** (count + 1)),
        lambda: optax.sgd(lambda count: 0.1 * 0.5**count),
    ),
    edits=_late_edits,
    whats=("update",),
)
