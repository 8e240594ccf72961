"""The singular value decomposition in JAX and in PyTorch: what it is, how it is found, its uses.

Every lesson shows the same thing twice, once as users of JAX and Flax write it and once as users of
PyTorch do, runs both on the same numbers, and holds what they give to each other in float64. In the
figures broad lines are JAX's, dashed ones PyTorch's.
"""

# %% side="both"
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from compare.data.digits import every_digit, split_digits
from compare.data.photographs import photographs
from compare.data.words import bags_of_words
from compare.study.figures import legend, lines, overlay, picture
from compare.study.lessons import lesson
from compare.study.scripts import script

script(__name__)  # a program runs the lessons from here; a notebook goes on to the next cell

# %% side="jax"
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxnn.layers.container import Sequential  # names its layers "0", "1", …
from jaxnn.linalg.svd import golub_kahan_svd as golub_kahan_jax


def upright_jax(u, s, vh):
    """The same factors with other signs: the largest entry of every v is positive."""
    sign = jnp.sign(vh[jnp.arange(len(vh)), jnp.abs(vh).argmax(1)])
    return u * sign, s, vh * sign[:, None]


# %% side="torch"
import torch

from torchref.linalg.svd import golub_kahan_svd as golub_kahan_torch


def upright_torch(u, s, vh):
    """The same factors with other signs: the largest entry of every v is positive."""
    sign = torch.sign(vh[torch.arange(len(vh)), vh.abs().argmax(1)])
    return u * sign, s, vh * sign[:, None]


# %% [markdown] lesson="introduction" title="Introduction to Singular Value Decomposition (SVD)"
# A matrix $A$ takes a vector $x$ to $A x$. What does it do to all vectors at once? Let it act on
# the unit circle: out comes an ellipse. The axes of an ellipse stand at right angles. The surprise
# is that the vectors which $A$ took to these axes stand at right angles, too. Call those vectors
# $v_1, v_2$, of length 1, the directions of the axes $u_1, u_2$, and their half lengths
# $s_1 \ge s_2 \ge 0$:
#
# $$A v_i = s_i u_i, \qquad \text{or, with } u_i \text{ and } v_i \text{ as columns,} \qquad
#   A = U \operatorname{diag}(s)\, V^T.$$
#
# This is the singular value decomposition. Read from the right it says that every matrix does three
# simple things, one after the other: $V^T$ turns (and may mirror), $\operatorname{diag}(s)$
# stretches along the coordinate axes, $U$ turns again. The four panels of the figure are these
# steps. The $s_i$ are the *singular values*. There is one set of them for each matrix, whatever its
# shape, while $u_i$ and $v_i$ may change their signs together. So that two computations can be
# compared, `upright` (at the top of the script) makes the largest entry of each $v_i$ positive.


# %% side="jax"
def geometry_jax(a, circle):
    u, s, vh = upright_jax(*jnp.linalg.svd(a))  # the third factor is V^T
    turned, v_turned = vh @ circle, vh @ vh.T
    stretched, v_stretched = s[:, None] * turned, s[:, None] * v_turned
    return {
        "s": s,
        "the circle on its way": [circle, turned, stretched, u @ stretched],
        "v on its way": [vh.T, v_turned, v_stretched, u @ v_stretched],
        "A x": a @ circle,
        "A V": a @ vh.T,
        "U diag(s)": u * s,
    }


# %% side="torch"
def geometry_torch(a, circle):
    u, s, vh = upright_torch(*torch.linalg.svd(a))  # the third factor is V^T
    turned, v_turned = vh @ circle, vh @ vh.T
    stretched, v_stretched = s[:, None] * turned, s[:, None] * v_turned
    return {
        "s": s,
        "the circle on its way": [circle, turned, stretched, u @ stretched],
        "v on its way": [vh.T, v_turned, v_stretched, u @ v_stretched],
        "A x": a @ circle,
        "A V": a @ vh.T,
        "U diag(s)": u * s,
    }


# %% [markdown]
# A tall matrix, of 5 rows and 3 columns say, has only three singular values. In the **full**
# decomposition $U$ is 5 by 5; its last two columns span what $A$ cannot reach, and any orthonormal
# basis of that plane will do. The **reduced** one leaves them out. Both multiply to $A$, which is
# also a sum of three matrices of rank one: $A = \sum_i s_i u_i v_i^T$.
#
# Much can be read off $s$: the largest stretch $\|A\|_2 = s_1$, the root of the sum of squares of
# all entries $\|A\|_F = \sqrt{\sum s_i^2}$, the condition number $s_1 / s_n$, and the rank, which
# is how many $s_i$ are not zero (to rounding).


# %% side="jax"
def parts_jax(a, flat):
    full, (u, s, vh) = jnp.linalg.svd(a), jnp.linalg.svd(a, full_matrices=False)
    stretch = jnp.zeros((5, 3)).at[:3].set(jnp.diag(s))  # a new array; the zeros stay zeros
    beyond = full.U[:, 3:]
    return {
        "shapes, full": [each.shape for each in full],
        "shapes, reduced": [each.shape for each in (u, s, vh)],
        "products": [
            full.U @ stretch @ full.Vh,
            u * s @ vh,
            sum(s[i] * jnp.outer(u[:, i], vh[i]) for i in range(3)),
        ],
        "projector beyond A": beyond @ beyond.T,
        "read off s": [s[0], jnp.sqrt((s**2).sum()), s[0] / s[-1]],
        "asked for": [jnp.linalg.norm(a, 2), jnp.linalg.norm(a), jnp.linalg.cond(a)],
        "rank": jnp.linalg.matrix_rank(flat),
    }


# %% side="torch"
def parts_torch(a, flat):
    full, (u, s, vh) = torch.linalg.svd(a), torch.linalg.svd(a, full_matrices=False)
    stretch = torch.zeros(5, 3)
    stretch[:3] = torch.diag(s)  # in place
    beyond = full.U[:, 3:]
    return {
        "shapes, full": [each.shape for each in full],
        "shapes, reduced": [each.shape for each in (u, s, vh)],
        "products": [
            full.U @ stretch @ full.Vh,
            u * s @ vh,
            sum(s[i] * torch.outer(u[:, i], vh[i]) for i in range(3)),
        ],
        "projector beyond A": beyond @ beyond.T,
        "read off s": [s[0], torch.sqrt((s**2).sum()), s[0] / s[-1]],
        "asked for": [torch.linalg.norm(a, 2), torch.linalg.norm(a), torch.linalg.cond(a)],
        "rank": torch.linalg.matrix_rank(flat),
    }


