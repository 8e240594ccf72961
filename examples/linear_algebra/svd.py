"""The singular value decomposition in JAX and in PyTorch: what it is, how it is found, its uses.

Run it as a program (`python examples/linear_algebra/svd.py --out figures`), or cell by cell in an
editor that knows `# %%`. `--full` trains longer: about 40 s on two cores.
"""

# %% Set-up
import inspect
import math
import os.path
import random
import re
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from sklearn.decomposition import PCA

from compare.data.batches import epochs
from compare.data.digits import digits
from compare.data.photographs import photographs
from compare.share import to_jax, to_torch
from compare.study.lessons import both, lesson
from compare.study.scripts import script
from jaxnn.foundations.mlp import MLP as JaxMLP
from jaxnn.linalg import eigen as jax_eigen
from jaxnn.linalg import low_rank as jax_low_rank
from jaxnn.linalg import svd as jax_svd
from jaxnn.training import losses as jax_losses
from jaxnn.training import optimizers as jax_optimizers
from jaxnn.training import regularisers as jax_regularisers
from torchref.foundations.mlp import MLP
from torchref.linalg import eigen, low_rank, svd
from torchref.training import losses, optimizers, regularisers

script(__name__)


def upright(factors, signs):
    """A factorisation with its signs chosen, for u_i and v_i may change theirs together."""
    u, s, vh = factors
    sign = signs(vh)
    return u[:, : len(s)] * sign, s, vh[: len(s)] * sign[:, None]


def all_digits(rng):
    """The 1797 digits, shuffled: pixels in [0, 1], float64 (1797, 64), and labels (1797,)."""
    batch = next(digits(rng, batch=1797, flat=True, scale="unit"))
    return batch["x"].astype(np.float64), batch["labels"]


def outputs(net, params, x) -> Any:
    """Of a Linen module."""
    return net.apply({"params": params}, x)


def network(rng, sizes) -> Any:
    """One MLP in both frameworks, with weights of He's spread: parameters, and a module."""
    net = MLP(sizes[0], sizes[1:-1], sizes[-1])
    params, layers = {}, [layer for layer in net.layers if isinstance(layer, torch.nn.Linear)]
    for i, (layer, (a, b)) in enumerate(zip(layers, pairwise(sizes), strict=True)):
        kernel = rng.standard_normal((a, b)) * np.sqrt(2 / a)
        params[str(2 * i)] = {"kernel": to_jax(kernel), "bias": jnp.zeros(b)}
        layer.weight.data = to_torch(kernel.T.copy())
        layer.bias.data.zero_()
    return {"layers": params}, net


def train_jax(loss, params, batches, lr, after=lambda params: params):
    """One step of SGD for each batch; `after` maps the parameters behind it. A single scan."""
    sgd = jax_optimizers.sgd(lr)

    def step(carry, batch):
        params, state = carry
        updates, state = sgd.update(jax.grad(loss)(params, *batch), state, params)
        return (after(jax.tree.map(jnp.add, params, updates)), state), None

    return jax.jit(lambda p: jax.lax.scan(step, (p, sgd.init(p)), batches)[0][0])(params)


def train_torch(loss, parameters, batches, lr, after=lambda: None):
    """The same; the parameters change in place."""
    optimizer = optimizers.sgd(parameters, lr)
    for batch in zip(*batches, strict=True):
        optimizer.zero_grad()
        loss(*batch).backward()
        optimizer.step()
        with torch.no_grad():
            after()


