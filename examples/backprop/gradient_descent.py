"""Gradient descent in JAX and in PyTorch: surfaces, costs, rates, momentum and adaptive methods.

Every lesson shows the same thing twice, once as users of JAX and optax write it and once as users
of PyTorch do, runs both on the same numbers, and holds what they give to each other in float64. In
the figures broad lines are JAX's, dashed ones PyTorch's.
"""

# %% side="both"
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes

from compare.data.digits import split_digits
from compare.study.figures import legend, lines, overlay
from compare.study.lessons import lesson
from compare.study.scripts import script

script(__name__)  # a program runs the lessons from here; a notebook goes on to the next cell


def patients():
    """Ten measurements of 442 patients in their own units, and how their diabetes went on."""
    x, y = map(np.asarray, load_diabetes(return_X_y=True, scaled=False))
    return x, (y - y.mean()) / y.std()


def contours(axis, height, across, up, title):
    """Draws lines of equal height(p), with as much area between any two of them."""
    grid = np.stack(np.meshgrid(*(np.linspace(low, high, 80) for low, high in (across, up))))
    levels = np.unique(np.quantile(heights := height(grid), np.linspace(0.02, 0.95, 12)))
    axis.contour(*grid, heights, levels=levels, colors="gray", linewidths=0.6)
    axis.set(xlim=across, ylim=up, title=title, xlabel="x", ylabel="y")


# %% side="jax"
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxnn.training.adaptive import adagrad  # with other formulas than optax's, see below
from jaxnn.training.moments import nadam, radam
from jaxnn.training.optimizers import sgd  # optax's, and dampening

# %% side="torch"
import torch
import torch.nn.functional as F

# %% [markdown] lesson="optimization" title="Understanding the concept of optimization"
# To *optimise* is to look for the point $p$ at which a function $f(p)$ is lowest. A network's
# training is nothing else: $p$ are its weights, $f$ says how wrong it is. Few such functions can be
# solved for their lowest point, so one walks: from where one stands, a small step downhill. The
# gradient $\nabla f(p)$ points uphill, so
#
# $$p \leftarrow p - \eta\,\nabla f(p)$$
#
# with a step size $\eta$. Where this leads depends on the surface. A **convex** one is a bowl: any
# straight line between two of its points lies above it, and its one lowest point is where every
# walk ends. A surface that is not convex may have several; then the start decides. Flat places
# need not be low at all. The *Hessian*, the matrix of second derivatives, tells by its eigenvalues
# how the surface curves there: up in every direction is a minimum, up in one and down in another is
# a **saddle**. On its ridge a walk ends in the saddle; the least push to the side, and it escapes.
#
# And how long does it take? Let the curvature lie between $m$ and $L$. Steps must suit the steepest
# direction, and are then short for the flattest. On $\frac12(m x^2 + L y^2)$ the best step size is
# $\eta = 2/(L + m)$, and each step shrinks the distance to the minimum by only
#
# $$\frac{\kappa - 1}{\kappa + 1}, \qquad \kappa = L / m \text{, the condition number.}$$
#
# First, four surfaces and the walk itself. Look for what happens to `p` in each column.


# %% side="jax"
def bowl_jax(p):
    return (p[0] - 1) ** 2 + 2 * (p[1] + 0.5) ** 2


def himmelblau_jax(p):
    return (p[0] ** 2 + p[1] - 11) ** 2 + (p[0] + p[1] ** 2 - 7) ** 2


def saddle_jax(p):
    return p[0] ** 2 - p[1] ** 2 + p[1] ** 4 / 4


def descend_jax(f, p, rate, steps=200):
    gradient = jax.jit(jax.grad(f))
    path = [p]
    for _ in range(steps):
        p = p - rate * gradient(p)  # a new array
        path.append(p)
    return jnp.stack(path)


# %% side="torch"
def bowl_torch(p):
    return (p[0] - 1) ** 2 + 2 * (p[1] + 0.5) ** 2


def himmelblau_torch(p):
    return (p[0] ** 2 + p[1] - 11) ** 2 + (p[0] + p[1] ** 2 - 7) ** 2


def saddle_torch(p):
    return p[0] ** 2 - p[1] ** 2 + p[1] ** 4 / 4


def descend_torch(f, p, rate, steps=200):
    p = p.clone().requires_grad_()
    path = [p.detach().clone()]
    for _ in range(steps):
        p.grad = None  # else the next gradient is added to it
        f(p).backward()
        with torch.no_grad():
            p -= rate * p.grad  # the same tensor, changed
        path.append(p.detach().clone())
    return torch.stack(path)


# %% [markdown]
# Now the walks: from four starts on the bowl and on Himmelblau's surface, from two on the saddle;
# and on valleys of three condition numbers.


# %% side="jax"
def explore_jax(starts, ridge):
    walks = [descend_jax(himmelblau_jax, p, 0.01) for p in starts]
    return {
        "bowl": [descend_jax(bowl_jax, p, 0.1) for p in starts],
        "himmelblau": walks,
        "saddle": [descend_jax(saddle_jax, p, 0.1) for p in ridge],
        "curved, minimum": jnp.linalg.eigvalsh(jax.hessian(himmelblau_jax)(walks[1][-1])),
        "curved, saddle": jnp.linalg.eigvalsh(jax.hessian(saddle_jax)(jnp.zeros(2))),
    }


def stretched_jax(k, start):
    path = descend_jax(lambda p: (p[0] ** 2 + k * p[1] ** 2) / 2, start, 2 / (1 + k))
    return {"distance": jnp.linalg.norm(path, axis=1)}


# %% side="torch"
def explore_torch(starts, ridge):
    walks = [descend_torch(himmelblau_torch, p, 0.01) for p in starts]
    hessian = torch.autograd.functional.hessian
    return {
        "bowl": [descend_torch(bowl_torch, p, 0.1) for p in starts],
        "himmelblau": walks,
        "saddle": [descend_torch(saddle_torch, p, 0.1) for p in ridge],
        "curved, minimum": torch.linalg.eigvalsh(hessian(himmelblau_torch, walks[1][-1])),
        "curved, saddle": torch.linalg.eigvalsh(hessian(saddle_torch, torch.zeros(2))),
    }


def stretched_torch(k, start):
    path = descend_torch(lambda p: (p[0] ** 2 + k * p[1] ** 2) / 2, start, 2 / (1 + k))
    return {"distance": path.norm(dim=1)}