# %% side="both"
with lesson("introduction") as same:
    angle = np.linspace(0, 2 * np.pi, 61)
    a, circle = np.array([[1.6, 0.9], [0.2, 1.1]]), np.stack([np.cos(angle), np.sin(angle)])
    ours, theirs = same.run(geometry_jax, geometry_torch, a, circle)
    same("turned, stretched, turned is A x", ours["the circle on its way"][3], theirs["A x"])
    same("A v_i = s_i u_i", ours["A V"], theirs["U diag(s)"])
    same.row("half axes of the ellipse, long", ours["s"][0], theirs["s"][0])
    same.row("half axes of the ellipse, short", ours["s"][1], theirs["s"][1])
    tall = same.rng.standard_normal((5, 3))
    flat = np.column_stack([tall[:, :2], tall[:, 0] - tall[:, 1]])  # its columns are dependent
    found, other = same.run(parts_jax, parts_torch, tall, flat)
    same("all products are A", found["products"], [tall, tall, tall])
    same("what s says is what is asked for", found["read off s"], other["asked for"])
    for place, name in enumerate(("|A|_2", "|A|_F", "condition number")):
        same.row(name, found["read off s"][place], other["read off s"][place])
    same.row("rank of dependent columns", found["rank"], other["rank"])
    same.holds("dependent columns have rank 2", other["rank"] == 2)
    reached = abs(tall.T @ found["projector beyond A"]).max()
    same.holds("what is beyond A is orthogonal to it", reached < 1e-12)
    titles = "circle, $v_1$ and $v_2$", "turned by $V^T$", "stretched by $s$", "turned by $U$"
    axes = same.axes(2, 2, height=3).flat
    for step, axis in enumerate(axes):
        way = [side["the circle on its way"][step] for side in (ours, theirs)]
        overlay(axis, *way, color="C0", label=None)
        for i, color in enumerate(("C1", "C2")):
            ends = [side["v on its way"][step][:, i] for side in (ours, theirs)]
            jax_v, torch_v = ([(0, x), (0, y)] for x, y in ends)
            overlay(axis, jax_v, torch_v, color, f"$v_{i + 1}$")
        axis.set(xlim=(-3, 3), ylim=(-1.7, 1.7), aspect="equal", title=titles[step])
    legend(axes[0])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | the third factor | $V^T$; of the older `torch.svd`, $V$ | $V^T$ | LA-07 |
# | full or reduced, unless told | full; the older `torch.svd`: reduced | full | |
# | $s_1$ as a norm | `torch.linalg.norm(a, 2)` | `jnp.linalg.norm(a, 2)` | |
# | `norm(a, 2)` of the older kind | `torch.norm`: as one long vector | there is none | LA-05 |
# | writing into an array | `stretch[:3] = …` | `stretch.at[:3].set(…)`, a new array | |
# | 64 bits | of each tensor, or by default | `jax_enable_x64` must be set first | DT-01 |
#
# ### Try it
# - Make the second row of `a` twice the first. What becomes of the ellipse, and of $s_2$?
# - Take a symmetric `a`. Where do $u_i$ and $v_i$ point now? And if one eigenvalue is negative?
# - Compare the last two columns of the full $U$ instead of their projector. Must they be equal?

# %% [markdown] lesson="calculation" title="Calculation of SVD"
# Singular values are roots of polynomials, and beyond degree four roots have no formula. So every
# method is an iteration. The simplest is Jacobi's, in its one-sided form: turn the columns of $A$
# until they stand at right angles. If $A V = W$ with $V$ orthogonal and orthogonal columns $w_i$,
# the decomposition is there: $s_i = |w_i|$ and $u_i = w_i / s_i$.
#
# Two columns that are turned in their common plane by an angle $\theta$ become
#
# $$w_i' = \cos\theta\, w_i + \sin\theta\, w_j, \quad w_j' = \cos\theta\, w_j - \sin\theta\, w_i,
#   \qquad w_i' \cdot w_j' = 0 \iff \tan 2\theta = \frac{2\, w_i \cdot w_j}{|w_i|^2 - |w_j|^2}.$$
#
# `arctan2` picks the angle that makes $w_i'$ the longer one, so the values come out in order. The
# next pair disturbs what this one has reached, but less each time. A *sweep* visits all pairs, and
# once the cosines between columns are small, each sweep squares them. $V$ is turned along with $W$.
#
# Golub and Kahan's method reflects $A$ from both sides until only two diagonals are left and then
# chases the upper one away. LAPACK, which both frameworks call on a CPU, begins like that. It is
# longer than a cell: `golub_kahan` comes from `linalg/svd.py` of this project, written out in both.


# %% side="jax"
def jacobi_jax(a, sweeps):
    rows, n = a.shape
    pairs = jnp.stack(jnp.triu_indices(n, 1), axis=1)  # (0, 1), (0, 2), …, (n - 2, n - 1)

    def turn(whole, pair):
        left, right = whole[:rows, pair].T
        angle = jnp.arctan2(2 * left @ right, left @ left - right @ right) / 2
        c, s = jnp.cos(angle), jnp.sin(angle)
        turned = whole[:, pair] @ jnp.array([[c, -s], [s, c]])
        return whole.at[:, pair].set(turned), None

    whole = jnp.concatenate([a, jnp.eye(n)])  # W above V: they turn alike
    whole, _ = jax.lax.scan(turn, whole, jnp.tile(pairs, (sweeps, 1)))
    w, v = whole[:rows], whole[rows:]
    s = jnp.linalg.norm(w, axis=0)
    return upright_jax(w / s, s, v.T)


# %% side="torch"
def jacobi_torch(a, sweeps):
    rows, n = a.shape
    pairs = torch.triu_indices(n, n, 1).T  # (0, 1), (0, 2), …, (n - 2, n - 1)

    whole = torch.cat([a, torch.eye(n)])  # W above V: they turn alike
    for pair in pairs.repeat(sweeps, 1):
        left, right = whole[:rows, pair].T
        angle = torch.atan2(2 * left @ right, left @ left - right @ right) / 2
        c, s = torch.cos(angle), torch.sin(angle)
        turned = whole[:, pair] @ torch.stack([torch.stack([c, -s]), torch.stack([s, c])])
        whole[:, pair] = turned  # in place

    w, v = whole[:rows], whole[rows:]
    s = torch.linalg.norm(w, dim=0)
    return upright_torch(w / s, s, v.T)


