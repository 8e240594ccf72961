"""Perceptrons in JAX and in PyTorch: one unit, its rules, its gradient, and what is built of it.

Every lesson shows the same thing twice, once as users of JAX and Flax write it and once as users of
PyTorch do, runs both on the same numbers, and holds what they give to each other in float64. In the
figures broad lines are JAX's, dashed ones PyTorch's.
"""

# %% side="both"
from itertools import product

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.svm import SVC

from compare.data.digits import split_digits
from compare.data.folds import hold_out
from compare.data.words import TOPICS, bags_of_words
from compare.study.figures import bars, legend, lines, overlay, picture
from compare.study.lessons import lesson
from compare.study.scripts import script

script(__name__)  # a program runs the lessons from here; a notebook goes on to the next cell


def lengthened(x):
    """Every example with a 1 at its end, whose weight is the bias."""
    return np.c_[x, np.ones(len(x))]


# %% side="jax"
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxnn.layers.container import Sequential  # names its layers "0", "1", …

# %% side="torch"
import torch
import torch.nn.functional as F

# %% [markdown] lesson="architecture" title="Perceptron Architecture"
# What is the least that deserves to be called a neuron? Frank Rosenblatt's answer of 1958 is still
# the smallest part of every network. A **perceptron** takes some numbers $x_1, \dots, x_D$, weighs
# each by a number of its own, adds a constant, and says yes or no:
#
# $$s = w_1 x_1 + \dots + w_D x_D + b, \qquad y = +1 \text{ if } s > 0, \text{ else } -1$$
#
# $s$ is the **score**, $w$ are the **weights** and $b$ is the **bias**. With two inputs, the points
# of score 0 form a line. The unit says $+1$ on the side that $w$ points to; the bias moves the line
# away from the origin. So all that a unit can do is to cut its world in two, straight.
#
# For some tasks that is enough. Let the inputs be 0 or 1 and $w = (1, 1)$. With $b = -1.5$ the
# score is positive only if both inputs are on: that is AND. With $b = -0.5$ one is enough: OR. For
# XOR, "one of the two, but not both", there is no line. Whatever $w$ and $b$ are,
#
# $$s(0,0) + s(1,1) = s(0,1) + s(1,0) = w_1 + w_2 + 2b.$$
#
# XOR wants both scores on the right positive and none of those on the left: two sums that cannot
# be equal.
#
# The first cells build the unit and set its weights by hand. Look for where the weights *are*. In
# PyTorch they live in the module, and setting them is writing into it. In Flax a module is only
# the recipe: the weights are a dict of their own that goes in with every call.


# %% side="jax"
class Perceptron_jax(nn.Module):
    @nn.compact
    def __call__(self, x):  # (N, 2)
        score = nn.Dense(1, name="linear")(x)[:, 0]
        return score, jnp.where(score > 0, 1, -1)


def by_hand_jax(corners):
    unit, found = Perceptron_jax(), {}
    for name, bias in (("AND", -1.5), ("OR", -0.5)):
        linear = {"kernel": jnp.ones((2, 1)), "bias": jnp.array([bias])}
        score, answer = unit.apply({"params": {"linear": linear}}, corners)
        found |= {f"score of {name}": score, name: answer}
    return found


# %% side="torch"
class Perceptron_torch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, x):  # (N, 2)
        score = self.linear(x)[:, 0]
        return score, torch.where(score > 0, 1, -1)


@torch.no_grad()  # nothing is learned here, and parameters may be written
def by_hand_torch(corners):
    unit, found = Perceptron_torch(), {}
    for name, bias in (("AND", -1.5), ("OR", -0.5)):
        unit.linear.weight.fill_(1.0)
        unit.linear.bias.fill_(bias)
        score, answer = unit(corners)
        found |= {f"score of {name}": score, name: answer}
    return found


