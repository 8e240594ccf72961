"""Optimizers and learning-rate schedules: what one update does with a gradient.

Each rule below is one update of torch.optim, written out, with a switch for every habit in which a
port may part from it. The measurements run the rules in JAX, the finder's candidates in NumPy.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from compare.differences.calls import without
from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import gap, normal
from compare.share import to_jax, to_numpy, to_torch

Options = Mapping[str, Any]
State = dict[str, Any]
Rule = Callable[[Options, Any, Any, State, int], tuple[Any, State]]


def _gradient(o: Options, g: Any, p: Any) -> Any:
    """The gradient that the rule sees: its sign, and decay that is coupled."""
    g = -g if o.get("maximize") else g
    return g + o["weight_decay"] * p if o["decay"] == "coupled" else g


def _moved(o: Options, p: Any, direction: Any) -> Any:
    """The parameter after a step along the direction, with decay that is not coupled."""
    decay = {
        "decoupled": -o["lr"] * o["weight_decay"],
        "without rate": -o["weight_decay"],
        "wrong sign": o["weight_decay"],
    }.get(o["decay"], 0.0)
    moved = p - o["lr"] * direction + decay * p
    return moved * (1 - o["lr"] * o["weight_decay"]) if o["decay"] == "afterwards" else moved


def _root(o: Options, v: Any, correction: Any = 1.0) -> Any:
    """The root of a second moment, with eps where the port puts it."""
    eps = o["eps"]
    return {
        "outside": lambda: (v / correction) ** 0.5 + eps,
        "inside": lambda: (v / correction + eps) ** 0.5,
        "squared inside": lambda: (v / correction + eps**2) ** 0.5,
        "before correction": lambda: (v**0.5 + eps) / correction**0.5,
        "inside before correction": lambda: ((v + eps) / correction) ** 0.5,
        "largest": lambda: o["np"].maximum((v / correction) ** 0.5, eps),
    }[o["eps_at"]]()


def _sgd(o: Options, g: Any, p: Any, s: State, t: int) -> tuple[Any, State]:
    g, mu, buffer = _gradient(o, g, p), o["momentum"], s.get("momentum_buffer")
    if not mu:
        return _moved(o, p, g), {}
    if buffer is None and o["buffer"] != "from zero":
        buffer = g
    else:
        buffer = 0.0 if buffer is None else buffer
        g = {"rate": o["lr"], "average": 1 - mu}.get(o["buffer"], 1 - o["dampening"]) * g
        buffer = mu * buffer + g
    direction = g + mu * buffer if o["nesterov"] else buffer
    if o["buffer"] == "rate":  # the buffer holds the rate already
        direction = direction / o["lr"]
    return _moved(o, p, direction), {"momentum_buffer": buffer}


def _moments(o: Options, g: Any, s: State) -> tuple[Any, Any]:
    b1, b2 = o["betas"]
    v = s.get("exp_avg_sq", 0.0)
    return b1 * s.get("exp_avg", 0.0) + (1 - b1) * g, b2 * v + (1 - b2) * g * g


def _corrections(o: Options, t: int) -> tuple[float, float]:
    first, second = (1 - beta ** (t + o["shift"]) for beta in o["betas"])
    return first if o["correct"][0] else 1.0, second if o["correct"][1] else 1.0


def _adam(o: Options, g: Any, p: Any, s: State, t: int) -> tuple[Any, State]:
    g, (b1, _) = _gradient(o, g, p), o["betas"]
    m, v = _moments(o, g, s)
    c1, c2 = _corrections(o, t)
    state = {"exp_avg": m, "exp_avg_sq": v}
    maximum = s.get("max_exp_avg_sq", 0.0)
    if o["amsgrad"] == "corrected":  # the largest of the corrected moments, as optax has it
        state["max_exp_avg_sq"] = v = o["np"].maximum(maximum, v / c2)
        c2 = 1.0
    elif o["amsgrad"]:
        state["max_exp_avg_sq"] = v = o["np"].maximum(maximum, v)
    mean = m / c1
    if o["nesterov"]:
        mean = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / c1
    return _moved(o, p, mean / _root(o, v, c2)), state


def _nadam(o: Options, g: Any, p: Any, s: State, t: int) -> tuple[Any, State]:
    if o["constant"]:
        return _adam({**o, "nesterov": True}, g, p, s, t)
    g, (b1, _) = _gradient(o, g, p), o["betas"]
    m, v = _moments(o, g, s)
    _, c2 = _corrections(o, t)
    now, following = (b1 * (1 - 0.5 * 0.96 ** (i * o["momentum_decay"])) for i in (t, t + 1))
    # torch keeps the product in the default type, whatever the parameter's
    product = float(np.float32(s.get("mu_product", 1.0)) * np.float32(now))
    mean = g * (1 - now) / (1 - product) + m * following / (1 - product * following)
    state = {"exp_avg": m, "exp_avg_sq": v, "mu_product": product}
    return _moved(o, p, mean / _root(o, v, c2)), state


def _radam(o: Options, g: Any, p: Any, s: State, t: int) -> tuple[Any, State]:
    g, (_, b2) = _gradient(o, g, p), o["betas"]
    m, v = _moments(o, g, s)
    c1, c2 = _corrections(o, t)
    longest = 2 / (1 - b2) - 1
    length = longest - 2 * t * b2**t / (1 - b2**t)
    direction = m / c1
    if o["rectify"] and length > 5:
        part = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        direction = direction * part**0.5 / _root(o, v, c2)
    elif not o["rectify"]:
        direction = direction / _root(o, v, c2)
    return _moved(o, p, direction), {"exp_avg": m, "exp_avg_sq": v}


def _adamax(o: Options, g: Any, p: Any, s: State, t: int) -> tuple[Any, State]:
    g, (b1, b2) = _gradient(o, g, p), o["betas"]
    m = b1 * s.get("exp_avg", 0.0) + (1 - b1) * g
    inside = 0.0 if o["eps_at"] == "outside" else o["eps"]
    norm = o["np"].maximum(b2 * s.get("exp_inf", 0.0), abs(g) + inside)
    c1, _ = _corrections(o, t)
    state = {"exp_avg": m, "exp_inf": norm}
    return _moved(o, p, m / c1 / (norm + o["eps"] - inside)), state


def _rmsprop(o: Options, g: Any, p: Any, s: State, t: int) -> tuple[Any, State]:
    g, alpha, mu = _gradient(o, g, p), o["alpha"], o["momentum"]
    square = alpha * s.get("square_avg", 0.0) + (1 - alpha) * g * g
    state, centre = {"square_avg": square}, square
    if o["centered"]:
        state["grad_avg"] = alpha * s.get("grad_avg", 0.0) + (1 - alpha) * g
        centre = square - state["grad_avg"] ** 2
    direction = g / _root(o, centre)
    if not mu:
        return _moved(o, p, direction), state
    # with the rate inside, the buffer is what is added to the parameter, or taken from it
    rate, sign = {"rate": (o["lr"], -1), "negated": (-o["lr"], 1)}.get(o["buffer"], (1.0, 0))
    buffer = state["momentum_buffer"] = mu * s.get("momentum_buffer", 0.0) + rate * direction
    return (p + sign * buffer if sign else _moved(o, p, buffer)), state


def _adagrad(o: Options, g: Any, p: Any, s: State, t: int) -> tuple[Any, State]:
    g = _gradient(o, g, p)
    total = s.get("sum", o["initial_accumulator_value"]) + g * g
    rate = o["lr"] / (1 + (t - 1) * o["lr_decay"])
    return _moved({**o, "lr": rate}, p, g / _root(o, total + o["more"])), {"sum": total}


def _adadelta(o: Options, g: Any, p: Any, s: State, t: int) -> tuple[Any, State]:
    g, rho = _gradient(o, g, p), o["rho"]
    square = rho * s.get("square_avg", 0.0) + (1 - rho) * g * g
    before = s.get("acc_delta", 0.0)
    step = g * _root(o, before) / _root(o, square)
    state = {"square_avg": square, "acc_delta": rho * before + (1 - rho) * step * step}
    return _moved(o, p, step), state


RULES: dict[str, Rule] = {
    "SGD": _sgd,
    "Adam": _adam,
    "AdamW": _adam,
    "NAdam": _nadam,
    "RAdam": _radam,
    "Adamax": _adamax,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
    "Adadelta": _adadelta,
}
ANY = "|".join(RULES)
EPS_AT = {"RAdam": "before correction", "Adamax": "inside", "Adadelta": "inside"}
MOMENTS = "Adam|AdamW|NAdam|RAdam"


def _options(kind: str, given: Options) -> dict[str, Any]:
    """torch's keywords with their defaults, and torch's habits."""
    import torch

    parameters = inspect.signature(getattr(torch.optim, kind)).parameters.values()
    options = {p.name: p.default for p in parameters if p.default is not p.empty}
    options.update(given)
    decoupled = kind == "AdamW" or options.get("decoupled_weight_decay")
    habits = {
        "np": np,
        "decay": "decoupled" if decoupled else "coupled",
        "eps_at": EPS_AT.get(kind, "outside"),
        "correct": (True, True),
        "shift": 0,
        "buffer": "",
        "constant": False,
        "rectify": True,
        "more": 0.0,
    }
    return {"nesterov": False, "amsgrad": False, **options, **habits}


class _Update:
    """The update at a site; calling it makes the update again with changes."""

    def __init__(self, site: Site):
        update = site.optimizer
        self.kind, self.rule = site.kind, RULES[site.kind]
        self.options = _options(site.kind, update["options"])
        self.gradient, self.param = np.asarray(update["gradient"]), np.asarray(update["param"])
        self.state = {k: np.asarray(v) for k, v in update["state"].items() if k != "step"}
        self.step, self.ours, self.theirs = update["step"], site.ours, site.theirs
        self.understood = self._follow_rate()

    def _follow_rate(self) -> bool:
        """Takes the learning rate from PyTorch's update, which may be a schedule's."""
        plain, ours = self() - self.param, self.ours - self.param
        largest = np.argmax(np.abs(plain))
        if not plain.size or not plain.flat[largest]:
            return False
        factor = ours.flat[largest] / plain.flat[largest]
        if abs(factor - 1) > 1e-9:
            self.options["lr"] = self.options["lr"] * factor
        return np.allclose(self() - self.param, ours, 1e-7, 1e-9 * np.abs(ours).max())

    def __call__(self, **changes: Any) -> np.ndarray:
        return self.given(self.gradient, **changes)

    def given(self, gradient: Any, step: int | None = None, **changes: Any) -> np.ndarray:
        """The parameter after the update with another gradient, or other options."""
        return self.after(gradient, step, **changes)[0]

    def after(
        self, gradient: Any, step: int | None = None, **changes: Any
    ) -> tuple[np.ndarray, State]:
        """The same with the optimizer's state."""
        t = (self.step if step is None else step) + 1
        options = {**self.options, **changes}
        return self.rule(options, gradient, self.param, self.state, t)

    def element(self, gradient: np.ndarray, index: int) -> np.ndarray:
        """One element after the update, for many gradients."""
        state = {k: v.flat[index] if v.size > 1 else v for k, v in self.state.items()}
        param = self.param.flat[index]
        return self.rule(self.options, gradient, param, state, self.step + 1)[0]