# %% [markdown]
# Why not take the eigenvalues of $A^T A$, which are $s_i^2$? Squaring costs half of the digits: of
# $s_i = 10^{-12} s_1$ the square is $10^{-24} s_1^2$, far below the rounding errors, which are
# $10^{-16} s_1^2$. Whatever is below $10^{-8} s_1$ is lost. Jacobi never squares the matrix.
#
# The decomposition has a gradient, too. Of a value it is $\partial s_i / \partial A = u_i v_i^T$.
# That of the vectors divides by $s_i^2 - s_j^2$: where two values meet, vectors are not defined. So
# $A_2$, which keeps $s_2$ and drops $s_3$, has a gradient that grows as one over their gap.


# %% side="jax"
def run_jax(a, steep, closer, weight):
    jacobi = jax.jit(jacobi_jax, static_argnums=1)  # compiled for each number of sweeps
    swept = [jacobi(a, sweeps) for sweeps in range(1, 7)]

    def kept(a):
        u, s, vh = jnp.linalg.svd(a, full_matrices=False)
        return (weight * (u[:, :2] * s[:2] @ vh[:2])).sum()

    return {
        "factors": [swept[-1], golub_kahan_jax(a), upright_jax(*jnp.linalg.svd(a, False))],
        "cosines": [u.T @ u for u, _, _ in swept],
        "steep": [jacobi(steep, 6)[1], jnp.linalg.eigvalsh(steep.T @ steep)[::-1]],
        "slope of s_2": jax.grad(lambda a: jnp.linalg.svd(a, compute_uv=False)[1])(a),
        "slopes of A_2": [jax.grad(kept)(each) for each in closer],
    }


# %% side="torch"
def run_torch(a, steep, closer, weight):
    swept = [jacobi_torch(a, sweeps) for sweeps in range(1, 7)]
    for leaf in (a, *closer):
        leaf.requires_grad_()
    torch.linalg.svdvals(a)[1].backward()
    for each in closer:
        u, s, vh = torch.linalg.svd(each, full_matrices=False)
        (weight * (u[:, :2] * s[:2] @ vh[:2])).sum().backward()

    return {
        "factors": [swept[-1], golub_kahan_torch(a), upright_torch(*torch.linalg.svd(a, False))],
        "cosines": [u.T @ u for u, _, _ in swept],
        "steep": [jacobi_torch(steep, 6)[1], torch.linalg.eigvalsh(steep.T @ steep).flip(0)],
        "slope of s_2": a.grad,
        "slopes of A_2": [each.grad for each in closer],
    }


# %% side="both"
with lesson("calculation") as same:
    a, weight = same.rng.standard_normal((2, 12, 8))
    q, p = (np.linalg.qr(same.rng.standard_normal((size, 8)))[0] for size in (12, 8))
    true, gaps = np.logspace(0, -12, 8), np.logspace(-1, -4, 4)
    closer = [q * [3, 1 + gap, 1, 0.5, 0.4, 0.3, 0.2, 0.1] @ p.T for gap in gaps]
    ours, theirs = same.run(run_jax, run_torch, a, q * true @ p.T, closer, weight)
    same("by hand is LAPACK's", ours["factors"][:2], 2 * [theirs["factors"][2]])
    u, _, vh = theirs["factors"][0]
    same("the slope of s_2 is u_2 v_2^T", ours["slope of s_2"], np.outer(u[:, 1], vh[1]))
    left = [abs(side["cosines"] - np.eye(8)).max((1, 2)) for side in (ours, theirs)]
    size = [np.linalg.norm(side["slopes of A_2"], axis=(1, 2)) for side in (ours, theirs)]
    direct = [side["steep"][0] for side in (ours, theirs)]
    root = [np.sqrt(abs(side["steep"][1])) for side in (ours, theirs)]
    same.row("largest cosine after 3 sweeps", left[0][2], left[1][2])
    same.row("s_8 by Jacobi; in truth 1e-12", direct[0][-1], direct[1][-1])
    for place in (0, -1):
        same.row(f"slope of A_2 at a gap of {gaps[place]:g}", size[0][place], size[1][place])
    same.holds("six sweeps leave rounding errors", max(left[0][-1], left[1][-1]) < 1e-14)
    same.holds("Jacobi finds 1e-12", abs(np.array(direct)[:, -1] / true[-1] - 1).max() < 0.01)
    same.holds("A^T A does not", abs(np.array(root)[:, -1] / true[-1] - 1).min() > 1)
    same.holds("the slope is ever steeper", 100 < size[1][-1] / size[1][0] < 1e4)
    axes = same.axes(1, 3, height=3.6)
    lines(axes[0], *left, x=range(1, 7))
    axes[0].set(yscale="log", xlabel="sweeps", title="Jacobi: largest cosine")
    lines(axes[1], *direct, x=range(1, 9), label="Jacobi")
    lines(axes[1], *root, x=range(1, 9), label="$A^TA$")
    axes[1].set(yscale="log", xlabel="i", title="$s_i$ of a steep matrix")
    lines(axes[2], *size, x=gaps)
    axes[2].set(xscale="log", yscale="log", xlabel="$s_2 - s_3$", title="slope of $A_2$")
    legend(axes[1])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | a loop of turns | Python's own; each turn is recorded | `jax.lax.scan`; one turn is compiled | |
# | gradient of the full $U$, not square | further columns count as constant | not implemented | |
# | `eigvalsh` of a matrix not quite symmetric | reads the lower triangle | averages both | LA-01 |
# | a matrix that holds NaN | raises `LinAlgError` | returns NaN | |
#
# ### Try it
# - Let $s_2$ and $s_3$ be equal, a gap of 0. What is the gradient now, on either side?
# - Give Jacobi a matrix whose columns are orthogonal, but in the wrong order. How many sweeps?
# - Keep three values in place of two, so that the tie lies within what is kept. How steep is $A_3$?