# %% [markdown]
# Four corners can be answered in sixteen ways. Which of them can a unit give? The next cells try
# all lines $(w_1, w_2, b)$ with weights of $-1$, 0 or 1 and a bias of $\pm\frac12$ or
# $\pm\frac32$, and count for each of the sixteen `tables` how many corners the best line gets
# right. One unit with many weights: in JAX the call is *mapped* over the weights, in PyTorch the
# module's weights are overwritten again and again.


# %% side="jax"
def search_jax(corners, tables, tried):
    def call(line):
        linear = {"kernel": line[:2, None], "bias": line[2:]}
        return Perceptron_jax().apply({"params": {"linear": linear}}, corners)

    scores, answers = jax.vmap(call)(tried)  # (36, 4)
    right = (answers[:, None] == tables).sum(2)  # (36, 16)
    return {
        "corners right": right.max(0),
        "best line": tried[right.argmax(0)],
        "diagonals": [scores[:, 0] + scores[:, 3], scores[:, 1] + scores[:, 2]],
    }


# %% side="torch"
@torch.no_grad()
def search_torch(corners, tables, tried):
    unit, called = Perceptron_torch(), []
    for line in tried:
        unit.linear.weight.copy_(line[None, :2])
        unit.linear.bias.copy_(line[2:])
        called.append(unit(corners))
    scores, answers = (torch.stack(each) for each in zip(*called, strict=True))  # (36, 4)
    right = (answers[:, None] == tables).sum(2)  # (36, 16)
    return {
        "corners right": right.amax(0),
        "best line": tried[right.argmax(0)],
        "diagonals": [scores[:, 0] + scores[:, 3], scores[:, 1] + scores[:, 2]],
    }


# %% side="both"
with lesson("architecture") as same:
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    tables = 2 * (np.arange(16)[:, None] >> np.arange(4) & 1) - 1  # every row of four -1 and +1
    gates = {"AND": 8, "OR": 14, "XOR": 6}
    ours, theirs = same.run(by_hand_jax, by_hand_torch, corners)
    for name in ("AND", "OR"):
        same.holds(f"{name} by hand is {name}", (theirs[name] == tables[gates[name]]).all())

    tried = np.array([*product((-1.0, 0, 1), (-1.0, 0, 1), (-1.5, -0.5, 0.5, 1.5))])
    ours, theirs = same.run(search_jax, search_torch, corners, tables, tried)
    same("s(0,0) + s(1,1) is s(0,1) + s(1,0)", ours["diagonals"][0], theirs["diagonals"][1])
    found = [each["corners right"] for each in (ours, theirs)]
    for name, table in gates.items():
        same.row(f"{name}: corners that the best line gets right", *(each[table] for each in found))
    same.row("of the sixteen, those with a line", *((each == 4).sum() for each in found))
    never = np.flatnonzero(found[1] < 4).tolist()
    same.holds("a line for all but XOR and its opposite", never == [6, 9])

    across = np.array([-0.5, 1.5])
    for axis, (name, table) in zip(same.axes(1, 3), gates.items(), strict=True):
        best = [each["best line"][table] for each in (ours, theirs)]
        lines(axis, *(-(b + one * across) / two for one, two, b in best), x=across)
        axis.scatter(*corners.T, c=tables[table], cmap="coolwarm", s=120, edgecolors="k")
        axis.set(
            title=f"{name}: {found[1][table]} of 4 (red is on)", xlabel="$x_1$", ylabel="$x_2$"
        )
        axis.set(xlim=across, ylim=(-0.5, 2.2))
        legend(axis, loc="upper right")

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX and Flax | |
# |---|---|---|---|
# | the matrix of a dense layer | `weight`, a row for each unit | `kernel`, a column for each unit | LIN-01 |
# | who says how many inputs it has | `Linear(2, 1)` | the first input that `init` sees | |
# | its first bias | drawn at random | 0 | INIT-02 |
# | to set a weight | write into it, under `no_grad` | make another dict | |
# | NumPy's float64 | stays | becomes float32, unless x64 is switched on | DT-01 |
#
# ### Try it
# - Set the bias of AND to $-2$. At which corner does `>` or `>=` now decide, and what does each
#   make of AND?
# - Give the unit $x_1 x_2$ as a third input: `np.c_[corners, corners.prod(1)]`. Which weights make
#   it XOR? One of the two columns has to be told that there are three inputs now.
# - Leave the bias of $\pm\frac32$ out. Which of the sixteen are lost, and why those?