def _others(site: Site) -> Iterable[Site]:
    """The same update of the other parameters."""
    return site.optimizer.get("others", tuple)()


def _everywhere(site: Site, changed: Callable[[_Update], np.ndarray]) -> bool:
    """Whether the same change explains the other parameters: a factor that is fitted has to."""
    for other in _others(site):
        update = _Update(other)
        allowed = 1e-7 * np.abs(other.theirs - update.param).max(initial=0)
        allowed += 1e-14 * np.abs(update.param).max(initial=0)
        if not np.allclose(changed(update), other.theirs, 0, allowed):
            return False
    return True


Rows = Iterable[tuple[str, str, Mapping[str, Any]]]


def _edits(rows: Callable[[Options], Rows]) -> Callable[[Site], Iterator[Edit]]:
    """Candidates from rows of what to write on either side and the changes of the rule."""

    def edits(site: Site) -> Iterator[Edit]:
        update = _Update(site)
        if update.understood:
            for jax, torch, changes in rows({**update.options, "kind": site.kind}):
                yield Edit(jax, torch, lambda c=changes: to_torch(update(**c)))

    return edits


# Measurements: a few updates from the start, on generic gradients.

STEPS = 8  # RAdam rectifies from the sixth on


def _gradients() -> list[np.ndarray]:
    return [to_numpy(normal(4, 3, seed=step)) for step in range(STEPS)]


def _start() -> np.ndarray:
    return to_numpy(normal(4, 3, seed=99))


