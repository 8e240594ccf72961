"""Losses: values by every reduction and gradients of both sides, at bends and of nothing."""

import importlib
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import jensenshannon

from compare.share import to_jax, to_numpy, to_torch

pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
RNG = np.random.default_rng(0)
X, Y, Z = RNG.standard_normal((3, 6, 4))
P, Q = (np.exp(a) / np.exp(a).sum(1, keepdims=True) for a in (X, Y))
LOG = np.log(P)
BITS = (Y > 0).astype(float)
HOLES = np.where(np.arange(4) == 1, 0, Q)  # a probability of 0
LABELS = np.array([0, 3, 1, -100, 2, 3])
KNOWN = np.array([0, 3, 1, 0, 2, 3])
SIGNS = np.array([1.0, -1.0, -1.0, 1.0, -1.0, 1.0])
WEIGHT = np.array([0.5, 2.0, 1.0, 0.3])
ERRORS = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 3.0, -3.0, 1e5, np.inf, -np.inf, np.nan])
EXTREME = np.array([0.0, 40.0, -40.0, 800.0, -800.0, 1e-9])
IMAGES = RNG.random((2, 2, 3, 14, 12))
STEPS = np.log(RNG.dirichlet(np.ones(4), (7, 6)))
# Repeats that need blanks, nothing to spell, and labels that do not fit.
SPELT = np.array([[1, 2, 3], [1, 1, 2], [2, 0, 0], [0, 0, 0], [3, 3, 3], [1, 2, 1]])
SPELT_LENGTHS, LENGTHS = np.array([3, 3, 1, 0, 3, 2]), np.array([7, 6, 7, 5, 4, 2])


@dataclass(frozen=True)
class Case:
    """A loss on arrays in torch's layout; `slopes` are the arguments that are differentiated."""

    name: str
    args: tuple
    options: dict = field(default_factory=dict)
    slopes: tuple = (0, 1)
    channels: bool = False  # on axis 1 in torch, last in JAX
    reductions: tuple = ("none", "mean", "sum")

    def on(self, side: str, args, reduction: str):
        """The loss of one side, of its own arrays."""
        loss = getattr(importlib.import_module(f"{side}.training.{HOMES[self.name]}"), self.name)
        own = to_torch if side == "torchref" else jnp.asarray
        options = {k: own(v) if isinstance(v, np.ndarray) else v for k, v in self.options.items()}
        return loss(*args, **options, reduction=reduction)

    def last(self, array: np.ndarray) -> np.ndarray:
        return np.moveaxis(array, 1, -1) if self.channels and array.ndim > 2 else array

    def first(self, array: np.ndarray) -> np.ndarray:
        return np.moveaxis(array, -1, 1) if self.channels and array.ndim > 2 else array