# %% [introduction] Introduction to Singular Value Decomposition (SVD)
# A = U diag(s) V^T: every matrix turns (V^T), stretches along the axes (s), and turns again (U).
# The unit circle becomes an ellipse with the half axes s_i u_i; v_i are what is taken to them.
with lesson("introduction") as same:
    ja, ta = both(np.array([[1.6, 0.9], [0.2, 1.1]]))
    turn = np.linspace(0, 2 * np.pi, 61)
    jc, tc = both(np.stack([np.cos(turn), np.sin(turn)]))
    ju, js, jvh = upright(jnp.linalg.svd(ja), jax_svd.signs)
    tu, ts, tvh = upright(torch.linalg.svd(ta), svd.signs)
    same("factors", (ju, js, jvh), (tu, ts, tvh))
    stages = [
        ("the circle, v1, v2", (jc, jvh.T), (tc, tvh.T)),
        ("turned by $V^T$", (jvh @ jc, jvh @ jvh.T), (tvh @ tc, tvh @ tvh.T)),
        ("stretched by s", (js[:, None] * (jvh @ jc), jnp.diag(js)),
         (ts[:, None] * (tvh @ tc), torch.diag(ts))),
        ("turned by U: A x", (ja @ jc, ju * js), (ta @ tc, tu * ts)),
    ]  # fmt: skip
    for name, ours, theirs in stages:
        same(name, ours, theirs)
    same("A v_i = s_i u_i", ja @ jvh.T, tu * ts)

    # Full and reduced: of a tall A (5 by 3) three columns of U carry everything. The full U adds
    # two that span what A cannot reach; any basis of that plane will do, its projector is unique.
    # Both frameworks return V^T (torch.svd of old: V), and are full unless told otherwise.
    ja, ta = both(same.rng.standard_normal((5, 3)))
    jfull, tfull = jnp.linalg.svd(ja), torch.linalg.svd(ta)
    jthin, tthin = jnp.linalg.svd(ja, full_matrices=False), torch.linalg.svd(ta, False)
    for name, found in (("full", tfull), ("reduced", tthin)):
        print(f"{name:>8}: " + ", ".join(str(tuple(each.shape)) for each in found))
    same.holds("the shapes agree", [x.shape for x in jfull] == [tuple(x.shape) for x in tfull])
    stretch = jnp.vstack([jnp.diag(jfull[1]), jnp.zeros((2, 3))])  # 5 by 3, as A
    same("the full one is A", jfull[0] @ stretch @ jfull[2], ta)
    same("the reduced one is A", jthin[0] * jthin[1] @ jthin[2], ta)
    rest = jfull[0][:, 3:], tfull[0][:, 3:]
    same("what A cannot reach", rest[0] @ rest[0].T, rest[1] @ rest[1].T)
    same.holds("it is orthogonal to A", float(abs(ja.T @ rest[0]).max()) < 1e-12)
    pieces = sum(s * jnp.outer(u, v) for u, s, v in zip(jthin[0].T, *jthin[1:], strict=True))
    same("a sum of matrices of rank one", pieces, ta)

    # What is read off s: both norms, the condition, the rank.
    js, ts = jthin[1], tthin[1]
    same("|A|_2 = s_1", js[0], torch.linalg.matrix_norm(ta, 2))
    same("|A|_F^2 = sum of s^2", jnp.sqrt((js**2).sum()), torch.linalg.matrix_norm(ta))
    same("condition", js[0] / js[-1], torch.linalg.cond(ta))
    flat = ja.at[:, 2].set(ja[:, 0] - ja[:, 1]), ta.clone()
    flat[1][:, 2] = ta[:, 0] - ta[:, 1]
    same("rank", jnp.linalg.matrix_rank(flat[0]), torch.linalg.matrix_rank(flat[1]))
    same.holds("which is 2", int(jnp.linalg.matrix_rank(flat[0])) == 2)
    if (axes := same.axes(1, 4, 2.6)) is not None:
        for axis, (name, ours, theirs) in zip(axes, stages, strict=True):
            axis.plot(*np.asarray(ours[0]), lw=3, alpha=0.5, label="jax")
            axis.plot(*theirs[0], "k:", label="torch")
            for colour, x, y in zip(("C1", "C2"), np.asarray(ours[1]).T, theirs[1].T, strict=True):
                axis.plot([0, x[0]], [0, x[1]], colour, lw=3, alpha=0.6)
                axis.plot([0, y[0]], [0, y[1]], "k:")
            axis.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal", title=name)
        axes[0].legend(loc="lower left", fontsize=8)