# %% [markdown] lesson="learning_rule" title="Perceptron Learning Algorithm"
# How does a unit find its weights? Rosenblatt's rule shows it examples $x$ with labels $y = \pm 1$,
# one by one. Where the score has the wrong sign, or none, that is where $y\,(w \cdot x) \le 0$, the
# example moves the weights, and nothing else ever does:
#
# $$w \leftarrow w + y\,x$$
#
# (From here on every $x$ ends in a 1, so that the last weight is the bias.) A move raises $y\,(w
# \cdot x)$ by $|x|^2$. It may spoil other examples, but not for ever. Say that some $u$ of length 1
# separates the classes with a margin: $y\,(u \cdot x) \ge g$ for all examples, none longer than
# $R$. Each move adds at least $g$ to $u \cdot w$. And it adds at most $R^2$ to $|w|^2$, because
# example and weights did not agree. After $k$ moves from $w = 0$, therefore,
#
# $$k\,g \;\le\; u \cdot w \;\le\; |w| \;\le\; \sqrt{k}\,R, \qquad\text{so that}\qquad
#   k \le (R/g)^2.$$
#
# The rule makes no more mistakes than that, however often it goes through the examples.
#
# *Online* the rule looks at one example at a time. *Epoch-wise* it looks at all of them, an
# **epoch**, and adds up the moves of all mistakes. PyTorch's column is the rule as one says it: a
# loop, an `if`, a weight that is changed in place. JAX compiles the loop, so there is no `if` on a
# value that is not known yet: every visit computes the move and then takes it, or 0.


# %% side="jax"
@jax.jit
def online_jax(x, labels, order):
    def visit(weight, n):
        mistaken = labels[n] * (x[n] @ weight) <= 0
        weight = weight + jnp.where(mistaken, labels[n] * x[n], 0)
        return weight, {"path": weight, "mistaken": mistaken}

    return jax.lax.scan(visit, jnp.zeros(x.shape[1]), order)[1]


@jax.jit
def epochwise_jax(x, labels):
    def epoch(weight, _):
        mistaken = labels * (x @ weight) <= 0
        weight = weight + (labels * mistaken) @ x
        return weight, {"path": weight, "mistaken": mistaken.sum()}

    return jax.lax.scan(epoch, jnp.zeros(x.shape[1]), length=10)[1]


# %% side="torch"
def online_torch(x, labels, order):
    weight, path, mistakes = torch.zeros(x.shape[1]), [], []
    for n in order:
        mistaken = labels[n] * (x[n] @ weight) <= 0
        if mistaken:
            weight += labels[n] * x[n]
        path.append(weight.clone())  # a copy: the next move writes into it
        mistakes.append(mistaken)
    return {"path": path, "mistaken": mistakes}


def epochwise_torch(x, labels):
    weight, path, mistakes = torch.zeros(x.shape[1]), [], []
    for _ in range(10):
        mistaken = labels * (x @ weight) <= 0
        weight += (labels * mistaken) @ x
        path.append(weight.clone())
        mistakes.append(mistaken.sum())
    return {"path": path, "mistaken": mistakes}


# %% [markdown]
# Where no line separates the classes, the weights never settle, and the last ones are as good as
# chance left them. Two remedies: keep the **average** of the weights after every visit, or keep in
# a **pocket** the weights that were right on most of the examples.