# %% side="both"
with lesson("optimization") as same:
    starts = np.array([[-3.0, 3.5], [3.0, 3.5], [-3.0, -3.5], [3.5, -3.5]])
    ridge = np.array([[1.5, 0.0], [1.5, 1e-3]])
    ours, theirs = same.run(explore_jax, explore_torch, starts, ridge)
    ends = {name: theirs[name][:, -1] for name in ("bowl", "himmelblau", "saddle")}
    same.holds("convex: one end", np.ptp(ends["bowl"], axis=0).max() < 1e-9)
    same.holds("not convex: four", len(np.unique(ends["himmelblau"].round(3), axis=0)) == 4)
    same.holds("stuck on the ridge", np.linalg.norm(ends["saddle"][0]) < 1e-6)
    same.holds("escaped beside it", abs(ends["saddle"][1, 1] - 2**0.5) < 1e-6)
    for name, up in (("curved, minimum", 2), ("curved, saddle", 1)):
        same.row(f"{name}: least", ours[name][0], theirs[name][0])
        same.holds(f"{name}: up in {up} of two directions", (theirs[name] > 0).sum() == up)
    axes = same.axes(2, 2, height=3.6)
    for axis, f in zip(axes.flat, (bowl_torch, himmelblau_torch, saddle_torch), strict=False):
        name = f.__name__.removesuffix("_torch")
        span = (-2, 2) if name == "saddle" else (-5, 5)
        contours(axis, f, span, span, name)
        for i, (path, tpath) in enumerate(zip(ours[name], theirs[name], strict=True)):
            overlay(axis, path.T, tpath.T, f"C{i}", None)
    for k in (2, 10, 100):
        ours, theirs = same.run(stretched_jax, stretched_torch, k, np.ones(2))
        shrunk = [each["distance"][11] / each["distance"][10] for each in (ours, theirs)]
        same.row(f"condition {k}: a step shrinks the distance by", *shrunk)
        same(f"the rate at condition {k}", (k - 1) / (k + 1), shrunk[1])
        lines(axes[1, 1], ours["distance"], theirs["distance"], label=f"condition {k}")
    axes[1, 1].set(yscale="log", ylim=(1e-9, 2), xlabel="step", title="distance to the minimum")
    legend(axes[1, 1])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | the gradient | is written into `p.grad` | is what `jax.grad(f)` returns | |
# | the second `backward()` | adds to `p.grad` | a new gradient each time | OPT-22 |
# | NumPy's float64 becomes | float64 | float32, unless x64 is enabled | DT-01 |
# | `-=` on the point | changes the tensor, and its aliases | gives the name a new array | |
#
# ### Try it
# - Leave `p.grad = None` out. How does PyTorch's walk on the bowl differ now?
# - Walk on the bowl with a rate of 0.5. Which coordinate arrives at once, which jumps from side to
#   side for ever, and what are the two curvatures?
# - Push the walker off the ridge by $10^{-12}$ instead of $10^{-3}$. How many steps more does the
#   escape take? (Each step multiplies $y$ by 1.2.)

# %% [markdown] lesson="cost_functions" title="Introducing the concept of cost functions"
# A *cost function* turns "how wrong is the model" into one number that can be lowered. The data fix
# the examples, the model fixes what can be changed, and the cost decides which errors matter. For
# an error $e$, the prediction minus the target, three are common:
#
# $$\text{MSE: } e^2, \qquad \text{MAE: } |e|, \qquad
#   \text{Huber: } \tfrac12 e^2 \text{ if } |e| \le 1, \text{ else } |e| - \tfrac12,$$
#
# each averaged over the examples. What an example pulls with is the slope of its cost: $2e$, the
# sign of $e$, and the error cut off at $\pm 1$. So under MSE an error of 10 pulls a hundred times
# as hard as one of 0.1, and one target that was typed with a digit too many drags the whole model
# along. Under MAE and Huber no error pulls harder than 1. If the target is a class, 0 or 1, the
# model's number $s$ is read as a probability $\sigma(s) = 1/(1 + e^{-s})$, and the cost is the
# **cross-entropy**, minus the logarithm of the probability that was given to what is true.
#
# The model is a line, $a x + b$: from a patient's body mass index to how the diabetes went on a
# year later. It has two parameters, so each cost is a surface that can be drawn. Ten of the targets
# are wrong on purpose. Look where each surface is lowest, and how far that is from the line that
# fits the right targets.


# %% side="jax"
def costs_jax():
    return {
        "MSE": lambda said, y: optax.squared_error(said, y).mean(),
        "MAE": lambda said, y: jnp.abs(said - y).mean(),
        "Huber": lambda said, y: optax.huber_loss(said, y, delta=1.0).mean(),
        "cross-entropy": lambda said, y: optax.sigmoid_binary_cross_entropy(said, y).mean(),
    }


def surface_jax(cost, x, target, lattice):
    at = jax.vmap(lambda p: cost(p[0] * x + p[1], target))  # one point's cost; vmap takes many
    return jax.jit(at)(lattice)


def pull_jax(cost, errors):
    return jax.vmap(jax.grad(cost))(errors, jnp.zeros_like(errors))


def compare_jax(x, targets, lattice, errors):
    found = {}
    for name, cost in costs_jax().items():
        found[name] = surface_jax(cost, x, targets[name == "cross-entropy"], lattice)
        found[f"{name} pulls"] = pull_jax(cost, errors)
    return found


# %% side="torch"
def costs_torch():
    return {
        "MSE": F.mse_loss,
        "MAE": F.l1_loss,
        "Huber": F.huber_loss,
        "cross-entropy": F.binary_cross_entropy_with_logits,
    }


def surface_torch(cost, x, target, lattice):
    said = lattice[:, :1] * x + lattice[:, 1:]  # (point, example)
    return cost(said, target.expand_as(said), reduction="none").mean(1)


def pull_torch(cost, errors):
    errors = errors.clone().requires_grad_()
    cost(errors, torch.zeros_like(errors), reduction="sum").backward()
    return errors.grad


def compare_torch(x, targets, lattice, errors):
    found = {}
    for name, cost in costs_torch().items():
        found[name] = surface_torch(cost, x, targets[name == "cross-entropy"], lattice)
        found[f"{name} pulls"] = pull_torch(cost, errors)
    return found