HOMES = {
    name: home
    for home in ("losses", "robust", "divergences", "ranking", "images", "ctc")
    for name in importlib.import_module(f"torchref.training.{home}").__all__
}
BATCH = ("none", "mean", "sum", "batchmean")
CUBE = RNG.standard_normal((3, 4, 5))
CASES = {
    "mse": Case("mse", (X, Y)),
    "l1": Case("l1", (X, Y)),
    "huber": Case("huber", (X, Y), {"delta": 0.7}),
    "smooth_l1": Case("smooth_l1", (X, Y), {"beta": 0.7}),
    **{
        f"{name} edges": Case(name, (ERRORS, 0 * np.nan_to_num(ERRORS, posinf=0, neginf=0)))
        for name in ("mse", "huber", "smooth_l1")
    },
    "l1 edges": Case("l1", (ERRORS[:-1], np.zeros(11))),
    "smooth_l1 0": Case("smooth_l1", (X, Y), {"beta": 0.0}),
    "nll": Case("nll", (LOG, LABELS), slopes=(0,)),
    "nll weight": Case("nll", (LOG, KNOWN), {"weight": WEIGHT, "ignore_index": 3}, (0,)),
    "cross_entropy": Case("cross_entropy", (X, LABELS), slopes=(0,)),
    "cross_entropy weight": Case("cross_entropy", (X, LABELS), {"weight": WEIGHT}, (0,)),
    "cross_entropy ignore": Case("cross_entropy", (X, LABELS * 0), {"ignore_index": 0}, (0,)),
    "cross_entropy smooth": Case("cross_entropy", (X, LABELS), {"label_smoothing": 0.2}, (0,)),
    "cross_entropy both": Case(
        "cross_entropy", (X, LABELS), {"label_smoothing": 0.2, "weight": WEIGHT}, (0,)
    ),
    "cross_entropy soft": Case("cross_entropy", (X, Q)),
    "cross_entropy soft both": Case(
        "cross_entropy", (X, Q), {"label_smoothing": 0.2, "weight": WEIGHT}
    ),
    "cross_entropy far": Case(
        "cross_entropy", (np.where(Y > 1, -np.inf, 300 * X), LABELS), slopes=(0,)
    ),
    "cross_entropy cube": Case(
        "cross_entropy",
        (CUBE, RNG.integers(0, 4, (3, 5))),
        {"label_smoothing": 0.1, "weight": WEIGHT},
        (0,),
        channels=True,
    ),
    "binary_cross_entropy": Case("binary_cross_entropy", (P, Q), {"weight": WEIGHT}),
    "binary_cross_entropy edges": Case(
        "binary_cross_entropy",
        (np.array([0.0, 0.0, 1.0, 1.0, 0.0, 1e-60]), np.array([0.0, 1.0, 0.0, 1.0, 0.5, 1.0])),
        slopes=(0,),
    ),
    "binary_cross_entropy_with_logits": Case(
        "binary_cross_entropy_with_logits", (X, Q), {"weight": WEIGHT, "pos_weight": WEIGHT[::-1]}
    ),
    "binary_cross_entropy_with_logits edges": Case(
        "binary_cross_entropy_with_logits",
        (np.tile(EXTREME, (2, 1)), np.array([[0.0], [1.0]]) + 0 * EXTREME),
    ),
    "kl_div": Case("kl_div", (LOG, Q), reductions=BATCH),
    "kl_div log": Case("kl_div", (LOG, np.log(Q)), {"log_target": True}, reductions=BATCH),
    "kl_div 0": Case("kl_div", (LOG, HOLES), slopes=(0,), reductions=BATCH),
    "js_div": Case("js_div", (P, Q), reductions=BATCH),
    "js_div 0": Case("js_div", (P, HOLES), slopes=(0,), reductions=BATCH),
    "poisson_nll": Case("poisson_nll", (X, 3 * P)),
    "poisson_nll full": Case("poisson_nll", (X, 4 * P), {"full": True}),
    "poisson_nll rate": Case("poisson_nll", (P, np.round(3 * Q)), {"log_input": False}, (0,)),
    "gaussian_nll": Case("gaussian_nll", (X, Y, P), {"full": True}, (0, 1, 2)),
    "gaussian_nll 0": Case("gaussian_nll", (X, Y, np.where(P < 0.2, 1e-9, P)), {}, (0, 1, 2)),
    "gaussian_nll row": Case("gaussian_nll", (X, Y, P[:, 0]), {}, (0, 1, 2)),
    "gaussian_nll one": Case("gaussian_nll", (X, Y, P[:, :1]), {}, (0, 1, 2)),
    "hinge": Case("hinge", (np.array([1.0, 0.3, -1.0, 2.0, 0.0, -4.0]), SIGNS)),
    "hinge_embedding": Case(
        "hinge_embedding", (np.array([1.4, 1.6, 0.2, 0.7, 2.0, 0.0]), SIGNS), {"margin": 1.5}, (0,)
    ),
    "multi_margin": Case("multi_margin", (X, KNOWN), {"weight": WEIGHT}, (0,)),
    "multi_margin 2": Case("multi_margin", (X, KNOWN), {"p": 2, "margin": 0.5}, (0,)),
    "multi_margin bend": Case("multi_margin", (np.eye(6, 4), KNOWN), {}, (0,)),
    "margin_ranking": Case("margin_ranking", (X[:, 0], Y[:, 0], SIGNS), {"margin": 0.5}, (0, 1, 2)),
    "triplet_margin": Case("triplet_margin", (X, Y, Z), {}, (0, 1, 2)),
    "triplet_margin swap": Case("triplet_margin", (X, Y, Z), {"swap": True, "p": 3.0}, (0, 1, 2)),
    "triplet_margin same": Case("triplet_margin", (X, X, X), {}, (0, 1, 2)),
    "cosine_embedding": Case("cosine_embedding", (X, Y, SIGNS), {"margin": 0.1}),
    "cosine_embedding 0": Case(
        "cosine_embedding", (X * SIGNS[:, None].clip(0), Y, SIGNS), {"margin": -0.1}
    ),
    "focal": Case("focal", (X, Q)),
    "focal bits": Case("focal", (X, BITS), {"alpha": None, "gamma": 1.5}, (0,)),
    "focal edges": Case("focal", (EXTREME, BITS.ravel()[:6]), slopes=(0,)),
    "dice": Case("dice", tuple(IMAGES), channels=True),
    "dice 0": Case("dice", (0 * IMAGES[0], 0 * IMAGES[0]), channels=True),
    "ssim": Case("ssim", tuple(IMAGES), {"data_range": 2.0}, channels=True),
    "ctc": Case("ctc", (STEPS[:, :4], SPELT[:4], LENGTHS[:4], SPELT_LENGTHS[:4]), {}, (0,)),
    "ctc zero": Case("ctc", (STEPS, SPELT, LENGTHS, SPELT_LENGTHS), {"zero_infinity": True}, (0,)),
    "ctc blank": Case(
        "ctc", (STEPS, SPELT % 3, LENGTHS, SPELT_LENGTHS * 0 + 1), {"blank": 3}, (0,)
    ),
}
# One of each, for batches of nothing.
EMPTY = [case for case in CASES if " " not in case and case not in ("ctc", "multi_margin")]