# %% side="jax"
@jax.jit
def kept_jax(x, labels, order, unseen, held):
    path = online_jax(x, labels, order)["path"]
    right = (labels[:, None] * (x @ path.T) > 0).sum(0)  # of the examples, after every visit
    average, pocket = path.mean(0), path[right.argmax()]
    return {
        "latest": (held[:, None] * (unseen @ path.T) > 0).mean(0, dtype=float),
        "average": (held * (unseen @ average) > 0).mean(dtype=float),
        "pocket": (held * (unseen @ pocket) > 0).mean(dtype=float),
    }


# %% side="torch"
def kept_torch(x, labels, order, unseen, held):
    path = torch.stack(online_torch(x, labels, order)["path"])
    right = (labels[:, None] * (x @ path.T) > 0).sum(0)  # of the examples, after every visit
    average, pocket = path.mean(0), path[right.argmax()]
    return {
        "latest": (held[:, None] * (unseen @ path.T) > 0).double().mean(0),
        "average": (held * (unseen @ average) > 0).double().mean(),
        "pocket": (held * (unseen @ pocket) > 0).double().mean(),
    }


# %% side="both"
with lesson("learning_rule") as same:
    x, digit, *_ = split_digits(same.rng, classes=(0, 1), flat=True)  # which a line separates
    widest = SVC(kernel="linear", C=1e9).fit(x, digit)  # the line of the largest margin
    u = np.append(widest.coef_, widest.intercept_)
    x, labels, order = lengthened(x), 2.0 * digit - 1, np.tile(np.arange(len(x)), 3)
    online = same.run(online_jax, online_torch, x, labels, order)
    epochs = same.run(epochwise_jax, epochwise_torch, x, labels)
    for name, found in {"online": online, "epoch-wise": epochs}.items():
        same.row(f"0 or 1, {name}: moves", *((each["mistaken"] > 0).sum() for each in found))
        same.holds(f"{name}: separated", (labels * (x @ found[1]["path"][-1]) > 0).all())
    g, R = (labels * (x @ u)).min() / np.linalg.norm(u), np.linalg.norm(x, axis=1).max()
    size = [np.linalg.norm(each["path"][each["mistaken"]], axis=1) for each in online]
    low, high = g * (k := 1 + np.arange(len(size[1]))), R * np.sqrt(k)
    same.holds("k g <= |w| <= √k R", ((low <= size[1]) & (size[1] <= high)).all())
    axes = same.axes(1, 2, height=4)
    lines(axes[0], *size, x=k)
    axes[0].plot(k, low, "k-", k, high, "k:")
    axes[0].set(title=f"k g ≤ |w| ≤ √k R, so k ≤ {(R / g) ** 2:.0f}", xlabel="moves k")

    x, digit, unseen, held = split_digits(same.rng, flat=True)  # odd or even: no line does
    order = np.concatenate([same.rng.permutation(len(x)) for _ in range(3)])
    odd, held = 2.0 * (digit % 2) - 1, 2.0 * (held % 2) - 1
    found = same.run(kept_jax, kept_torch, lengthened(x), odd, order, lengthened(unseen), held)
    shown = {n: [np.broadcast_to(e[n], len(order))[::60] for e in found] for n in found[1]}
    late = {name: [each[-17:].mean() for each in right] for name, right in shown.items()}
    for name, right in shown.items():
        lines(axes[1], *right, x=range(0, len(order), 60), label=name)
        same.row(f"odd or even, {name} weights: right", *late[name])
    same.holds("the latest are the worst", min(late.values()) == late["latest"])
    axes[1].set(title="odd or even: right on unseen digits", xlabel="visit", ylim=(0.7, 0.95))
    legend(axes[1])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | a decision on a value | Python's `if` | `jnp.where`, `jax.lax.cond`: a traced value has no truth | |