# %% [markdown] lesson="low_rank" title="Low-rank Approximation using SVD"
# A grey photograph of 213 by 213 pixels is a matrix $A$ of 45 369 numbers. Need they all be stored?
# The decomposition writes the picture as a sum of layers, the strongest first, and we may stop
# after $k$ of them:
#
# $$A = \sum_i s_i u_i v_i^T, \qquad A_k = \sum_{i \le k} s_i u_i v_i^T.$$
#
# A layer takes $213 + 213 + 1$ numbers, so twenty layers are a fifth of the picture. Eckart and
# Young proved that nothing better is possible: of *all* matrices of rank $k$, $A_k$ is the nearest
# to $A$, and how far it is can be read off the values that were left out,
#
# $$\|A - A_k\|_2 = s_{k+1}, \qquad \|A - A_k\|_F = \sqrt{\textstyle\sum_{i > k} s_i^2}.$$
#
# So a matrix is well compressed if its values fall quickly, as those of pictures do. The first two
# cells compute $A_k$ and its errors. For comparison they also project the picture on another space
# of dimension $k$, with an orthonormal basis $Q$: it is the best space, turned a little, and the
# error $\|A - Q Q^T A\|_F$ must come out larger.


# %% side="jax"
def best_jax(a, bases):
    u, s, vh = jnp.linalg.svd(a, full_matrices=False)
    found = {"s": s}
    for k, q in bases.items():
        near = u[:, :k] * s[:k] @ vh[:k]
        found[f"A_{k}"] = near
        found[f"errors of A_{k}"] = [jnp.linalg.norm(a - near, 2), jnp.linalg.norm(a - near)]
        found[f"foretold of A_{k}"] = [s[k], jnp.sqrt((s[k:] ** 2).sum())]
        found[f"error of another rank {k}"] = jnp.linalg.norm(a - q @ (q.T @ a))
    return found


# %% side="torch"
def best_torch(a, bases):
    u, s, vh = torch.linalg.svd(a, full_matrices=False)
    found = {"s": s}
    for k, q in bases.items():
        near = u[:, :k] * s[:k] @ vh[:k]
        found[f"A_{k}"] = near
        found[f"errors of A_{k}"] = [torch.linalg.norm(a - near, 2), torch.linalg.norm(a - near)]
        found[f"foretold of A_{k}"] = [s[k], torch.sqrt((s[k:] ** 2).sum())]
        found[f"error of another rank {k}"] = torch.linalg.norm(a - q @ (q.T @ a))
    return found


# %% [markdown]
# The full decomposition of a large matrix takes long, and most of it is thrown away. A *randomised*
# one looks for the leading directions only. Multiply $A$ by a few random columns, $Y = A \Omega$:
# strong layers dominate in $Y$, so its columns nearly span the first $u_i$. With an orthonormal
# basis $Q$ of them, $Q^T A$ is a small matrix, and its decomposition is cheap. Where the values
# fall slowly, *power steps* help. Each multiplies by $A^T$ and $A$ once more: one step cubes the
# ratios between the values, two give the fifth power. `qr` keeps the columns orthonormal.


# %% side="jax"
def sketch_jax(a, omega, power):
    q, _ = jnp.linalg.qr(a @ omega)
    for _ in range(power):
        q, _ = jnp.linalg.qr(a.T @ q)
        q, _ = jnp.linalg.qr(a @ q)
    u, s, vh = jnp.linalg.svd(q.T @ a, full_matrices=False)
    near = (q @ u[:, :20]) * s[:20] @ vh[:20]
    return {"s": s, "near": near, "error": jnp.linalg.norm(a - near)}


# %% side="torch"
def sketch_torch(a, omega, power):
    q, _ = torch.linalg.qr(a @ omega)
    for _ in range(power):
        q, _ = torch.linalg.qr(a.T @ q)
        q, _ = torch.linalg.qr(a @ q)
    u, s, vh = torch.linalg.svd(q.T @ a, full_matrices=False)
    near = (q @ u[:, :20]) * s[:20] @ vh[:20]
    return {"s": s, "near": near, "error": torch.linalg.norm(a - near)}


# %% side="both"
with lesson("low_rank") as same:
    photograph = next(photographs(same.rng, batch=1, size=213, scale="unit"))["x"][0]
    a = photograph.mean(0).astype(float)  # grey
    basis, size = np.linalg.svd(a)[0], np.linalg.norm(a)
    turned = {k: basis[:, :k] + 0.01 * same.rng.standard_normal((213, k)) for k in (5, 20, 60)}
    bases = {k: np.linalg.qr(each)[0] for k, each in turned.items()}
    ours, theirs = same.run(best_jax, best_torch, a, bases)
    axes = same.axes(2, 4, height=2.4)
    for place, k in enumerate(bases):
        same("the errors are as foretold", ours[f"errors of A_{k}"], theirs[f"foretold of A_{k}"])
        error = [side[f"errors of A_{k}"][1] / size for side in (ours, theirs)]
        other = [side[f"error of another rank {k}"] / size for side in (ours, theirs)]
        same.row(f"rank {k}, {k * 427 / a.size:.0%} of the numbers: error", *error)
        same.row(f"another matrix of rank {k}: error", *other)
        same.holds("the other is farther from the picture", min(other) > max(error))
        same.holds("the picture is there", max(error) < 0.25)
        for row, (name, side) in enumerate((("JAX", ours), ("PyTorch", theirs))):
            picture(axes[row, place], side[f"A_{k}"], f"{name}, rank {k}", vmin=0, vmax=1)
    picture(axes[0, 3], a, "all 213", vmin=0, vmax=1)
    lines(axes[1, 3], ours["s"], theirs["s"])
    axes[1, 3].set(yscale="log", xlabel="i", title="singular values")
    legend(axes[1, 3], fontsize=8)

    omega, best, over = same.rng.standard_normal((213, 30)), theirs["foretold of A_20"][1], []
    for power in (0, 1, 2):
        pair = same.run(sketch_jax, sketch_torch, a, omega, power)
        over.append(pair[1]["error"] / best)
        same.row(f"{power} power steps: error over the best", pair[0]["error"] / best, over[-1])
    same.holds("each power step helps; one is within 5 %", over[0] > 1.05 > over[1] > over[2] > 1)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | randomised decomposition | `torch.svd_lowrank`, of rank 6 unless told | to be written | |
