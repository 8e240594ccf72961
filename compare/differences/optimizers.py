"""Optimizers: weight decay, momentum, signs, and the rules without Adam's moments."""

from __future__ import annotations

from typing import Any

import numpy as np

from compare.differences.catalogue import Difference
from compare.differences.measuring import gaps, normal
from compare.differences.shared.frameworks import jax, jnp, lr_scheduler, optax, torch
from compare.differences.shared.updates import (
    ANY,
    EPSILONS,
    Options,
    Rows,
    candidates,
    combined,
    scaled,
    shipped,
    transformation,
)
from compare.share import to_jax, to_numpy, to_torch


def _decay_values(o: Options) -> Rows:
    own = o["weight_decay"]
    values = (0.0, 1e-4, 1e-2, 5e-4, 1e-3, 1e-5, 0.1, 2 * own, own / 2)
    line = "weight_decay={weight_decay:g}"
    return combined(o, f"weight_decay={own:g}", line, weight_decay=values)


decay_value = Difference(
    code="OPT-03",
    title="weight decay: another value, or none",
    torch="AdamW(weight_decay=1e-2); 0 elsewhere",
    jax="optax.adamw(weight_decay=1e-4); optax.adam and optax.sgd have none",
    fix_torch="AdamW(weight_decay=1e-4)",
    fix_jax="optax.adamw(lr, weight_decay=1e-2)",
    kinds=ANY,
    measure=shipped(
        "AdamW", {"lr": 0.1}, lambda: optax.adamw(0.1), lambda: optax.adamw(0.1, weight_decay=1e-2)
    ),
    edits=candidates(_decay_values),
    whats=("update",),
)
DECAYS = {
    "coupled": "optax.chain(optax.add_decayed_weights(wd), optimizer)",
    "decoupled": "optax.add_decayed_weights(wd) before the learning rate, as in optax.adamw",
    "without rate": "decay without the learning rate",
    "wrong sign": "optax.chain(optimizer, optax.add_decayed_weights(wd)), which grows the weights",
    "afterwards": "decay of the parameter that has moved already",
}


def _decay_rows(o: Options) -> Rows:
    return combined(o, DECAYS[o["decay"]], "", decay=DECAYS)


decay_place = Difference(
    code="OPT-04",
    title="weight decay: in the gradient or beside it, with the learning rate or without",
    torch="Adam(weight_decay): in the gradient; AdamW: beside it, times the learning rate",
    jax="optax.adamw: beside it; in the gradient with add_decayed_weights in front",
    fix_torch="AdamW in place of Adam, or the reverse",
    fix_jax="optax.chain(optax.add_decayed_weights(wd), optax.adam(lr)) for torch's Adam",
    kinds=ANY.replace("SGD|", ""),
    measure=shipped(
        "Adam",
        {"lr": 0.1, "weight_decay": 0.1},
        lambda: optax.adamw(0.1, weight_decay=0.1),
        lambda: optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.1)),
    ),
    edits=candidates(_decay_rows),
    whats=("update",),
)
sgd_decay = Difference(
    code="OPT-05",
    title="SGD's weight decay: before or after the momentum",
    torch="SGD(weight_decay): in the gradient, so in the momentum buffer",
    jax="optax.chain(optax.sgd(...), optax.add_decayed_weights(wd)): after it, with the wrong sign",
    fix_torch="decay the parameter itself: p.mul_(1 - lr * wd) before the step",
    fix_jax="optax.chain(optax.add_decayed_weights(wd), optax.sgd(lr, momentum))",
    kinds="SGD",
    measure=shipped(
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
        lambda: optax.chain(optax.sgd(0.1, 0.9), optax.add_decayed_weights(0.1)),
        lambda: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, 0.9)),
    ),
    edits=candidates(_decay_rows),
    whats=("update",),
)


def _buffer_rows(o: Options) -> Rows:
    mu, damp = o["momentum"], o["dampening"]
    right = f"b = {mu:g} * b + (1 - {damp:g}) * g; p = p - lr * b"
    if mu:
        yield right, "" if o["nesterov"] else f"dampening={mu:g}", {"buffer": "average"}
        yield right, "", {"buffer": "rate"}
        yield "the first b is g, not dampened", "", {"buffer": "from zero"}
    yield from combined(o, right, "dampening={dampening:g}", dampening=(0.0, 0.1, 0.5, 0.9))
    values = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1 - mu)
    yield from combined(o, f"momentum={mu:g}", "momentum={momentum:g}", momentum=values)