# | a loop | Python's | `jax.lax.scan`, compiled once; a Python loop under `jit` is unrolled | |
# | `weight += step` | writes into the tensor, and into all that share it | gives the name to a new array | |
# | an index beyond the end | an error | the last example, without a word | IDX-01 |
# | integers @ floats | an error | integers become floats | |
#
# ### Try it
# - Take the `clone()` away. What does PyTorch's path look like, and why has JAX's column no copy?
# - Let a move be $\frac12 y\,x$. Which numbers of the table change? (The weights begin at zero.)
# - Try 3 against 8. How many mistakes are there now, and how large is the bound?

# %% [markdown] lesson="gradient_descent" title="Gradient Descent"
# Rosenblatt's rule knows right and wrong, but not *how* wrong. The reason is the step: almost
# everywhere its slope is 0, so no small change of the weights says whether it helped. So let us
# measure the error by the score $s = w \cdot x + b$ itself, with a **loss** that has a slope.
#
# **Adaline** (Widrow and Hoff, 1960) wants the score to be the label. The **logistic unit** takes
# the score for a confidence and turns it into a probability with the *sigmoid*
# $\sigma(s) = 1/(1+e^{-s})$, a smooth step; its loss is small where the label was probable:
#
# $$L_A = \text{mean of } \tfrac12 (y - s)^2, \qquad
#   L_L = \text{mean of } {-\log \sigma(y s)} = \text{mean of } \log(1 + e^{-y s})$$
#
# The **gradient** $\nabla L$ holds the slope of the loss by each weight, and points uphill. So one
# goes a little the other way, again and again, and $\eta$, the *learning rate*, says how far:
#
# $$w \leftarrow w - \eta \, \nabla_{\!w} L, \qquad b \leftarrow b - \eta \, \nabla_{\!b} L$$
#
# With the mean over all examples that is **batch** gradient descent. With one example at a time it
# is **stochastic**: cheap steps, each a little wrong. For Adaline $-\partial L/\partial s = y - s$,
# so that a stochastic step adds $\eta\,(y - s)\,x$: Rosenblatt's move, in proportion to the error.
#
# Too large a rate overshoots. Adaline's loss is a bowl whose steepest curvature is $\lambda$, the
# largest eigenvalue of the mean of $x x^\top$. A step multiplies the distance from the bottom, in
# that direction, by $1 - \eta\lambda$; so rates below $2/\lambda$ arrive and rates above run away.
#
# Both columns leave the gradients to the framework. JAX makes from a function another one, which
# returns them. PyTorch notes what was computed; `backward()` leaves them beside the weights.


# %% side="jax"
def adaline_jax(scores, labels):
    return ((labels - scores) ** 2).mean() / 2


def logistic_jax(scores, labels):
    return -nn.log_sigmoid(labels * scores).mean()


def descend_jax(kind, x, labels, batches, rate):
    loss = {"Adaline": adaline_jax, "logistic": logistic_jax}[kind]

    def cost(params, x, labels):
        return loss(x @ params["weight"] + params["bias"], labels)

    def step(params, batch):
        slopes = jax.grad(cost)(params, x[batch], labels[batch])
        params = jax.tree.map(lambda param, slope: param - rate * slope, params, slopes)
        return params, params  # what the next step is given, and what is kept of this one

    start = {"weight": jnp.zeros(2), "bias": jnp.zeros(1)}
    _, path = jax.lax.scan(step, start, batches)  # compiled, so that it needs no jit
    return {"path": jnp.concatenate([path["weight"], path["bias"]], axis=1)}


# %% side="torch"
def adaline_torch(scores, labels):
    return ((labels - scores) ** 2).mean() / 2


def logistic_torch(scores, labels):
    return -F.logsigmoid(labels * scores).mean()