# | random columns of a seed | other numbers | than these | INIT-05 |
# | `norm(a, 2)` | `torch.linalg`: $s_1$; older `torch.norm`: of all entries | $s_1$ | LA-05 |
#
# ### Try it
# - Multiply the picture by random signs, entry by entry. How do the values fall now, and how many
#   layers would a good copy take?
# - Give the sketch 20 random columns in place of 30. What do the ten extra columns buy?
# - Take the colours, too: three matrices, or one of 213 by 639? Which needs fewer numbers?

# %% [markdown] lesson="pca" title="Principal Component Analysis (PCA) using SVD"
# A handwritten digit of 8 by 8 pixels is a point in a space of 64 dimensions. But neighbouring
# pixels are alike, and the corners are always white: the points fill only a few directions of that
# space. Principal component analysis finds them. The first direction is the one along which the
# points spread most, the next the one of the largest spread at right angles to it, and so on.
#
# The decomposition gives all of them at once. Let the $N$ digits be the rows of $X$, their mean
# digit taken off. The spread along a direction $v$ of length 1 is the variance
#
# $$\frac{|X v|^2}{N - 1}, \qquad \text{largest for } v = v_1, \text{ where it is }
#   \frac{s_1^2}{N - 1}.$$
#
# So the $v_i$ are the directions and $s_i^2 / (N - 1)$ the variances along them. They are the
# eigenvectors and eigenvalues of the covariance matrix $X^T X / (N - 1)$, which is never formed:
# that would square the values. The sum of all variances is the variance of the pixels, and the
# share of it that the first $k$ directions hold is what they *explain*.
#
# Each digit is now a few numbers, $X v_1, X v_2, \dots$, uncorrelated with each other. From ten of
# them the picture can be put together again, and what it loses is what they do not explain. The
# cells do all that. At the end they ask what the numbers are good for: which digits lie nearest to
# the mean of their own kind? No label was used to find the directions.


# %% side="jax"
def pca_jax(x, labels):
    mean = x.mean(0)
    _, s, directions = upright_jax(*jnp.linalg.svd(x - mean, full_matrices=False))
    variances = s**2 / (len(x) - 1)
    flat = (x - mean) @ directions.T
    rebuilt = mean + flat[:, :10] @ directions[:10]

    def right(numbers):
        members = jax.nn.one_hot(labels, 10)  # (N, 10), floats
        means = members.T @ numbers / members.sum(0)[:, None]
        away = ((numbers[:, None] - means) ** 2).sum(-1)  # from each to each mean
        return (away.argmin(1) == labels).mean(dtype=float)

    return {
        "directions": directions[:40],
        "variances": variances,
        "projected": flat[:, :40],
        "covariance": jnp.cov(flat.T),
        "explained": jnp.cumsum(variances) / x.var(0, ddof=1).sum(),
        "rebuilt": rebuilt,
        "lost": ((x - rebuilt) ** 2).sum() / ((x - mean) ** 2).sum(),
        "right": [right(flat[:, :2]), right(flat[:, :10])],
    }


# %% side="torch"
def pca_torch(x, labels):
    mean = x.mean(0)
    _, s, directions = upright_torch(*torch.linalg.svd(x - mean, full_matrices=False))
    variances = s**2 / (len(x) - 1)
    flat = (x - mean) @ directions.T
    rebuilt = mean + flat[:, :10] @ directions[:10]

    def right(numbers):
        members = torch.nn.functional.one_hot(labels, 10).double()  # (N, 10), of integers
        means = members.T @ numbers / members.sum(0)[:, None]
        away = ((numbers[:, None] - means) ** 2).sum(-1)  # from each to each mean
        return (away.argmin(1) == labels).double().mean()

    return {
        "directions": directions[:40],
        "variances": variances,
        "projected": flat[:, :40],
        "covariance": torch.cov(flat.T),
        "explained": torch.cumsum(variances, 0) / x.var(0).sum(),
        "rebuilt": rebuilt,
        "lost": ((x - rebuilt) ** 2).sum() / ((x - mean) ** 2).sum(),
        "right": [right(flat[:, :2]), right(flat[:, :10])],
    }


# %% side="both"
with lesson("pca") as same:
    digits = every_digit(flat=True, scale="unit")
    x, labels = digits["x"].astype(float), digits["labels"]
    ours, theirs = same.run(pca_jax, pca_torch, x, labels)
    known = PCA(40, svd_solver="full").fit(x)
    same("scikit-learn's numbers, up to signs", abs(ours["projected"]), abs(known.transform(x)))
    same("its variances", ours["variances"][:40], known.explained_variance_)
    same("its shares", ours["explained"][:40], known.explained_variance_ratio_.cumsum())
    same("the numbers are uncorrelated", ours["covariance"], np.diag(theirs["variances"]))
    same("lost is what is not explained", ours["lost"], 1 - theirs["explained"][9])
    for k in (2, 10, 20, 40):
        same.row(f"{k} directions explain", ours["explained"][k - 1], theirs["explained"][k - 1])
    same.row("right by 2 numbers", ours["right"][0], theirs["right"][0])
    same.row("right by 10 numbers", ours["right"][1], theirs["right"][1])
    same.holds("20 directions explain more than 85 %", theirs["explained"][19] > 0.85)
    same.holds("right by ten numbers: 85 %", theirs["right"][1] > 0.85 > theirs["right"][0] > 0.4)
    axes = same.axes(1, 3, height=3.6)
    for digit in range(10):
        dots = [side["projected"][labels == digit, :2].T for side in (ours, theirs)]
        axes[0].plot(*dots[0], "o", color=f"C{digit}", ms=5, alpha=0.3, label=str(digit))
        axes[0].plot(*dots[1], ".", color=f"C{digit}", ms=2)
    axes[0].legend(ncols=5, fontsize=7, handletextpad=0, columnspacing=0.5, loc="upper center")
    axes[0].set(title="two numbers a digit", ylim=(-2.2, 3), xlabel="large: JAX, small: PyTorch")
    lines(axes[1], ours["explained"], theirs["explained"], x=range(1, 65))
    axes[1].set(xlabel="directions", title="explained")
    legend(axes[1])
    rows = x, ours["rebuilt"], theirs["rebuilt"]
    shown = [np.hstack([*each[:4].reshape(4, 8, 8)]) for each in rows]
    picture(axes[2], np.vstack(shown), "rebuilt of ten numbers", vmin=0, vmax=1)
    axes[2].set_yticks([4, 12, 20], ["digits", "JAX", "PyTorch"])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | `x.var(0)` | divides by $N - 1$ | by $N$; `ddof=1` for $N - 1$ | DT-03 |