def _by_torch(kind: str, schedule: Callable | None = None, **options: Any) -> np.ndarray:
    import torch

    p = torch.nn.Parameter(to_torch(_start()))
    optimizer = getattr(torch.optim, kind)([p], **options)
    scheduler = schedule(optimizer) if schedule else None
    for g in _gradients():
        p.grad = to_torch(g)
        optimizer.step()
        if scheduler:
            scheduler.step()
    return to_numpy(p)


def _by_optax(make: Callable[[Any], Any], gradients: list[np.ndarray] | None = None) -> np.ndarray:
    """The parameter after optax's updates; `make` is given optax, inside x64."""
    import jax
    import optax

    with jax.enable_x64(True):
        tx, p = make(optax), to_jax(_start())
        state = tx.init(p)
        for g in gradients or _gradients():
            updates, state = tx.update(to_jax(g), state, p)
            p = optax.apply_updates(p, updates)
        return to_numpy(p)


def _by_rule(kind: str, given: Options, **changes: Any) -> np.ndarray:
    """The parameter after the updates that a port wrote out itself, in JAX."""
    import jax
    import jax.numpy as jnp

    options = {**_options(kind, given), "np": jnp, **changes}
    with jax.enable_x64(True):
        p, state = to_jax(_start()), {}
        for t, g in enumerate(_gradients(), 1):
            p, state = RULES[kind](options, to_jax(g), p, state, t)
        return to_numpy(p)


def _written(kind: str, given: Options, **changes: Any) -> Callable[[], tuple[float, float]]:
    """A measure: a port that wrote the update itself, with the mistake and without."""

    def measure() -> tuple[float, float]:
        ours = _by_torch(kind, **given)
        return gap(ours, _by_rule(kind, given, **changes)), gap(ours, _by_rule(kind, given))

    return measure


def _shipped(
    kind: str, given: Options, naive: Callable[[Any], Any], mended: Callable[[Any], Any]
) -> Callable[[], tuple[float, float]]:
    """A measure: optax as it comes, and with the right options."""

    def measure() -> tuple[float, float]:
        ours = _by_torch(kind, **given)
        return gap(ours, _by_optax(naive)), gap(ours, _by_optax(mended))

    return measure


def _scaled(optax: Any, *parts: Any, lr: float = 0.1) -> Any:
    return optax.chain(*parts, optax.scale_by_learning_rate(lr))


