"""Perceptrons in JAX and in PyTorch: one unit, its rules, its gradient, and what is built of it.

Every lesson shows the same thing twice, once as users of JAX and Flax write it and once as users of
PyTorch do, runs both on the same numbers, and holds what they give to each other in float64. In the
figures broad lines are JAX's, dashed ones PyTorch's.
"""

# %% side="both"
from functools import partial
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

    scores, answers = jax.jit(jax.vmap(call))(tried)  # (36, 4)
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
        axis.set(xlabel="$x_1$", xlim=across, ylim=(-0.5, 2.2))
        axis.set_title(f"{name}: {found[1][table]} of 4 (red is on)")
        legend(axis, loc="upper right")

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX and Flax | |
# |---|---|---|---|
# | a dense layer's matrix | `weight`, a row for each unit | `kernel`, a column for each | LIN-01 |
# | who says how many inputs it has | `Linear(2, 1)` | the first input that `init` sees | |
# | its first bias | drawn at random | 0 | INIT-02 |
# | to set a weight | write into it, under `no_grad` | make another dict | |
# | NumPy's float64 | stays | becomes float32, unless x64 is switched on | DT-01 |
#
# ### Try it
# - Set the bias of AND to $-2$. At which corner does `>` or `>=` now decide, and what does each
#   make of AND?
# - Give the unit $x_1 x_2$ as a third input: `np.c_[corners, corners.prod(1)]`. Which weights make
#   it XOR? In one of the two columns the module itself must be told that there are three inputs.
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
# The rule makes no more mistakes than that, however often it goes through the examples. (In the
# figure $|w|$ runs between a solid line, $k\,g$, and a dotted one, $\sqrt{k}\,R$.)
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
# a **pocket** the weights that were right on most of the examples. (`foundations/perceptron.py` and
# `foundations/voted_perceptron.py` hold these rules, ready for use, in both packages.)


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
# | `if mistaken:` | moves or not | an error when compiled: `jnp.where` | |
# | a loop of a thousand visits | Python's | `jax.lax.scan`; under `jit` Python's is unrolled | |
# | `weight += step` | writes into the tensor | gives the name to a new array | |
# | an index beyond the end | an error | the last example, without a word | IDX-01 |
# | integers @ floats | an error | integers become floats | |
#
# ### Try it
# - Take the `clone()` away. What does PyTorch's path look like, and why has JAX's column no copy?
# - Let an online move be $\frac12 y\,x$, in both columns. Which numbers of the table change? Mind
#   that the weights begin at zero.
# - Try 3 against 8. Two claims fail, for it takes more visits and more epochs. How many moves are
#   there in the end, and how does that go with the bound?

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
    x, labels = map(np.asarray, load_breast_cancer(return_X_y=True))  # cells of tumours
    x, labels = x[:, :2], 2.0 * labels - 1  # radius and texture; +1 is benign
    x = (x - x.mean(0)) / x.std(0)
    kept, aside = hold_out(len(x), 0.25, same.rng)
    seen, y, ones = x[kept], labels[kept], lengthened(x)
    every, axes = np.tile(np.arange(len(y)), (120, 1)), same.axes(1, 2, height=4.4)
    single = np.concatenate([same.rng.permutation(len(y)) for _ in range(3)])[:, None]
    for axis, kind, faster in zip(axes, ("Adaline", "logistic"), (1, 8), strict=True):
        for name, batches, rate in (("stochastic", single, 0.01), ("batch", every, 0.2)):
            found = same.run(descend_jax, descend_torch, kind, seen, y, batches, faster * rate)
            paths = [each["path"] for each in found]
            right = [(labels[aside] * (ones[aside] @ path[-1]) > 0).mean() for path in paths]
            same.row(f"{kind}, {name}: right on unseen tumours", *right)
            same.holds(f"{kind}, {name}: right on five of six", right[1] > 5 / 6)
            few, those = (path[:: len(path) // 100, :2].T for path in paths)
            overlay(axis, few, those, "C0" if name == "batch" else "C1", name)
        sweep = np.linspace(-1.15, 0.25, 60) * abs(paths[1]).max()
        m = y * (np.stack(np.meshgrid(sweep, sweep), -1) @ seen.T + paths[1][-1, 2])  # label score
        loss = {"Adaline": (1 - m) ** 2 / 2, "logistic": np.logaddexp(0, -m)}[kind].mean(2)
        axis.contour(sweep, sweep, loss, 12, colors="gray", linewidths=0.6)
        axis.set(title=f"{kind}: the loss", xlabel="weight of the radius", ylabel="of the texture")
    legend(axes[0])

    bottom = np.linalg.lstsq(ones[kept], y)[0]
    largest = 2 / np.linalg.eigvalsh(ones[kept].T @ ones[kept] / len(y))[-1]
    for share in (0.9, 1.1):
        found = same.run(descend_jax, descend_torch, "Adaline", seen, y, every, share * largest)
        off = [np.linalg.norm(each["path"][-1] - bottom) for each in found]
        same.row(f"Adaline at {share} of 2/λ: from the bottom", *(f"{each:.0e}" for each in off))
        same.holds(f"at {share} of 2/λ: there, or gone", (off[1] < 1e-6) == (share < 1))

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | a gradient | lands in `weight.grad` | is returned by the function `jax.grad(cost)` | |
# | gradients of two calls | are added up, until `zero_grad()` | are two results | |
# | a step | `optimizer.step()` writes into the weights | makes new weights | |
# | labels (N,) less scores (N, 1) | (N, N) | (N, N), but optax's losses raise | LOSS-13 |
# | squared error | `F.mse_loss`: no ½, the mean | `optax.l2_loss`: ½, no mean | LOSS-01 |
#
# ### Try it
# - Forget the `[:, 0]` in PyTorch's column. Nothing raises. Which of the four paths is still right?
# - Leave `zero_grad()` out. Why does Adaline not just arrive faster?
# - Multiply the radius by 10, just before `kept`. Which rates run away now? And why has even the
#   largest good one not arrived after 120 steps? Think of $\lambda$ before you run it.

# %% [markdown] lesson="backpropagation" title="Backpropagation"
# One unit cannot do XOR. Units *behind* units can: a **hidden layer** of several units looks at the
# inputs, and a last unit looks at what they say. For each hidden unit $j$ and for the output,
#
# $$z_j = \sum_i W_{ji}\, x_i + b_j, \qquad h_j = \tanh z_j, \qquad s = \sum_j v_j h_j + c,$$
#
# where $\tanh$ is a smooth step from $-1$ to $1$. The loss is the logistic unit's, $L = \text{mean
# of } \log(1 + e^{-ys})$. To go downhill we need its slope by every weight, also by those of the
# hidden layer, which reach the loss only through others. **Backpropagation** is the chain rule,
# worked off from the end: the slope by a quantity is the sum, over what it feeds, of *their* slope
# times how strongly it feeds them. With $N$ examples:
#
# $$\frac{\partial L}{\partial s} = \frac{-y\,\sigma(-ys)}{N}, \qquad
#   \frac{\partial L}{\partial v_j} = \frac{\partial L}{\partial s}\, h_j, \qquad
#   \frac{\partial L}{\partial z_j} = \frac{\partial L}{\partial s}\, v_j\,(1 - h_j^2), \qquad
#   \frac{\partial L}{\partial W_{ji}} = \frac{\partial L}{\partial z_j}\, x_i$$
#
# since $\tanh' = 1 - \tanh^2$. The slope by a bias is that by its sum, and a weight's slope is
# added up over the examples. Every formula uses the one before it: one walk back costs about as
# much as the walk there.
#
# The cells write that down, each where its framework keeps gradients: in Flax as a dict of the
# shape of the parameters, in PyTorch in the `.grad` of each parameter. Mind the matrices: Flax's
# kernel has a *column* for each unit, PyTorch's weight a *row*.


# %% side="jax"
class Net_jax(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.tanh(nn.Dense(8, name="hidden")(x))
        return h, nn.Dense(1, name="last")(h)[:, 0]


def chain_rule_jax(params, x, y):
    h, score = Net_jax().apply({"params": params}, x)
    by_score = -y * nn.sigmoid(-y * score) / len(y)
    by_z = by_score[:, None] * params["last"]["kernel"][:, 0] * (1 - h**2)  # (N, 8)
    last = {"kernel": h.T @ by_score[:, None], "bias": by_score.sum(keepdims=True)}
    return {"hidden": {"kernel": x.T @ by_z, "bias": by_z.sum(0)}, "last": last}


# %% side="torch"
class Net_torch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = torch.nn.Linear(2, 8), torch.nn.Linear(8, 1)

    def forward(self, x):
        h = torch.tanh(self.hidden(x))
        return h, self.last(h)[:, 0]


@torch.no_grad()
def chain_rule_torch(net, x, y):
    h, score = net(x)
    by_score = -y * torch.sigmoid(-y * score) / len(y)
    by_z = by_score[:, None] * net.last.weight[0] * (1 - h**2)  # (N, 8)
    net.last.weight.grad, net.last.bias.grad = by_score[None] @ h, by_score.sum(0, keepdim=True)
    net.hidden.weight.grad, net.hidden.bias.grad = by_z.T @ x, by_z.sum(0)


# %% [markdown]
# Training can now take its gradients by hand or leave them to the framework. It can also start with
# all weights alike, and then goes nowhere: equal units get equal slopes, stay equal for ever, and
# are no more than one unit. Weights have to begin at random.


# %% side="jax"
def train_jax(by_hand, alike, variables, x, y, steps, places):
    def cost(params):
        _, score = Net_jax().apply({"params": params}, x)
        return -nn.log_sigmoid(y * score).mean()

    @jax.jit
    def step(params):
        slopes = chain_rule_jax(params, x, y) if by_hand else jax.grad(cost)(params)
        return jax.tree.map(lambda param, slope: param - 0.5 * slope, params, slopes), cost(params)

    params, costs = variables["params"], []
    if alike:
        params = jax.tree.map(lambda param: jnp.full_like(param, 0.3), params)
    for _ in steps:
        params, before = step(params)
        costs.append(before)
    _, score = Net_jax().apply({"params": params}, places)
    return {"weights": {"params": params}, "costs": costs, "scores": score}


# %% side="torch"
def train_torch(by_hand, alike, state, x, y, steps, places):
    net = Net_torch()
    net.load_state_dict(state)
    if alike:
        for param in net.parameters():
            torch.nn.init.constant_(param, 0.3)
    optimizer, costs = torch.optim.SGD(net.parameters(), lr=0.5), []
    for _ in steps:
        optimizer.zero_grad()
        cost = -F.logsigmoid(y * net(x)[1]).mean()
        if by_hand:
            chain_rule_torch(net, x, y)
        else:
            cost.backward()
        optimizer.step()
        costs.append(cost.detach())
    return {"weights": net.state_dict(), "costs": costs, "scores": net(places)[1]}


# %% side="both"
with lesson("backpropagation") as same:
    x, y = np.array([*product((0.0, 1.0), repeat=2)]), np.array([-1.0, 1, 1, -1])  # XOR
    side = np.linspace(-0.5, 1.5, 41)
    places = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    start, axes = same.weights(Net_jax(), Net_torch, x), same.axes(1, 2, height=4)
    for alike, name, color in ((False, "drawn", "C0"), (True, "alike", "C3")):
        given = alike, start, x, y, same.steps(1000), np.concatenate([x, places])
        ours, theirs = same.run(train_jax, train_torch, True, *given)  # by hand
        auto = same.run(train_jax, train_torch, False, *given)
        same("by hand is by autodiff", ours, auto[1])
        costs = [each["costs"] for each in (ours, theirs)]
        right = [int((y * each["scores"][:4] > 0).sum()) for each in (ours, theirs)]
        same.row(f"weights {name}: corners right", *right)
        same.row(f"weights {name}: last loss", *(each[-1] for each in costs))
        same.holds(f"weights {name}: XOR is {'not ' * alike}learned", (right[1] == 4) != alike)
        lines(axes[1], *costs, label=f"weights {name}", color=color)
        if not alike:
            wide, thin = {"linewidths": 5, "alpha": 0.35}, {"linestyles": "--", "linewidths": 1.3}
            for each, how in ((ours, wide), (theirs, thin)):
                scores = each["scores"][4:].reshape(41, 41)
                axes[0].contour(side, side, scores, [0], colors=color, **how)
    same.holds("alike for ever", np.ptp(theirs["weights"]["hidden.weight"], axis=0).max() == 0)
    axes[0].scatter(*x.T, c=y, cmap="coolwarm", s=120, edgecolors="k")
    axes[0].set(title="where the score is 0 (red is on)", xlabel="$x_1$", ylabel="$x_2$")
    axes[1].set(title="loss, gradients by hand", xlabel="step", yscale="log")
    legend(axes[1])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX and Flax | |
# |---|---|---|---|
# | slope by a matrix | `by_z.T @ x`, (units, inputs) | `x.T @ by_z`, (inputs, units) | LIN-01 |
# | gradients by hand | go into each `.grad` | are a dict like that of the parameters | |
# | for the way back | every operation is recorded | the function is transformed | |
# | the parameters after a step | have changed | the old ones are still there | |
#
# ### Try it
# - Forget the factor $1 - h^2$ in one column. Nothing raises. Which lines of the output tell you?
# - Start alike, but add $10^{-2}$ to one weight of the hidden layer, in both columns. Is XOR learned
#   now? And with $10^{-6}$?
# - Take 2 hidden units in place of 8, then 1. How many does XOR need?

# %% [markdown] lesson="variations" title="Perceptron Variations"
# What has grown out of the perceptron? Four of its relatives read the ten digits here. All give ten
# scores to an image, and the largest one decides.
#
# - The **multi-class** perceptron has a unit for each class. An example moves the weights if its
#   own class does not have the largest score: the loss is the mean of $\max_k s_k - s_{own}$.
# - The **MLP**, or *multilayer perceptron*, puts a hidden layer before that, as the last lesson
#   did. Its units' step is the *relu*, $\max(0, z)$. Its loss is the logistic one for many classes,
#   the **cross-entropy**: the mean of $-\log p_{own}$, with $p_k = e^{s_k} / \sum_l e^{s_l}$.
# - The **convolutional** perceptron has twelve small units, each of which looks at all places of
#   the image in turn, $3 \times 3$ pixels at a time. Of every four neighbouring answers the largest
#   is kept (*pooling*), and ordinary units read what is left.
# - The **voted** perceptron follows Rosenblatt's rule, one class against all others, and throws no
#   weights away: all that it ever had vote, each for as many visits as they lasted.
#
# Batches of 50 digits train the first three, with *momentum*: a step goes on by 0.9 of the step
# before. Look for who owns what moves. `optax` returns new parameters and a new state of the
# optimizer; PyTorch's optimizer writes into the network and into itself.


# %% side="jax"
def net_of_jax(kind):
    def flat(x):  # channel by channel, which is the order of the weights
        return x.transpose(0, 3, 1, 2).reshape(len(x), -1)

    pool = partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2))
    layers = {
        "multi-class": (flat, nn.Dense(10)),
        "MLP": (flat, nn.Dense(64), nn.relu, nn.Dense(10)),
        "convolutional": (nn.Conv(12, (3, 3)), nn.relu, pool, flat, nn.Dense(10)),
    }
    return Sequential(layers[kind])


def fit_jax(kind, variables, batches, unseen):
    call, optimizer = jax.jit(net_of_jax(kind).apply), optax.sgd(0.05, momentum=0.9)

    def cost(variables, x, labels):
        scores = call(variables, x)
        if kind == "multi-class":
            own = jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
            return (scores.max(1) - own).mean()
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

    @jax.jit
    def step(variables, state, x, labels):
        loss, slopes = jax.value_and_grad(cost)(variables, x, labels)
        updates, state = optimizer.update(slopes, state)
        return optax.apply_updates(variables, updates), state, loss

    state, losses = optimizer.init(variables), []
    for x, labels in batches:
        variables, state, loss = step(variables, state, x, labels)
        losses.append(loss)
    return {"weights": variables, "losses": losses, "scores": call(variables, unseen)}


# %% side="torch"
def net_of_torch(kind):
    flat, relu, pool = torch.nn.Flatten(), torch.nn.ReLU(), torch.nn.MaxPool2d(2)
    looking = torch.nn.Conv2d(1, 12, 3, padding=1)
    layers = {
        "multi-class": (flat, torch.nn.Linear(64, 10)),
        "MLP": (flat, torch.nn.Linear(64, 64), relu, torch.nn.Linear(64, 10)),
        "convolutional": (looking, relu, pool, flat, torch.nn.Linear(12 * 4 * 4, 10)),
    }
    return torch.nn.Sequential(*layers[kind])


def fit_torch(kind, state, batches, unseen):
    net = net_of_torch(kind)
    net.load_state_dict(state)
    optimizer, losses = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9), []

    def cost(x, labels):
        scores = net(x)
        if kind == "multi-class":
            own = scores.gather(1, labels[:, None])[:, 0]
            return (scores.amax(1) - own).mean()
        return F.cross_entropy(scores, labels)

    for x, labels in batches:
        optimizer.zero_grad()
        loss = cost(x, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return {"weights": net.state_dict(), "losses": losses, "scores": net(unseen)}


# %% [markdown]
# The voted perceptron keeps ten weight vectors, one for each digit, and moves those that a digit
# finds mistaken. The votes can be counted on the way, so that no old weights need to be stored.
# (The relatives are twins in `foundations/`, too: `multiclass_perceptron`, `mlp`,
# `voted_perceptron`.)


# %% side="jax"
@jax.jit
def vote_jax(x, labels, unseen):
    def visit(carry, example):
        (weight, votes), (x, sign) = carry, example
        mistaken = sign * (weight @ x) <= 0  # (10,)
        weight = weight + jnp.where(mistaken, sign, 0)[:, None] * x
        return (weight, votes + jnp.sign(unseen @ weight.T)), mistaken.sum()

    signs = 2 * jax.nn.one_hot(labels, 10, dtype=float) - 1  # +1 for the own class, else -1
    start = jnp.zeros((10, 65)), jnp.zeros((len(unseen), 10))
    (_, votes), moves = jax.lax.scan(visit, start, (x, signs))
    return {"scores": votes, "moves": moves.sum()}


# %% side="torch"
def vote_torch(x, labels, unseen):
    signs = 2.0 * F.one_hot(labels, 10) - 1  # +1 for the own class, else -1
    weight, votes, moves = torch.zeros(10, 65), torch.zeros(len(unseen), 10), 0
    for example, sign in zip(x, signs, strict=True):
        mistaken = sign * (weight @ example) <= 0  # (10,)
        weight[mistaken] += sign[mistaken, None] * example
        votes += torch.sign(unseen @ weight.T)
        moves += mistaken.sum()
    return {"scores": votes, "moves": moves}


# %% side="both"
with lesson("variations") as same:
    images, labels, unseen, held = split_digits(same.rng)
    axes, scores, numbers, right = same.axes(1, 2, height=4), {}, {}, {}
    for kind in ("multi-class", "MLP", "convolutional"):
        weights = same.weights(net_of_jax(kind), partial(net_of_torch, kind), images[:2])
        batches = same.batches(300, 50, same.images(images), labels)
        found = same.run(fit_jax, fit_torch, kind, weights, batches, same.images(unseen))
        scores[kind] = [each["scores"] for each in found]
        numbers[kind] = sum(each.size for each in found[1]["weights"].values())
        smooth = [np.convolve(each["losses"], np.ones(20) / 20, "valid") for each in found]
        lines(axes[0], *smooth, label=kind)
    x, x_unseen = (lengthened(each.reshape(len(each), -1)) for each in (images, unseen))
    found = same.run(vote_jax, vote_torch, x, labels, x_unseen)
    scores["voted"], numbers["voted"] = [e["scores"] for e in found], 65 * found[1]["moves"]
    for kind, each in scores.items():
        right[kind] = [(of.argmax(1) == held).mean() for of in each]
        same.row(f"{kind}, {numbers[kind]} numbers: right on unseen digits", *right[kind])
        same.holds(f"{kind}: nine of ten", right[kind][1] > 0.9)
    same.holds("a hidden layer pays", right["MLP"][1] > right["multi-class"][1])
    same.holds("so does looking at neighbours", right["convolutional"][1] > right["voted"][1])
    axes[0].set(title="each one's loss, mean of 20", xlabel="step", yscale="log")
    legend(axes[0])
    bars(axes[1], right, *zip(*right.values(), strict=True))
    axes[1].set(title="right on unseen digits", xlim=(0.85, 1))

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | Flax and optax | |
# |---|---|---|---|
# | images | (N, C, H, W), also when they are flattened | (N, H, W, C): permute first | FLAT-01 |
# | a convolution's padding | 0 | `"SAME"` | CONV-06 |
# | pooling windows move by | their own size | 1, unless `strides` says otherwise | POOL-01 |
# | cross-entropy | the batch's mean | one value an example | LOSS-14 |
# | slope of a maximum at ties | `max(1)`: one takes all | `max(1)`: they share | GRAD-06 |
#
# ### Try it
# - Leave the `transpose` out of `flat`. Which of the three networks notices, and why only that one?
# - Take `strides` out of `pool`. What complains, and which number does it name?
# - Give the MLP 27 hidden units, as many numbers as the convolutional one has. Who is ahead now?

# %% [markdown] lesson="applications" title="Perceptron Applications"
# What is this good for? Two jobs on real data, one for each end of the family.
#
# **Sorting texts.** Paragraphs of Python's own manual come from three of its pages. Each paragraph
# becomes a **bag of words**: how often each of 300 words stands in it, whatever their order. That
# is a long vector, mostly zeros, and in so many dimensions a straight cut does well. So it gets the
# multi-class perceptron in Rosenblatt's own manner: one paragraph at a time, and where its topic
# $t$ is not ahead of the best rival $r$,
#
# $$w_t \leftarrow w_t + x, \qquad w_r \leftarrow w_r - x.$$
#
# The average of the weights after every visit is kept. It can be read: a large weight says "this
# word speaks for this topic".
#
# **Reading digits.** What a single pixel says depends on the others, so the digits get a hidden
# layer. Accuracy alone does not tell what goes wrong, so we count a **confusion matrix**: row $i$,
# column $j$ says how often the digit $i$ was taken for $j$. What is right lies on the diagonal.
#
# Look for the indices in the cells. JAX's `x.at[i].add(y)` is an array with something added at
# index $i$; PyTorch's `x[i] += y` adds it in place.


# %% side="jax"
@jax.jit
def sort_texts_jax(x, topics, order, unseen):
    def visit(carry, n):
        weight, total = carry
        scores = weight @ x[n]
        rival = scores.at[topics[n]].set(-jnp.inf).argmax()
        move = jnp.where(scores[topics[n]] <= scores[rival], x[n], 0)
        weight = weight.at[topics[n]].add(move).at[rival].add(-move)
        return (weight, total + weight), None

    nothing = jnp.zeros((3, x.shape[1]))
    (_, total), _ = jax.lax.scan(visit, (nothing, nothing), order)
    average = total / len(order)
    return {"weight": average, "known": x @ average.T, "new": unseen @ average.T}


# %% side="torch"
def sort_texts_torch(x, topics, order, unseen):
    weight, total = torch.zeros(3, x.shape[1]), torch.zeros(3, x.shape[1])
    for n in order:
        scores = weight @ x[n]
        others = scores.clone()
        others[topics[n]] = -torch.inf
        rival = others.argmax()
        if scores[topics[n]] <= scores[rival]:
            weight[topics[n]] += x[n]
            weight[rival] -= x[n]
        total += weight
    average = total / len(order)
    return {"weight": average, "known": x @ average.T, "new": unseen @ average.T}


# %% [markdown]
# The digits' network is an MLP with 48 hidden units, this time the project's own class, which each
# side imports: one file under the same path in both packages.

# %% side="jax"
from jaxnn.foundations.mlp import MLP as MLP_jax

reader_jax = MLP_jax(64, (48,), 10)


def read_digits_jax(variables, batches, unseen, held):
    call, optimizer = jax.jit(reader_jax.apply), optax.sgd(0.05, momentum=0.9)

    def cost(variables, x, labels):
        scores = call(variables, x)
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

    @jax.jit
    def step(variables, state, x, labels):
        updates, state = optimizer.update(jax.grad(cost)(variables, x, labels), state)
        return optax.apply_updates(variables, updates), state

    state = optimizer.init(variables)
    for x, labels in batches:
        variables, state = step(variables, state, x, labels)
    said = call(variables, unseen).argmax(1)
    return {"weights": variables, "confusion": jnp.zeros((10, 10), int).at[held, said].add(1)}


# %% side="torch"
from torchref.foundations.mlp import MLP as MLP_torch


def reader_torch():
    return MLP_torch(64, (48,), 10)


def read_digits_torch(state, batches, unseen, held):
    net = reader_torch()
    net.load_state_dict(state)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for x, labels in batches:
        optimizer.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()
    said, one = net(unseen).argmax(1), torch.ones_like(held)
    confusion = torch.zeros(10, 10, dtype=torch.long).index_put_((held, said), one, accumulate=True)
    return {"weights": net.state_dict(), "confusion": confusion}


# %% side="both"
with lesson("applications") as same:
    words, texts, fresh = bags_of_words(same.rng)
    x, unseen = (lengthened(each["x"].astype(float)) for each in (texts, fresh))
    order, topics = np.tile(np.arange(len(x)), 20), texts["labels"]
    found = same.run(sort_texts_jax, sort_texts_torch, x, topics, order, unseen)
    right = [(each["new"].argmax(1) == fresh["labels"]).mean() for each in found]
    guess = np.bincount(fresh["labels"]).max() / len(unseen)
    same.row("texts: right on new ones", *right)
    same.row("texts: right by always naming the commonest topic", guess, guess)
    same.holds("texts: three of four", right[1] > 0.75 > guess)
    same.holds("texts: what was learned is known", (found[1]["known"].argmax(1) == topics).all())
    axes = same.axes(2, 3, height=3.2)
    for axis, topic in zip(axes[1], range(3), strict=True):
        top = (-found[1]["weight"][topic, :-1]).argsort()[:7]
        bars(axis, [words[word] for word in top], *(each["weight"][topic, top] for each in found))
        axis.set(title=f"speaks for {TOPICS[topic]}", xlim=(0, 30))

    x, labels, unseen, held = split_digits(same.rng, flat=True)
    weights, batches = (
        same.weights(reader_jax, reader_torch, x[:2]),
        same.batches(250, 50, x, labels),
    )
    found = same.run(read_digits_jax, read_digits_torch, weights, batches, unseen, held)
    seen = [each["confusion"].trace() / len(held) for each in found]
    same.row("digits: right on new ones", *seen)
    same.holds("digits: 19 of 20", seen[1] > 0.95)
    for axis, each, name in zip(axes[0], found, ("JAX", "PyTorch"), strict=False):
        picture(axis, each["confusion"] ** 0.5, f"{name}: is (row), said (column)", cmap="Blues")
        axis.set(xticks=range(10), yticks=range(10))
    bars(axes[0, 2], ("digits", "texts", "guessed"), *zip(seen, right, (guess, guess), strict=True))
    axes[0, 2].set(title="right on new ones", xlim=(0, 1.9))

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | to write at an index | `x[i] = y`, in place | `x.at[i].set(y)`, a new array | |
# | to count, with indices that come twice | `x[i] += 1` misses some | `x.at[i].add(1)` | IDX-02 |
# | an index out of range, read | an error | the last element | IDX-01 |
# | cross-entropy of | scores | scores: optax's name begins with `softmax` | LOSS-06 |
#
# ### Try it
# - Count the confusions with `confusion[held, said] += 1` in PyTorch's column. What is in it?
# - Take only the 50 commonest words, `bags_of_words(same.rng, size=50)`. Which two claims fail?
# - Take the hidden layer out of both columns: `()` for `(48,)`. Is the accuracy lower? Compare
#   with the last lesson, try other seeds, and beware of what is learned from one split.