# | `one_hot` | integers | floats | |
# | the mean of booleans | must be made floats first | floats of 32 bits, unless told | |
# | signs of the directions | whatever its LAPACK gives | the same, of another build | |
#
# ### Try it
# - Leave the mean in: decompose `x` itself. What is the first direction now?
# - Divide each pixel by its standard deviation first (some have none). Which directions come first?
# - Rebuild digits from 2 numbers and from 40. From how many on can you read them?

# %% [markdown] lesson="regularization" title="SVD for Regularization"
# A photograph is out of focus. Blurring is a linear map, so the sharp picture $x$ solves $A x = b$,
# where $b$ is what we see. Why not simply solve it? With $A = U \operatorname{diag}(s) V^T$,
#
# $$x = \sum_i \frac{u_i \cdot b}{s_i}\, v_i .$$
#
# Blur nearly wipes out fine detail: many $s_i$ are almost 0. Dividing by them turns the camera's
# little noise in $b$ into noise far stronger than the picture. To *regularise* is to put a factor
# $f_i$ before each term, near 1 for large $s_i$, near 0 for small ones. Three methods do just that:
#
# - *truncated*: $f_i = 1$ if $s_i > 0.05\, s_1$, else 0. So does the pseudo-inverse, `pinv`.
# - *ridge*: $f_i = s_i^2 / (s_i^2 + \lambda)$ minimises $|Ax - b|^2 + \lambda |x|^2$: weight decay.
# - *stopped early*: $f_i = 1 - (1 - \eta s_i^2)^t$ is where gradient descent from 0 on
#   $\tfrac12 |Ax - b|^2$, with the rate $\eta$, stands after $t$ steps.
#
# So weight decay and early stopping do nearly the same. The first two cells compute each method as
# a filter and once more in its usual way.


# %% side="jax"
def deblur_jax(blur, seen):
    u, s, vh = jnp.linalg.svd(blur)
    ridge, stopped = s**2 / (s**2 + 1e-3), 1 - (1 - 0.5 * s**2) ** 1000
    filters = [jnp.ones_like(s), 1.0 * (s > 0.05 * s[0]), ridge, stopped]

    def descent(_, x):
        return x - 0.5 * blur.T @ (blur @ x - seen)

    usual = [
        jnp.linalg.solve(blur, seen),
        jnp.linalg.pinv(blur, rtol=0.05) @ seen,
        jnp.linalg.solve(blur.T @ blur + 1e-3 * jnp.eye(128), blur.T @ seen),
        jax.lax.fori_loop(0, 1000, descent, jnp.zeros_like(seen)),
    ]
    filtered = [vh.T @ ((f / s)[:, None] * (u.T @ seen)) for f in filters]
    return {"s": s, "filters": filters, "filtered": filtered, "usual": usual}


# %% side="torch"
def deblur_torch(blur, seen):
    u, s, vh = torch.linalg.svd(blur)
    ridge, stopped = s**2 / (s**2 + 1e-3), 1 - (1 - 0.5 * s**2) ** 1000
    filters = [torch.ones_like(s), 1.0 * (s > 0.05 * s[0]), ridge, stopped]
    x = torch.zeros_like(seen)
    for _ in range(1000):
        x -= 0.5 * blur.T @ (blur @ x - seen)  # in place
    usual = [
        torch.linalg.solve(blur, seen),
        torch.linalg.pinv(blur, rtol=0.05) @ seen,
        torch.linalg.solve(blur.T @ blur + 1e-3 * torch.eye(128), blur.T @ seen),
        x,
    ]
    filtered = [vh.T @ ((f / s)[:, None] * (u.T @ seen)) for f in filters]
    return {"s": s, "filters": filters, "filtered": filtered, "usual": usual}


# %% [markdown]
# The weights of a layer have singular values, too. Penalise their sum, the **nuclear norm**, and
# they become 0 one by one: the layer loses rank. Penalise the largest, the **spectral norm**, and
# the layer can no longer stretch much what it is given. Both norms have kinks, where descent would
# jitter. So each step is followed by an exact one, of a size $c$. For the nuclear norm it takes $c$
# off every $s_i$, down to 0. For the spectral norm it cuts the largest off at a level $\tau$, such
# that the parts cut off add up to $c$: $\tau = \max_k \frac1k (s_1 + \dots + s_k - c)$.

# %% side="jax"
net_jax: Any = Sequential((nn.Dense(48), nn.relu, nn.Dense(10)))


def train_jax(kind, weights, batches, held_x, held):
    def loss_of(params, x, labels):
        logits = net_jax.apply({"params": params}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def shrunk(kernel):
        u, s, vh = jnp.linalg.svd(kernel, full_matrices=False)
        level = ((jnp.cumsum(s) - 0.04) / jnp.arange(1, len(s) + 1)).max()
        s = nn.relu(s - 0.003) if kind == "nuclear" else jnp.minimum(s, level)
        return u * s @ vh

    @jax.jit
    def step(params, x, labels):
        slopes = jax.grad(loss_of)(params, x, labels)
        params = jax.tree.map(lambda p, slope: p - 0.3 * slope, params, slopes)
        for name in () if kind == "none" else params:
            params[name] = params[name] | {"kernel": shrunk(params[name]["kernel"])}
        return params

    params = weights["params"]
    for x, labels in batches:
        params = step(params, x, labels)
    s, last = (jnp.linalg.svd(params[name]["kernel"], compute_uv=False) for name in ("0", "2"))
    right = (net_jax.apply({"params": params}, held_x).argmax(-1) == held).mean(dtype=float)
    return {"s": s, "rank": (s > 1e-9).sum(), "stretch": s[0] * last[0], "right": right}


# %% side="torch"
def net_torch():
    return torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 10))


def train_torch(kind, state, batches, held_x, held):
    net = net_torch()
    net.load_state_dict(state)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)

    def shrink(weight):
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
        level = ((torch.cumsum(s, 0) - 0.04) / torch.arange(1, len(s) + 1)).max()
        s = torch.relu(s - 0.003) if kind == "nuclear" else s.clamp(max=level)
        weight.copy_(u * s @ vh)

    for x, labels in batches:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()
        with torch.no_grad():
            for layer in () if kind == "none" else (net[0], net[2]):
                shrink(layer.weight)

    s, last = (torch.linalg.svdvals(layer.weight) for layer in (net[0], net[2]))
    right = (net(held_x).argmax(-1) == held).double().mean()
    return {"s": s, "rank": (s > 1e-9).sum(), "stretch": s[0] * last[0], "right": right}