# %% side="both"
with lesson("cost_functions") as same:
    x, y = patients()
    x = (x[:, 2] - x[:, 2].mean()) / x[:, 2].std()
    wrong = y.copy()
    wrong[same.rng.choice(np.flatnonzero(x > 0.5), 10, replace=False)] -= 15
    slopes, shifts = np.linspace(-1, 2.5, 71), np.linspace(-2, 2, 81)
    lattice = np.stack(np.meshgrid(slopes, shifts), -1).reshape(-1, 2)
    targets, errors = [wrong, (y > 0) * 1.0], np.array([0.1, 1.0, 10.0])
    ours, theirs = same.run(compare_jax, compare_torch, x, targets, lattice, errors)
    right, off = np.polyfit(x, y, 1), {}
    for axis, name in zip(same.axes(2, 2, height=3.6).flat, costs_torch(), strict=True):
        lowest = [lattice[each[name].argmin()] for each in (ours, theirs)]
        same.row(f"{name}: slope where it is lowest", lowest[0][0], lowest[1][0])
        pulls = [each[f"{name} pulls"][2] for each in (ours, theirs)]
        same.row(f"{name}: pull of an error of 10", *pulls)
        off[name] = np.linalg.norm(lowest[1] - right)
        levels = np.quantile(theirs[name], np.linspace(0.02, 0.9, 9))
        for each, how in ((ours, {"linewidths": 4, "alpha": 0.35}), (theirs, {"linestyles": "--"})):
            axis.contour(slopes, shifts, each[name].reshape(81, 71), levels=levels, **how)
        axis.plot(*lowest[1], "r*", ms=12, ls="", label="lowest")
        if name != "cross-entropy":
            axis.plot(*right, "k+", ms=12, ls="", label="without wrong targets")
        axis.set(title=name, xlabel="slope a", ylabel="intercept b")
        legend(axis, fontsize=8, loc="upper left")
    same.holds("MSE follows the wrong targets", off["MSE"] > 2 * max(off["MAE"], off["Huber"]))
    missed = lattice[theirs["MSE"].argmin()] - np.polyfit(x, wrong, 1)
    same.holds("MSE is lowest at the least squares", abs(missed).max() < 0.06)
    same.holds("an error of 10 pulls 20 under MSE", abs(theirs["MSE pulls"][2] - 20) < 1e-9)
    same.holds("and 1 under MAE and Huber", theirs["MAE pulls"][2] == theirs["Huber pulls"][2] == 1)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX and optax | |
# |---|---|---|---|
# | a loss returns | the mean over all elements | a value each; take `.mean()` yourself | LOSS-14 |
# | squared error | `F.mse_loss`: $e^2$ | `optax.l2_loss`: $e^2/2$ | LOSS-01 |
# | cross-entropy of two classes | of probabilities or `_with_logits` | always of logits | LOSS-16 |
# | slope of MAE at $e = 0$ | 0 | 1, of `jnp.abs` | GRAD-01 |
#
# ### Try it
# - Take `optax.l2_loss` for the squared error. By which factor do the surface and the pull change,
#   and does the lowest point move?
# - Add an error of 0 to `errors`. In which row do the sides part?
# - Make the ten wrong targets wrong by 30 instead of 15. Which stars move, and which stay?

# %% [markdown] lesson="intuition" title="Understanding the intuition behind gradient descent"
# Stand on a hillside in fog. You cannot see the valley, but you feel with your feet how steep it is
# in every direction. The gradient $g = \nabla f(p)$ is all of that in one arrow: in a direction $d$
# of length 1 the ground rises by $g \cdot d$. That is most if $d$ points along $g$, and nothing at
# all across it. So $-g$ is the steepest way down, and it crosses the lines of equal height at a
# right angle.
#
# How far should one go? The gradient promises that the cost falls by $s\,|g|^2$ for a step of
# $-s\,g$, but the ground curves upwards. To second order, with the Hessian $H$,
#
# $$f(p - s\,g) = f(p) - s\,|g|^2 + \tfrac12 s^2 |g|^2 c, \qquad
#   c = \frac{g \cdot H g}{g \cdot g},$$
#
# where $c$ is the curvature in the gradient's direction. This parabola is lowest at $s = 1/c$, and
# at $s = 2/c$ one is as high as before: all of a step's length is gained or lost against curvature.
#
# If every step goes to the lowest point of its line, the next gradient has nothing left along the
# old one: the path turns by a right angle each time, and zigzags down a narrow valley. Small steps
# of a constant rate follow the slope smoothly and slowly; large ones leap from wall to wall.
#
# The surface is $\frac12(x^2 + 8 y^2)$. $H g$ is a *Hessian-vector product*; neither column ever
# makes the matrix.


# %% side="jax"
def valley_jax(p):
    return (p[0] ** 2 + 8 * p[1] ** 2) / 2


def curvature_jax(p):
    g, change = jax.jvp(jax.grad(valley_jax), (p,), (jax.grad(valley_jax)(p),))
    return g, g @ change / (g @ g)  # change: how the gradient changes along itself


def look_jax(p, directions, lengths):
    g, curvature = curvature_jax(p)
    return {
        "gradient": g,
        "rises": directions @ g,
        "curvature": curvature,
        "along": jax.vmap(lambda s: valley_jax(p - s * g))(lengths / curvature),
    }


def walk_jax(p, rate, steps):
    """The path; a rate of None is the best one at each step."""
    at, path, gradients = jax.jit(curvature_jax), [p], []
    for _ in range(steps):
        g, curvature = at(p)
        p = p - (1 / curvature if rate is None else rate) * g
        path.append(p)
        gradients.append(g)
    return {"path": path, "gradients": gradients}


# %% side="torch"
def valley_torch(p):
    return (p[0] ** 2 + 8 * p[1] ** 2) / 2


def curvature_torch(p):
    p = p.detach().requires_grad_()
    (g,) = torch.autograd.grad(valley_torch(p), p, create_graph=True)  # can be derived again
    (change,) = torch.autograd.grad(g, p, grad_outputs=g.detach())
    return g.detach(), g.detach() @ change / (g.detach() @ g.detach())


def look_torch(p, directions, lengths):
    g, curvature = curvature_torch(p)
    return {
        "gradient": g,
        "rises": directions @ g,
        "curvature": curvature,
        "along": torch.stack([valley_torch(p - s * g) for s in lengths / curvature]),
    }


def walk_torch(p, rate, steps):
    """The path; a rate of None is the best one at each step."""
    p, path, gradients = p.clone(), [p.clone()], []
    for _ in range(steps):
        g, curvature = curvature_torch(p)
        p -= (1 / curvature if rate is None else rate) * g
        path.append(p.clone())
        gradients.append(g)
    return {"path": path, "gradients": gradients}