def descend_torch(kind, x, labels, batches, rate):
    loss = {"Adaline": adaline_torch, "logistic": logistic_torch}[kind]
    unit = torch.nn.Linear(2, 1)
    torch.nn.init.zeros_(unit.weight)
    torch.nn.init.zeros_(unit.bias)
    optimizer = torch.optim.SGD(unit.parameters(), lr=rate)

    path = []
    for batch in batches:
        optimizer.zero_grad()  # or the new slopes are added to the old ones
        scores = unit(x[batch])[:, 0]  # (N, 1) to (N,)
        loss(scores, labels[batch]).backward()
        optimizer.step()
        path.append(torch.cat([unit.weight[0], unit.bias]).detach())
    return {"path": path}


# %% side="both"
with lesson("gradient_descent") as same:
    # Tumours, benign (+1) or malignant (-1), by the mean radius and texture of their cells.
    x, labels = load_breast_cancer(return_X_y=True)
    x, labels = (x[:, :2] - x[:, :2].mean(0)) / x[:, :2].std(0), 2.0 * labels - 1
    kept, aside = hold_out(len(x), 0.25, same.rng)
    seen, y, ones = x[kept], labels[kept], lengthened(x)
    every = np.tile(np.arange(len(y)), (120, 1))  # all examples, 120 times
    single = np.concatenate([same.rng.permutation(len(y)) for _ in range(3)])[:, None]
    axes, sweep = same.axes(1, 2, height=4.4), np.linspace(-2.4, 0.3, 60)
    for axis, kind, faster in zip(axes, ("Adaline", "logistic"), (1, 8), strict=True):
        for name, batches, rate in (("stochastic", single, 0.01), ("batch", every, 0.2)):
            found = same.run(descend_jax, descend_torch, kind, seen, y, batches, faster * rate)
            paths = [each["path"] for each in found]
            right = [(labels[aside] * (ones[aside] @ path[-1]) > 0).mean() for path in paths]
            same.row(f"{kind}, {name}: right on unseen tumours", *right)
            same.holds(f"{kind}, {name}: right on five of six", right[1] > 5 / 6)
            few = [path[:: len(path) // 100, :2].T for path in paths]
            overlay(axis, *few, "C0" if name == "batch" else "C1", name)
        m = y * (np.stack(np.meshgrid(sweep, sweep), -1) @ seen.T + paths[1][-1, 2])  # label score
        loss = {"Adaline": (1 - m) ** 2 / 2, "logistic": np.logaddexp(0, -m)}[kind].mean(2)
        axis.contour(sweep, sweep, loss, 12, colors="gray", linewidths=0.6)
        axis.set(title=f"{kind}: the loss", xlabel="weight of the radius", ylabel="of the texture")
    legend(axes[0])

    bottom = np.linalg.lstsq(ones[kept], y)[0]
    steepest = np.linalg.eigvalsh(ones[kept].T @ ones[kept] / len(y))[-1]
    for share in (0.9, 1.1):
        given = "Adaline", seen, y, every, share * 2 / steepest
        found = same.run(descend_jax, descend_torch, *given)
        off = [np.linalg.norm(each["path"][-1] - bottom) for each in found]
        same.row(f"Adaline at {share} of 2/λ: from the bottom", *(f"{each:.0e}" for each in off))
        same.holds(f"at {share} of 2/λ: there, or gone", (off[1] < 1e-6) == (share < 1))

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | a gradient | lands in `weight.grad`, after `backward()` | is returned by the function `jax.grad(cost)` | |
# | gradients of two calls | are added up, until `zero_grad()` | are two results | |
# | a step | `optimizer.step()` writes into the weights | makes new weights | |
# | scores (N, 1) less labels (N,) | (N, N), without a word | the same; optax's losses raise | LOSS-13 |
# | squared error of the library | `F.mse_loss`: no ½, and the mean | `optax.l2_loss`: with ½, one value an example | LOSS-01 |
#
# ### Try it
# - Forget the `[:, 0]` in PyTorch's column. Nothing raises. What does the lesson say?
# - Leave `zero_grad()` out. Why does Adaline not just go faster?
# - Multiply the radius by 10. Which rates arrive now? Think of $\lambda$ before you run it.