buffer = Difference(
    code="OPT-06",
    title="SGD's momentum buffer: sum or average, and where the learning rate enters",
    torch="b = momentum b + (1 - dampening) g; p = p - lr b; the first b is g, not dampened",
    jax="optax.trace: b = decay b + g; optax.ema: b = decay b + (1 - decay) g from 0",
    fix_torch="SGD(momentum=0.9, dampening=0.9), which parts in the first step",
    fix_jax="optax.sgd(lr, momentum)",
    kinds="SGD",
    measure=shipped(
        "SGD",
        {"lr": 0.1, "momentum": 0.9},
        lambda: scaled(optax.ema(0.9, debias=False)),
        lambda: optax.sgd(0.1, 0.9),
    ),
    edits=candidates(_buffer_rows),
    whats=("update", "start"),
)


def _nesterov_rows(o: Options) -> Rows:
    ours = bool(o["nesterov"])
    yield f"nesterov={ours}", f"nesterov={not ours}", {"nesterov": not ours}


nesterov = Difference(
    code="OPT-07",
    title="Nesterov momentum against plain momentum",
    torch="SGD(nesterov=False)",
    jax="optax.sgd(nesterov=False); ports of papers often hand over True",
    fix_torch="SGD(nesterov=True)",
    fix_jax="optax.sgd(lr, momentum, nesterov=False)",
    kinds="SGD|Adam|AdamW",
    measure=shipped(
        "SGD",
        {"lr": 0.1, "momentum": 0.9},
        lambda: optax.sgd(0.1, 0.9, nesterov=True),
        lambda: optax.sgd(0.1, 0.9),
    ),
    edits=candidates(_nesterov_rows),
    whats=("update",),
)


def _rms_rows(o: Options) -> Rows:
    return combined(
        o,
        f"optax.rmsprop(lr, decay={o['alpha']:g}, eps={o['eps']:g}, eps_in_sqrt=False)",
        "alpha={alpha:g}, eps={eps:g}",
        eps_at=("inside", "squared inside", "largest"),
        alpha=(0.9, 0.99, 0.999, 0.95, 0.8),
        eps=EPSILONS,
    )


rmsprop = Difference(
    code="OPT-08",
    title="RMSprop: its decay, and eps inside the root",
    torch="RMSprop(alpha=0.99): sqrt(v) + eps",
    jax="optax.rmsprop(decay=0.9): sqrt(v + eps)",
    fix_torch="RMSprop(alpha=0.9); eps is outside only",
    fix_jax="optax.rmsprop(lr, decay=0.99, eps_in_sqrt=False)",
    kinds="RMSprop",
    measure=shipped(
        "RMSprop",
        {"lr": 0.1},
        lambda: optax.rmsprop(0.1),
        lambda: optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False),
    ),
    edits=candidates(_rms_rows),
    whats=("update",),
)


def _halving(count: Any) -> Any:
    return 0.1 * 0.5**count


def _rms_momentum_rows(o: Options) -> Rows:
    right = "optax.chain(optax.scale_by_rms(...), optax.trace(momentum), learning rate last)"
    if o["momentum"]:
        yield right, "", {"buffer": "rate"}
        yield right, "", {"buffer": "negated"}
        yield f"momentum={o['momentum']:g}", "momentum=0", {"momentum": 0.0}
    ours = bool(o["centered"])
    yield f"centered={ours}", f"centered={not ours}", {"centered": not ours}


rms_momentum = Difference(
    code="OPT-09",
    title="RMSprop: momentum before or after the learning rate; centred or not",
    torch="RMSprop(momentum): the buffer is free of the learning rate",
    jax="optax.rmsprop(momentum=): the learning rate is in the buffer, so a schedule lags",
    fix_torch="scale the buffer by the last learning rate",
    fix_jax="optax.chain(optax.scale_by_rms(...), optax.trace(0.9), learning rate last)",
    kinds="RMSprop",
    measure=shipped(
        "RMSprop",
        {"schedule": lambda o: lr_scheduler.ExponentialLR(o, 0.5), "lr": 0.1, "momentum": 0.9},
        lambda: optax.rmsprop(_halving, decay=0.99, eps_in_sqrt=False, momentum=0.9),
        lambda: optax.chain(
            optax.scale_by_rms(0.99, eps_in_sqrt=False),
            optax.trace(0.9),
            optax.scale_by_learning_rate(_halving),
        ),
    ),
    edits=candidates(_rms_momentum_rows),
    whats=("update",),
)


def _adagrad_rows(o: Options) -> Rows:
    return combined(
        o,
        f"g / (jnp.sqrt(s) + {o['eps']:g}), s from 0",
        "eps={eps:g}, initial_accumulator_value={more:g}",
        eps_at=("inside", "squared inside"),
        eps=EPSILONS,
        more=(0.1,),
    )


def _adagrad() -> Any:
    def update(g, total, p=None):
        total = total + g * g
        return g / (jnp.sqrt(total) + 1e-10), total

    return scaled(transformation(update, jnp.zeros_like))