# %% [calculation] Calculation of SVD
# One-sided Jacobi turns pairs of columns until all are orthogonal; Golub and Kahan reflect A to two
# diagonals and chase the upper one away. LAPACK, which both frameworks call, does the latter.
with lesson("calculation") as same:
    a = same.rng.standard_normal((12, 8))
    (ja, ta), reference = both(a), np.linalg.svd(a, compute_uv=False)
    jfound = {
        "Jacobi": jax.jit(jax_svd.jacobi_svd)(ja),
        "Golub-Kahan": jax.jit(jax_svd.golub_kahan_svd)(ja),
        "LAPACK": upright(jnp.linalg.svd(ja, False), jax_svd.signs),
    }
    tfound = {
        "Jacobi": svd.jacobi_svd(ta),
        "Golub-Kahan": svd.golub_kahan_svd(ta),
        "LAPACK": upright(torch.linalg.svd(ta, False), svd.signs),
    }
    same("three ways", jfound, tfound)
    for name, factors in jfound.items():
        same(f"{name} is LAPACK's", factors, tfound["LAPACK"])
    same("and NumPy's", jfound["Jacobi"][1], reference)

    # Jacobi converges quadratically: what is left of the cosines between columns is squared by
    # each sweep, once it is small.
    sweeps, left = range(1, 7), {"jax": [], "torch": []}
    swept, eye = jax.jit(jax_svd.jacobi_svd), np.eye(8)
    for count in sweeps:
        for side, u in (("jax", swept(ja, count)[0]), ("torch", svd.jacobi_svd(ta, count)[0])):
            left[side].append(max(float(abs(np.asarray(u.T @ u) - eye).max()), 1e-17))
    same("cosines while they are above rounding", left["jax"][:3], left["torch"][:3], 1e-6)
    same.holds("six sweeps leave rounding", max(left["jax"][-1], left["torch"][-1]) < 1e-14)

    # Why not the eigenvalues of A^T A, which are s^2? Squared, what is below 1e-8 of s_1 is lost.
    true = np.logspace(0, -12, 8)
    u, v = (np.linalg.qr(same.rng.standard_normal((n, 8)))[0] for n in (12, 8))
    jb, tb = both(u * true @ v.T)
    direct = swept(jb)[1], svd.jacobi_svd(tb)[1]
    squared = jnp.linalg.eigvalsh(jb.T @ jb)[::-1], torch.linalg.eigvalsh(tb.T @ tb).flip(0)
    roots = [np.sqrt(np.abs(np.asarray(each))) for each in squared]
    same("values of an ill-conditioned matrix", *direct)
    for s, root in zip(direct, roots, strict=True):
        same.holds("Jacobi finds 1e-12", abs(float(s[-1]) / true[-1] - 1) < 1e-2)
        same.holds("A^T A does not", abs(root[-1] / true[-1] - 1) > 1)

    # The gradient. Of a value it is ds_i/dA = u_i v_i^T. That of the vectors divides by
    # s_j^2 - s_i^2: where two values meet, they are undefined. A_2 keeps s_2 and drops s_3, so that
    # its gradient grows as one over the gap between them.
    tg = ta.clone().requires_grad_()
    torch.linalg.svdvals(tg)[1].backward()
    slope = jax.grad(lambda a: jnp.linalg.svd(a, compute_uv=False)[1])(ja)
    same("of a value", slope, tg.grad)
    same("is u v^T", jnp.outer(jfound["Jacobi"][0][:, 1], jfound["Jacobi"][2][1]), tg.grad)
    weight = same.rng.standard_normal((6, 4))
    (jw, tw), (ju, tu), (jv, tv) = (
        both(each)
        for each in (weight, *(np.linalg.qr(same.rng.standard_normal((n, 4)))[0] for n in (6, 4)))
    )
    gaps, sizes = np.logspace(-1, -6, 6), {"jax": [], "torch": []}
    through = jax.jit(jax.grad(lambda a: (jw * jax_low_rank.low_rank(a, 2)).sum()))
    by_hand = jax.jit(jax.grad(lambda a: (jw[:, :1] * jax_svd.jacobi_svd(a, 6)[0][:, :1]).sum()))
    for gap in gaps:  # between s_2, which A_2 keeps, and s_3, which it drops
        js, ts = both(np.array([3, 1 + gap, 1, 0.3]))
        tx = (tu * ts @ tv.T).requires_grad_()
        (tw * low_rank.low_rank(tx, 2)).sum().backward()
        sizes["jax"].append(float(jnp.linalg.norm(through(ju * js @ jv.T))))
        sizes["torch"].append(float(tx.grad.norm()))
    same("gradients of A_2", sizes["jax"], sizes["torch"], 1e-6)
    same.holds("which grow as the gap closes", 1e4 < sizes["jax"][-1] / sizes["jax"][0] < 1e6)
    tx = (tu * to_torch(np.array([3, 2, 1, 0.3])) @ tv.T).requires_grad_()
    (tw[:, :1] * svd.jacobi_svd(tx, 6)[0][:, :1]).sum().backward()
    jx = to_jax(tx.detach().numpy())
    same("of a vector, through Jacobi's rotations", by_hand(jx), tx.grad)
    u1 = lambda a: upright(jnp.linalg.svd(a, False), jax_svd.signs)[0][:, :1]  # noqa: E731
    same("is that of LAPACK's", jax.grad(lambda a: (jw[:, :1] * u1(a)).sum())(jx), tx.grad)
    if (axes := same.axes(1, 3)) is not None:
        for (name, marker), sweep, size, s, root in zip(
            (("jax", "o-"), ("torch", "k:")), left.values(), sizes.values(), direct, roots,
            strict=True,
        ):  # fmt: skip
            axes[0].semilogy(sweeps, sweep, marker, label=name)
            axes[1].semilogy(range(1, 9), np.asarray(s), marker, label=f"{name}, Jacobi")
            other = marker.replace("o-", "C1s-").replace("k:", "r:")
            axes[1].semilogy(range(1, 9), root, other, label=f"{name}, $A^TA$")
            axes[2].loglog(gaps, size, marker, label=name)
        axes[0].set(xlabel="sweeps", ylabel="largest cosine", title="Jacobi's columns")
        axes[1].set(xlabel="i", ylabel="$s_i$", title="squaring loses half")
        axes[2].set(xlabel="$s_2 - s_3$", ylabel="norm", title="gradient of $A_2$")
        for axis in axes:
            axis.legend(fontsize=8)