# %% side="both"
with lesson("regularization") as same:
    sharp = next(photographs(same.rng, batch=1, size=128, scale="unit"))["x"][0].mean(0)
    blur = np.exp(-(np.subtract.outer(np.arange(128), np.arange(128)) ** 2) / (2 * 1.6**2))
    blur /= blur.sum(1, keepdims=True)  # it blurs the columns
    seen = blur @ sharp + 0.002 * same.rng.standard_normal(sharp.shape)
    ours, theirs = same.run(deblur_jax, deblur_torch, blur, seen)
    found = ours["filtered"], theirs["filtered"]
    same("a filter is the usual way", found[0], theirs["usual"])
    axes, blurred, size = same.axes(2, 2, height=3.2), np.linalg.norm(seen - sharp), {}
    for place, name in enumerate(("no filter", "truncated", "ridge", "stopped early")):
        error = [np.linalg.norm(each[place] - sharp) for each in found]
        same.row(f"{name}: error over that of the blur", error[0] / blurred, error[1] / blurred)
        same.holds("every filter helps", (error[1] < 0.9 * blurred) == (place > 0))
        lines(axes[1, 0], *(s["filters"][place] for s in (ours, theirs)), x=ours["s"], label=name)
    picture(axes[0, 0], np.hstack([seen, found[1][0].clip(0, 1)]), "seen; no filter")
    picture(axes[0, 1], np.hstack([found[0][2], found[1][2]]), "ridge: JAX; PyTorch")
    x, labels, held_x, held = split_digits(same.rng, flat=True, scale="unit")
    weights, batches = same.weights(net_jax, net_torch, x[:2]), same.batches(400, 64, x, labels)
    for kind in ("none", "nuclear", "spectral"):
        nets = same.run(train_jax, train_torch, kind, weights, batches, held_x, held)
        size[kind] = nets[1]["rank"], nets[1]["stretch"]
        for name in ("rank", "stretch", "right"):
            same.row(f"penalty {kind}: {name}", nets[0][name], nets[1][name])
        lines(axes[1, 1], nets[0]["s"], nets[1]["s"], label=f"$s_i$, {kind}")
        same.holds("the net is right at 90 %", nets[1]["right"] > 0.9)
    same.holds("nuclear: half of the rank", 2 * size["nuclear"][0] <= size["none"][0])
    same.holds("spectral: half of the stretch", 2 * size["spectral"][1] <= size["none"][1])
    axes[1, 0].set(xscale="log", xlabel="singular value", title="filters")
    legend(axes[1, 0], fontsize=8)
    legend(axes[1, 1])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX, Flax, optax | |
# |---|---|---|---|
# | `pinv` without `rtol` | below $n \epsilon s_1$ counts as 0 | below $10 n \epsilon s_1$ | LA-04 |
# | a weight matrix | (out, in) | (in, out): $U$ and $V$ change places | LIN-01 |
# | changing it after the step | `weight.copy_` within `no_grad` | a new tree of parameters | |
#
# ### Try it
# - Take ten times the noise. Which cut and which $\lambda$ are best now?
# - Let gradient descent run for 10, 100, 100 000 steps. When is it best, and what comes later?
# - Raise $c$ of the nuclear norm until the net is no longer right. How small was the rank then?

# %% [markdown] lesson="applications" title="Applications of SVD in Deep Learning"
# A matrix of low rank is stored, changed and filled in cheaply. Four uses of that follow. The first
# is **compression**. The first layer of a net that reads digits has a matrix $W$ of 96 by 64
# weights. Its best approximation of rank $k$ is two thin layers, $V_k^T$, then
# $U_k\operatorname{diag}(s)$, of $k\,(64 + 96)$ weights in place of 6144. How small may $k$ be?
# (The JAX column multiplies the two out again, the PyTorch column applies one after the other.)
#
# The second is **low-rank adaptation**, LoRA. The trained net is to learn digits that are turned by
# a quarter. $W$ stays as it is, and only what is added to it is learned, $W + B A$, with 6 columns
# in $B$ and 6 rows in $A$. $B$ starts at 0, so the net starts unchanged. What is trained is in JAX
# the argument that is differentiated, in PyTorch what the optimizer is given.

# %% side="jax"
reader_jax: Any = Sequential((nn.Dense(96), nn.relu, nn.Dense(10)))


def learn_jax(params_of, trained, batches):
    @jax.jit
    @jax.grad
    def slopes_of(trained, x, labels):
        logits = reader_jax.apply({"params": params_of(trained)}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    for x, labels in batches:
        slopes = slopes_of(trained, x, labels)
        trained = jax.tree.map(lambda p, slope: p - 0.3 * slope, trained, slopes)
    return trained


def reuse_jax(weights, batches, turned_batches, a, held_x, turned_x, held):
    def with_first(kernel):
        return params | {"0": params["0"] | {"kernel": kernel}}

    def adapted(adapter):
        return with_first(kernel + (adapter["b"] @ adapter["a"]).T)

    def right(params, x):
        return (reader_jax.apply({"params": params}, x).argmax(-1) == held).mean(dtype=float)

    params = learn_jax(lambda params: params, weights["params"], batches)
    kernel = params["0"]["kernel"]  # (in, out), the transpose of W
    u, s, vh = jnp.linalg.svd(kernel, full_matrices=False)
    thin = [u[:, :k] * s[:k] @ vh[:k] for k in (1, 2, 4, 8, 16, 32, 64)]
    found = [right(with_first(each), held_x) for each in thin]
    start = {"a": a, "b": jnp.zeros((96, 6))}
    adapter = learn_jax(adapted, start, turned_batches)
    found += [right(adapted(start), turned_x), right(adapted(adapter), turned_x)]
    return {"adapter": adapter, "right": found}


# %% side="torch"
def reader_torch():
    return torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.ReLU(), torch.nn.Linear(96, 10))


def learn_torch(forward, trained, batches):
    optimizer = torch.optim.SGD(trained, lr=0.3)
    for x, labels in batches:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(forward(x), labels).backward()
        optimizer.step()