def cotangent(values):
    return np.cos(np.arange(np.prod(values.shape))).reshape(values.shape)


def objective(case: Case, side: str, args):
    """Values by every reduction, and a number whose gradient shows all of them."""
    values = {r: case.on(side, args, r) for r in case.reductions}
    own = to_torch if side == "torchref" else jnp.asarray
    weighed = (values["none"] * own(cotangent(values["none"]))).sum()
    return weighed + 2 * values["mean"] + 3 * values["sum"], values


def by_torch(case: Case, args=None) -> dict:
    args = [to_torch(a) for a in args or case.args]
    if any(a.numel() == 0 for a in args):
        return {r: to_numpy(case.on("torchref", args, r)) for r in case.reductions}
    given = [args[i].requires_grad_() for i in case.slopes]
    total, values = objective(case, "torchref", args)
    slopes = torch.autograd.grad(total, given)
    return {**{r: to_numpy(v) for r, v in values.items()}, "slopes": [to_numpy(s) for s in slopes]}


def by_jax(cases: dict[str, Case]) -> dict:
    """All cases in one program."""

    @jax.jit
    def program(arrays):
        found = {}
        for name, case in cases.items():
            slope = jax.value_and_grad(
                lambda *args, case=case: objective(case, "jaxnn", args), case.slopes, has_aux=True
            )
            (_, values), slopes = slope(*arrays[name])
            found[name] = {**values, "slopes": list(slopes)}
        return found

    with jax.enable_x64(True):
        arrays = {k: [to_jax(c.last(a)) for a in c.args] for k, c in cases.items()}
        found = jax.tree.map(to_numpy, program(arrays))
    for name, case in cases.items():
        if case.channels:
            kept = ("none", "slopes") if found[name]["none"].ndim > 2 else ("slopes",)
            for key in kept:
                found[name][key] = jax.tree.map(case.first, found[name][key])
    return found


@pytest.fixture(scope="module")
def found():
    return by_jax(CASES)


def assert_same(found, wanted) -> None:
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        pairs = zip(found[key], value, strict=True) if key == "slopes" else [(found[key], value)]
        for one, other in pairs:
            assert one.shape == other.shape, key
            scale = np.max(np.abs(other[np.isfinite(other)]), initial=1e-300)
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12 * scale, err_msg=key)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, found):
    assert_same(found[name], by_torch(CASES[name]))