# %% side="both"
with lesson("intuition") as same:
    start, angles = np.array([4.0, 1.0]), np.linspace(0, 2 * np.pi, 361)
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    s = np.linspace(0, 2.4, 49)  # in units of one over the curvature
    ours, theirs = same.run(look_jax, look_torch, start, directions, s)
    same.row("curvature along the gradient", ours["curvature"], theirs["curvature"])
    g, along = theirs["gradient"], theirs["along"]
    best = directions[theirs["rises"].argmax()]
    same.holds("the steepest direction is the gradient's", best @ g > 0.9999 * np.linalg.norm(g))
    same.holds("lowest at one over the curvature", along.argmin() == 20)
    same("at two over it as high as before", ours["along"][40], along[0])
    axes = same.axes(2, 1, height=3.6)
    lines(axes[1], ours["along"], along, x=s, label="cost along the first gradient")
    promised = along[0] - s * (g @ g) / theirs["curvature"]
    axes[1].plot(s, promised, "k:", label="what the gradient promises")
    axes[1].set(xlabel="step, times the curvature", ylabel="cost", ylim=(0, 19))
    contours(axes[0], valley_torch, (-1, 4.5), (-1.5, 1.5), "three paths downhill")
    paths = {"the best step each time": None, "small steps": 0.03, "large steps": 0.23}
    for i, (name, rate) in enumerate(paths.items()):
        ours, theirs = same.run(walk_jax, walk_torch, start, rate, 12 if rate is None else 40)
        same.row(f"{name}: height after 12", *(valley_torch(w["path"][12]) for w in (ours, theirs)))
        overlay(axes[0], ours["path"].T, theirs["path"].T, f"C{i}", name)
        if rate is None:
            turns = (theirs["gradients"][1:] * theirs["gradients"][:-1]).sum(1)
            same.holds("each turn is a right angle", abs(turns).max() < 1e-12)
    for axis in axes:
        legend(axis)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | derivative of a derivative | `create_graph=True` keeps the record | `jax.grad` of `jax.grad` | |
# | $H g$ | back through the gradient | `jax.jvp`: forward through it | |
# | cutting a value out of the record | `.detach()` | `jax.lax.stop_gradient` | GRAD-13 |
# | `p -= …` | `p` itself; copy it for the path | a new array; the old one is kept | |
#
# ### Try it
# - Leave `.clone()` out where PyTorch appends to the path. What does the path look like?
# - Start at $(8, 1)$: there the zigzag is at its worst. Compare the height after 12 best steps.
# - Set the large steps to 0.26. The largest curvature is 8; why does the path leave the valley?

# %% [markdown] lesson="types" title="Types of gradient descent"
# A cost is a mean over $n$ examples, and so is its gradient. To know it exactly one has to look at
# all of them before taking a single step: **batch** gradient descent. But a mean can be estimated
# from a sample. The gradient of $B$ examples, drawn at random, is right on average; single ones
# scatter around the exact gradient with a spread of
#
# $$\sqrt{\operatorname{E}\,|g_B - g|^2} = \frac{\sigma}{\sqrt B}.$$
#
# The price of a step is proportional to $B$, while its noise falls only with the root of $B$: four
# times the work for half the noise. It is a bad bargain as long as the way is far, and any rough
# direction will do. So with $B = 1$, **stochastic** gradient descent, one makes $n$ steps for the
# price of one, each in a doubtful direction; it never comes to rest, for even at the minimum single
# examples pull to all sides, the more the larger the rate. **Mini-batch** descent lies between, and
# hardware favours it: 32 examples in one matrix product take little longer than one.
#
# The model is one layer on handwritten digits: ten scores for 64 pixels, and the cross-entropy.
# First the noise, measured on 200 samples of each size. Then five passes over the data with each of
# the three kinds, by the same training loop: only what `batches` holds is different. Look at how
# low the cost is after the same amount of work, and at how smoothly it got there.


# %% side="jax"
linear_jax: Any = nn.Dense(10)


def cost_jax(variables, x, labels):
    scores = linear_jax.apply(variables, x)
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()


@jax.jit
def noise_jax(variables, x, labels, some, answers):
    exact = jax.grad(cost_jax)(variables, x, labels)
    each = jax.vmap(jax.grad(cost_jax), (None, 0, 0))(variables, some, answers)
    squares = jax.tree.map(lambda g, mean: ((g - mean) ** 2).sum(), each, exact)
    return {"noise": jnp.sqrt(sum(jax.tree.leaves(squares)) / len(some))}


# %% side="torch"
def linear_torch():
    return torch.nn.Linear(64, 10)


def cost_torch(model, x, labels):
    return F.cross_entropy(model(x), labels)


def noise_torch(state, x, labels, some, answers):
    model = linear_torch()
    model.load_state_dict(state)
    weights = list(model.parameters())
    exact = torch.autograd.grad(cost_torch(model, x, labels), weights)
    square = 0.0
    for sample in zip(some, answers, strict=True):
        each = torch.autograd.grad(cost_torch(model, *sample), weights)
        square += sum(((g - mean) ** 2).sum() for g, mean in zip(each, exact, strict=True))
    return {"noise": (square / len(some)) ** 0.5}


# %% [markdown]
# The training loop. Every so many steps it looks at the cost of all examples, for the figure.


# %% side="jax"
def learn_jax(variables, rate, batches, x, labels, every):
    rule, cost = optax.sgd(rate), jax.jit(cost_jax)
    state = rule.init(variables)

    @jax.jit
    def step(variables, state, some, answers):
        gradient = jax.grad(cost_jax)(variables, some, answers)
        updates, state = rule.update(gradient, state)
        return optax.apply_updates(variables, updates), state

    costs = [cost(variables, x, labels)]
    for count, (some, answers) in enumerate(batches, start=1):
        variables, state = step(variables, state, some, answers)
        if count % every == 0:
            costs.append(cost(variables, x, labels))
    return {"weights": variables, "costs": costs}


# %% side="torch"
def learn_torch(state, rate, batches, x, labels, every):
    model = linear_torch()
    model.load_state_dict(state)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)

    costs = [cost_torch(model, x, labels).detach()]
    for count, (some, answers) in enumerate(batches, start=1):
        optimizer.zero_grad()
        cost_torch(model, some, answers).backward()
        optimizer.step()
        if count % every == 0:
            with torch.no_grad():
                costs.append(cost_torch(model, x, labels))
    return {"weights": model.state_dict(), "costs": costs}