adagrad = Difference(
    code="OPT-10",
    title="Adagrad: the accumulator's start and eps",
    torch="Adagrad: s from 0, sqrt(s) + 1e-10",
    jax="optax.adagrad: s from 0.1, sqrt(s + 1e-7)",
    fix_torch="Adagrad(initial_accumulator_value=0.1); eps is outside only",
    fix_jax="write g / (jnp.sqrt(s) + 1e-10) out, with s from 0",
    kinds="Adagrad",
    measure=shipped("Adagrad", {"lr": 0.1}, lambda: optax.adagrad(0.1), _adagrad),
    edits=candidates(_adagrad_rows),
    whats=("update", "start"),
)


def _signs(o: Options) -> Rows:
    yield "the learning rate's sign: p - lr * direction", "lr=-lr", {"lr": -o["lr"]}
    yield "the gradient's sign: minimise the loss", "maximize=True", {"maximize": True}


sign = Difference(
    code="OPT-11",
    title="the sign of the update",
    torch="Adadelta(lr=1.0): downhill",
    jax="optax.adadelta(learning_rate=None): neither scaled nor negated, so uphill",
    fix_torch="maximize=True",
    fix_jax="optax.adadelta(1.0)",
    kinds=ANY,
    measure=shipped("Adadelta", {}, lambda: optax.adadelta(), lambda: optax.adadelta(1.0)),
    edits=candidates(_signs),
    whats=("update",),
)


def _rprop() -> Any:
    def init(p):
        return jnp.full_like(p, 0.1), jnp.zeros_like(p)

    def update(g, state, p=None):
        size, last = state
        agree = jnp.sign(g * last)
        size = jnp.clip(size * jnp.where(agree > 0, 1.2, jnp.where(agree < 0, 0.5, 1)), 1e-6, 50)
        g = jnp.where(agree < 0, 0.0, g)
        return -jnp.sign(g) * size, (size, g)

    return transformation(update, init)


rprop = Difference(
    code="OPT-14",
    title="Rprop is one step late",
    torch="Rprop: the step that this gradient asks for",
    jax="optax.rprop (0.2.8): the previous step's; the first is 0",
    fix_torch="keep the steps back by one",
    fix_jax="write the update out",
    kinds="",  # seen from the second step on: one update from a given state hides it
    measure=shipped("Rprop", {"lr": 0.1}, lambda: optax.rprop(0.1), _rprop),
)


def _adadelta_rows(o: Options) -> Rows:
    return combined(
        o,
        f"optax.adadelta(1.0, rho={o['rho']:g}, eps={o['eps']:g})",
        "rho={rho:g}, eps={eps:g}",
        rho=(0.9, 0.95, 0.99),
        eps=EPSILONS,
        eps_at=("outside",),
    )


adadelta = Difference(
    code="OPT-18",
    title="Adadelta: rho and eps",
    torch="Adadelta(rho=0.9, eps=1e-6): sqrt(d + eps) / sqrt(v + eps)",
    jax="optax.adadelta likewise; Keras has rho=0.95, eps=1e-7",
    fix_torch="Adadelta(rho=0.95)",
    fix_jax="optax.adadelta(1.0, rho=0.9, eps=1e-6)",
    kinds="Adadelta",
    measure=shipped(
        "Adadelta", {}, lambda: optax.adadelta(1.0, rho=0.95), lambda: optax.adadelta(1.0)
    ),
    edits=candidates(_adadelta_rows),
    whats=("update",),
)


def _adafactor() -> tuple[float, float]:
    begin, g = np.asarray([[4.0, 4.0], [1.0, 1.0], [1.0, 1.0]]), to_numpy(normal(3, 2))
    p = torch.nn.Parameter(to_torch(begin))
    p.grad = to_torch(g)
    torch.optim.Adafactor([p], lr=0.1, weight_decay=0.0).step()
    with jax.enable_x64(True):
        value, x = to_jax(begin), to_jax(g)
        tx = optax.adafactor(0.1)
        updates, _ = tx.update(x, tx.init(value), value)
        square = x * x  # the first update's memory is empty
        rows, columns = square.mean(1, keepdims=True), square.mean(0, keepdims=True)
        step = x / jnp.sqrt(rows * columns / rows.mean(0, keepdims=True))
        step = step / jnp.maximum(1.0, jnp.sqrt((step * step).mean()))
        scale = jnp.maximum(1e-3, jnp.sqrt((value * value).mean()))
        return gaps(p, value + updates, value - 0.1 * scale * step)


adafactor = Difference(
    code="OPT-29",
    title="Adafactor: which matrices are factored",
    torch="Adafactor: every parameter of two axes or more",
    jax="optax.adafactor: only from min_dim_size_to_factor=128 on",
    fix_torch="write the update out for small matrices",
    fix_jax="write the update out; optax.adafactor(lr, min_dim_size_to_factor=1) is 1e-8 off",
    kinds="",  # its factored state has no counterpart in the finder's state
    measure=_adafactor,
)