def reuse_torch(state, batches, turned_batches, a, held_x, turned_x, held):
    def adapted(x):
        return last(torch.relu(first(x) + x @ adapter["a"].T @ adapter["b"].T))

    def right(logits):
        return (logits.argmax(-1) == held).double().mean()

    net, found = reader_torch(), []
    net.load_state_dict(state)
    learn_torch(net, net.parameters(), batches)
    first, _, last = net.requires_grad_(False)  # from here on it stays as it is
    u, s, vh = torch.linalg.svd(first.weight, full_matrices=False)  # W, (out, in)
    for k in (1, 2, 4, 8, 16, 32, 64):
        hidden = held_x @ vh[:k].T @ (u[:, :k] * s[:k]).T + first.bias
        found.append(right(last(torch.relu(hidden))))
    adapter = {"a": a.requires_grad_(), "b": torch.zeros(96, 6, requires_grad=True)}
    found.append(right(adapted(turned_x)))
    learn_torch(adapted, adapter.values(), turned_batches)
    found.append(right(adapted(turned_x)))
    return {"adapter": adapter, "right": found}


# %% [markdown]
# The third is a **recommender**. Three tastes explain most of how people rate films, so the table
# of ratings is nearly of low rank. Guess what is missing, approximate, put the known back, repeat.
#
# The fourth is **latent semantic analysis**. A text is a row of numbers, one a word, larger if the
# word is rare. Words that occur together share a direction $v_i$, and twelve numbers $s_i u_i$ say
# what a text is about. Two texts are alike if the cosine between these is near 1.


# %% side="jax"
def fill_jax(ratings, known, rank):
    def better(_, guess):
        u, s, vh = jnp.linalg.svd(jnp.where(known, ratings, guess), full_matrices=False)
        return jnp.clip(u[:, :rank] * s[:rank] @ vh[:rank], 1, 5)

    mean = jnp.full(ratings.shape, ratings.mean(where=known))
    guess = jax.lax.fori_loop(0, 100, better, mean)
    off = [jnp.sqrt(((each - ratings) ** 2).mean(where=~known)) for each in (mean, guess)]
    return {"guess": guess, "off": off}


def alike_jax(counts):
    texts = jnp.log1p(counts) * jnp.log(len(counts) / (counts > 0).sum(0))
    u, s, vh = upright_jax(*jnp.linalg.svd(texts, full_matrices=False))
    few = u[:, :12] * s[:12]
    few /= jnp.linalg.norm(few, axis=1, keepdims=True)
    return {"directions": vh[:12], "cosines": few @ few.T}


# %% side="torch"
def fill_torch(ratings, known, rank):
    guess = mean = ratings[known].mean().expand(ratings.shape)
    for _ in range(100):
        u, s, vh = torch.linalg.svd(torch.where(known, ratings, guess), full_matrices=False)
        guess = (u[:, :rank] * s[:rank] @ vh[:rank]).clip(1, 5)
    off = [torch.sqrt(((each - ratings)[~known] ** 2).mean()) for each in (mean, guess)]
    return {"guess": guess, "off": off}


def alike_torch(counts):
    texts = torch.log1p(counts) * torch.log(len(counts) / (counts > 0).sum(0))
    u, s, vh = upright_torch(*torch.linalg.svd(texts, full_matrices=False))
    few = torch.nn.functional.normalize(u[:, :12] * s[:12])  # rows of length 1
    return {"directions": vh[:12], "cosines": few @ few.T}


# %% side="both"
with lesson("applications") as same:
    x, labels, held_x, held = split_digits(same.rng, flat=True, scale="unit")
    turn = np.rot90(np.arange(64).reshape(8, 8)).ravel()  # where each pixel comes from
    net, a = same.weights(reader_jax, reader_torch, x[:2]), same.rng.standard_normal((6, 64)) / 8
    batches = [same.batches(500, 64, each, labels) for each in (x, x[:, turn])]
    ours, theirs = same.run(reuse_jax, reuse_torch, net, *batches, a, held_x, held_x[:, turn], held)
    for place, name in {6: "rank 64", 4: "rank 16", 7: "turned", 8: "turned, LoRA"}.items():
        same.row(f"{name}: right", ours["right"][place], theirs["right"][place])
    same.holds("rank 16 costs under 6 points", theirs["right"][4] > theirs["right"][6] - 0.06)
    same.holds("LoRA learns the task", theirs["right"][8] > 0.85 > 0.4 > theirs["right"][7])
    taste = same.rng.standard_normal((150, 3)) @ same.rng.standard_normal((3, 80))
    ratings, known = np.clip(np.rint(3 + taste), 1, 5), same.rng.random((150, 80)) < 0.3
    filled = [same.run(fill_jax, fill_torch, ratings, known, rank) for rank in range(1, 7)]
    off = [[pair[side]["off"][1] for pair in filled] for side in (0, 1)]
    same.row("hidden ratings by rank 4: error", off[0][3], off[1][3])
    same.holds("rank 4 halves the mean's error", off[1][3] < 0.5 * filled[0][1]["off"][0])
    words, texts, _ = bags_of_words(same.rng, size=600)  # paragraphs of Python's documentation
    topic, order = np.sort(texts["labels"]), texts["labels"].argsort()
    alike = same.run(alike_jax, alike_torch, texts["x"][order].astype(float))
    same.row("word of v_2", *(words[each["directions"][1].argmax()] for each in alike))
    near = [(topic[each["cosines"].argsort()[:, -2]] == topic).mean() for each in alike]
    same.row("the nearest text has the same topic", *near)
    same.holds("four of five have", near[1] > 0.8)
    axes = same.axes(1, 3, height=3.6)
    lines(axes[0], ours["right"][:7], theirs["right"][:7], label=r"right; x: $\log_2 k$")
    lines(axes[1], *off, x=range(1, 7), label="error; x: rank")
    mixed = np.tril(alike[0]["cosines"]) + np.triu(alike[1]["cosines"], 1)
    picture(axes[2], mixed, "likeness; upper half: PyTorch")
    legend(axes[0], loc="lower right")
    legend(axes[1])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | what stays frozen | is not given to the optimizer | is not an argument of the loss | OPT-24 |
# | a mean over what is known | of `x[known]`, a shorter tensor | `where=known`, the same shape | |
#
# ### Try it
# - Give the adapter rank 1. How much of the new task do its 160 weights learn?
# - Test the adapted net on upright digits. What has it forgotten?