# %% [low_rank] Low-rank Approximation using SVD
# Eckart and Young: of all matrices of rank k, A_k = sum over i <= k of s_i u_i v_i^T is nearest.
# |A - A_k|_2 = s_(k+1), |A - A_k|_F^2 = the sum of the s^2 that are left out.
with lesson("low_rank") as same:
    picture = next(photographs(same.rng, batch=1, size=213, scale="unit"))["x"][0].mean(0)
    ja, ta = both(picture.astype(np.float64))
    js, ts = jnp.linalg.svd(ja, compute_uv=False), torch.linalg.svdvals(ta)
    same("singular values of a photograph", js, ts)
    ranks = (5, 20, 60)
    jshown = [jax_low_rank.low_rank(ja, k) for k in ranks]
    tshown = [low_rank.low_rank(ta, k) for k in ranks]
    same("A_k", jshown, tshown)
    for k, ours, theirs in zip(ranks, jshown, tshown, strict=True):
        same("the error is the next value", jnp.linalg.norm(ja - ours, 2), ts[k])
        same("in the other norm the rest", jnp.sqrt((js[k:] ** 2).sum()), (ta - theirs).norm())
        # Others of that rank, however near: projections on the best space but a little turned.
        basis = np.linalg.svd(np.asarray(ours))[0][:, :k]
        q, _ = np.linalg.qr(basis + 0.01 * same.rng.standard_normal(basis.shape))
        jq, tq = both(q)
        other = jnp.linalg.norm(ja - jq @ (jq.T @ ja)), (ta - tq @ (tq.T @ ta)).norm()
        same("another of that rank", *other)
        same.holds("is farther", float(other[0]) > float((ta - theirs).norm()))
        share = k * (2 * len(ja) + 1) / ja.size
        error = float(jnp.linalg.norm(ja - ours) / jnp.linalg.norm(ja))
        print(f"k = {k:2}: {share:4.0%} of the numbers, error {error:.1%}")
        same.holds("the picture is there", error < 0.25)

    # Randomised: k + 10 random combinations of the columns nearly span the first k directions; each
    # power step makes the decay, and so the space, sharper. The draws are an input.
    jo, to = both(same.rng.standard_normal((213, 30)))
    over = {}
    for power in (0, 1, 2):
        ours = jax_low_rank.randomised_svd(ja, jo, power)
        theirs = low_rank.randomised_svd(ta, to, power)
        same(f"randomised, {power} power steps", ours, theirs)
        near = ours[0][:, :20] * ours[1][:20] @ ours[2][:20]
        over[power] = float(jnp.linalg.norm(ja - near) / jnp.linalg.norm(js[20:]))
    same.holds("one power step: within 5 % of the best", over[1] < 1.05)
    same.holds("each is better", over[0] > over[1] > over[2])
    print("randomised, rank 20, error over the best:", {k: round(v, 3) for k, v in over.items()})
    if (axes := same.axes(2, 4, 2.3)) is not None:
        for row, (side, shown) in enumerate((("jax", jshown), ("torch", tshown))):
            for axis, k, image in zip(axes[row], ranks, shown, strict=False):
                axis.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=1)
                axis.set_title(f"{side}, rank {k}")
                axis.axis("off")
        axes[0, 3].imshow(np.asarray(ta), cmap="gray", vmin=0, vmax=1)
        axes[0, 3].set_title("rank 213: all")
        axes[0, 3].axis("off")
        axes[1, 3].semilogy(np.asarray(js), lw=3, alpha=0.5, label="jax")
        axes[1, 3].semilogy(ts, "k:", label="torch")
        axes[1, 3].set(xlabel="i", title="singular values")
        axes[1, 3].legend(fontsize=8)

# %% [pca] Principal Component Analysis (PCA) using SVD
# The right singular vectors of X - mean are the directions in which the data vary most; the
# variance along them is s^2 / (N - 1). The covariance itself is never formed.
with lesson("pca") as same:
    x, labels = all_digits(same.rng)
    jx, tx = both(x)
    count = 40
    ours, theirs = jax_low_rank.pca(jx, count), low_rank.pca(tx, count)
    same("mean, directions, variances", ours, theirs)
    oracle = PCA(count, svd_solver="full").fit(x)
    sign = jax_svd.signs(to_jax(oracle.components_))[:, None]
    same("scikit-learn's directions", ours[1], oracle.components_ * sign)
    same("scikit-learn's variances", ours[2], oracle.explained_variance_)
    jflat, tflat = (jx - ours[0]) @ ours[1].T, (tx - theirs[0]) @ theirs[1].T
    same("digits projected", jflat, tflat)
    covariance = jnp.cov(jflat.T), torch.cov(tflat.T)
    same("the projections are uncorrelated", covariance[0], torch.diag(theirs[2]))

    # Explained variance: how much of the whole the first k directions keep, and what the pictures
    # lose: the error of the reconstruction is the variance left out.
    total = x.var(0, ddof=1).sum()
    share = jnp.cumsum(ours[2]) / total, theirs[2].cumsum(0) / total
    same("explained", share[0], np.cumsum(oracle.explained_variance_ratio_))
    rebuilt = ours[0] + jflat[:, :10] @ ours[1][:10], theirs[0] + tflat[:, :10] @ theirs[1][:10]
    same("rebuilt of ten numbers", *rebuilt)
    lost = ((jx - rebuilt[0]) ** 2).sum() / (len(x) - 1) / total
    same("loses what is not explained", lost, 1 - share[1][9])
    for k in (2, 10, 20, 40):
        print(f"{k:2} of 64 directions explain {float(share[0][k - 1]):.0%}")
    same.holds("20 explain more than 85 %", float(share[0][19]) > 0.85)

    # Two numbers for each digit: already enough to tell many apart, without a label being used.
    def nearest_mean(flat):
        """How many lie nearest to the mean of their own class."""
        means = np.stack([flat[labels == k].mean(0) for k in range(10)])
        return float((((flat[:, None] - means) ** 2).sum(-1).argmin(1) == labels).mean())

    found = {k: nearest_mean(np.asarray(jflat[:, :k])) for k in (2, 10)}
    same("nearest means", found[10], nearest_mean(np.asarray(tflat[:, :10])))
    print(f"nearest mean: {found[2]:.0%} right of 2 numbers, {found[10]:.0%} of 10")
    same.holds("ten directions tell 85 % apart", found[10] > 0.85 > found[2] > 0.4)
    if (axes := same.axes(1, 2, 4.0)) is not None:
        flat = np.asarray(jflat)
        dots = axes[0].scatter(flat[:, 0], flat[:, 1], 14, labels, cmap="tab10", label="jax")
        axes[0].plot(tflat[:, 0], tflat[:, 1], "k.", ms=1.2, label="torch")
        axes[0].set(
            xlabel="first direction",
            ylabel="second",
            title="1797 digits (black: torch)",
            ylim=(-2.1, 2.9),
        )
        axes[0].legend(*dots.legend_elements(), ncols=5, fontsize=8, loc="upper center")
        kept = range(1, count + 1)
        axes[1].plot(kept, np.asarray(share[0]), lw=4, alpha=0.5, label="jax")
        axes[1].plot(kept, share[1], "k:", label="torch")
        learned = np.cumsum(oracle.explained_variance_ratio_)
        axes[1].plot(kept, learned, "r+", label="scikit-learn")
        axes[1].set(xlabel="directions", ylabel="explained variance", title="of 64 pixels")
        axes[1].legend()