PLACES = {
    "outside": "sqrt(v / c) + eps",
    "inside": "sqrt(v / c + eps)",
    "squared inside": "sqrt(v / c + eps**2)",
    "before correction": "(sqrt(v) + eps) / sqrt(c)",
    "inside before correction": "sqrt((v + eps) / c)",
    "largest": "max(sqrt(v / c), eps)",
}
EPSILONS = (0.0, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


def _eps_rows(o: Options) -> Rows:
    right = f"{PLACES[o['eps_at']]} with eps={o['eps']:g}"
    for place, eps in itertools.product(PLACES, dict.fromkeys((o["eps"], *EPSILONS))):
        if (place, eps) != (o["eps_at"], o["eps"]):
            torch = f"eps={eps:g}" if place == o["eps_at"] else ""
            yield right, torch, {"eps_at": place, "eps": eps}


eps_place = Difference(
    code="OPT-01",
    title="Adam's eps: its value, outside or inside the root, before or after the correction",
    torch="Adam: sqrt(v / (1 - b2^t)) + eps",
    jax="optax.adam: eps likewise; eps_root is inside the root",
    fix_torch="write the update out; torch has eps outside only",
    fix_jax="optax.adam(lr, eps=1e-8, eps_root=0.0)",
    kinds="Adam|AdamW|NAdam",
    measure=_shipped(
        "Adam",
        {"lr": 0.1, "eps": 1e-3},
        lambda x: x.adam(0.1, eps=0.0, eps_root=1e-3),
        lambda x: x.adam(0.1, eps=1e-3),
    ),
    edits=_edits(_eps_rows),
    whats=("update",),
)


def _amsgrad(optax: Any) -> Any:
    """AMSGrad as torch has it: the maximum of the raw moments, corrected afterwards."""
    import jax.numpy as jnp

    def init(p):
        zero = jnp.zeros_like(p)
        return optax.ScaleByAmsgradState(jnp.zeros((), int), zero, zero, zero)

    def update(g, state, p=None):
        t = state.count + 1
        m, v = 0.9 * state.mu + 0.1 * g, 0.999 * state.nu + 0.001 * g * g
        largest = jnp.maximum(state.nu_max, v)
        step = m / (1 - 0.9**t) / (jnp.sqrt(largest / (1 - 0.999**t)) + 1e-8)
        return step, optax.ScaleByAmsgradState(t, m, v, largest)

    return _scaled(optax, optax.GradientTransformation(init, update))


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
        yield from _edits(_amsgrad_rows)(site)
        return
    update = _Update(site)
    for jax, torch, changes in _amsgrad_rows(update.options):
        yield Edit(
            jax,
            torch,
            lambda c=changes: to_torch(update.after(update.gradient, **c)[1]["max_exp_avg_sq"]),
        )


amsgrad = Difference(
    code="OPT-02",
    title="AMSGrad: on one side alone, or its maximum before or after the bias correction",
    torch="Adam(amsgrad=True): the maximum of v, then divided by 1 - b2^t",
    jax="optax.amsgrad: the maximum of v / (1 - b2^t)",
    fix_torch="write the update out",
    fix_jax="nu_max = jnp.maximum(nu_max, nu), corrected afterwards",
    kinds="Adam|AdamW",
    measure=_shipped("Adam", {"lr": 0.1, "amsgrad": True}, lambda x: x.amsgrad(0.1), _amsgrad),
    edits=_amsgrad_edits,
    whats=("update", "state"),
)


def _decay_values(o: Options) -> Rows:
    own = o["weight_decay"]
    values = (0.0, 1e-4, 1e-2, 5e-4, 1e-3, 1e-5, 0.1, 2 * own, own / 2)
    for value in without(values, own):
        yield f"weight_decay={own:g}", f"weight_decay={value:g}", {"weight_decay": value}


decay_value = Difference(
    code="OPT-03",
    title="weight decay: another value, or none",
    torch="AdamW(weight_decay=1e-2); 0 elsewhere",
    jax="optax.adamw(weight_decay=1e-4); optax.adam and optax.sgd have none",
    fix_torch="AdamW(weight_decay=1e-4)",
    fix_jax="optax.adamw(lr, weight_decay=1e-2)",
    kinds=ANY,
    measure=_shipped(
        "AdamW", {"lr": 0.1}, lambda x: x.adamw(0.1), lambda x: x.adamw(0.1, weight_decay=1e-2)
    ),
    edits=_edits(_decay_values),
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
    for place in without(DECAYS, o["decay"]):
        yield DECAYS[o["decay"]], "", {"decay": place}


decay_place = Difference(
    code="OPT-04",
    title="weight decay: in the gradient or beside it, with the learning rate or without",
    torch="Adam(weight_decay): in the gradient; AdamW: beside it, times the learning rate",
    jax="optax.adamw: beside it; in the gradient with add_decayed_weights in front",
    fix_torch="AdamW in place of Adam, or the reverse",
    fix_jax="optax.chain(optax.add_decayed_weights(wd), optax.adam(lr)) for torch's Adam",
    kinds=ANY.replace("SGD|", ""),
    measure=_shipped(
        "Adam",
        {"lr": 0.1, "weight_decay": 0.1},
        lambda x: x.adamw(0.1, weight_decay=0.1),
        lambda x: x.chain(x.add_decayed_weights(0.1), x.adam(0.1)),
    ),
    edits=_edits(_decay_rows),
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
    measure=_shipped(
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
        lambda x: x.chain(x.sgd(0.1, 0.9), x.add_decayed_weights(0.1)),
        lambda x: x.chain(x.add_decayed_weights(0.1), x.sgd(0.1, 0.9)),
    ),
    edits=_edits(_decay_rows),
    whats=("update",),
)


def _buffer_rows(o: Options) -> Rows:
    mu, damp = o["momentum"], o.get("dampening", 0.0)
    right = f"b = {mu:g} * b + (1 - {damp:g}) * g; p = p - lr * b"
    if mu:
        yield right, "" if o["nesterov"] else f"dampening={mu:g}", {"buffer": "average"}
        yield right, "", {"buffer": "rate"}
        yield "the first b is g, not dampened", "", {"buffer": "from zero"}
    for value in without((0.0, 0.1, 0.5, 0.9), damp):
        yield right, f"dampening={value:g}", {"dampening": value}
    for value in without((0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1 - mu), mu):
        yield f"momentum={mu:g}", f"momentum={value:g}", {"momentum": value}


buffer = Difference(
    code="OPT-06",
    title="SGD's momentum buffer: sum or average, and where the learning rate enters",
    torch="b = momentum b + (1 - dampening) g; p = p - lr b; the first b is g, not dampened",
    jax="optax.trace: b = decay b + g; optax.ema: b = decay b + (1 - decay) g from 0",
    fix_torch="SGD(momentum=0.9, dampening=0.9), which parts in the first step",
    fix_jax="optax.sgd(lr, momentum)",
    kinds="SGD",
    measure=_shipped(
        "SGD",
        {"lr": 0.1, "momentum": 0.9},
        lambda x: _scaled(x, x.ema(0.9, debias=False)),
        lambda x: x.sgd(0.1, 0.9),
    ),
    edits=_edits(_buffer_rows),
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
    measure=_shipped(
        "SGD",
        {"lr": 0.1, "momentum": 0.9},
        lambda x: x.sgd(0.1, 0.9, nesterov=True),
        lambda x: x.sgd(0.1, 0.9),
    ),
    edits=_edits(_nesterov_rows),
    whats=("update",),
)


def _rms_rows(o: Options) -> Rows:
    right = f"optax.rmsprop(lr, decay={o['alpha']:g}, eps={o['eps']:g}, eps_in_sqrt=False)"
    places = ("outside", "inside", "squared inside", "largest")
    values = dict.fromkeys((o["alpha"], 0.9, 0.99, 0.999, 0.95, 0.8))
    epsilons = dict.fromkeys((o["eps"], *EPSILONS))
    for place, alpha, eps in itertools.product(places, values, epsilons):
        if (place, alpha, eps) != ("outside", o["alpha"], o["eps"]):
            torch = f"alpha={alpha:g}, eps={eps:g}" if place == "outside" else ""
            yield right, torch, {"eps_at": place, "alpha": alpha, "eps": eps}


rmsprop = Difference(
    code="OPT-08",
    title="RMSprop: its decay, and eps inside the root",
    torch="RMSprop(alpha=0.99): sqrt(v) + eps",
    jax="optax.rmsprop(decay=0.9): sqrt(v + eps)",
    fix_torch="RMSprop(alpha=0.9); eps is outside only",
    fix_jax="optax.rmsprop(lr, decay=0.99, eps_in_sqrt=False)",
    kinds="RMSprop",
    measure=_shipped(
        "RMSprop",
        {"lr": 0.1},
        lambda x: x.rmsprop(0.1),
        lambda x: x.rmsprop(0.1, decay=0.99, eps_in_sqrt=False),
    ),
    edits=_edits(_rms_rows),
    whats=("update",),
)


def _rms_momentum() -> tuple[float, float]:
    from torch.optim.lr_scheduler import ExponentialLR

    ours = _by_torch("RMSprop", lambda o: ExponentialLR(o, 0.5), lr=0.1, momentum=0.9)

    def schedule(count):
        return 0.1 * 0.5**count

    return (
        gap(
            ours,
            _by_optax(lambda x: x.rmsprop(schedule, decay=0.99, eps_in_sqrt=False, momentum=0.9)),
        ),
        gap(
            ours,
            _by_optax(
                lambda x: x.chain(
                    x.scale_by_rms(0.99, eps_in_sqrt=False),
                    x.trace(0.9),
                    x.scale_by_learning_rate(schedule),
                )
            ),
        ),
    )


def _rms_momentum_rows(o: Options) -> Rows:
    right = "optax.chain(optax.scale_by_rms(...), optax.trace(momentum), learning rate last)"
    if o["momentum"]:
        yield right, "", {"buffer": "rate"}
        yield right, "", {"buffer": "negated"}
        yield f"momentum={o['momentum']:g}", "momentum=0", {"momentum": 0.0}
    for centred in without((False, True), bool(o["centered"])):
        yield f"centered={not centred}", f"centered={centred}", {"centered": bool(centred)}


rms_momentum = Difference(
    code="OPT-09",
    title="RMSprop: momentum before or after the learning rate; centred or not",
    torch="RMSprop(momentum): the buffer is free of the learning rate",
    jax="optax.rmsprop(momentum=): the learning rate is in the buffer, so a schedule lags",
    fix_torch="scale the buffer by the last learning rate",
    fix_jax="optax.chain(optax.scale_by_rms(...), optax.trace(0.9), learning rate last)",
    kinds="RMSprop",
    measure=_rms_momentum,
    edits=_edits(_rms_momentum_rows),
    whats=("update",),
)


def _adagrad_rows(o: Options) -> Rows:
    right = f"g / (jnp.sqrt(s) + {o['eps']:g}), s from 0"
    epsilons = dict.fromkeys((o["eps"], *EPSILONS))
    places = ("outside", "inside", "squared inside")
    for place, eps, more in itertools.product(places, epsilons, (0.0, 0.1)):
        if (place, eps, more) != ("outside", o["eps"], 0.0):
            torch = f"eps={eps:g}, initial_accumulator_value={more:g}"
            changes = {"eps_at": place, "eps": eps, "more": more}
            yield right, torch if place == "outside" else "", changes


def _adagrad_mended(optax: Any) -> Any:
    import jax.numpy as jnp

    def update(g, total, p=None):
        total = total + g * g
        return g / (jnp.sqrt(total) + 1e-10), total

    return _scaled(optax, optax.GradientTransformation(jnp.zeros_like, update))


adagrad = Difference(
    code="OPT-10",
    title="Adagrad: the accumulator's start and eps",
    torch="Adagrad: s from 0, sqrt(s) + 1e-10",
    jax="optax.adagrad: s from 0.1, sqrt(s + 1e-7)",
    fix_torch="Adagrad(initial_accumulator_value=0.1); eps is outside only",
    fix_jax="write g / (jnp.sqrt(s) + 1e-10) out, with s from 0",
    kinds="Adagrad",
    measure=_shipped("Adagrad", {"lr": 0.1}, lambda x: x.adagrad(0.1), _adagrad_mended),
    edits=_edits(_adagrad_rows),
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
    measure=_shipped("Adadelta", {}, lambda x: x.adadelta(), lambda x: x.adadelta(1.0)),
    edits=_edits(_signs),
    whats=("update",),
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
    measure=_written("NAdam", {"lr": 0.1}, constant=True),
    edits=_edits(_nadam_rows),
    whats=("update",),
)


def _radam_rows(o: Options) -> Rows:
    right = "rectified, with (sqrt(v) + eps) / sqrt(1 - b2^t)"
    for rectify, place in itertools.product((True, False), ("before correction", "outside")):
        if (rectify, place) != (True, "before correction"):
            yield right, "", {"rectify": rectify, "eps_at": place}


def _radam_measure() -> tuple[float, float]:
    # a short memory: the rectified form begins within the updates
    given = {"lr": 0.1, "eps": 1e-3, "betas": (0.5, 0.9)}
    ours = _by_torch("RAdam", **given)
    naive = _by_optax(lambda x: x.radam(0.1, b1=0.5, b2=0.9, eps=1e-3))
    return gap(ours, naive), gap(ours, _by_rule("RAdam", given))


radam = Difference(
    code="OPT-13",
    title="RAdam: eps before the correction, and when the rectified form begins",
    torch="RAdam: (sqrt(v) + eps) / sqrt(1 - b2^t), where the length is above 5",
    jax="optax.radam: sqrt(v / (1 - b2^t)) + eps, from threshold=5.0 on",
    fix_torch="write the update out",
    fix_jax="write torch's rule out: eps beside sqrt(v), before the correction",
    kinds="RAdam",
    measure=_radam_measure,
    edits=_edits(_radam_rows),
    whats=("update",),
)


def _rprop(optax: Any) -> Any:
    import jax.numpy as jnp

    def init(p):
        return jnp.full_like(p, 0.1), jnp.zeros_like(p)

    def update(g, state, p=None):
        size, last = state
        agree = jnp.sign(g * last)
        size = jnp.clip(size * jnp.where(agree > 0, 1.2, jnp.where(agree < 0, 0.5, 1)), 1e-6, 50)
        g = jnp.where(agree < 0, 0.0, g)
        return -jnp.sign(g) * size, (size, g)

    return optax.GradientTransformation(init, update)


rprop = Difference(
    code="OPT-14",
    title="Rprop is one step late",
    torch="Rprop: the step that this gradient asks for",
    jax="optax.rprop (0.2.8): the previous step's; the first is 0",
    fix_torch="keep the steps back by one",
    fix_jax="write the update out",
    kinds="",  # seen from the second step on: one update from a given state hides it
    measure=_shipped("Rprop", {"lr": 0.1}, lambda x: x.rprop(0.1), _rprop),
)


def _correction_rows(o: Options) -> Rows:
    right = "m / (1 - b1^t) and v / (1 - b2^t)"
    for correct in ((False, False), (True, False), (False, True)):
        yield right, "", {"correct": correct}


correction = Difference(
    code="OPT-15",
    title="Adam's bias correction: missing, of one moment or of both",
    torch="Adam: m / (1 - b1^t) and v / (1 - b2^t)",
    jax="optax.adam likewise; hand-written ports leave one out",
    fix_torch="write the update out, without the correction",
    fix_jax="optax.adam(lr)",
    kinds=MOMENTS + "|Adamax",
    measure=_written("Adam", {"lr": 0.1}, correct=(True, False)),
    edits=_edits(_correction_rows),
    whats=("update",),
)


def _shift_rows(o: Options) -> Rows:
    for shift in (-1, 1, -2, 2):
        yield "count the updates from 1", f"t = t {shift:+d}", {"shift": shift}


shift = Difference(
    code="OPT-16",
    title="Adam's step count: off by one",
    torch="Adam: t is 1 in the first update",
    jax="optax.adam likewise; a count that is raised twice, or too late, is off by one",
    fix_torch="raise state['step'] by one",
    fix_jax="count = count + 1 before the correction, from 0",
    kinds=MOMENTS + "|Adamax",
    measure=_written("Adam", {"lr": 0.1}, shift=1),
    edits=_edits(_shift_rows),
    whats=("update",),
)


def _beta_rows(o: Options) -> Rows:
    own = tuple(o["betas"])
    firsts = (own[0], 0.9, 0.5, 0.0, 0.95, 0.99, own[1])
    seconds = (own[1], 0.999, 0.99, 0.95, 0.98, 0.9, 0.9999, own[0])
    for betas in itertools.product(dict.fromkeys(firsts), dict.fromkeys(seconds)):
        if betas != own:
            yield f"b1={own[0]:g}, b2={own[1]:g}", f"betas={betas}", {"betas": betas}


betas = Difference(
    code="OPT-17",
    title="Adam's betas: swapped, or the defaults",
    torch="Adam(betas=(b1, b2))",
    jax="optax.adam(b1=0.9, b2=0.999): what is not handed over has these values",
    fix_torch="Adam(betas=(0.9, 0.999))",
    fix_jax="optax.adam(lr, b1=0.5, b2=0.99), PyTorch's values",
    kinds=MOMENTS + "|Adamax",
    measure=_shipped(
        "Adam",
        {"lr": 0.1, "betas": (0.5, 0.99)},
        lambda x: x.adam(0.1),
        lambda x: x.adam(0.1, b1=0.5, b2=0.99),
    ),
    edits=_edits(_beta_rows),
    whats=("update",),
)


def _adadelta_rows(o: Options) -> Rows:
    right = f"optax.adadelta(1.0, rho={o['rho']:g}, eps={o['eps']:g})"
    for rho, eps, place in itertools.product(
        dict.fromkeys((o["rho"], 0.9, 0.95, 0.99)),
        dict.fromkeys((o["eps"], *EPSILONS)),
        ("inside", "outside"),
    ):
        if (rho, eps, place) != (o["rho"], o["eps"], "inside"):
            torch = f"rho={rho:g}, eps={eps:g}" if place == "inside" else ""
            yield right, torch, {"rho": rho, "eps": eps, "eps_at": place}


adadelta = Difference(
    code="OPT-18",
    title="Adadelta: rho and eps",
    torch="Adadelta(rho=0.9, eps=1e-6): sqrt(d + eps) / sqrt(v + eps)",
    jax="optax.adadelta likewise; Keras has rho=0.95, eps=1e-7",
    fix_torch="Adadelta(rho=0.95)",
    fix_jax="optax.adadelta(1.0, rho=0.9, eps=1e-6)",
    kinds="Adadelta",
    measure=_shipped(
        "Adadelta", {}, lambda x: x.adadelta(1.0, rho=0.95), lambda x: x.adadelta(1.0)
    ),
    edits=_edits(_adadelta_rows),
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
    measure=_shipped(
        "Adamax",
        {"lr": 0.1, "eps": 1e-3},
        lambda x: x.adamax(0.1, eps=1e-8),
        lambda x: x.adamax(0.1, eps=1e-3),
    ),
    edits=_edits(_adamax_rows),
    whats=("update",),
)


def _renewed() -> tuple[float, float]:
    import jax
    import optax

    ours = _by_torch("Adam", lr=0.1)
    with jax.enable_x64(True):
        tx, p = optax.adam(0.1), to_jax(_start())
        for g in _gradients():
            updates, _ = tx.update(to_jax(g), tx.init(p), p)
            p = optax.apply_updates(p, updates)
        return gap(ours, p), gap(ours, _by_optax(lambda x: x.adam(0.1)))


def _renewed_edits(site: Site) -> Iterator[Edit]:
    update = _Update(site)
    if update.understood:
        empty = _Update(site)
        empty.state = {}
        right = "carry the optimizer's state: updates, state = tx.update(grads, state, params)"
        yield Edit(
            right,
            "a new optimizer in every step",
            lambda: to_torch(empty.given(empty.gradient, step=0)),
        )
        yield Edit(right, "optimizer.state.clear()", lambda: to_torch(empty()))


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


def _clip_norm() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    p = torch.nn.Parameter(to_torch(_start()))
    optimizer = torch.optim.SGD([p], lr=1.0)
    for g in _gradients():
        p.grad = to_torch(g)
        torch.nn.utils.clip_grad_norm_([p], 0.1)
        optimizer.step()

    def clip(optax):
        def update(g, state, p=None):
            return g * jnp.minimum(0.1 / (jnp.linalg.norm(g) + 1e-6), 1.0), state

        return optax.GradientTransformation(lambda p: optax.EmptyState(), update)

    return (
        gap(p, _by_optax(lambda x: x.chain(x.clip_by_global_norm(0.1), x.sgd(1.0)))),
        gap(p, _by_optax(lambda x: x.chain(clip(x), x.sgd(1.0)))),
    )


clip_norm = Difference(
    code="OPT-21",
    title="clipping by the norm: 1e-6 in the divisor",
    torch="clip_grad_norm_: g max / (norm + 1e-6)",
    jax="optax.clip_by_global_norm: g max / norm",
    fix_torch="g * (max_norm / norm).clamp(max=1)",
    fix_jax="g * jnp.minimum(max_norm / (norm + 1e-6), 1)",
    kinds="",  # the finder hands the optimizer one and the same gradient on both sides
    measure=_clip_norm,
)


def _accumulated() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    p = torch.nn.Parameter(to_torch(_start()))
    p.grad = to_torch(np.sum(_gradients(), 0))
    torch.optim.SGD([p], lr=0.1).step()

    def tx(mean):
        return lambda x: x.MultiSteps(
            x.sgd(0.1), STEPS, use_grad_mean=mean, accumulator_dtype=jnp.float64
        )

    return gap(p, _by_optax(tx(True))), gap(p, _by_optax(tx(False)))


COUNTS = (2, 3, 4, 5, 6, 8, 16, 32)


def _scaled_edits(factors: Iterable[float]) -> Callable[[Site], Iterator[Edit]]:
    """Candidates whose gradient is multiplied by a factor."""

    def edits(site: Site) -> Iterator[Edit]:
        update = _Update(site)
        if update.understood:
            for c in factors:
                yield Edit(
                    f"the same gradient: here it is {c:g} times PyTorch's (mean or sum?)",
                    f"p.grad.mul_({c:g})",
                    lambda c=c: to_torch(update.given(c * update.gradient)),
                )

    return edits


accumulation = Difference(
    code="OPT-22",
    title="gradient accumulation: mean or sum",
    torch="backward() twice: the gradients' sum",
    jax="optax.MultiSteps: their mean",
    fix_torch="(loss / k).backward()",
    fix_jax="optax.MultiSteps(tx, k, use_grad_mean=False)",
    kinds=ANY,
    measure=_accumulated,
    edits=_scaled_edits([1 / c for c in COUNTS] + [float(c) for c in COUNTS]),
    whats=("update",),
)


def _accumulator() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch

    p = torch.nn.Parameter(to_torch(_start()))
    p.grad = to_torch(np.sum(_gradients(), 0))
    torch.optim.SGD([p], lr=1.0).step()

    def tx(dtype):
        return lambda x: x.MultiSteps(
            x.sgd(1.0), STEPS, use_grad_mean=False, accumulator_dtype=dtype
        )

    return gap(p, _by_optax(tx(jnp.float32))), gap(p, _by_optax(tx(jnp.float64)))


accumulator = Difference(
    code="OPT-23",
    title="gradient accumulation: the accumulator's type",
    torch="p.grad has the parameter's type",
    jax="optax.MultiSteps accumulates in float32",
    fix_torch="accumulate p.grad.float()",
    fix_jax="optax.MultiSteps(tx, k, accumulator_dtype=jnp.float64)",
    kinds="",  # it takes several steps
    measure=_accumulator,
)


def _masked() -> tuple[float, float]:
    import jax
    import optax
    import torch

    g, start = _gradients()[0], _start()
    frozen = torch.nn.Parameter(to_torch(start), requires_grad=False)
    mask = {"moved": True, "frozen": False}

    def run(tx):
        tree = {"moved": to_jax(start), "frozen": to_jax(start)}
        updates, _ = tx.update(jax.tree.map(lambda _: to_jax(g), tree), tx.init(tree), tree)
        moved: Any = optax.apply_updates(tree, updates)
        return to_numpy(moved["frozen"])

    labels = {"moved": "move", "frozen": "freeze"}
    parts: Any = {"move": optax.sgd(0.1), "freeze": optax.set_to_zero()}
    with jax.enable_x64(True):
        return (
            gap(frozen, run(optax.masked(optax.sgd(0.1), mask))),
            gap(frozen, run(optax.partition(parts, labels))),
        )


def _raw_edits(site: Site) -> Iterator[Edit]:
    update = _Update(site)
    yield Edit(
        "optax.partition({'move': tx, 'freeze': optax.set_to_zero()}, labels)",
        "p.add_(p.grad)",
        lambda: to_torch(update.param + update.gradient),
    )
    moving = [(other.theirs != other.optimizer["param"]).any() for other in _others(site)]
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
    import torch

    p = torch.nn.Parameter(to_torch(_start()))
    torch.optim.SGD([p], lr=0.1, weight_decay=0.1).step()  # p.grad is None
    zero = [np.zeros_like(_start())]

    def decayed(mask):
        return lambda x: x.chain(x.add_decayed_weights(0.1, mask), x.sgd(0.1))

    return gap(p, _by_optax(decayed(True), zero)), gap(p, _by_optax(decayed(False), zero))


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
    import jax
    import optax
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model = torch.nn.Linear(3, 4, bias=False).double()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    weights = _gradients()
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
        ours = average.module.weight
        return gap(ours, naive), gap(ours, kept)


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
    update = _Update(site)
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
        if not _everywhere(site, lambda other, c=factor: other.given(c * other.gradient)):
            continue
        yield Edit(
            f"the gradient is {factor:.6g} times PyTorch's: optax.clip_by_global_norm, loss scale",
            f"p.grad.mul_({factor!r})",
            lambda c=factor: to_torch(update.given(c * g)),
        )


def _gradient_factors(update: _Update) -> Iterator[float]:
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


def _clipped() -> tuple[float, float]:
    ours = _by_torch("SGD", lr=0.1)
    return (
        gap(ours, _by_optax(lambda x: x.chain(x.clip_by_global_norm(1.0), x.sgd(0.1)))),
        gap(ours, _by_optax(lambda x: x.sgd(0.1))),
    )


clipped = Difference(
    code="OPT-27",
    title="gradients that one side clips or scales",
    torch="torch.nn.utils.clip_grad_norm_ is a call of its own, before optimizer.step()",
    jax="optax.clip_by_global_norm and optax.clip are parts of the optimizer",
    fix_torch="torch.nn.utils.clip_grad_norm_(parameters, 1.0)",
    fix_jax="leave the clipping out, or clip on both sides",
    kinds=ANY,
    measure=_clipped,
    edits=_clip_edits,
    whats=("update",),
)


def _rate_edits(site: Site) -> Iterator[Edit]:
    update = _Update(site)
    ours, theirs = update.ours - update.param, update.theirs - update.param
    if ours.size < 2 or not np.abs(ours).max():
        return
    worst = np.argmax(np.abs(ours))
    factor = float(theirs.flat[worst] / ours.flat[worst])
    if not _everywhere(site, lambda u: u.param + factor * (u.ours - u.param)):
        return
    yield Edit(
        f"a learning rate of {1 / factor:.6g} times this one" if factor else "a learning rate",
        f"lr times {factor:.6g}",
        lambda: to_torch(update.param + factor * ours),
    )


def _rate() -> tuple[float, float]:
    ours = _by_torch("Adam")
    return gap(ours, _by_optax(lambda x: x.adam(0.01))), gap(
        ours, _by_optax(lambda x: x.adam(1e-3))
    )


rate = Difference(
    code="OPT-30",
    title="the learning rate",
    torch="Adam(lr=1e-3), SGD(lr=1e-3), RMSprop(lr=1e-2), …: each has a default",
    jax="optax's optimizers have none; the port has to name it",
    fix_torch="JAX's learning rate",
    fix_jax="optax.adam(1e-3), PyTorch's learning rate",
    kinds=ANY,
    measure=_rate,
    edits=_rate_edits,
    whats=("update",),
)


def _adafactor() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import optax
    import torch

    start, g = np.asarray([[4.0, 4.0], [1.0, 1.0], [1.0, 1.0]]), to_numpy(normal(3, 2))
    p = torch.nn.Parameter(to_torch(start))
    p.grad = to_torch(g)
    torch.optim.Adafactor([p], lr=0.1, weight_decay=0.0).step()
    with jax.enable_x64(True):
        value, x = to_jax(start), to_jax(g)
        tx = optax.adafactor(0.1)
        updates, _ = tx.update(x, tx.init(value), value)
        square = x * x  # the first update's memory is empty
        rows, columns = square.mean(1, keepdims=True), square.mean(0, keepdims=True)
        step = x / jnp.sqrt(rows * columns / rows.mean(0, keepdims=True))
        step = step / jnp.maximum(1.0, jnp.sqrt((step * step).mean()))
        scale = jnp.maximum(1e-3, jnp.sqrt((value * value).mean()))
        return gap(p, value + updates), gap(p, value - 0.1 * scale * step)


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


# Schedules: learning rates over the steps.


def _rates(schedule: Callable, steps: int, lr: float = 0.1) -> np.ndarray:
    """The learning rates that a torch scheduler gives."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr, momentum=0.9)
    scheduler, rates = schedule(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.asarray(rates)


def _schedule(make: Callable[[Any], Callable], steps: int) -> np.ndarray:
    """The learning rates of an optax schedule; `make` is given optax."""
    import jax
    import jax.numpy as jnp
    import optax

    with jax.enable_x64(True):
        schedule = make(optax)
        return np.asarray([to_numpy(jnp.asarray(schedule(i))) for i in range(steps)], np.float64)


def _against(
    torch: Callable, naive: Callable, mended: Callable, steps: int, lr: float = 0.1
) -> Callable[[], tuple[float, float]]:
    """A measure: a torch scheduler against two optax schedules."""

    def measure() -> tuple[float, float]:
        from torch.optim import lr_scheduler

        ours = _rates(lambda optimizer: torch(lr_scheduler, optimizer), steps, lr)
        return gap(ours, _schedule(naive, steps)), gap(ours, _schedule(mended, steps))

    return measure


step_lr = Difference(
    code="SCH-01",
    title="decay by steps or smoothly",
    torch="StepLR: constant between the steps",
    jax="optax.exponential_decay: smooth (staircase=False)",
    fix_torch="ExponentialLR(optimizer, gamma ** (1 / step_size))",
    fix_jax="optax.exponential_decay(lr, 5, 0.5, staircase=True)",
    kinds="",
    measure=_against(
        lambda s, o: s.StepLR(o, 5, 0.5),
        lambda x: x.exponential_decay(0.1, 5, 0.5),
        lambda x: x.exponential_decay(0.1, 5, 0.5, staircase=True),
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
        lambda s, o: s.CosineAnnealingLR(o, 10, eta_min=0.01),
        lambda x: x.cosine_decay_schedule(0.1, 10, alpha=0.01),
        lambda x: x.cosine_decay_schedule(0.1, 10, alpha=0.1),
        11,
    ),
)


def _bouncing(x: Any) -> Callable:
    import jax.numpy as jnp

    del x
    return lambda count: 0.05 * (1 + jnp.cos(jnp.pi * count / 10))


cosine_end = Difference(
    code="SCH-03",
    title="cosine decay: after its end",
    torch="CosineAnnealingLR: rises again after T_max",
    jax="optax.cosine_decay_schedule: stays",
    fix_torch="stop calling scheduler.step() after T_max",
    fix_jax="lambda count: lr / 2 * (1 + jnp.cos(jnp.pi * count / steps))",
    kinds="",
    measure=_against(
        lambda s, o: s.CosineAnnealingLR(o, 10),
        lambda x: x.cosine_decay_schedule(0.1, 10),
        _bouncing,
        18,
    ),
)


def _one_cycle(x: Any) -> Callable:
    import jax.numpy as jnp

    del x

    def between(start, end, part):
        return end + (start - end) / 2 * (1 + jnp.cos(jnp.pi * part))

    def schedule(count):
        top, end, first, last = 0.3 * 20 - 1, 20 - 1, 1 / 25, 1 / 25 / 1e4
        up = between(first, 1.0, count / top)
        return jnp.where(count <= top, up, between(1.0, last, (count - top) / (end - top)))

    return schedule


one_cycle = Difference(
    code="SCH-04",
    title="one-cycle schedule: where its phases end",
    torch="OneCycleLR: at pct n - 1 and n - 1",
    jax="optax.cosine_onecycle_schedule: at pct n and n",
    fix_torch="write the schedule out with LambdaLR",
    fix_jax="write the schedule out with the ends at pct n - 1 and n - 1",
    kinds="",
    measure=_against(
        lambda s, o: s.OneCycleLR(o, 1.0, total_steps=20),
        lambda x: x.cosine_onecycle_schedule(20, 1.0),
        _one_cycle,
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
        lambda s, o: s.LinearLR(o),
        lambda x: x.linear_schedule(0.0, 0.1, 5),
        lambda x: x.linear_schedule(0.1 / 3, 0.1, 5),
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
        lambda s, o: s.SequentialLR(
            o, [s.LinearLR(o, 0.1, 1.0, 5), s.CosineAnnealingLR(o, 10)], [5]
        ),
        lambda x: x.warmup_cosine_decay_schedule(0.01, 0.1, 5, 10),
        lambda x: x.warmup_cosine_decay_schedule(0.01, 0.1, 5, 15),
        15,
    ),
)


def _plateau() -> tuple[float, float]:
    import jax
    import jax.numpy as jnp
    import optax.contrib
    import torch

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

    return gap(np.asarray(ours), run(3)), gap(np.asarray(ours), run(4))


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


def _hand_cosine(s: Any, o: Any) -> Any:
    return s.LambdaLR(o, lambda step: (1 + np.cos(np.pi * step / 9)) / 2)


hand_cosine = Difference(
    code="SCH-08",
    title="hand-written cosine: steps or steps - 1",
    torch="recipes: progress = step / (steps - 1), so the last step is at the floor",
    jax="optax.cosine_decay_schedule(lr, steps): progress = count / steps",
    fix_torch="progress = step / steps",
    fix_jax="optax.cosine_decay_schedule(lr, steps - 1)",
    kinds="",
    measure=_against(
        _hand_cosine,
        lambda x: x.cosine_decay_schedule(0.1, 10),
        lambda x: x.cosine_decay_schedule(0.1, 9),
        10,
    ),
)


def _cycled() -> tuple[float, float]:
    from torch.optim.lr_scheduler import OneCycleLR

    def ours(**options):
        return _by_torch(
            "SGD", lambda o: OneCycleLR(o, 0.5, total_steps=40, **options), lr=0.1, momentum=0.9
        )

    theirs = _by_optax(lambda x: x.sgd(lambda count: _cycle_rate(count), 0.9))
    return gap(ours(), theirs), gap(ours(cycle_momentum=False), theirs)


def _cycle_rate(count: Any) -> Any:
    import jax.numpy as jnp

    return 0.5 + (0.02 - 0.5) / 2 * (1 + jnp.cos(jnp.pi * count / 11))


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


def _late() -> tuple[float, float]:
    from torch.optim.lr_scheduler import ExponentialLR

    ours = _by_torch("SGD", lambda o: ExponentialLR(o, 0.5), lr=0.1)
    return (
        gap(ours, _by_optax(lambda x: x.sgd(lambda count: 0.1 * 0.5 ** (count + 1)))),
        gap(ours, _by_optax(lambda x: x.sgd(lambda count: 0.1 * 0.5**count))),
    )


def _late_edits(site: Site) -> Iterator[Edit]:
    update = _Update(site)
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
    measure=_late,
    edits=_late_edits,
    whats=("update",),
)
