"""Learning-rate schedules of torch.optim.lr_scheduler that turn back, as optax schedules.

Cosines, triangles and the one cycle, and the last stretch of weight averaging. torch: `CyclicLR`
and `OneCycleLR` turn the optimizer's momentum the other way, unless `cycle_momentum=False`; here
only the rate is scheduled.
"""

import jax.numpy as jnp
import optax

from jaxnn.training.schedules import fraction, positive

__all__ = [
    "cosine_annealing_lr",
    "cosine_annealing_warm_restarts",
    "cyclic_lr",
    "one_cycle_lr",
    "swa_lr",
]


def cosine_annealing_lr(lr: float, T_max: int, eta_min: float = 0.0) -> optax.Schedule:
    """eta_min + (lr - eta_min) (1 + cos(pi step / T_max)) / 2: after T_max it climbs again.

    `optax.cosine_decay_schedule` stays at its end, and has a fraction where `eta_min` is a rate.

    Raises:
      ValueError: if `T_max` is below 1.
    """
    positive(T_max=T_max)
    return lambda count: _cosine(lr, eta_min, count / float(T_max))


def cosine_annealing_warm_restarts(
    lr: float, T_0: int, T_mult: int = 1, eta_min: float = 0.0
) -> optax.Schedule:
    """From lr to eta_min along half a cosine, over and over: for T_0, T_0 T_mult, ... steps.

    Raises:
      ValueError: if `T_0` or `T_mult` is below 1.

    Reference:
      Loshchilov and Hutter, SGDR, 2016, https://arxiv.org/abs/1608.03983
    """
    positive(T_0=T_0, T_mult=T_mult)
    if T_mult == 1:
        return lambda count: _cosine(lr, eta_min, jnp.remainder(count, T_0) / float(T_0))
    starts, lengths = [0], [T_0]
    while starts[-1] + lengths[-1] < 2**31:  # every restart that an int32 can count
        starts.append(starts[-1] + lengths[-1])
        lengths.append(lengths[-1] * T_mult)

    def schedule(count):
        run = jnp.searchsorted(jnp.asarray(starts), count, side="right") - 1
        progress = (count - jnp.asarray(starts)[run]) / jnp.asarray(lengths, float)[run]
        return _cosine(lr, eta_min, progress)

    return schedule


def cyclic_lr(
    base_lr: float,
    max_lr: float,
    step_size_up: int = 2000,
    step_size_down: int | None = None,
    mode: str = "triangular",
    gamma: float = 1.0,
) -> optax.Schedule:
    """Triangles: from base_lr up to max_lr and down again.

    Args:
      base_lr, max_lr: foot and peak.
      step_size_up, step_size_down: steps of the two sides; None for the same.
      mode: "triangular"; "triangular2", whose height is halved at each triangle; "exp_range", whose
        height falls by gamma^step.
      gamma: of "exp_range".

    Raises:
      ValueError: if `mode` is another, or a side has no step.

    Reference:
      Smith, Cyclical Learning Rates, 2015, https://arxiv.org/abs/1506.01186
    """
    down = step_size_up if step_size_down is None else step_size_down
    positive(step_size_up=step_size_up, step_size_down=down)
    heights = {
        "triangular": lambda count: 1.0,
        "triangular2": lambda count: 0.5 ** (count // (step_size_up + down)),
        "exp_range": lambda count: gamma**count,
    }
    if mode not in heights:
        raise ValueError(f"mode is {mode!r}: it must be one of {', '.join(heights)}")

    def schedule(count):
        position = count % (step_size_up + down)
        rising = position / float(step_size_up)
        falling = (step_size_up + down - position) / float(down)
        return base_lr + (max_lr - base_lr) * jnp.minimum(rising, falling) * heights[mode](count)

    return schedule


def one_cycle_lr(
    max_lr: float,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> optax.Schedule:
    """From max_lr / div_factor up to max_lr, then down to 1 / final_div_factor of the start.

    Args:
      max_lr: the peak.
      total_steps: N, or None for epochs * steps_per_epoch.
      epochs, steps_per_epoch: read if `total_steps` is None.
      pct_start: part of N that climbs.
      anneal_strategy: "cos" or "linear".
      div_factor, final_div_factor: of the start, and of the end from there.
      three_phase: come down to the start as fast as up, and then to the end.

    The peak is at step pct_start N - 1, the end at N - 1, where it stays.
    `optax.cosine_onecycle_schedule` has both one step later. torch: raises after step N.

    Raises:
      ValueError: if there is no number of steps, or `pct_start` or `anneal_strategy` is invalid.

    Reference:
      Smith and Topin, Super-Convergence, 2017, https://arxiv.org/abs/1708.07120
    """
    if total_steps is None:
        if epochs is None or steps_per_epoch is None:
            raise ValueError("total_steps is missing, and so is epochs or steps_per_epoch")
        total_steps = epochs * steps_per_epoch
    positive(total_steps=total_steps)
    fraction(pct_start=pct_start)
    anneal = _strategy(anneal_strategy)
    start = max_lr / div_factor
    peak, last = pct_start * total_steps - 1, total_steps - 1.0
    ends = [(peak, start, max_lr), (last, max_lr, start / final_div_factor)]
    if three_phase:
        back = 2 * pct_start * total_steps - 2
        ends = [ends[0], (back, max_lr, start), (last, start, start / final_div_factor)]

    def schedule(count):
        count = jnp.minimum(count, last)
        rate, begin = jnp.asarray(start), 0.0
        for end, low, high in ends:
            stretch = anneal(low, high, (count - begin) / (end - begin))
            rate = jnp.where(count > begin, stretch, rate)
            begin = end
        return rate

    return schedule


def swa_lr(
    lr: float, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: str = "cos"
) -> optax.Schedule:
    """From lr to the constant rate of weight averaging, in `anneal_epochs` steps.

    torch: `torch.optim.swa_utils.SWALR`, which begins at the rate that it finds.

    Raises:
      ValueError: if `anneal_epochs` is negative or `anneal_strategy` is neither cos nor linear.
    """
    anneal = _strategy(anneal_strategy)
    if anneal_epochs < 0:
        raise ValueError(f"anneal_epochs is {anneal_epochs}: it must not be negative")
    if anneal_epochs == 0:
        return optax.constant_schedule(swa_lr)
    return lambda count: anneal(lr, swa_lr, jnp.minimum(count / float(anneal_epochs), 1.0))


def _cosine(start, end, progress):
    return end + (start - end) / 2 * (1 + jnp.cos(jnp.pi * progress))


def _linear(start, end, progress):
    return start + (end - start) * progress


def _strategy(name):
    if name not in ("cos", "linear"):
        raise ValueError(f"anneal_strategy is {name!r}: it must be 'cos' or 'linear'")
    return _cosine if name == "cos" else _linear