# %% [regularization] SVD for Regularization
# A x = b with a blur A: x = sum of (u_i.b / s_i) v_i, and noise in b is divided by values that are
# nearly 0. A filter f_i in front of each term stops that:
#   truncated: 1 for the first k, else 0    ridge: s^2 / (s^2 + l)    descent: 1 - (1 - c s^2)^t
with lesson("regularization") as same:
    picture = next(photographs(same.rng, batch=1, size=128, scale="unit"))["x"][0].mean(0)
    place = np.arange(128)
    blur = np.exp(-((place[:, None] - place) ** 2) / (2 * 3.0**2))
    blur /= blur.sum(1, keepdims=True)
    seen = blur @ picture + 0.003 * same.rng.standard_normal(picture.shape)
    (ja, ta), (jb, tb), (_, tx) = both(blur), both(seen), both(picture.astype(np.float64))
    cut, ridge, rate, steps = 0.05, 1e-3, 0.5, 1000
    filters = {
        "none": lambda s, xp: xp.ones_like(s),
        "truncated": lambda s, xp: xp.where(s > cut * s[0], 1.0, 0.0),
        "ridge": lambda s, xp: s**2 / (s**2 + ridge),
        "descent": lambda s, xp: -xp.expm1(steps * xp.log1p(-rate * s**2)),
    }
    (ju, js, jvh), (tu, ts, tvh) = jnp.linalg.svd(ja), torch.linalg.svd(ta)
    jfound, tfound, errors = {}, {}, {}
    for name, kept in filters.items():
        jfound[name] = jvh.T @ ((kept(js, jnp) / js)[:, None] * (ju.T @ jb))
        tfound[name] = tvh.T @ ((kept(ts, torch) / ts)[:, None] * (tu.T @ tb))
        errors[name] = float((tfound[name] - tx).norm() / tx.norm())
        if name != "none":  # of which every digit is noise
            same(name, jfound[name], tfound[name])
    errors["blurred"] = float((tb - tx).norm() / tx.norm())
    print("error:", ", ".join(f"{name} {error:.3g}" for name, error in errors.items()))
    same.holds("the plain inverse is useless", errors["none"] > 1)
    for name in ("truncated", "ridge", "descent"):
        same.holds(f"{name} is nearer than what was seen", errors[name] < 0.9 * errors["blurred"])
    # What each is under another name.
    inverse = jax_low_rank.pseudo_inverse(ja, cut), low_rank.pseudo_inverse(ta, cut)
    same("truncated: the pseudo-inverse", inverse[0] @ jb, tfound["truncated"])
    same("which both have", *inverse)
    squares = jnp.linalg.solve(ja.T @ ja + ridge * jnp.eye(128), ja.T @ jb)
    same("ridge: |Ax - b|^2 + l |x|^2", squares, tfound["ridge"])
    run = jax.lax.fori_loop(0, steps, lambda _, x: x - rate * ja.T @ (ja @ x - jb), 0 * jb)
    same("descent: stopped early", run, tfound["descent"])

    # A net's weights, by their singular values. The nuclear norm (their sum) as penalty makes them
    # zero one by one, as |w| does to weights; its exact step subtracts from each (the proximal
    # step, for its gradient u v^T is undefined at 0). The spectral norm (the largest) bounds how
    # far the net can stretch, |f(x) - f(y)| <= s_1(W_2) s_1(W_1) |x - y|. Pressed down, s_1 meets
    # s_2, and its gradient would jump between the two; ten steps of power iteration from a fixed
    # start mix them instead (Yoshida and Miyato 2017).
    x, labels = all_digits(same.rng)
    (jx, tx), (jy, ty) = both(x), both(labels)
    draws = epochs(same.rng, 1400, 64)
    picked = np.stack([next(draws) for _ in range(2000 if same.full else 400)])
    jbatches, tbatches = (jx[picked], jy[picked]), (tx[picked], ty[picked])
    lr, start = 0.2, same.rng.bit_generator.state
    jax_net, found, spectra = JaxMLP(64, (48,), 10), {}, {}

    def jax_stretch(w):  # |W v|^2, a lower bound of s_1^2
        _, v = jax_eigen.power_iteration(w.T @ w, jnp.ones(w.shape[1]), 10)
        return ((w @ jax.lax.stop_gradient(v)) ** 2).sum()

    def torch_stretch(w):
        with torch.no_grad():
            _, v = eigen.power_iteration(w.T @ w, torch.ones(w.shape[1]), 10)
        return ((w @ v) ** 2).sum()

    def jax_loss(params, x, y, strength):
        first, last = (params["layers"][key]["kernel"].T for key in "02")
        cost = jax_losses.cross_entropy(outputs(jax_net, params, x), y)
        return cost + strength / 2 * (jax_stretch(first) + jax_stretch(last))

    def torch_loss(net, x, y, strength):
        first, last = net.layers[0].weight, net.layers[2].weight
        cost = losses.cross_entropy(net(x), y)
        return cost + strength / 2 * (torch_stretch(first) + torch_stretch(last))

    def jax_shrink(params):
        first = params["layers"]["0"]
        u, s, vh = jnp.linalg.svd(first["kernel"], full_matrices=False)
        kernel = u * jax_regularisers.soft_threshold(s, lr * 0.02) @ vh
        return {"layers": {**params["layers"], "0": {**first, "kernel": kernel}}}

    for name, strength in (("none", 0.0), ("nuclear", 0.0), ("spectral", 0.08)):
        same.rng.bit_generator.state = start  # the same start for all three
        params, net = network(same.rng, (64, 48, 10))

        def torch_shrink(first=net.layers[0]):
            u, s, vh = torch.linalg.svd(first.weight, full_matrices=False)
            first.weight.copy_(u * regularisers.soft_threshold(s, lr * 0.02) @ vh)

        shrink = (jax_shrink, torch_shrink) if name == "nuclear" else ()
        params = train_jax(
            lambda p, x, y, c=strength: jax_loss(p, x, y, c), params, jbatches, lr, *shrink[:1]
        )
        train_torch(
            lambda x, y, n=net, c=strength: torch_loss(n, x, y, c),
            net.parameters(), tbatches, lr, *shrink[1:],
        )  # fmt: skip
        first, last = (params["layers"][key]["kernel"] for key in "02")
        same(f"{name}: trained", (first.T, last.T), (net.layers[0].weight, net.layers[2].weight))
        values = [jnp.linalg.svd(w, compute_uv=False) for w in (first, last)]
        right = (outputs(jax_net, params, jx[1400:]).argmax(1) == jy[1400:]).mean(dtype=float)
        same(f"{name}: accuracy", right, (net(tx[1400:]).argmax(1) == ty[1400:]).double().mean())
        rank, stretch = int((values[0] > 1e-9).sum()), float(values[0][0] * values[1][0])
        spectra[name] = values[0], torch.linalg.svdvals(net.layers[0].weight.detach())
        print(
            f"{name:>8}: rank {rank:2}, stretches at most {stretch:4.1f}, {float(right):.1%} right"
        )
        same.holds(f"{name}: right at 90 %", right > 0.9)
        found[name] = rank, stretch
    same.holds("nuclear: half of the rank", found["nuclear"][0] <= found["none"][0] / 2)
    same.holds("spectral: half of the stretch", found["spectral"][1] <= found["none"][1] / 2)
    if (axes := same.axes(2, 3, 2.9)) is not None:
        shown = {"blurred, noisy": seen, "jax": jfound["ridge"], "torch": tfound["ridge"]}
        for axis, (name, image) in zip(axes[0], shown.items(), strict=True):
            axis.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=1)
            axis.set_title(name + ", ridge" * (image is not seen))
            axis.axis("off")
        for name, kept in list(filters.items())[1:]:
            (line,) = axes[1, 0].semilogx(js, kept(js, jnp), lw=3, alpha=0.5, label=name)
            axes[1, 0].semilogx(ts, kept(ts, torch), ":", color="k")
        axes[1, 0].set(
            xlabel="singular value", ylabel="filter", xlim=(1e-3, 1.1), title="dots: torch"
        )
        for name, error in errors.items():
            axes[1, 1].bar(name, min(error, 1), label=name)
        axes[1, 1].set(ylabel="relative error (cut at 1)", ylim=(0, 1))
        axes[1, 1].tick_params(axis="x", rotation=40)
        for name, (ours, theirs) in spectra.items():
            axes[1, 2].plot(np.asarray(ours), lw=3, alpha=0.5, label=name)
            axes[1, 2].plot(theirs, "k:")
        axes[1, 2].set(xlabel="i", ylabel="of the first layer", title="dots: torch")
        for axis in axes[1, ::2]:
            axis.legend(fontsize=8)

