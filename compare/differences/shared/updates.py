"""An optimizer's update, written out, and how PyTorch, optax and the written rule make it.

Each rule is one update of torch.optim with a switch for every habit in which a port may part from
it. The measurements run the rules in JAX, the finder's candidates in NumPy.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from compare.differences.catalogue import Edit, Site
from compare.differences.measuring import gaps, normal
from compare.differences.shared.frameworks import jax, jnp, optax, torch
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
EPSILONS = (0.0, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


def options_of(kind: str, given: Options) -> dict[str, Any]:
    """torch's keywords with their defaults, and torch's habits."""
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


class Update:
    """The update at a site; calling it makes the update again with changes."""

    def __init__(self, site: Site):
        update = site.optimizer
        self.rule, self.options = RULES[site.kind], options_of(site.kind, update["options"])
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
        """The parameter after the update with other options."""
        return self.after(**changes)[0]

    def given(self, gradient: Any) -> np.ndarray:
        """The parameter after the update with another gradient."""
        return self.after(gradient)[0]

    def after(self, gradient: Any = None, **changes: Any) -> tuple[np.ndarray, State]:
        """The parameter and the optimizer's state after the update."""
        gradient, options = self.gradient if gradient is None else gradient, self.options | changes
        return self.rule(options, gradient, self.param, self.state, self.step + 1)

    def element(self, gradient: np.ndarray, index: int) -> np.ndarray:
        """One element after the update, for many gradients."""
        state = {k: v.flat[index] if v.size > 1 else v for k, v in self.state.items()}
        param = self.param.flat[index]
        return self.rule(self.options, gradient, param, state, self.step + 1)[0]


def others(site: Site) -> Iterable[Site]:
    """The same update of the other parameters."""
    return site.optimizer.get("others", tuple)()


def everywhere(site: Site, changed: Callable[[Update], np.ndarray]) -> bool:
    """Whether the same change explains the other parameters: a factor that is fitted has to."""
    for other in others(site):
        update = Update(other)
        allowed = 1e-7 * np.abs(other.theirs - update.param).max(initial=0)
        allowed += 1e-14 * np.abs(update.param).max(initial=0)
        if not np.allclose(changed(update), other.theirs, 0, allowed):
            return False
    return True


# Candidates: rows of what to write on JAX's and on PyTorch's side, and the changes of the options.
Rows = Iterable[tuple[str, str, Options]]


def candidates(rows: Callable[[Options], Rows]) -> Callable[[Site], Iterator[Edit]]:
    """The edits that make the update again, one for each row."""

    def edits(site: Site) -> Iterator[Edit]:
        update = Update(site)
        if update.understood:
            for right, line, changes in rows(update.options):
                yield Edit(right, line, lambda c=changes: to_torch(update(**c)))

    return edits


def combined(o: Options, right: str, line: str, **values: Iterable[Any]) -> Rows:
    """A row for every combination of the options' values but the update's own.

    PyTorch's line is formatted with them; it is "" where eps is at another place than PyTorch's.
    """
    choices = {name: dict.fromkeys((o[name], *more)) for name, more in values.items()}
    for chosen in itertools.product(*choices.values()):
        changes = dict(zip(choices, chosen, strict=True))
        if any(changes[name] != o[name] for name in changes):
            in_place = changes.get("eps_at", o["eps_at"]) == o["eps_at"]
            yield right, line.format(**changes) if in_place else "", changes


# Measurements: a few updates from the start, on generic gradients.

STEPS = 8  # RAdam rectifies from the sixth on


def gradients() -> list[np.ndarray]:
    return [to_numpy(normal(4, 3, seed=step)) for step in range(STEPS)]


def start() -> np.ndarray:
    return to_numpy(normal(4, 3, seed=99))


def by_torch(
    kind: str,
    schedule: Callable | None = None,
    given: Iterable[np.ndarray | None] | None = None,
    clip: Callable[[Any], Any] | None = None,
    **options: Any,
) -> np.ndarray:
    """The parameter after torch.optim's updates with the gradients, or with those given."""
    p = torch.nn.Parameter(to_torch(start()))
    optimizer = getattr(torch.optim, kind)([p], **options)
    scheduler = schedule(optimizer) if schedule else None
    for g in gradients() if given is None else given:
        p.grad = None if g is None else to_torch(g)
        if clip:
            clip(p)
        optimizer.step()
        if scheduler:
            scheduler.step()
    return to_numpy(p)


def by_optax(make: Callable[[], Any], given: Iterable[np.ndarray] | None = None) -> np.ndarray:
    """The parameter after the updates of the transformation that `make` makes, inside x64."""
    with jax.enable_x64(True):
        tx, p = make(), to_jax(start())
        state = tx.init(p)
        for g in gradients() if given is None else given:
            updates, state = tx.update(to_jax(g), state, p)
            p = optax.apply_updates(p, updates)
        return to_numpy(p)


def by_rule(kind: str, given: Options, **changes: Any) -> np.ndarray:
    """The parameter after the updates that a port wrote out itself, in JAX."""
    options = {**options_of(kind, given), "np": jnp, **changes}
    with jax.enable_x64(True):
        p, state = to_jax(start()), {}
        for t, g in enumerate(gradients(), 1):
            p, state = RULES[kind](options, to_jax(g), p, state, t)
        return to_numpy(p)


def written(kind: str, given: Options, **changes: Any) -> Callable[[], tuple[float, float]]:
    """A measure: a port that wrote the update itself, with the mistake and without."""
    return lambda: gaps(
        by_torch(kind, **given), by_rule(kind, given, **changes), by_rule(kind, given)
    )


def shipped(
    kind: str, given: Options, naive: Callable[[], Any], mended: Callable[[], Any]
) -> Callable[[], tuple[float, float]]:
    """A measure: torch.optim against two transformations of optax."""
    return lambda: gaps(by_torch(kind, **given), by_optax(naive), by_optax(mended))


def transformation(update: Callable, init: Callable = lambda p: ()) -> Any:
    """A transformation that a port wrote itself."""
    make: Any = optax.GradientTransformation
    return make(init, update)


def scaled(*parts: Any, lr: float = 0.1) -> Any:
    return optax.chain(*parts, optax.scale_by_learning_rate(lr))