def test_every_loss_is_here():
    assert {case.name for case in CASES.values()} == set(HOMES) - {"reduce"}


SLIPS = {
    "l1 edges": ("robust", "l1", lambda o, t, **_: jnp.abs(o - t)),
    "smooth_l1": ("robust", "smooth_l1", lambda o, t, **_: optax.huber_loss(o, t, delta=0.7)),
    "nll weight": (
        "losses",
        "nll",
        lambda o, t, weight, **_: -jnp.where(t == 3, 0, weight[t] * o[jnp.arange(6), t]),
    ),
    "kl_div": ("divergences", "kl_div", lambda o, t, **_: jnp.exp(o) * (o - jnp.log(t))),
    "gaussian_nll 0": (
        "divergences",
        "gaussian_nll",
        lambda o, t, var, **_: (jnp.log(jnp.maximum(var, 1e-6)) + (o - t) ** 2 / var) / 2,
    ),
    "hinge": ("ranking", "hinge", lambda o, t, **_: optax.hinge_loss(o, t)),
    "multi_margin bend": (
        "ranking",
        "multi_margin",
        lambda o, t, **_: (
            (jnp.maximum(1 - jnp.take_along_axis(o, t[:, None], 1) + o, 0).sum(1) - 1) / o.shape[1]
        ),
    ),
    "triplet_margin": (
        "ranking",
        "triplet_margin",
        lambda a, p, n, **_: optax.losses.triplet_margin_loss(a, p, n),
    ),
    "focal": ("images", "focal", lambda o, t, **_: optax.sigmoid_focal_loss(o, t)),
    "dice": ("images", "dice", lambda o, t, **_: 1 - 2 * (o * t).sum((1, 2)) / (o + t).sum((1, 2))),
}


def test_a_fault_in_each_file_is_found(monkeypatch):
    for home, name, wrong in SLIPS.values():
        module = importlib.import_module(f"jaxnn.training.{home}")
        reduce = importlib.import_module("jaxnn.training.losses").reduce

        def slip(*args, wrong=wrong, reduce=reduce, reduction="mean", **options):
            values = wrong(*args, **options)
            return (
                values.sum() / len(values)
                if reduction == "batchmean"
                else reduce(values, reduction)
            )

        monkeypatch.setattr(module, name, slip)
    wrong = by_jax({name: CASES[name] for name in SLIPS})
    for name in SLIPS:
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            assert_same(wrong[name], by_torch(CASES[name]))


ON_THE_MARGIN = {
    "hinge_embedding": lambda module, x: module.hinge_embedding(1 - x, -1 + 0 * x, margin=1.0),
    "margin_ranking": lambda module, x: module.margin_ranking(0 * x, x, 1 + 0 * x),
}


@pytest.mark.parametrize("name", ON_THE_MARGIN)
def test_on_the_margin_itself_jax_follows_the_newest_torch(name: str):
    """Since torch 2.14 a clamp's gradient is 0 on its bound; before it was 1."""
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    ours = importlib.import_module("torchref.training.ranking")
    theirs = importlib.import_module("jaxnn.training.ranking")
    (slope,) = torch.autograd.grad(ON_THE_MARGIN[name](ours, x), x)
    with jax.enable_x64(True):
        own = jax.grad(lambda v: ON_THE_MARGIN[name](theirs, v))(jnp.zeros(1))
    assert to_numpy(own).tolist() == [0]
    assert slope.tolist() == [0 if torch.__version__ >= "2.14" else 1]


def test_a_path_that_ctc_misses_is_found():
    """Averaged as optax averages, and with the number that optax gives to what does not fit."""
    case = CASES["ctc zero"]
    values = by_torch(case)
    with jax.enable_x64(True):
        unused = np.arange(3) >= SPELT_LENGTHS[:, None]
        late = np.arange(7) >= LENGTHS[:, None]
        steps = jnp.asarray(STEPS.swapaxes(0, 1))
        raw = to_numpy(optax.ctc_loss(steps, late * 1.0, SPELT, unused * 1.0))
    np.testing.assert_allclose(raw[:4], values["none"][:4], rtol=1e-9)
    assert raw[4] > 9e4
    assert not np.isclose(raw[:4].mean(), values["mean"])