# %% [applications] Applications of SVD in Deep Learning
with lesson("applications") as same:
    # Layer compression. W (64 by 96) as U_k (s_k V_k^T), two thin layers: k (64 + 96) weights.
    x, labels = all_digits(same.rng)
    (jx, tx), (jy, ty) = both(x), both(labels)
    draws = epochs(same.rng, 1400, 64)
    picked = np.stack([next(draws) for _ in range(2000 if same.full else 500)])
    jax_net = JaxMLP(64, (96,), 10)
    params, net = network(same.rng, (64, 96, 10))

    def jax_loss(params, x, y):
        return jax_losses.cross_entropy(outputs(jax_net, params, x), y)

    def torch_loss(x, y):
        return losses.cross_entropy(net(x), y)

    params = train_jax(jax_loss, params, (jx[picked], jy[picked]), 0.3)
    train_torch(torch_loss, net.parameters(), (tx[picked], ty[picked]), 0.3)
    same("trained", params["layers"]["0"]["kernel"].T, net.layers[0].weight)

    def jax_right(params, x):
        found = outputs(jax_net, params, x[1400:])
        return (found.argmax(1) == jy[1400:]).mean(dtype=float)

    def torch_right(net, x):
        with torch.no_grad():
            return (net(x[1400:]).argmax(1) == ty[1400:]).double().mean()

    ranks, right = (1, 2, 4, 8, 16, 32, 64), {"jax": [], "torch": []}
    first = params["layers"]["0"]
    u, s, vh = jnp.linalg.svd(first["kernel"], full_matrices=False)
    tu, ts, tvh = torch.linalg.svd(net.layers[0].weight.detach(), full_matrices=False)
    for k in ranks:
        thin = {**first, "kernel": u[:, :k] * s[:k] @ vh[:k]}  # JAX: other parameters, same net
        right["jax"].append(float(jax_right({"layers": {**params["layers"], "0": thin}}, jx)))
        down, up = torch.nn.Linear(64, k, bias=False), torch.nn.Linear(k, 96)  # torch: other layers
        down.weight.data, up.weight.data = tvh[:k], tu[:, :k] * ts[:k]
        up.bias.data = net.layers[0].bias.detach()
        right["torch"].append(
            float(torch_right(torch.nn.Sequential(down, up, *net.layers[1:]), tx))
        )
    same("accuracy by rank", right["jax"], right["torch"])
    print("accuracy by rank:", {k: round(r, 3) for k, r in zip(ranks, right["jax"], strict=True)})
    same.holds("all of the rank: 94 %", right["jax"][-1] > 0.94)
    lost = right["jax"][-1] - right["jax"][4]
    same.holds("rank 16, 42 % of the weights, costs less than 6 points", lost < 0.06)

    # LoRA: W + B A with B (96 by r) zero at first, A (r by 64) random; W stays as it is. The new
    # task: the digits turned by a quarter. JAX differentiates what is handed over and nothing else;
    # torch marks what is frozen, and a parametrisation makes the weight.
    turned = np.rot90(x.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64).copy()
    (jt, tt), width = both(turned), 6
    start = same.rng.standard_normal((width, 64)) / 8
    adapter = {"a": to_jax(start), "b": jnp.zeros((96, width))}

    class LoRA(torch.nn.Module):
        """weight -> weight + B A."""

        def __init__(self, start: np.ndarray, outputs: int) -> None:
            super().__init__()
            self.a = torch.nn.Parameter(to_torch(start))
            self.b = torch.nn.Parameter(torch.zeros(outputs, len(start)))

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight + self.b @ self.a

    def merged(adapter):
        kernel = first["kernel"] + (adapter["b"] @ adapter["a"]).T
        return {"layers": {**params["layers"], "0": {**first, "kernel": kernel}}}

    before = jax_right(params, jt), torch_right(net, tt)
    batches = jt[picked], jy[picked]
    adapter = train_jax(lambda p, x, y: jax_loss(merged(p), x, y), adapter, batches, 0.3)
    net.requires_grad_(False)
    lora = LoRA(start, 96)
    torch.nn.utils.parametrize.register_parametrization(net.layers[0], "weight", lora)
    train_torch(torch_loss, lora.parameters(), (tt[picked], ty[picked]), 0.3)
    same("adapters", (adapter["a"], adapter["b"]), (lora.a, lora.b))
    after = jax_right(merged(adapter), jt), torch_right(net, tt)
    same("accuracy on turned digits", (before[0], after[0]), (before[1], after[1]))
    size = width * (64 + 96)
    print(f"LoRA: {float(before[0]):.1%} to {float(after[0]):.1%} with {size} weights of {96 * 64}")
    same.holds("LoRA learns the new task", after[0] > 0.85 > 0.4 > before[0])
    torch.nn.utils.parametrize.remove_parametrizations(net.layers[0], "weight")  # merges for good
    same("merged", merged(adapter)["layers"]["0"]["kernel"].T, net.layers[0].weight)

    # A recommender. 150 people, 80 films, three tastes behind all ratings from 1 to 5 (rank 4, with
    # the middle that they start from); 30 % are known. Fill in the means, take A_k, keep the known
    # ones, repeat: what A_k says of the others is the guess.
    taste = same.rng.standard_normal((150, 3)) @ same.rng.standard_normal((3, 80))
    ratings = np.clip(np.rint(3 + taste + 0.3 * same.rng.standard_normal(taste.shape)), 1, 5)
    known = same.rng.random(ratings.shape) < 0.3
    (jr, tr), (jk, tk) = both(ratings), (to_jax(known), to_torch(known))
    mean = [np.where(known, ratings, 0).sum(axis) / known.sum(axis) for axis in (0, 1)]
    plain = mean[0] + mean[1][:, None] - ratings[known].mean()
    jplain, tplain = both(plain)

    def jax_step(guess, rank):
        return jnp.clip(jax_low_rank.low_rank(jnp.where(jk, jr, guess), rank), 1, 5)

    def torch_fill(rank):
        guess = tplain
        for _ in range(100):
            guess = low_rank.low_rank(torch.where(tk, tr, guess), rank).clip(1, 5)
        return guess

    depths, missed = range(1, 7), {"jax": [], "torch": []}
    hidden = ~known
    off = lambda guess: float(np.sqrt(((np.asarray(guess) - ratings)[hidden] ** 2).mean()))  # noqa: E731
    for rank in depths:
        fill = jax.jit(lambda g, k=rank: jax.lax.fori_loop(0, 100, lambda _, x: jax_step(x, k), g))
        ours, theirs = fill(jplain), torch_fill(rank)
        same(f"guesses of rank {rank}", ours, theirs)
        missed["jax"].append(off(ours))
        missed["torch"].append(off(theirs))
    print(f"ratings: means are off by {off(plain):.2f}, rank 4 by {missed['jax'][3]:.2f}")
    same.holds("rank 4 halves the error of the means", missed["jax"][3] < 0.5 * off(plain))

    # LSA: which words come in which texts, as a matrix. Texts of one subject share few words, but
    # the leading directions join words that are used together. The texts: the manual pages of five
    # modules and types; from which of them each comes is held back.
    homes = {"str": str, "math": math, "os.path": os.path, "random": random.Random}
    texts = [
        (home, re.findall(r"[a-z]{3,}", (inspect.getdoc(value) or "").lower()))
        for home, module in {**homes, "linalg": np.linalg}.items()
        for name, value in sorted(vars(module).items())
        if not name.startswith("_") and callable(value)
    ]
    texts = [(home, text) for home, text in texts if len(set(text)) >= 8]
    kinds, every = np.array([home for home, _ in texts]), {w for _, text in texts for w in text}
    words = [w for w in sorted(every) if 2 <= sum(w in t for _, t in texts) <= len(texts) / 3]
    counts = np.array([[np.log1p(text.count(word)) for word in words] for _, text in texts])
    weighed = counts * np.log(len(texts) / (counts > 0).sum(0))  # a rare word says more
    weighed /= np.linalg.norm(weighed, axis=1, keepdims=True)
    (jw, tw), k = both(weighed), 6
    ju, js, jvh = upright(jnp.linalg.svd(jw, full_matrices=False), jax_svd.signs)
    tu, ts, tvh = upright(torch.linalg.svd(tw, full_matrices=False), svd.signs)
    same("directions of texts", (ju[:, :k], js[:k], jvh[:k]), (tu[:, :k], ts[:k], tvh[:k]))
    for row in np.asarray(jvh[2:5]):
        print("words that go together:", " ".join(words[i] for i in np.argsort(-row)[:7]))

    def likeness(flat):
        """Cosines between texts."""
        unit = flat / (flat**2).sum(1, keepdims=True) ** 0.5
        return np.asarray(unit @ unit.T)

    def neighbours(cosines):
        """How many texts have, as the nearest, one of the same module."""
        return float((kinds[(cosines - 2 * np.eye(len(kinds))).argmax(1)] == kinds).mean())

    close = likeness(ju[:, :k] * js[:k]), likeness(tu[:, :k] * ts[:k])
    same("likeness of texts", *close)
    near = [neighbours(each) for each in (*close, likeness(weighed))]
    chance = sum((kinds == kind).mean() ** 2 for kind in set(kinds))
    print(f"{len(kinds)} texts: {near[0]:.0%} are nearest to one of their module by {k} directions")
    print(f"{near[2]:.0%} by all {len(words)} words, {chance:.0%} by chance")
    same("nearest texts", near[0], near[1])
    same.holds("four of five are nearest to one of their module", near[0] > 0.8 > 2 * chance)
    if (axes := same.axes(2, 2)) is not None:
        axes[0, 0].semilogx(ranks, right["jax"], lw=3, alpha=0.5, label="jax")
        axes[0, 0].semilogx(ranks, right["torch"], "ko:", ms=4, label="torch")
        axes[0, 0].set(xlabel="rank of the first layer", ylabel="accuracy", title="compression")
        places = np.arange(2)
        for shift, side, index in ((-0.2, "jax", 0), (0.2, "torch", 1)):
            heights = [float(before[index]), float(after[index])]
            axes[0, 1].bar(places + shift, heights, 0.4, label=side)
        axes[0, 1].set_xticks(places, ["before", f"LoRA, rank {width}"])
        axes[0, 1].set(ylabel="accuracy", title="digits turned by a quarter", ylim=(0, 1))
        axes[1, 0].plot(depths, missed["jax"], lw=3, alpha=0.5, label="jax")
        axes[1, 0].plot(depths, missed["torch"], "ko:", ms=4, label="torch")
        axes[1, 0].axhline(off(plain), color="C1", label="means")
        axes[1, 0].set(xlabel="rank", ylabel="error of hidden ratings", title="recommender")
        shown = np.where(np.tri(len(kinds), dtype=bool), close[1], close[0])
        axes[1, 1].imshow(shown, vmin=0, vmax=1)
        order = list(dict.fromkeys(kinds))
        axes[1, 1].set_yticks([np.flatnonzero(kinds == kind).mean() for kind in order], order)
        axes[1, 1].set(xticks=[], title="likeness of texts", xlabel="torch below, jax above")
        for axis in axes.flat[:3]:
            axis.legend(fontsize=8)