# %% side="both"
with lesson("types") as same:
    x, labels, *_ = split_digits(same.rng, flat=True, scale="unit")
    weights = same.weights(linear_jax, linear_torch, x[:2])
    axes, sizes, noise = same.axes(1, 2, height=4), np.array([1, 4, 16, 64, 256]), []
    for size in sizes:
        some = same.rng.integers(len(x), size=(200, size))
        sample = weights, x, labels, x[some], labels[some]
        noise.append([each["noise"] for each in same.run(noise_jax, noise_torch, *sample)])
        same.row(f"noise of {size} examples", *noise[-1])
    power = np.polyfit(np.log(sizes), np.log(noise)[:, 1], 1)[0]
    same.holds("the noise falls with the square root", abs(power + 0.5) < 0.05)
    costs, kinds = {}, ("batch", "mini-batch", "stochastic")
    for name, size, lr in zip(kinds, (len(x), 32, 1), (0.5, 0.5, 0.05), strict=True):
        steps = 5 * (len(x) // size)
        every, batches = max(1, steps // 100), same.batches(steps, size, x, labels)
        ours, theirs = same.run(learn_jax, learn_torch, weights, lr, batches, x, labels, every)
        same.row(f"{name}: cost after {steps} steps", ours["costs"][-1], theirs["costs"][-1])
        costs[name] = theirs["costs"]
        passes = np.arange(len(costs[name])) * every * size / len(x)
        lines(axes[0], ours["costs"], costs[name], x=passes, label=name)
    same.holds("five exact steps are far behind", costs["batch"][-1] > 3 * costs["mini-batch"][-1])
    same.holds("the exact one never rises", np.diff(costs["batch"]).max() < 0)
    same.holds("the stochastic one does", (np.diff(costs["stochastic"][-20:]) > 0).sum() > 3)
    lines(axes[1], *np.transpose(noise), x=sizes, label="measured")
    axes[1].plot(sizes, noise[0][1] / np.sqrt(sizes), "k:", label="1 / sqrt(B)")
    axes[1].set(xscale="log", yscale="log", xlabel="examples B", title="noise of the gradient")
    axes[0].set(yscale="log", xlabel="passes over the data", title="cost")
    legend(axes[0])
    legend(axes[1])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX and optax | |
# |---|---|---|---|
# | gradients of many samples | a loop over `autograd.grad` | `jax.vmap` of `jax.grad` | |
# | cross-entropy | the batch's mean | a value each; the mean is yours | LOSS-14 |
# | `zero_grad()` | needed before `backward()` | nothing to clear | OPT-22 |
# | the optimizer's state | inside `optimizer` | goes round with the weights | OPT-20 |
#
# ### Try it
# - Give stochastic descent a rate of 0.5, as the others have. How smooth is its curve now?
# - Give batch descent 200 steps instead of five. Is it as low as the mini-batches were, and how
#   many times has it looked at each example?
# - Take the sum instead of the mean in both costs. Which rates have to change, and by how much?

# %% [markdown] lesson="learning_rate" title="Learning rate"
# The *learning rate* $\eta$ is the factor of the gradient in $p \leftarrow p - \eta\,\nabla f(p)$.
# Too small, and nothing moves; too large, and the walk leaps out of the valley. Where is the limit?
# For a linear model and the mean squared error it can be computed. The Hessian is the same
# everywhere, $\frac{2}{n} X^\top X$. Along one of its eigenvectors, with curvature $\lambda$, each
# step multiplies the distance to the lowest point by
#
# $$1 - \eta\,\lambda.$$
#
# That shrinks if $\eta < 2/\lambda$. The steepest direction, $\lambda = L$, sets the limit for all:
# below the **edge of stability** $2/L$ the walk arrives, beyond it the steepest direction swings
# wider at each step. The flattest direction says how long it takes, and the ratio of the two is the
# condition number. It depends on the units: in those of the clinic the ten measurements of patients
# make a far longer valley than if each is divided by its spread. Compare 0.99 and 1.01 of the edge.


# %% side="jax"
def regress_jax(x, y, w, part):
    curvatures, directions = jnp.linalg.eigh(2 / len(x) * x.T @ x)
    rate = part * 2 / curvatures[-1]
    best, *_ = jnp.linalg.lstsq(x, y)
    cost = jax.jit(jax.value_and_grad(lambda w: ((x @ w - y) ** 2).mean()))
    costs, steepest = [], []
    for _ in range(300):
        value, gradient = cost(w)
        costs.append(value)
        steepest.append((w - best) @ directions[:, -1])
        w = w - rate * gradient
    return {
        "condition": curvatures[-1] / curvatures[0],
        "factor": steepest[1] / steepest[0],
        "costs": costs,
        "lowest": cost(best)[0],
    }


# %% side="torch"
def regress_torch(x, y, w, part):
    curvatures, directions = torch.linalg.eigh(2 / len(x) * x.T @ x)
    best = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    w = w.clone().requires_grad_()
    optimizer = torch.optim.SGD([w], lr=(part * 2 / curvatures[-1]).item())
    costs, steepest = [], []
    for _ in range(300):
        optimizer.zero_grad()
        value = F.mse_loss(x @ w, y)
        value.backward()
        costs.append(value.detach())
        steepest.append((w.detach() - best) @ directions[:, -1])
        optimizer.step()
    return {
        "condition": curvatures[-1] / curvatures[0],
        "factor": steepest[1] / steepest[0],
        "costs": costs,
        "lowest": F.mse_loss(x @ best, y),
    }


# %% [markdown]
# In a network $L$ is not known, and it changes on the way. A **learning-rate finder** tries: one
# step for each batch, each with a rate a little larger. At first the cost stays, then it falls, and
# at last it explodes, which ends the search. The mean of nine neighbours takes the noise out; the
# rate at which it falls most steeply is a good one to begin with.


# %% side="jax"
net_jax: Any = nn.Sequential((nn.Dense(32), nn.relu, nn.Dense(10)))


def find_rate_jax(variables, batches, first, last):
    growth = (last / first) ** (1 / (len(batches) - 1))
    rule, losses = optax.sgd(lambda count: first * growth**count), []

    def loss_of(variables, x, labels):
        scores = net_jax.apply(variables, x)
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

    @jax.jit
    def step(variables, state, x, labels):
        loss, gradient = jax.value_and_grad(loss_of)(variables, x, labels)
        updates, state = rule.update(gradient, state)  # the state counts the steps
        return optax.apply_updates(variables, updates), state, loss

    state = rule.init(variables)
    for x, labels in batches:
        variables, state, loss = step(variables, state, x, labels)
        if not loss <= 4 * min(losses, default=jnp.inf):
            break
        losses.append(loss)
    rates = first * growth ** jnp.arange(len(losses))
    smooth = jnp.convolve(jnp.stack(losses), jnp.ones(9) / 9, mode="valid")
    fall = jnp.gradient(smooth[: smooth.argmin() + 1])
    return {"rates": rates, "losses": losses, "smooth": smooth, "best": rates[4 + fall.argmin()]}


# %% side="torch"
def net_torch():
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def find_rate_torch(state, batches, first, last):
    net, rates, losses = net_torch(), [], []
    net.load_state_dict(state)
    optimizer = torch.optim.SGD(net.parameters(), lr=first)
    growth = (last / first) ** (1 / (len(batches) - 1))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=growth)

    for x, labels in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        if not loss <= 4 * min(losses, default=torch.inf):
            break
        losses.append(loss.detach())
        rates.append(optimizer.param_groups[0]["lr"])
        loss.backward()
        optimizer.step()
        scheduler.step()  # writes the next rate into the optimizer
    smooth = torch.stack(losses).unfold(0, 9, 1).mean(1)
    (fall,) = torch.gradient(smooth[: smooth.argmin() + 1])
    return {"rates": rates, "losses": losses, "smooth": smooth, "best": rates[4 + fall.argmin()]}


# %% side="both"
with lesson("learning_rate") as same:
    clinic, y = patients()
    x, w, end = (clinic - clinic.mean(0)) / clinic.std(0), same.rng.standard_normal(10), {}
    axes = same.axes(1, 2, height=4.2)
    for part in (0.02, 0.9, 0.99, 1.01):
        ours, theirs = same.run(regress_jax, regress_torch, x, y, w, part)
        same.row(f"{part} of the edge: factor", ours["factor"], theirs["factor"])
        same(f"{part} of the edge: 1 - rate L", 1 - 2 * part, theirs["factor"])
        above = [each["costs"] - each["lowest"] for each in (ours, theirs)]
        end[part] = above[1][-1] / above[1][0]
        lines(axes[0], *above, label=f"{part} of the edge")
    same.holds("a small rate is slow", end[0.02] > 2 * end[0.9])
    same.holds("stable below the edge, not beyond", end[0.99] < 0.1 and end[1.01] > 10)
    units = same.run(regress_jax, regress_torch, clinic - clinic.mean(0), y, w, 0.9)
    same.row("condition number, scaled", ours["condition"], theirs["condition"])
    same.row("condition number, in the clinic's units", *(each["condition"] for each in units))
    same.holds("scaling pays", units[1]["condition"] > 10 * theirs["condition"])
    x, labels, *_ = split_digits(same.rng, flat=True, scale="unit")
    start = same.weights(net_jax, net_torch, x[:2], rename={r"(\d+)": r"layers_\1"})
    batches = same.batches(80, 200, x, labels)
    ours, theirs = same.run(find_rate_jax, find_rate_torch, start, batches, 1e-4, 30.0)
    same.row("the finder suggests", ours["best"], theirs["best"])
    same.holds("a rate of a sensible size", 0.02 < theirs["best"] < 2)
    lines(axes[1], ours["losses"], theirs["losses"], x=theirs["rates"], label="one batch each")
    axes[1].plot(theirs["rates"][4:-4], theirs["smooth"], "k", lw=1, label="mean of nine")
    axes[1].set(xscale="log", xlabel="learning rate", title="the finder's cost, on digits")
    axes[0].set(yscale="log", xlabel="step", title="cost above the lowest, patients")
    legend(axes[0], fontsize=8)
    legend(axes[1], fontsize=8)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX and optax | |
# |---|---|---|---|
# | if no rate is named | `SGD`: 0.001 | an error | OPT-30 |
# | a schedule | `scheduler.step()` after each step | optax counts the updates itself | OPT-28 |
# | the rate of an exponential schedule | float64 | float32 even if x64 is enabled | DT-01 |
#
# ### Try it
# - Call `scheduler.step()` before `optimizer.step()`. How much do the losses change?
# - Run the clinic's units with 0.9 of their edge for 300 steps, and draw the cost. Has it arrived?

# %% [markdown] lesson="momentum" title="Gradient descent with momentum"
# A ball that rolls down a valley does not turn at every point into the steepest direction. It keeps
# its speed: along the valley the pushes add up, across it they cancel. *Momentum* keeps a buffer
# $b$ of gradients, of which a part $\mu$ is left after each step:
#
# $$b \leftarrow \mu\,b + g, \qquad p \leftarrow p - \eta\,b.$$
#
# Where all gradients agree, the buffer grows to $1/(1 - \mu)$ of them. That is the **heavy ball**.
# **Nesterov** looks a step ahead, $p \leftarrow p - \eta\,(g + \mu\,b)$. **Dampening** takes in
# only $(1 - d)\,g$ of each gradient after the first. In a valley of condition number $\kappa$ the
# best plain rate shrinks the error by $(\kappa - 1)/(\kappa + 1)$ a step. The best heavy ball has
#
# $$\eta = \frac{4}{(\sqrt\kappa + 1)^2}, \quad
#   \mu = \Big(\frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}\Big)^2 \quad (m = 1), \qquad
#   \text{and shrinks it by } \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}.$$
#
# So for $\kappa = 100$ it needs, on a long way, a tenth of the steps. Textbooks often put the rate
# inside, $v \leftarrow \mu v - \eta g$, $p \leftarrow p + v$. As long as $\eta$ is constant, that
# is the same walk. If it changes, it is not: in $v$ every old gradient keeps the rate that it came
# with.
#
# First by hand, both ways. Then with each framework's optimizer, on $\frac12(x^2 + 100 y^2)$.


# %% side="jax"
def by_hand_jax(p, rates, mu, inside):
    path, buffer = [p], jnp.zeros(2)
    for rate in rates:
        g = jnp.array([1.0, 100.0]) * p
        if inside:
            buffer = mu * buffer - rate * g
            p = p + buffer
        else:
            buffer = mu * buffer + g
            p = p - rate * buffer
        path.append(p)
    return {"path": path}


# %% side="torch"
def by_hand_torch(p, rates, mu, inside):
    path, buffer = [p.clone()], torch.zeros(2)
    for rate in rates:
        g = torch.tensor([1.0, 100.0]) * p
        if inside:
            buffer.mul_(mu).sub_(rate * g)
            p += buffer
        else:
            buffer.mul_(mu).add_(g)
            p -= rate * buffer
        path.append(p.clone())
    return {"path": path}


# %% [markdown]
# The optimizers. Their rate changes from step to step where `rates` does.


# %% side="jax"
def ravine_jax(p):
    return (p[0] ** 2 + 100 * p[1] ** 2) / 2


def roll_jax(p, rates, mu, nesterov=False, dampening=0.0):
    def schedule(count):
        return rates[count]

    rule = optax.sgd(schedule, mu, nesterov)
    if dampening:  # optax has none; this project's sgd has
        rule = sgd(schedule, mu, dampening)

    @jax.jit
    def step(p, state):
        updates, state = rule.update(jax.grad(ravine_jax)(p), state)
        return optax.apply_updates(p, updates), state

    path, state = [p], rule.init(p)  # the state holds the buffer and counts the steps
    for _ in range(len(rates)):
        p, state = step(p, state)
        path.append(p)
    return {"path": path}


# %% side="torch"
def ravine_torch(p):
    return (p[0] ** 2 + 100 * p[1] ** 2) / 2


def roll_torch(p, rates, mu, nesterov=False, dampening=0.0):
    p.requires_grad_()
    optimizer = torch.optim.SGD([p], momentum=mu, nesterov=nesterov, dampening=dampening)

    path = [p.detach().clone()]
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        ravine_torch(p).backward()
        optimizer.step()  # the buffer is optimizer.state[p]["momentum_buffer"]
        path.append(p.detach().clone())
    return {"path": path}


# %% side="both"
with lesson("momentum") as same:
    start, slow, steps = np.array([4.0, 1.0]), np.full(40, 0.005), 500
    ball, root = (4 / 11**2, (9 / 11) ** 2), 9 / 11  # of a condition number of 100
    runs = {"plain": (2 / 101, 0.0), "heavy ball": ball}
    runs |= {"Nesterov": (1 / 100, root, True), "dampened": (1 / 100, 0.9, False, 0.5)}
    axes, needed, along, apart = same.axes(2, 1, height=3.6), {}, {}, {}
    contours(axes[0], ravine_torch, (-2, 4.5), (-1.5, 1.5), "40 steps at one rate, momentum 0.8")
    for i, (name, (rate, mu, *more)) in enumerate(runs.items()):
        ours, theirs = same.run(roll_jax, roll_torch, start, np.full(steps, rate), mu, *more)
        far = [np.linalg.norm(each["path"], axis=1) for each in (ours, theirs)]
        same.row(f"{name}: steps to a thousandth", *((each > 1e-3).sum() for each in far))
        lines(axes[1], *far, label=name, color=f"C{i}")
        needed[name] = (far[1] > 1e-3).sum()
        ours, theirs = same.run(roll_jax, roll_torch, start, slow, min(mu, 0.8), *more)
        overlay(axes[0], ours["path"].T, theirs["path"].T, f"C{i}", name)
        along[name] = theirs["path"][-1, 0]
    same.holds("heavy ball: less than a quarter", needed["heavy ball"] < needed["plain"] / 4)
    same.holds("Nesterov: less than half", needed["Nesterov"] < needed["plain"] / 2)
    same.holds("momentum goes further", along["heavy ball"] < along["dampened"] < along["plain"])
    falling = ball[0] / (1 + np.arange(steps) / 10)
    for name, rates in (("constant", np.full(steps, ball[0])), ("falling", falling)):
        given = start, rates, ball[1]
        inside = same.run(by_hand_jax, by_hand_torch, *given, True)[1]["path"]
        ours, theirs = same.run(by_hand_jax, by_hand_torch, *given, False)
        same(f"{name} rate: as by hand", ours, same.run(roll_jax, roll_torch, *given)[1])
        apart[name] = abs(inside - theirs["path"]).max()
    same.holds("a constant rate may stand inside the buffer", apart["constant"] < 1e-9)
    same.holds("a falling one may not", apart["falling"] > 0.01)
    axes[1].set(yscale="log", xlabel="step", title="distance to the minimum", ylim=(1e-12, 20))
    legend(axes[1])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX and optax | |
# |---|---|---|---|
# | dampening | `dampening=d`; spares the first gradient | none; `optax.ema` damps all | OPT-06 |
# | the buffer | `optimizer.state[p]` | in `state`; lost if it is made anew | OPT-20 |
# | a changing rate | outside the buffer | outside as well; textbooks: inside | OPT-06 |
# | Nesterov | `nesterov=True` | `nesterov=True`, the same formula | OPT-07 |
#
# ### Try it
# - Set the heavy ball's momentum to 0.99. Does it arrive within 500 steps?
# - Call `rule.init(p)` inside JAX's loop, before each step. The buffer is lost each time, and the
#   heavy ball is plain descent with a rate of 0.033. Where does it go, and what would $2/L$ be?

# %% [markdown] lesson="adaptive" title="Adaptive learning rate methods"
# One rate for all weights suits none of them, if some get gradients that are a thousand times as
# large as others'. Adaptive methods divide the gradient $g$ of each weight by how large it usually
# is: the root of a sum or of an average of its squares. With $\langle\cdot\rangle_\beta$ for the
# running average $a \leftarrow \beta a + (1 - \beta)\,\cdot$ from 0, the step to be multiplied by
# $-\eta$ is
#
# - **Adagrad** $g / (\sqrt{\sum g^2} + \epsilon)$: the sum only grows, so steps get shorter;
# - **RMSprop** $g / (\sqrt v + \epsilon)$ with $v = \langle g^2 \rangle_{0.99}$: it forgets;
# - **Adadelta** $g \sqrt{u + \epsilon} / \sqrt{v + \epsilon}$, $u$ the average of squared steps;
# - **Adam** $\hat m / (\sqrt{\hat v} + \epsilon)$, where $m = \langle g \rangle_{0.9}$ is momentum
#   and $\hat m = m / (1 - 0.9^t)$, $\hat v = v / (1 - 0.999^t)$ make up for the start from 0;
# - **AdamW** adds $0.01\,p$ to Adam's step, which pulls every weight a little towards 0;
# - **NAdam** mixes the newest gradient into $\hat m$ as Nesterov does, with a momentum that grows;
# - **RAdam** begins without the root, until the average of squares is long enough to be trusted.
#
# The little $\epsilon$ guards against division by zero, and where it stands matters: with
# $\sqrt v + 10^{-8}$ a gradient of $10^{-6}$ acts like any other, while $\sqrt{v + 10^{-8}}$ is
# never below $10^{-4}$ and silences it. The first cells take one step of RMSprop from gradients of
# many sizes, with $\epsilon$ in either place.


# %% side="jax"
def first_step_jax(gradients):
    found = {}
    for place, inside in (("beside the root", False), ("in the root", True)):
        rule = optax.rmsprop(1.0, decay=0.99, eps=1e-8, eps_in_sqrt=inside)
        step, _ = rule.update(gradients, rule.init(gradients))
        found[place] = -step
    return found


# %% side="torch"
def first_step_torch(gradients):
    p = torch.zeros_like(gradients, requires_grad=True)
    p.grad = gradients
    torch.optim.RMSprop([p], lr=1.0, alpha=0.99, eps=1e-8).step()  # always beside the root
    v = 0.01 * gradients**2  # the running average after one step
    return {"beside the root": -p.detach(), "in the root": gradients / (v + 1e-8).sqrt()}


# %% [markdown]
# All seven walk down a bent valley, and train one layer on digits, by one loop. Where optax's own
# formula is another one, the JAX column takes this project's: `adagrad`, `nadam`, `radam`.


# %% side="jax"
def bend_jax(p, batch=None):
    return (p[0] - 2) ** 2 / 20 + 5 * (p[1] - p[0] ** 2 / 4) ** 2


def layer_jax(w, batch):
    x, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(x @ w, labels).mean()


rules_jax = {
    "Adagrad": adagrad,
    "RMSprop": lambda lr: optax.rmsprop(lr, decay=0.99, eps_in_sqrt=False),
    "Adadelta": lambda lr: optax.adadelta(lr, rho=0.9, eps=1e-6),
    "Adam": optax.adam,
    "AdamW": lambda lr: optax.adamw(lr, weight_decay=0.01),
    "NAdam": nadam,
    "RAdam": radam,
}


def adapt_jax(name, lr, p, batches):
    rule, f = rules_jax[name](lr), bend_jax if p.ndim == 1 else layer_jax
    state, path, costs = rule.init(p), [p], []

    @jax.jit
    def step(p, state, batch):
        cost, gradient = jax.value_and_grad(f)(p, batch)
        updates, state = rule.update(gradient, state, p)  # p for AdamW's decay
        return optax.apply_updates(p, updates), state, cost

    for batch in batches:
        p, state, cost = step(p, state, batch)
        path.append(p)
        costs.append(cost)
    return {"path": path, "costs": costs}


# %% side="torch"
def bend_torch(p, batch=None):
    return (p[0] - 2) ** 2 / 20 + 5 * (p[1] - p[0] ** 2 / 4) ** 2


def layer_torch(w, batch):
    x, labels = batch
    return F.cross_entropy(x @ w, labels)


rules_torch = {
    "Adagrad": torch.optim.Adagrad,
    "RMSprop": torch.optim.RMSprop,
    "Adadelta": torch.optim.Adadelta,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
}


def adapt_torch(name, lr, p, batches):
    f = bend_torch if p.ndim == 1 else layer_torch
    path, costs = [p.clone()], []
    optimizer = rules_torch[name]([p.requires_grad_()], lr=lr)

    for batch in batches:
        optimizer.zero_grad()
        cost = f(p, batch)
        cost.backward()
        optimizer.step()
        path.append(p.detach().clone())
        costs.append(cost.detach())
    return {"path": path, "costs": costs}


# %% side="both"
with lesson("adaptive") as same:
    sizes, axes = 10.0 ** np.arange(-10.0, 1), same.axes(2, 2, height=3.8)
    ours, theirs = same.run(first_step_jax, first_step_torch, sizes)
    for place in theirs:
        same.row(f"eps {place}: step from a gradient of 1e-6", ours[place][4], theirs[place][4])
        lines(axes[1, 1], ours[place], theirs[place], x=sizes, label=f"eps {place}")
    ratio = theirs["beside the root"] / theirs["in the root"]
    same.holds("of 1e-6 it is 900 times as long", 850 < ratio[4] < 950)
    same.holds("of 1 the same", abs(ratio[-1] - 1) < 1e-6)
    x, labels, *_ = split_digits(same.rng, flat=True, scale="unit")
    batches = same.batches(200, 64, np.c_[x, np.ones(len(x))], labels)  # the ones are for the bias
    start = 0.01 * same.rng.standard_normal((65, 10))
    contours(axes[0, 0], bend_torch, (-2.8, 0.4), (-0.4, 2.2), "a bent valley, 100 steps")
    rates = {"Adagrad": (0.5, 0.2), "Adadelta": (20.0, 5.0), "RAdam": (0.1, 0.1)}
    for i, name in enumerate(rules_torch):
        lr, on_digits = rates.get(name, (0.1, 0.02))
        given = (name, lr, np.array([-2.5, 1.0]), same.steps(100))
        ours, theirs = same.run(adapt_jax, adapt_torch, *given)
        overlay(axes[0, 0], ours["path"].T, theirs["path"].T, f"C{i}", name)
        lines(axes[0, 1], ours["costs"], theirs["costs"], label=name)
        ours, theirs = same.run(adapt_jax, adapt_torch, name, on_digits, start, batches)
        late = [each["costs"][-20:].mean() for each in (ours, theirs)]
        same.row(f"{name}: cost on digits, last 20 steps", *late)
        same.holds(f"{name} learns", late[1] < 0.3)
        lines(axes[1, 0], ours["costs"][::5], theirs["costs"][::5], x=range(0, 200, 5), label=name)
    axes[0, 1].set(yscale="log", xlabel="step", title="in the valley: height")
    axes[1, 0].set(yscale="log", xlabel="step", title="on digits: cost of the batch")
    axes[1, 1].set(xscale="log", yscale="log", xlabel="gradient", title="RMSprop's first step")
    legend(axes[1, 0], fontsize=7, ncols=2)
    legend(axes[1, 1], fontsize=8)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | optax | |
# |---|---|---|---|
# | RMSprop | averages over 0.99, $\sqrt v + \epsilon$ | over 0.9, $\sqrt{v + \epsilon}$ | OPT-08 |
# | Adagrad | the sum starts at 0, eps beside | at 0.1, eps in the root | OPT-10 |
# | NAdam | momentum grows | a constant | OPT-12 |
# | RAdam | eps before the correction | after it | OPT-13 |
# | AdamW's decay, if nobody says so | 0.01 | 0.0001 | OPT-03 |
#
# ### Try it
# - Take `optax.adagrad`, `optax.nadam` and `optax.radam`. By how much does each path differ?
# - Leave `eps_in_sqrt=False` out where RMSprop is named. Its walk in the valley hardly changes, its
#   weights on the digits do. Which pixels have gradients that small?