def test_labels_that_do_not_fit_cost_infinity():
    args = CASES["ctc zero"].args
    wanted = CASES["ctc"].on("torchref", [to_torch(a) for a in args], "none")
    with jax.enable_x64(True):
        found = CASES["ctc"].on("jaxnn", [to_jax(a) for a in args], "none")
    assert np.isinf(to_numpy(found)).tolist() == [False] * 4 + [True, False]
    np.testing.assert_allclose(to_numpy(found), to_numpy(wanted), rtol=1e-9)


def test_empty_batches():
    nothing = {name: [a[:0] for a in CASES[name].args] for name in EMPTY}

    @jax.jit
    def program(arrays):
        return {
            n: {r: CASES[n].on("jaxnn", a, r) for r in CASES[n].reductions}
            for n, a in arrays.items()
        }

    with jax.enable_x64(True):
        arrays = {n: [to_jax(CASES[n].last(a)) for a in args] for n, args in nothing.items()}
        found = jax.tree.map(to_numpy, program(arrays))
    for name in EMPTY:
        wanted = by_torch(CASES[name], nothing[name])
        assert np.isnan(found[name]["mean"]), name
        assert found[name]["sum"] == 0, name
        for reduction in wanted:
            np.testing.assert_array_equal(found[name][reduction], wanted[reduction], name)


def test_labels_outside_are_nan_in_jax():
    from jaxnn.training.losses import nll

    values = nll(jnp.zeros((4, 3)), jnp.array([2, 3, -1, -100]), reduction="none")
    assert np.isnan(values).tolist() == [False, True, True, False]


def test_what_neither_framework_has():
    """dice, ssim and js_div against NumPy and SciPy; focal is checked against optax's own above."""
    x, y = IMAGES
    wanted = 1 - (2 * (x * y).sum((2, 3)) + 1) / ((x + y).sum((2, 3)) + 1)
    np.testing.assert_allclose(by_torch(CASES["dice"])["none"], wanted, rtol=1e-12)
    np.testing.assert_allclose(
        by_torch(CASES["js_div"])["none"].sum(1), jensenshannon(P.T, Q.T) ** 2
    )

    def blur(z):
        return gaussian_filter(z, 1.5, radius=5, axes=(2, 3))[..., 5:-5, 5:-5]

    m_x, m_y, c1, c2 = blur(x), blur(y), 0.02**2, 0.06**2
    s_xy, s = blur(x * y) - m_x * m_y, blur(x * x + y * y) - m_x**2 - m_y**2
    map_ = (2 * m_x * m_y + c1) * (2 * s_xy + c2) / ((m_x**2 + m_y**2 + c1) * (s + c2))
    np.testing.assert_allclose(
        by_torch(CASES["ssim"])["none"], 1 - map_.mean((1, 2, 3)), rtol=1e-10
    )
    same = CASES["ssim"].on("torchref", [to_torch(x), to_torch(x)], "none")
    assert np.abs(to_numpy(same)).max() < 1e-12


@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("reduce", (X,), {"reduction": "average"}),
        ("mse", (X, X[:, :1]), {}),
        ("l1", (X, X[:, :1]), {}),
        ("huber", (X, Y), {"delta": 0.0}),
        ("smooth_l1", (X, Y), {"beta": -1.0}),
        ("cross_entropy", (X, LABELS), {"label_smoothing": 1.5}),
        ("kl_div", (LOG, Q), {"reduction": "average"}),
        ("gaussian_nll", (X, Y, P[:3]), {}),
        ("multi_margin", (X, LABELS), {"p": 3}),
        ("triplet_margin", (X, Y, Z), {"margin": 0.0}),
        ("dice", (X, Y[:3]), {}),
        ("ssim", (IMAGES[0], IMAGES[1]), {}),  # three channels are too narrow an axis
    ],
)
def test_bad_arguments(name, args, options):
    module = importlib.import_module(f"jaxnn.training.{HOMES[name]}")
    with pytest.raises(ValueError):
        getattr(module, name)(*map(jnp.asarray, args), **options)
